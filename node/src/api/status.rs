//! The one table from this node's errors and outcomes to gRPC statuses. Every status carries an `ErrorInfo` of domain
//! `twinfeed.dev` whose reason is stable across versions, so that clients never read the text.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    model::{command::Outcome, spec::FieldError},
    raft,
};

const DOMAIN: &str = "twinfeed.dev";
/// An election is over by then.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// What a request is about, as `ResourceInfo` names it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) kind: &'static str,
    pub(super) name: &'a str,
}

impl<'a> Subject<'a> {
    pub(super) fn connector(name: &'a str) -> Self {
        Self { kind: "connector", name }
    }

    pub(super) fn node(name: &'a str) -> Self {
        Self { kind: "node", name }
    }
}

/// Why the cluster could not take or confirm a command.
pub(super) fn of_error(error: &raft::Error) -> Status {
    use raft::Error;
    let text = error.to_string();
    match error {
        Error::NoLeader { .. } => unavailable("NO_LEADER", text),
        Error::NotMember { .. } => unavailable("NOT_A_MEMBER", text),
        Error::Unknown { request_id } => {
            let mut details = info("OUTCOME_UNKNOWN", [("request_id", request_id.clone())]);
            details.set_request_info(request_id, "");
            Status::with_error_details(Code::DeadlineExceeded, text, details)
        }
        Error::Refused { .. } => precondition("REFUSED", text),
        Error::Io { .. } | Error::Damaged { .. } | Error::Fatal { .. } => {
            // Paths and damage are for this node's log, not for whoever calls.
            tracing::error!(error = %text, "admin.node_failed");
            let details = info("NODE_FAILED", []);
            Status::with_error_details(Code::Internal, "this node has failed; ask another one", details)
        }
    }
}

/// The revision of a command that was done, or why it was not.
pub(super) fn of_outcome(outcome: Outcome, subject: Subject<'_>) -> Result<u64, Status> {
    match outcome {
        Outcome::Done { revision } => Ok(revision),
        Outcome::AlreadyExists { .. } => Err(already_exists(subject)),
        Outcome::NotFound { .. } => Err(not_found(subject)),
        Outcome::Conflict { expected, actual } => Err(conflict(subject, expected, actual)),
        Outcome::RequestReused { request_id } => {
            let text = format!("{request_id} was used for another command, and nothing was done: send a new UUID");
            Err(invalid_field("request_id", &text))
        }
        Outcome::Refused { why } => Err(precondition("REFUSED", why)),
    }
}

pub(super) fn not_found(subject: Subject<'_>) -> Status {
    let mut details = info("NOT_FOUND", []);
    details.set_resource_info(subject.kind, subject.name, "", "");
    Status::with_error_details(Code::NotFound, format!("{} {:?} does not exist", subject.kind, subject.name), details)
}

pub(super) fn already_exists(subject: Subject<'_>) -> Status {
    let mut details = info("ALREADY_EXISTS", []);
    details.set_resource_info(subject.kind, subject.name, "", "");
    let text = format!("{} {:?} exists already", subject.kind, subject.name);
    Status::with_error_details(Code::AlreadyExists, text, details)
}

pub(super) fn conflict(subject: Subject<'_>, expected: u64, actual: u64) -> Status {
    let details = info("ETAG_MISMATCH", [("expected", expected.to_string()), ("actual", actual.to_string())]);
    let text = format!(
        "{} {:?} has changed meanwhile: it is at etag {actual}, not {expected}; read it again and repeat the change",
        subject.kind, subject.name
    );
    Status::with_error_details(Code::Aborted, text, details)
}

/// The present state does not allow it; the text says why and what to do.
pub(super) fn precondition(reason: &'static str, text: impl Into<String>) -> Status {
    let text = text.into();
    let mut details = info(reason, []);
    details.add_precondition_failure_violation(reason, "", &text);
    Status::with_error_details(Code::FailedPrecondition, text, details)
}

