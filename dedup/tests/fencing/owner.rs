//! The owner's side of a writer, step by step as `node/src/pipeline/{owner,outbox}.rs` have it, without channels and bytes.
//!
//! The writer owns it; what the standby has to be told comes out of `tell`, in order.

use std::collections::VecDeque;

use twinfeed_dedup::{Frame, Merge, Notice, Record, SubscriptionId, TailRecord, ToStandby};

use super::net::{Down, Up};
use super::plan::Bug;

const STANDBY_SILENT_MAX_MS: u64 = 10_000;

pub(crate) struct Owner {
    pub(crate) epoch: u64,
    pub(crate) merge: Merge<()>,
    /// What Kafka has confirmed.
    pub(crate) offset: usize,
    /// The batch that the producer has, kept until its outcome is definite.
    pub(crate) in_flight: Vec<TailRecord>,
    standby: Option<Peer>,
    /// [`Bug::LateStamps`].
    stamps_late: bool,
}

struct Peer {
    incarnation: u64,
    subscription: Option<SubscriptionId>,
    session: Option<u64>,
    silent_since_ms: Option<u64>,
    /// Numbered messages that the standby has not confirmed, and how many of them this session has been given.
    unconfirmed: VecDeque<(u64, usize, ToStandby)>,
    sent: usize,
    last_number: u64,
}

impl Owner {
    pub(crate) fn new(epoch: u64, merge: Merge<()>, offset: usize, bug: Bug) -> Self {
        Self { epoch, merge, offset, in_flight: Vec::new(), standby: None, stamps_late: bug == Bug::LateStamps }
    }

    pub(crate) fn session(&self) -> Option<u64> {
        self.standby.as_ref().and_then(|standby| standby.session)
    }

    /// A relay session began; returns the welcome.
    pub(crate) fn standby_connected(&mut self, session: u64, incarnation: u64, received_through: u64) -> Down {
        if self.standby.as_ref().is_none_or(|standby| standby.incarnation != incarnation) {
            self.merge.standby_left();
            self.merge.standby_joined();
            self.standby = Some(Peer {
                incarnation,
                subscription: None,
                session: None,
                silent_since_ms: None,
                unconfirmed: VecDeque::new(),
                sent: 0,
                last_number: 0,
            });
        }
        if let Some(standby) = &mut self.standby {
            standby.sent = 0;
            standby.confirm(received_through);
            standby.silent_since_ms = None;
            standby.session = Some(session);
        }
        Down::Welcome { next: self.merge.standby_next_indices().collect() }
    }

    pub(crate) fn session_ended(&mut self, session: u64, now_ms: u64) {
        if let Some(standby) = self.standby.as_mut().filter(|standby| standby.session == Some(session)) {
            (standby.session, standby.silent_since_ms) = (None, Some(now_ms));
        }
    }

    /// Returns false where frames are missing: the session must end.
    pub(crate) fn heard(&mut self, said: Up, now_ms: u64) -> bool {
        let Some(standby) = self.standby.as_mut() else { return false };
        match said {
            Up::ReceivedThrough(number) => standby.confirm(number),
            Up::Subscription(subscription) => {
                if standby.subscription != subscription {
                    standby.subscription = subscription;
                    self.merge.standby_subscription(subscription, now_ms);
                }
            }
            Up::Frames { subscription, first_index, fingerprints } => {
                if self.merge.next_index(subscription).is_some_and(|next| first_index > next) {
                    return false;
                }
                for (fingerprint, index) in fingerprints.into_iter().zip(first_index..) {
                    self.merge.frame(Frame { subscription, index, fingerprint, bytes: 1, payload: () }, now_ms);
                }
            }
        }
        true
    }

    pub(crate) fn cut(&mut self, now_ms: u64) -> bool {
        let Some(batch) = self.merge.cut(now_ms, 10_000, usize::MAX) else { return false };
        self.in_flight = batch.into_iter().map(tail_record).collect();
        true
    }

    /// Kafka has the batch in flight.
    pub(crate) fn committed(&mut self, next_offset: usize) {
        if !self.stamps_late {
            self.number_messages();
        }
        self.offset = self.offset.max(next_offset);
        self.merge.committed();
        self.in_flight.clear();
    }

    /// A transaction is whole or absent, so one of its records decides for all.
    pub(crate) fn landed(&self, tail: &[TailRecord]) -> bool {
        self.in_flight.first().is_none_or(|first| tail.iter().any(|record| record.id == first.id))
    }

    /// Gives what the merge has to say its number and the offset that it speaks of.
    fn number_messages(&mut self) {
        let messages = self.merge.take_messages();
        if let Some(standby) = &mut self.standby {
            for message in messages {
                standby.last_number += 1;
                standby.unconfirmed.push_back((standby.last_number, self.offset, message));
            }
        }
    }

    /// What the standby's session has not been told, and what an operator should know.
    pub(crate) fn tell(&mut self, now_ms: u64) -> (Vec<Down>, Vec<Notice>) {
        let mut said = Vec::new();
        self.number_messages();
        if let Some(standby) = &mut self.standby {
            if standby.session.is_some() {
                for (number, committed, message) in standby.unconfirmed.range(standby.sent..) {
                    let (number, committed, message) = (*number, *committed, message.clone());
                    said.push(Down::Merge { number, committed, message });
                }
                standby.sent = standby.unconfirmed.len();
            }
            let silent_ms = standby.silent_since_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms));
            if silent_ms > STANDBY_SILENT_MAX_MS {
                self.forget_standby();
            }
        }
        (said, self.merge.take_notices())
    }

    pub(crate) fn forget_standby(&mut self) {
        self.standby = None;
        self.merge.standby_left();
    }
}

impl Peer {
    fn confirm(&mut self, through: u64) {
        while self.unconfirmed.front().is_some_and(|(number, ..)| *number <= through) {
            self.unconfirmed.pop_front();
            self.sent = self.sent.saturating_sub(1);
        }
    }
}

fn tail_record(record: Record<()>) -> TailRecord {
    let Record { id, fingerprint, subscription, index, .. } = record;
    TailRecord { id, fingerprint, subscription, index }
}
