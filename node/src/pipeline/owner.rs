//! The owner's side of a writer: merge, batches, and what the standby must be told. No IO but channel sends that
//! never wait.

use twinfeed_dedup::{Merge, Notice, Observed, SubscriptionId, TailRecord};

use super::{Charge, Ledger, Payload, opening::Offsets, outbox::Outbox};
use crate::{
    faults::{self, Point},
    kafka::OutRecord,
    model::{
        frame::Frame,
        ids::{Epoch, NodeId},
        relay::{OwnerMessage, StandbyMessage, StandbySession},
    },
};

/// A standby without a session for this long is forgotten: it must come back as a new one.
const STANDBY_SILENT_MAX_MS: u64 = 10_000;
/// Bounds of one transaction; the rest waits for the next.
const BATCH_RECORDS_MAX: usize = 10_000;
const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// State of an owner between opening and losing its role.
pub(super) struct Owner {
    pub(super) epoch: Epoch,
    pub(super) merge: Merge<Payload>,
    /// What Kafka has confirmed, per partition.
    pub(super) offsets: Offsets,
    /// The batch that the producer has, kept until its outcome is definite.
    pub(super) in_flight: Vec<OutRecord>,
    /// Their bytes are held until then.
    in_flight_charges: Vec<Charge>,
    ledger: Ledger,
    standby: Option<Standby>,
}

/// The standby as the owner knows it.
struct Standby {
    node: NodeId,
    incarnation: u64,
    subscription: Option<SubscriptionId>,
    outbox: Outbox,
    session: Option<StandbySession>,
    silent_since_ms: Option<u64>,
}

/// What the writer counts.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) fresh: u64,
    pub(super) duplicate: u64,
}

impl Counts {
    fn add(&mut self, observed: &Observed) {
        match observed {
            Observed::Fresh => self.fresh += 1,
            Observed::Duplicate => self.duplicate += 1,
            _ => {}
        }
    }
}

/// What a message of the standby asks the writer to do beyond the merge.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Nothing,
    /// The first message of an unknown incarnation.
    NewStandby,
    /// Frames are missing between two relay sessions: the session must end, the standby starts over.
    Hole,
}

impl Owner {
    /// An owner whose merge already holds what this node retained and what the topic's tail shows.
    pub(super) fn new(epoch: Epoch, merge: Merge<Payload>, offsets: Offsets, ledger: Ledger) -> Self {
        Self { epoch, merge, offsets, in_flight: Vec::new(), in_flight_charges: Vec::new(), ledger, standby: None }
    }

    pub(super) fn frames(
        &mut self,
        frames: impl Iterator<Item = twinfeed_dedup::Frame<Payload>>,
        now_ms: u64,
    ) -> Counts {
        let mut counts = Counts::default();
        for frame in frames {
            counts.add(&self.merge.frame(frame, now_ms));
        }
        counts
    }

    /// A relay session began; its first message must be a hello.
    pub(super) fn standby_connected(&mut self, session: StandbySession, node: NodeId, hello: u64) -> Heard {
        let known = self.standby.as_ref().is_some_and(|s| s.incarnation == hello);
        if !known {
            self.merge.standby_left();
            self.merge.standby_joined();
            self.standby = Some(Standby {
                node,
                incarnation: hello,
                subscription: None,
                outbox: Outbox::default(),
                session: None,
                silent_since_ms: None,
            });
        }
        let standby = self.standby.as_mut().expect("set above when it was absent");
        standby.outbox.rewind();
        standby.silent_since_ms = None;
        let next = self.merge.standby_next_indices().map(|(subscription, index)| (subscription.0, index)).collect();
        // A fresh session's channel has room for its first message.
        let _ = session.outgoing.try_send(OwnerMessage::Welcome { next });
        standby.session = Some(session);
        if known { Heard::Nothing } else { Heard::NewStandby }
    }

    /// The next message of the standby's session; None when there is no session or it has just ended.
    pub(super) async fn hear(&mut self) -> Option<StandbyMessage> {
        match self.standby.as_mut().and_then(|s| s.session.as_mut()) {
            Some(session) => session.incoming.recv().await,
            None => std::future::pending().await,
        }
    }

    /// The standby's session is gone.
    pub(super) fn session_ended(&mut self, now_ms: u64) {
        if let Some(standby) = &mut self.standby {
            standby.session = None;
            standby.silent_since_ms = Some(now_ms);
        }
    }

    /// Acts on a message of the standby.
    pub(super) fn heard(&mut self, message: StandbyMessage, now_ms: u64, counts: &mut Counts) -> Heard {
        let Some(standby) = self.standby.as_mut() else { return Heard::Hole };
        match message {
            StandbyMessage::Hello { .. } => return Heard::Hole,
            StandbyMessage::ReceivedThrough(number) => standby.outbox.confirm(number),
            StandbyMessage::Subscription(subscription) => {
                let subscription = subscription.map(SubscriptionId);
                if standby.subscription != subscription {
                    standby.subscription = subscription;
                    self.merge.standby_subscription(subscription, now_ms);
                }
            }
            StandbyMessage::Frames { subscription, first_index, frames } => {
                let subscription = SubscriptionId(subscription);
                match self.merge.next_index(subscription) {
                    Some(next) if first_index > next => return Heard::Hole,
                    _ => {}
                }
                let numbered = number(subscription, first_index, frames, self.ledger.clone());
                let more = self.frames(numbered, now_ms);
                counts.fresh += more.fresh;
                counts.duplicate += more.duplicate;
            }
        }
        Heard::Nothing
    }

