//! What Kafka's errors mean to a writer: the one table from an error to its remedy.

use twinfeed_writer::{Failure, Remedy, StreamId};

use crate::kafka::{Error, Retry};

/// The failure as the writer understands it.
pub(super) fn of(error: &Error) -> Failure {
    let remedy = match error {
        Error::Rejected { record: Some((stream, sequence)), .. } => {
            Remedy::LeaveOut { stream: StreamId(*stream), sequence: *sequence }
        }
        Error::InvalidRecords { .. } => Remedy::Restamp,
        other => match other.retry() {
            Retry::Never => Remedy::Operator,
            Retry::Now => Remedy::Reopen,
            // It asks for the assignment first, as every reopening does.
            Retry::Fenced => Remedy::Fenced,
            Retry::Backoff => Remedy::Wait,
        },
    };
    Failure { text: error.to_string(), remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_the_remedy_of_its_consequence() {
        let why = || "why".to_owned();
        let rejected = |record| Error::Rejected { what: why(), why: why(), record };
        for (error, remedy) in [
            (Error::Fenced { why: why() }, Remedy::Fenced),
            (Error::OutcomeUnknown { why: why() }, Remedy::Reopen),
            (Error::Closed, Remedy::Reopen),
            (Error::Aborted { why: why() }, Remedy::Wait),
            (Error::Unreachable { bootstrap: why(), waited_ms: 1, why: why() }, Remedy::Wait),
            (Error::TopicMissing { topic: why(), why: why() }, Remedy::Operator),
            (Error::InvalidRecords { why: why() }, Remedy::Restamp),
            (rejected(None), Remedy::Operator),
            (rejected(Some((3, 7))), Remedy::LeaveOut { stream: StreamId(3), sequence: 7 }),
        ] {
            assert_eq!(of(&error).remedy, remedy, "{error}");
        }
    }
}