/// Every field that is wrong, at once.
pub(super) fn invalid_fields(what: &str, fields: impl IntoIterator<Item = (String, String)>) -> Status {
    let mut details = info("INVALID", []);
    for (field, description) in fields {
        details.add_bad_request_violation(field, description);
    }
    Status::with_error_details(Code::InvalidArgument, what, details)
}

/// One request field that is wrong.
pub(super) fn invalid_field(field: &str, description: &str) -> Status {
    invalid_fields(&format!("invalid {field}: {description}"), [(field.to_owned(), description.to_owned())])
}

/// Every configuration key that is wrong.
pub(super) fn invalid_config(name: &str, errors: Vec<FieldError>) -> Status {
    let fields = errors.into_iter().map(|error| {
        let field = if error.key == "name" { error.key } else { format!("config.{}", error.key) };
        let hint = if error.hint.is_empty() { String::new() } else { format!(" ({})", error.hint) };
        (field, format!("{}{hint}", error.message))
    });
    invalid_fields(&format!("invalid configuration for connector {name:?}"), fields)
}

/// The cluster accepted the wish but did not get there in time.
pub(super) fn unfinished(text: impl Into<String>) -> Status {
    Status::with_error_details(Code::DeadlineExceeded, text, info("NOT_FINISHED", []))
}

/// This node cannot help now; another one, or a later try, can.
pub(super) fn unavailable(reason: &'static str, text: impl Into<String>) -> Status {
    let mut details = info(reason, []);
    details.set_retry_info(Some(RETRY_DELAY));
    Status::with_error_details(Code::Unavailable, text, details)
}

fn info<const N: usize>(reason: &'static str, metadata: [(&str, String); N]) -> ErrorDetails {
    let metadata: HashMap<String, String> = metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(status: &Status) -> String {
        let details = status.get_error_details();
        let info = details.error_info().expect("every status names its reason");
        assert_eq!(info.domain, DOMAIN);
        info.reason.clone()
    }

    #[test]
    fn raft_errors_tell_no_effect_from_unknown_effect() {
        for (error, code, why) in [
            (raft::Error::NoLeader { waited_ms: 1 }, Code::Unavailable, "NO_LEADER"),
            (raft::Error::Unknown { request_id: "x".into() }, Code::DeadlineExceeded, "OUTCOME_UNKNOWN"),
            (raft::Error::NotMember { why: "x".into() }, Code::Unavailable, "NOT_A_MEMBER"),
            (raft::Error::Refused { why: "x".into() }, Code::FailedPrecondition, "REFUSED"),
            (raft::Error::Fatal { why: "/secret/path".into() }, Code::Internal, "NODE_FAILED"),
        ] {
            let status = of_error(&error);
            assert_eq!((status.code(), reason(&status).as_str()), (code, why));
            assert!(!status.message().contains("/secret"), "paths stay in the log");
            assert_eq!(status.code() == Code::Unavailable, status.get_details_retry_info().is_some());
        }
    }

    #[test]
    fn outcomes_are_answers_with_their_subject() {
        let subject = Subject::connector("btc");
        assert_eq!(of_outcome(Outcome::Done { revision: 7 }, subject).ok(), Some(7));
        for (outcome, code, why) in [
            (Outcome::AlreadyExists { what: String::new() }, Code::AlreadyExists, "ALREADY_EXISTS"),
            (Outcome::NotFound { what: String::new() }, Code::NotFound, "NOT_FOUND"),
            (Outcome::Conflict { expected: 3, actual: 4 }, Code::Aborted, "ETAG_MISMATCH"),
            (Outcome::Refused { why: "full".into() }, Code::FailedPrecondition, "REFUSED"),
        ] {
            let status = of_outcome(outcome, subject).expect_err("a refusal");
            assert_eq!((status.code(), reason(&status).as_str()), (code, why));
        }
        let missing = not_found(subject).get_details_resource_info().expect("named");
        assert_eq!((missing.resource_type.as_str(), missing.resource_name.as_str()), ("connector", "btc"));
    }
}
