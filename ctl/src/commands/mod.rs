//! The commands, one file per verb. This one picks the verb and, when a name was not found, looks for what was meant.

pub(crate) mod cluster;
pub(crate) mod connector;
pub(crate) mod events;
mod help;
pub(crate) mod node;
mod status;
pub(crate) mod wait;

use tonic::Code;

use crate::{
    cli::{Cli, Command},
    error::{EXIT_OK, Error},
    invocation::Invocation,
};

/// Two letters swapped in a name of three are still a typing error; half of a name is not.
const SIMILARITY_MIN: f64 = 0.6;

/// Runs the command and returns its exit code.
pub(crate) async fn run(cli: Cli) -> Result<u8, Error> {
    if let Command::Help { topic } = cli.command {
        return help::run(&topic).map(|()| EXIT_OK);
    }
    let mut invocation = Invocation::new(&cli.global)?;
    match dispatch(&mut invocation, cli.command).await {
        Err(error) if error.code() == Some(Code::NotFound) => Err(suggest(&mut invocation, error).await),
        ended => ended,
    }
}

async fn dispatch(invocation: &mut Invocation, command: Command) -> Result<u8, Error> {
    match command {
        Command::Status => return status::run(invocation).await,
        Command::Connector(command) => return connector::run(invocation, command).await,
        Command::Cluster(command) => cluster::run(invocation, command).await?,
        Command::Node(command) => node::run(invocation, command).await?,
        Command::Events(arguments) => events::run(invocation, &arguments).await?,
        Command::Wait(arguments) => wait::run(invocation, &arguments).await?,
        Command::Get { noun, name } => match (noun.as_str(), name) {
            ("connector" | "connectors", None) => connector::ls::run(invocation).await?,
            ("connector" | "connectors", Some(name)) => connector::get::run(invocation, &name).await?,
            _ => cluster::members::run(invocation).await?,
        },
        Command::Help { topic } => help::run(&topic)?,
    }
    Ok(EXIT_OK)
}

/// Adds the nearest existing name, or where to see all of them.
async fn suggest(invocation: &mut Invocation, error: Error) -> Error {
    let Error::Refused(refusal) = &error else { return error };
    let Some((kind, name)) = refusal.resource.clone() else { return error };
    let (names, list) = match kind.as_str() {
        "connector" => (connector::names(invocation).await, "wsctl connector ls"),
        "node" => (cluster::names(invocation).await, "wsctl cluster members"),
        _ => return error,
    };
    // The answer to the question itself matters more than a failed search for the word that was meant.
    let names = names.unwrap_or_default();
    let similar = |candidate: &&String| strsim::normalized_damerau_levenshtein(candidate, &name);
    match names.iter().max_by(|a, b| similar(a).total_cmp(&similar(b))).filter(|best| similar(best) >= SIMILARITY_MIN) {
        Some(best) => error.hint(format!("did you mean {best:?}?")),
        None => error.hint(format!("see: {list}")),
    }
}
