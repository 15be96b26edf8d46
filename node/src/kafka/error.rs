//! What went wrong, by consequence: each variant is one thing the caller has to do. The single place that reads
//! librdkafka's codes and flags; the other files of the room only say in which phase the error came.

use std::time::Instant;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// Why a call failed, and so what may have happened to its records.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This producer's epoch is over. Not proof of another owner: a transaction that the coordinator timed out ends the
    /// same way. If it came from a write, its outcome is as open as with `OutcomeUnknown`.
    #[error("fenced by a newer producer or by the coordinator ({why}); consult the assignment before opening again")]
    Fenced { why: String },
    /// The records are in the topic or not; only opening a new producer and reading the tail can tell.
    #[error("outcome of the transaction unknown ({why}); open a new producer and read the tail")]
    OutcomeUnknown { why: String },
    /// The records are not in the topic and never will be by this attempt. The producer is finished.
    #[error("transaction not written ({why}); open a new producer and write the records again")]
    Aborted { why: String },
    /// Kafka takes none of the records as they are, since a timestamp is too far from its own clock. (Records that are
    /// invalid for anything else are `Rejected`.) They are not in the topic. The producer is finished.
    #[error("kafka refuses records as invalid ({why}); check the clocks of nodes and brokers")]
    InvalidRecords { why: String },
    #[error("kafka at {bootstrap} did not answer within {waited_ms} ms ({why}); check address, network and brokers")]
    Unreachable { bootstrap: String, waited_ms: u64, why: String },
    #[error("topic {topic} {why}; create it")]
    TopicMissing { topic: String, why: String },
    /// Trying again changes nothing: configuration, authorization, or a record that Kafka does not take.
    #[error("kafka refuses {what}: {why}")]
    Rejected {
        what: String,
        why: String,
        /// `stream` and `sequence` of the offending `OutRecord`, when there is one.
        record: Option<(u64, u64)>,
    },
    /// The handle was used after an error, a `recycle` or `close` had ended its producer. Nothing was written.
    #[error("this producer is finished; open a new one")]
    Closed,
}

/// What a caller does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// At once, with a new producer.
    Now,
    /// With a new producer, after a pause.
    Backoff,
    /// Not without an operator.
    Never,
    /// Only if the current assignment still names this node.
    Fenced,
}

impl Error {
    /// Returns what a caller does about it.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Fenced { .. } => Retry::Fenced,
            Self::OutcomeUnknown { .. } | Self::Closed => Retry::Now,
            Self::Aborted { .. } | Self::InvalidRecords { .. } | Self::Unreachable { .. } => Retry::Backoff,
            Self::TopicMissing { .. } | Self::Rejected { .. } => Retry::Never,
        }
    }
}

/// The consequence of one of librdkafka's codes, whatever the phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Fenced,
    TopicMissing,
    Rejected,
    Unreachable,
    /// None of the above; the phase decides.
    Other,
}

/// Classifies a code. Codes that are not listed are `Other`: neither retried blindly nor taken for a refusal.
pub(super) fn class(code: Code) -> Class {
    match code {
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => Class::Fenced,
        Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition => Class::TopicMissing,
        Code::MessageSizeTooLarge
        | Code::InvalidMessageSize
        | Code::InvalidTopic
        | Code::InvalidTransactionTimeout
        | Code::InvalidArgument
        | Code::InvalidConfig
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::PolicyViolation
        | Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::SecurityDisabled
        | Code::UnsupportedSASLMechanism
        | Code::SaslAuthenticationFailed
        | Code::Authentication
        | Code::UnsupportedFeature
        | Code::UnsupportedVersion => Class::Rejected,
        Code::OperationTimedOut
        | Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        // A handshake with a broker that is just going down fails with it too, so it is no refusal.
        | Code::SSL
        | Code::TimedOutQueue
        | Code::RequestTimedOut
        | Code::BrokerNotAvailable
        | Code::LeaderNotAvailable
        | Code::NetworkException
        | Code::CoordinatorNotAvailable
        | Code::CoordinatorLoadInProgress
        | Code::NotCoordinator
        | Code::ConcurrentTransactions => Class::Unreachable,
        _ => Class::Other,
    }
}

/// Whether the refusal is about a size: of a record, or of the batch that it was in. Any other is about no record in
/// particular, and leaving one out would cost a record for each attempt.
pub(super) fn is_too_large(code: Code) -> bool {
    matches!(code, Code::MessageSizeTooLarge | Code::InvalidMessageSize)
}

