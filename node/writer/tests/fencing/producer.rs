//! A producer object as librdkafka 2.12 behaves: what it sends next, what it makes of an answer, and what it tells its caller.
//!
//! The writer owns one at a time; the world carries its requests. It repeats a request whose connection broke, with the
//! same epoch and sequence and without telling, no sooner than four fifths of `retry.backoff.ms` (rdkafka_txnmgr.c); a first
//! copy may then arrive after the second has been answered. It mirrors `node/src/kafka/{client,producer,markers}.rs` where those
//! decide: what a refusal means in which phase, that a slow commit is the producer's last, and what the last stable offset says.

use std::collections::VecDeque;
use std::rc::Rc;

use twinfeed_dedup::{Fingerprint, RecordId, SubscriptionId, TailRecord};

use super::broker::{Identity, Refusal, Reply, Request, Stamped, TransactionalId};
use super::bug::Bug;

/// `retry.backoff.ms` of the node is 500, less 20 % of jitter: `HIDDEN_RETRY_MS` in `node/src/kafka/options.rs`.
pub(crate) const HIDDEN_RETRY_US: u64 = 400_000;
/// CONCURRENT_TRANSACTIONS is asked again after this (rdkafka_txnmgr.c:902).
const BUSY_RETRY_US: u64 = 20_000;
/// Between two looks whether a transaction's marker is there.
const MARKER_LOOK_US: u64 = 1_000;
/// How long an answer may say so. Half of the shortest life of a transaction, as in the node: what a late AddPartitionsToTxn begins
/// after this commit is aborted when that is over, and its marker would pass for this one.
const MARKER_MAX_US: u64 = 350_000;
/// Looks of a new producer before its first commit; `CLEARS_MAX` in `node/src/kafka/client.rs`.
const LOOKS_MAX: u32 = 3;
/// How long what is open in the partition may take to end by itself, as other streams' transactions do; `OTHERS_MS_MAX` there.
const OTHERS_MAX_US: u64 = 100_000;
/// Between two looks whether it has.
const OTHERS_LOOK_US: u64 = 5_000;

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
    batches: VecDeque<Rc<[Stamped]>>,
    unsent: VecDeque<Rc<[Stamped]>>,
    first_offset: usize,
    next_offset: usize,
    /// Looks left whether something is open before its records: none once nothing was, or once a commit is to show.
    looks: u32,
    /// Up to where an abort is to close what a predecessor left open, before the tail is read.
    closes: Option<usize>,
    bug: Bug,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Initialising,
    Ready,
    Adding,
    Producing,
    /// Opened; where does the log end?
    Measuring,
    /// Is it readable up to there? What stays open may be a predecessor's, whose marker was forgotten.
    Awaiting {
        end: usize,
        since_us: u64,
    },
    /// Is something open before the first transaction?
    Looking {
        since_us: u64,
    },
    /// Something is: this transaction's abort closes it.
    Clearing {
        since_us: u64,
    },
    Committing {
        since_us: u64,
    },
    /// Committed; is its marker there?
    Settling {
        since_us: u64,
        slow: bool,
    },
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
    pub(crate) fn new(transactional_id: TransactionalId, object: u64, bug: Bug) -> Self {
        Self {
            transactional_id,
            object,
            attempt: 0,
            who: None,
            next_sequence: 0,
            stage: Stage::Initialising,
            batches: VecDeque::new(),
            unsent: VecDeque::new(),
            first_offset: 0,
            next_offset: 0,
            looks: if bug == Bug::NoLookBefore { 0 } else { LOOKS_MAX },
            closes: None,
            bug,
        }
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    /// Begins a transaction of these batches; the first request is to be sent.
    pub(crate) fn write(&mut self, batches: VecDeque<Rc<[Stamped]>>) {
        self.batches = batches;
        self.begin();
    }

    fn begin(&mut self) {
        (self.unsent, self.stage) = (self.batches.clone(), Stage::Adding);
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
                let records = Rc::clone(self.unsent.front()?);
                Some(Request::Produce { who, first_sequence: self.next_sequence, records })
            }
            Stage::Measuring => Some(Request::LogEnd),
            Stage::Awaiting { .. } | Stage::Looking { .. } | Stage::Settling { .. } => Some(Request::StableOffset),
            Stage::Clearing { .. } => Some(Request::EndTxn { who, commit: false }),
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
                self.who = Some(who);
                if self.bug == Bug::NoLookBefore {
                    return self.opened();
                }
                self.stage = Stage::Measuring;
                Next::Send
            }
            (Stage::Measuring, Reply::End(end)) => {
                self.stage = Stage::Awaiting { end, since_us: now_us };
                Next::Send
            }
            (Stage::Awaiting { end, since_us }, Reply::Stable(stable)) => self.awaited(end, stable, now_us - since_us),
            (Stage::Adding, Reply::Done) => {
                self.stage = Stage::Producing;
                Next::Send
            }
            (Stage::Producing, Reply::Appended(next_offset)) => {
                let records = self.unsent.pop_front().map_or(0, |batch| batch.len());
                if self.unsent.len() + 1 == self.batches.len() {
                    self.first_offset = next_offset - records;
                }
                self.next_offset = next_offset;
                self.next_sequence += records as u32;
                if self.unsent.is_empty() {
                    self.stage = self.delivered(now_us);
                }
                Next::Send
            }
            (Stage::Looking { since_us }, Reply::Stable(stable)) => {
                if stable < self.first_offset && now_us - since_us < OTHERS_MAX_US {
                    return Next::SendAfter { delay_us: OTHERS_LOOK_US };
                }
                self.looks -= 1;
                self.stage = if stable < self.first_offset {
                    Stage::Clearing { since_us: now_us }
                } else {
                    self.looks = 0;
                    Stage::Committing { since_us: now_us }
                };
                Next::Send
            }
            (Stage::Clearing { since_us }, Reply::Done) => {
                if now_us - since_us >= HIDDEN_RETRY_US {
                    return Next::Over(Outcome::Aborted);
                }
                match self.closes {
                    Some(end) => self.stage = Stage::Awaiting { end, since_us: now_us },
                    None => self.begin(),
                }
                Next::Send
            }
            (Stage::Committing { since_us }, Reply::Done) => {
                let slow = now_us - since_us >= HIDDEN_RETRY_US;
                if self.bug == Bug::AckBeforeMarker {
                    return self.committed(slow);
                }
                self.stage = Stage::Settling { since_us: now_us, slow };
                Next::Send
            }
            (Stage::Settling { since_us, slow }, Reply::Stable(stable)) => {
                let is_missing = (self.first_offset..self.next_offset).contains(&stable);
                match is_missing {
                    _ if now_us - since_us >= MARKER_MAX_US => Next::Over(Outcome::Unknown),
                    false => self.committed(slow),
                    true => Next::SendAfter { delay_us: MARKER_LOOK_US },
                }
            }
            (stage, reply) => panic!("{reply:?} is no answer to {stage:?}"),
        }
    }

    /// What comes once all records of a transaction are delivered.
    fn delivered(&self, now_us: u64) -> Stage {
        match self.closes {
            Some(_) => Stage::Clearing { since_us: now_us },
            None if self.looks > 0 => Stage::Looking { since_us: now_us },
            None => Stage::Committing { since_us: now_us },
        }
    }

    /// What is open is another stream's and ends by itself, or it is closed by an abort: with some record, for the marker behind
    /// it. What is open still is looked for again before the first commit.
    fn awaited(&mut self, end: usize, stable: usize, waited_us: u64) -> Next {
        if stable >= end {
            self.looks = 0;
            return self.opened();
        }
        if waited_us < OTHERS_MAX_US {
            return Next::SendAfter { delay_us: OTHERS_LOOK_US };
        }
        if self.closes.is_some() {
            return self.opened();
        }
        self.closes = Some(end);
        self.write(VecDeque::from([Rc::from([unnamed()])]));
        Next::Send
    }

    fn opened(&mut self) -> Next {
        (self.stage, self.closes) = (Stage::Ready, None);
        Next::Over(Outcome::Opened)
    }

    fn committed(&mut self, slow: bool) -> Next {
        self.stage = Stage::Ready;
        Next::Over(Outcome::Committed { next_offset: self.next_offset, slow })
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
            Stage::Committing { .. } | Stage::Settling { .. } if gives_up => Next::Over(Outcome::Unknown),
            Stage::Adding
            | Stage::Producing
            | Stage::Awaiting { .. }
            | Stage::Looking { .. }
            | Stage::Clearing { .. }
                if gives_up =>
            {
                Next::Over(Outcome::Aborted)
            }
            _ => Next::SendAfter { delay_us: HIDDEN_RETRY_US + jitter_us },
        }
    }
}

/// A record without a header, never to be committed.
fn unnamed() -> Stamped {
    let id = RecordId { epoch: 0, sequence: 0 };
    let (fingerprint, subscription) = (Fingerprint::from_u128(0), SubscriptionId(0));
    Stamped { stream: 0, record: TailRecord { id, fingerprint, subscription, index: 0, acknowledged: false } }
}