    /// The next batch, if the producer is free and something is ready.
    pub(super) fn cut(&mut self, now_ms: u64) -> Option<Vec<OutRecord>> {
        let batch =
            self.merge.cut(now_ms, BATCH_RECORDS_MAX, BATCH_BYTES_MAX, |payload: &Payload| payload.bytes.len())?;
        self.in_flight.reserve(batch.len());
        for record in batch {
            let Payload { bytes, received_at_ns, charge, .. } = record.payload;
            self.in_flight.push(OutRecord {
                // `Writer::write` knows the stream.
                stream: 0,
                sub_index: 0,
                epoch: record.id.epoch,
                sequence: record.id.sequence,
                fingerprint: record.fingerprint.as_u128(),
                subscription: record.subscription.0,
                index: record.index,
                received_at_ns,
                // Unless Kafka refuses it; see `timestamps`.
                timestamp_ms: (received_at_ns / 1_000_000) as i64,
                payload: bytes,
            });
            self.in_flight_charges.push(charge);
        }
        Some(self.in_flight.clone())
    }

    /// Kafka has the batch in flight: a fingerprint counts as seen, and a frame as resolved, only from here on.
    /// Returns the records for the meters.
    pub(super) fn committed(&mut self, next_offsets: impl IntoIterator<Item = (i32, i64)>) -> Vec<OutRecord> {
        faults::point(Point::OwnerAfterCommit);
        self.number_messages();
        for (partition, offset) in next_offsets {
            let known = self.offsets.entry(partition).or_insert(0);
            *known = (*known).max(offset);
        }
        self.merge.committed();
        self.in_flight_charges.clear();
        std::mem::take(&mut self.in_flight)
    }

    /// After a producer was lost with a batch in flight: the tail says whether the batch is in the topic. A
    /// transaction is whole or absent, so one of its records decides for all.
    pub(super) fn landed(&self, tail: &[TailRecord]) -> bool {
        match self.in_flight.first() {
            Some(first) => tail.iter().any(|t| t.id.epoch == first.epoch && t.id.sequence == first.sequence),
            // All its records were refused: there is nothing left to write.
            None => true,
        }
    }

    /// Takes a record out of the batch in flight.
    pub(super) fn leave_out(&mut self, sequence: u64) -> Option<OutRecord> {
        let position = self.in_flight.iter().position(|record| record.sequence == sequence)?;
        Some(self.in_flight.remove(position))
    }

    /// Gives what the merge has to say its numbers and the offsets that it speaks of. With the offsets of a later commit, a
    /// standby that hears this message and not that commit's ack would read the tail from behind records it knows nothing of.
    fn number_messages(&mut self) {
        let messages = self.merge.take_messages();
        if let Some(standby) = &mut self.standby {
            let offsets: Vec<(i32, i64)> = self.offsets.iter().map(|(&p, &o)| (p, o)).collect();
            for message in messages {
                standby.outbox.push(message, offsets.clone());
            }
        }
    }

    /// Moves what the merge has to say into the standby's session, as far as it has room.
    pub(super) fn tell(&mut self, now_ms: u64) -> Vec<Notice> {
        self.number_messages();
        if let Some(standby) = &mut self.standby {
            if let Some(session) = &standby.session {
                while standby.outbox.has_unsent() {
                    let Ok(permit) = session.outgoing.try_reserve() else { break };
                    if let Some(message) = standby.outbox.next() {
                        permit.send(message);
                    }
                }
            }
            let silent =
                standby.silent_since_ms.is_some_and(|since| now_ms.saturating_sub(since) > STANDBY_SILENT_MAX_MS);
            if silent || standby.outbox.overflowed() {
                self.standby = None;
                self.merge.standby_left();
            }
        }
        self.merge.take_notices()
    }

    /// The standby whose relay session is open.
    pub(super) fn connected_standby(&self) -> Option<NodeId> {
        self.standby.as_ref().filter(|s| s.session.is_some()).map(|s| s.node)
    }

    /// Ends the standby's session and forgets it: when it comes back, it is welcomed as one that was never met.
    pub(super) fn drop_session(&mut self) {
        self.standby = None;
        self.merge.standby_left();
    }
}

fn number(
    subscription: SubscriptionId,
    first_index: u64,
    frames: Vec<Frame>,
    ledger: Ledger,
) -> impl Iterator<Item = twinfeed_dedup::Frame<Payload>> {
    frames.into_iter().zip(first_index..).map(move |(frame, index)| {
        let payload = Payload::new(frame, &ledger);
        twinfeed_dedup::Frame { subscription, index, fingerprint: payload.fingerprint(), payload }
    })
}
