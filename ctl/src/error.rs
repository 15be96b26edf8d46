//! How a command can end badly: what happened, why, what to do next, and the exit code that scripts rely on.
//! Used by every command; printed once, by `main`, on stderr.

use std::{error::Error as StdError, fmt::Write as _, io};

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::text::printable;

/// The exit codes, stable across versions, as `wsctl help exit-codes` prints them.
pub(crate) const EXIT_CODES: &str = "\
0    done; `status`: healthy; `compare`: nothing differs
1    the command failed; `status`: degraded; `compare`: something differs, or is not known yet
2    wrong usage; `status`: critical
3    not found
4    conflict: it exists already, or it was changed meanwhile
5    invalid configuration, or the present state does not allow it
6    not authenticated, or not permitted
7    no endpoint reachable, or the cluster has no leader
8    timed out
130  interrupted
";

pub(crate) const EXIT_OK: u8 = 0;
pub(crate) const EXIT_FAILURE: u8 = 1;
const EXIT_USAGE: u8 = 2;
const EXIT_NOT_FOUND: u8 = 3;
const EXIT_CONFLICT: u8 = 4;
const EXIT_INVALID: u8 = 5;
const EXIT_FORBIDDEN: u8 = 6;
const EXIT_UNAVAILABLE: u8 = 7;
const EXIT_TIMEOUT: u8 = 8;
const EXIT_INTERRUPTED: u8 = 130;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{what}")]
    Usage { what: String, help: String },
    #[error("{}", .0.what)]
    Refused(Box<Refusal>),
    #[error("no endpoint of the cluster is reachable")]
    Unreachable { tried: Vec<(String, String)> },
    #[error("{what}")]
    TimedOut { what: String, hints: Vec<String> },
    #[error("{what}")]
    Declined { what: String },
    #[error("interrupted")]
    Interrupted,
    #[error("cannot write to stdout: {0}")]
    Output(#[from] io::Error),
}

/// A status that the cluster answered, with its details opened.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) what: String,
    /// (configuration key or request field, what is wrong with it).
    pub(crate) fields: Vec<(String, String)>,
    /// What was not found or exists already: (type, name).
    pub(crate) resource: Option<(String, String)>,
    pub(crate) hints: Vec<String>,
    /// False when the connection broke: then nobody said that the request had no effect.
    pub(crate) answered: bool,
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(Refusal::from(status)))
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let fields = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        let preconditions = details.precondition_failure().map(|failed| failed.violations.as_slice());
        let links = details.help().map(|help| help.links.as_slice()).unwrap_or_default();
        let mut hints: Vec<String> =
            preconditions.unwrap_or_default().iter().map(|violation| violation.description.clone()).collect();
        hints.extend(links.iter().map(|link| format!("{} {}", link.description, link.url)));
        let what = if status.message().is_empty() {
            format!("the cluster answered {:?}", status.code())
        } else {
            status.message().to_owned()
        };
        hints.retain(|hint| *hint != what);
        Self {
            code: status.code(),
            what,
            fields: fields.iter().map(|field| (field.field.clone(), field.description.clone())).collect(),
            resource: details.resource_info().map(|info| (info.resource_type.clone(), info.resource_name.clone())),
            hints,
            answered: details.error_info().is_some(),
        }
    }
}

impl Error {
    /// A usage error that clap could not see.
    pub(crate) fn usage(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self::Usage { what: what.into(), help: help.into() }
    }

    /// Adds a line that tells what to do next.
    pub(crate) fn hint(mut self, line: impl Into<String>) -> Self {
        match &mut self {
            Self::Refused(refusal) => refusal.hints.push(line.into()),
            Self::TimedOut { hints, .. } => hints.push(line.into()),
            Self::Usage { .. }
            | Self::Unreachable { .. }
            | Self::Declined { .. }
            | Self::Interrupted
            | Self::Output(_) => {}
        }
        self
    }