/// Whether Kafka refuses this record as it is. librdkafka says `InvalidTimestamp` only when it is the only one of its batch,
/// else `InvalidRecord` (rd_kafka_msgbatch_handle_Produce_result_record_errors).
pub(super) fn is_invalid_record(code: Code) -> bool {
    matches!(code, Code::InvalidTimestamp | Code::InvalidRecord)
}

/// Returns the code inside an error of rdkafka's, when it carries one.
pub(super) fn code_of(error: &KafkaError) -> Option<Code> {
    error.rdkafka_error_code()
}

/// Maps the failure of a commit. `KafkaError::Flush` alone is definite: EndTxn comes after the flush, so it was not
/// sent. Every other failure is open, even one that asks for an abort: librdkafka's own comment says of it that "the
/// transaction will have failed locally but the EndTxn(commit) may have succeeded" (rd_kafka_txn_handle_EndTxn).
pub(super) fn at_commit(error: &KafkaError) -> Error {
    let why = error.to_string();
    match error {
        KafkaError::Flush(_) => Error::Aborted { why },
        _ if code_of(error).map(class) == Some(Class::Fenced) => Error::Fenced { why },
        _ => Error::OutcomeUnknown { why },
    }
}

/// Maps the failure of `init_transactions`: nothing of ours is open yet. `trouble` is what librdkafka said meanwhile on
/// its event queue, where failed logins and TLS handshakes end up; the call itself only times out on them.
pub(super) fn at_init(error: &KafkaError, waited: Waited<'_>, trouble: Option<(Code, String)>) -> Error {
    let fatal = matches!(error, KafkaError::Transaction(inner) if inner.is_fatal());
    let why = error.to_string();
    match code_of(error).map(class) {
        Some(Class::Fenced) => Error::Fenced { why },
        Some(Class::Rejected) => rejected("to open the producer", why),
        Some(Class::TopicMissing | Class::Unreachable | Class::Other) | None if fatal => {
            rejected("to open the producer", why)
        }
        Some(Class::TopicMissing | Class::Unreachable | Class::Other) | None => waited.or_trouble(why, trouble),
    }
}

/// How long a request has been waited for, and whose answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waited<'a> {
    pub(super) bootstrap: &'a str,
    pub(super) since: Instant,
}

impl Waited<'_> {
    /// Turns an unanswered request into the refusal behind it, if librdkafka reported one, else into `Unreachable`.
    pub(super) fn or_trouble(self, why: String, trouble: Option<(Code, String)>) -> Error {
        match trouble {
            Some((code, said)) if class(code) == Class::Rejected => rejected("the connection", said),
            Some((_, said)) => self.unreachable(format!("{why}; {said}")),
            None => self.unreachable(why),
        }
    }

    fn unreachable(self, why: String) -> Error {
        let waited_ms = self.since.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
        Error::Unreachable { bootstrap: self.bootstrap.to_owned(), waited_ms, why }
    }
}

/// Builds a refusal that no record is to blame for.
pub(super) fn rejected(what: impl Into<String>, why: impl Into<String>) -> Error {
    Error::Rejected { what: what.into(), why: why.into(), record: None }
}

/// Maps a failure before EndTxn(commit) was sent: nothing can have been committed.
pub(super) fn before_commit(error: &KafkaError) -> Error {
    let why = error.to_string();
    match code_of(error).map(class) {
        Some(Class::Fenced) => Error::Fenced { why },
        _ => Error::Aborted { why },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_timed_out_is_not_an_outcome() {
        let timed_out = KafkaError::Global(Code::OperationTimedOut);
        assert!(matches!(at_commit(&timed_out), Error::OutcomeUnknown { .. }));
        let inconsistent = KafkaError::Global(Code::Inconsistent);
        assert!(matches!(at_commit(&inconsistent), Error::OutcomeUnknown { .. }));
    }

    #[test]
    fn a_failed_flush_sent_no_commit() {
        assert!(matches!(at_commit(&KafkaError::Flush(Code::OperationTimedOut)), Error::Aborted { .. }));
    }

    #[test]
    fn every_face_of_fencing_is_fenced() {
        for code in [Code::Fenced, Code::ProducerFenced, Code::InvalidProducerEpoch] {
            assert!(matches!(at_commit(&KafkaError::Global(code)), Error::Fenced { .. }), "{code:?}");
            assert!(matches!(before_commit(&KafkaError::Global(code)), Error::Fenced { .. }), "{code:?}");
        }
    }
}
