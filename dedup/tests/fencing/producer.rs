//! A producer object as librdkafka 2.12 behaves: what it sends next, what it makes of an answer, and what it tells its caller.
//!
//! The writer owns one at a time; the world carries its requests. It repeats a request whose connection broke, with the
//! same epoch and sequence and without telling, no sooner than four fifths of `retry.backoff.ms` (rdkafka_txnmgr.c); a first
//! copy may then arrive after the second has been answered. It mirrors `node/src/kafka/{client,producer}.rs` where those decide:
//! what a refusal means in which phase, and that a slow commit is the producer's last.

use std::collections::VecDeque;
use std::rc::Rc;

use twinfeed_dedup::TailRecord;

use super::broker::{Identity, Refusal, Reply, Request, TransactionalId};

/// `retry.backoff.ms` of the node is 500, less 20 % of jitter: `HIDDEN_RETRY_MS` in `node/src/kafka/options.rs`.
pub(crate) const HIDDEN_RETRY_US: u64 = 400_000;
/// CONCURRENT_TRANSACTIONS is asked again after this (rdkafka_txnmgr.c:902).
const BUSY_RETRY_US: u64 = 20_000;

#[derive(Debug)]
pub(crate) struct Producer {
    pub(crate) transactional_id: TransactionalId,
    /// Names the object; answers to others are not for this one.
    pub(crate) object: u64,
    /// Counts what was sent; a connection that broke never answers.
    pub(crate) attempt: u64,
    who: Option<Identity>,
    next_sequence: u32,
    stage: Stage,
    batches: VecDeque<Rc<[TailRecord]>>,
    next_offset: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Initialising,
    Ready,
    Adding,
    Producing,
    Committing { since_us: u64 },
}

/// What comes of an answer.
#[derive(Debug)]
pub(crate) enum Next {
    Send,
    SendAfter { delay_us: u64 },
    Over(Outcome),
}

/// What the caller learns; the writer acts as on the errors of `node/src/kafka/error.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Opened,
    Committed { next_offset: usize, slow: bool },
    Fenced,
    Unknown,
    Aborted,
}

impl Producer {
    pub(crate) fn new(transactional_id: TransactionalId, object: u64) -> Self {
        Self {
            transactional_id,
            object,
            attempt: 0,
            who: None,
            next_sequence: 0,
            stage: Stage::Initialising,
            batches: VecDeque::new(),
            next_offset: 0,
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    /// Begins a transaction of these batches; the first request is to be sent.
    pub(crate) fn write(&mut self, batches: VecDeque<Rc<[TailRecord]>>) {
        (self.batches, self.stage) = (batches, Stage::Adding);
    }

    /// The request of its present stage, the same one every time; `None` where nothing is to be said.
    pub(crate) fn request(&self) -> Option<Request> {
        if self.stage == Stage::Initialising {
            return Some(Request::InitProducerId);
        }
        let who = self.who?;
        match self.stage {
            Stage::Adding => Some(Request::AddPartition(who)),
            Stage::Producing => {
                let records = Rc::clone(self.batches.front()?);
                Some(Request::Produce { who, first_sequence: self.next_sequence, records })
            }
            Stage::Committing { .. } => Some(Request::EndTxn { who, commit: true }),
            Stage::Initialising | Stage::Ready => None,
        }
    }

    /// The request that asks, as a courtesy, for the end of a transaction that is given up.
    pub(crate) fn abandon(&self) -> Option<Request> {
        self.who.map(|who| Request::EndTxn { who, commit: false })
    }

    pub(crate) fn answered(&mut self, reply: Reply, now_us: u64) -> Next {
        match (self.stage, reply) {
            (_, Reply::Refused(refusal)) => self.refused(refusal),
            (Stage::Initialising, Reply::Initialised(who)) => {
                (self.who, self.stage) = (Some(who), Stage::Ready);
                Next::Over(Outcome::Opened)
            }
            (Stage::Adding, Reply::Done) => {
                self.stage = Stage::Producing;
                Next::Send
            }
            (Stage::Producing, Reply::Appended(next_offset)) => {
                self.next_offset = next_offset;
                self.next_sequence += self.batches.pop_front().map_or(0, |batch| batch.len() as u32);
                if self.batches.is_empty() {
                    self.stage = Stage::Committing { since_us: now_us };
                }
                Next::Send
            }
            (Stage::Committing { since_us }, Reply::Done) => {
                self.stage = Stage::Ready;
                let slow = now_us - since_us >= HIDDEN_RETRY_US;
                Next::Over(Outcome::Committed { next_offset: self.next_offset, slow })
            }
            (stage, reply) => panic!("{reply:?} is no answer to {stage:?}"),
        }
    }

    fn refused(&self, refusal: Refusal) -> Next {
        match (self.stage, refusal) {
            (Stage::Initialising, Refusal::ConcurrentTransactions) => Next::SendAfter { delay_us: HIDDEN_RETRY_US },
            (_, Refusal::ConcurrentTransactions) => Next::SendAfter { delay_us: BUSY_RETRY_US },
            (_, Refusal::Fenced) => Next::Over(Outcome::Fenced),
            (Stage::Committing { .. }, _) => Next::Over(Outcome::Unknown),
            _ => Next::Over(Outcome::Aborted),
        }
    }

    /// The connection broke under a request; `gives_up` where the caller's patience ends before the retry.
    pub(crate) fn cut(&self, gives_up: bool, jitter_us: u64) -> Next {
        match self.stage {
            Stage::Committing { .. } if gives_up => Next::Over(Outcome::Unknown),
            Stage::Adding | Stage::Producing if gives_up => Next::Over(Outcome::Aborted),
            _ => Next::SendAfter { delay_us: HIDDEN_RETRY_US + jitter_us },
        }
    }
}