    /// The status code of a refusal.
    pub(crate) fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            Self::Usage { .. }
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Declined { .. }
            | Self::Interrupted
            | Self::Output(_) => None,
        }
    }

    /// True where a later attempt may succeed without anybody changing anything.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. }) || self.code() == Some(Code::Unavailable)
    }

    /// True when nobody knows whether a change was made.
    pub(crate) fn outcome_unknown(&self) -> bool {
        match self {
            Self::Refused(refusal) => match refusal.code {
                Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal => true,
                Code::Unavailable => !refusal.answered,
                _ => false,
            },
            Self::TimedOut { .. } => true,
            Self::Usage { .. }
            | Self::Unreachable { .. }
            | Self::Declined { .. }
            | Self::Interrupted
            | Self::Output(_) => false,
        }
    }

    /// The exit code for scripts.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } => EXIT_USAGE,
            Self::Refused(refusal) => exit_code_of(refusal.code),
            Self::Unreachable { .. } => EXIT_UNAVAILABLE,
            Self::TimedOut { .. } => EXIT_TIMEOUT,
            Self::Declined { .. } => EXIT_FAILURE,
            Self::Interrupted => EXIT_INTERRUPTED,
            // Whoever reads the other end of the pipe has seen enough; that is no failure.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => EXIT_OK,
            Self::Output(_) => EXIT_FAILURE,
        }
    }

    /// The text for stderr: what, why, what to do next. Empty where nobody would read it.
    pub(crate) fn report(&self) -> String {
        let mut text = String::new();
        match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return text,
            Self::Refused(refusal) => {
                let code = code_name(refusal.code);
                line(&mut text, &format!("error: {}  ({code}, rc {})", refusal.what, self.exit_code()));
                for (field, description) in &refusal.fields {
                    line(&mut text, &format!("  {}: {description}", field_label(field)));
                }
                refusal.hints.iter().for_each(|hint| line(&mut text, &format!("  {hint}")));
            }
            Self::Usage { help, .. } => {
                line(&mut text, &format!("error: {self}"));
                line(&mut text, &format!("  {help}"));
            }
            Self::Unreachable { tried } => {
                line(&mut text, &format!("error: {self}  (rc {})", self.exit_code()));
                tried.iter().for_each(|(endpoint, why)| line(&mut text, &format!("  {endpoint}: {why}")));
                line(&mut text, "  name others with --endpoints HOST:PORT,... or WSCTL_ENDPOINTS");
            }
            Self::TimedOut { hints, .. } => {
                line(&mut text, &format!("error: {self}  (rc {})", self.exit_code()));
                hints.iter().for_each(|hint| line(&mut text, &format!("  {hint}")));
            }
            Self::Declined { .. } | Self::Interrupted | Self::Output(_) => line(&mut text, &format!("error: {self}")),
        }
        text
    }
}

fn line(text: &mut String, content: &str) {
    writeln!(text, "{}", printable(content)).expect("writing to a String cannot fail");
}

/// Names the flag beside the configuration key it sets: people typed the flag.
fn field_label(field: &str) -> String {
    let key = field.strip_prefix("config.").unwrap_or(field);
    match flag_of(key) {
        Some(flag) => format!("{flag} / {key}"),
        None => key.to_owned(),
    }
}

fn flag_of(key: &str) -> Option<&'static str> {
    Some(match key {
        "websocket.url" => "--url",
        "twinfeed.websocket.secondary.url" => "--secondary-url",
        "kafka.topic" => "--topic",
        "websocket.subscription.message" | "twinfeed.websocket.subscription.messages" => "--subscribe",
        "websocket.headers" => "--header",
        "websocket.auth.token" => "--auth-token-file",
        "twinfeed.redundancy" => "--single",
        _ => return None,
    })
}

fn exit_code_of(code: Code) -> u8 {
    match code {
        Code::Ok => EXIT_OK,
        Code::NotFound => EXIT_NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => EXIT_CONFLICT,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => EXIT_INVALID,
        Code::Unauthenticated | Code::PermissionDenied => EXIT_FORBIDDEN,
        Code::Unavailable => EXIT_UNAVAILABLE,
        // tonic's own deadline ends a call as Cancelled.
        Code::DeadlineExceeded | Code::Cancelled => EXIT_TIMEOUT,
        Code::Unknown | Code::ResourceExhausted | Code::Unimplemented | Code::Internal | Code::DataLoss => EXIT_FAILURE,
    }
}

/// The canonical upper-case word of a code, as gRPC's documentation and other clients print it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The innermost reason of an error: the outer ones of a transport say only that there was one.
pub(crate) fn root_cause(error: &dyn StdError) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
