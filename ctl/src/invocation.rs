//! One run of `wsctl`: the connection, the output, and what the flags say about deadlines, repeats and questions.
//! Handed to every command.

use std::{
    io::{self, Write},
    time::Duration,
};

use crate::{
    cli::Global,
    connection::{Call, Change, Connection},
    error::Error,
    output::{Output, can_ask},
    text::printable,
};

const READ_DEADLINE: Duration = Duration::from_secs(5);
/// The last read of a wait still gets a fair chance.
const READ_DEADLINE_MIN: Duration = Duration::from_millis(200);
const CHANGE_DEADLINE: Duration = Duration::from_secs(10);
/// A drain or failover waits until the new owner delivers, a wait for whatever it waits for.
const MOVE_DEADLINE: Duration = Duration::from_secs(60);

/// What a command needs besides its own arguments.
pub(crate) struct Invocation {
    pub(crate) connection: Connection,
    pub(crate) output: Output,
    /// One per run: no command makes two changes.
    pub(crate) request_id: String,
    timeout: Option<Duration>,
    yes: bool,
    no_input: bool,
}

impl Invocation {
    /// Reads the shared flags.
    ///
    /// # Errors
    /// [`Error::Usage`] for an endpoint that is not `HOST:PORT`.
    pub(crate) fn new(global: &Global) -> Result<Self, Error> {
        Ok(Self {
            connection: Connection::new(&global.endpoints)?,
            output: Output { format: global.output, headers: !global.no_headers, quiet: global.quiet },
            request_id: global.request_id.unwrap_or_else(uuid::Uuid::new_v4).to_string(),
            timeout: global.timeout,
            yes: global.yes,
            no_input: global.no_input,
        })
    }

    /// A call that changes nothing.
    pub(crate) fn read(&self) -> Call {
        Call { deadline: self.timeout.unwrap_or(READ_DEADLINE), change: None }
    }

    /// One of many reads under a common limit: none of them may use it all up on a frozen node.
    pub(crate) fn read_within(&self, limit: Duration) -> Call {
        Call { deadline: limit.clamp(READ_DEADLINE_MIN, READ_DEADLINE), change: None }
    }

    /// A change that is done once it is committed; `check` is the command that shows whether it is.
    pub(crate) fn change(&self, check: impl Into<String>) -> Call {
        self.changing(CHANGE_DEADLINE, check)
    }

    /// A change that answers only when the cluster has acted on it.
    pub(crate) fn movement(&self, check: impl Into<String>) -> Call {
        self.changing(MOVE_DEADLINE, check)
    }

    /// How long a wait may last.
    pub(crate) fn patience(&self) -> Duration {
        self.timeout.unwrap_or(MOVE_DEADLINE)
    }

    fn changing(&self, default: Duration, check: impl Into<String>) -> Call {
        let change = Change { request_id: self.request_id.clone(), check: check.into() };
        Call { deadline: self.timeout.unwrap_or(default), change: Some(change) }
    }

    /// Has a person type the name of what is about to be destroyed; `--yes` stands for it.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is nobody to ask, [`Error::Declined`] when the name was not typed.
    pub(crate) fn confirm(&self, what: &str, name: &str) -> Result<(), Error> {
        if self.yes {
            return Ok(());
        }
        if self.no_input || !can_ask() {
            return Err(Error::usage(format!("{what} needs a confirmation"), "add --yes to confirm it"));
        }
        eprint!("{what}. Type its name to confirm: ", what = printable(what));
        io::stderr().flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        if answer.trim() == name {
            return Ok(());
        }
        Err(Error::Declined { what: "not confirmed, nothing was changed".to_owned() })
    }
}
