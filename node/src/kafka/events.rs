//! What librdkafka tells from its own threads: delivery reports, trouble with brokers, log lines. `client`, `tail` and
//! `topic` give one `Events` to each object of librdkafka and read it from theirs. It decides nothing.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use super::{
    error::{Class, class},
    markers::{Span, widen},
};
use rdkafka::{
    ClientContext, Message as _,
    config::RDKafkaLogLevel,
    consumer::ConsumerContext,
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::DeliveryResult,
    producer::ProducerContext,
};

/// The mailbox of one librdkafka object. Its methods are called from any thread.
#[derive(Debug, Default)]
pub(super) struct Events {
    board: Mutex<Board>,
    settled: Condvar,
    trouble: Mutex<Option<(Code, String)>>,
}

/// Delivery reports of the write in flight. One write at a time, and a write with a missing report ends its producer,
/// so no report can be counted for the wrong one.
#[derive(Debug, Default)]
struct Board {
    pending: usize,
    spans: Vec<Span>,
    failed: Vec<Undelivered>,
}

/// A record that librdkafka gave up on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Undelivered {
    /// Position of the record in the write.
    pub(super) position: usize,
    pub(super) code: Code,
}

/// All delivery reports of a write.
#[derive(Debug)]
pub(super) struct Reports {
    /// Per touched partition, the offsets of the records.
    pub(super) spans: Vec<Span>,
    pub(super) failed: Vec<Undelivered>,
    /// Records without a report at the deadline.
    pub(super) missing: usize,
}

impl Events {
    /// Expects `records` reports from now on.
    pub(super) fn expect(&self, records: usize) {
        *lock(&self.board) = Board { pending: records, ..Board::default() };
    }

    /// Blocks until every expected report is there or `deadline` has passed.
    pub(super) fn wait_until(&self, deadline: Instant) -> Reports {
        let mut board = lock(&self.board);
        while board.pending > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            board = self.settled.wait_timeout(board, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let board = std::mem::take(&mut *board);
        Reports { spans: board.spans, failed: board.failed, missing: board.pending }
    }

    /// Returns the last trouble reported.
    pub(super) fn trouble(&self) -> Option<(Code, String)> {
        lock(&self.trouble).clone()
    }

    /// Returns the last trouble reported, and forgets it. A refused login outlives later lesser trouble.
    pub(super) fn take_trouble(&self) -> Option<(Code, String)> {
        lock(&self.trouble).take()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ProducerContext for Events {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, position: usize) {
        let mut board = lock(&self.board);
        match result {
            Ok(message) => widen(&mut board.spans, message.partition(), message.offset()),
            Err((error, _)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                board.failed.push(Undelivered { position, code });
            }
        }
        board.pending = board.pending.saturating_sub(1);
        if board.pending == 0 {
            self.settled.notify_all();
        }
    }
}

impl ConsumerContext for Events {}

impl ClientContext for Events {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::warn!(target: "twinfeed::kafka", facility, "{message}");
            }
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
                tracing::info!(target: "twinfeed::kafka", facility, "{message}");
            }
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(target: "twinfeed::kafka", facility, "{message}");
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        let mut trouble = lock(&self.trouble);
        let refused = |code| class(code) == Class::Rejected;
        if refused(code) || !trouble.as_ref().is_some_and(|(known, _)| refused(*known)) {
            *trouble = Some((code, reason.to_owned()));
        }
        tracing::debug!(target: "twinfeed::kafka", ?code, "{reason}");
    }
}
