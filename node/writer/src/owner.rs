//! The owner's side of a writer: merge, batches, and what the standby must be told.

use std::sync::Arc;

use twinfeed_dedup::{Merge, Observed, Side, SubscriptionId, TailRecord};

use crate::{
    Epoch, NodeId, StreamId,
    absence::Absence,
    differences::Differences,
    frame::Frame,
    outbox::Outbox,
    payload::{self, Payload},
    port::Offsets,
    record::OutRecord,
    relay::{OwnerMessage, StandbyMessage},
};

/// A standby without a session for this long is forgotten: it must come back as a new one.
const STANDBY_SILENT_MAX_MS: u64 = 10_000;
/// Between two questions whether the standby has sent all it has.
const QUESTION_EVERY_MS: u64 = 200;

/// State of an owner between opening and losing its role.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) epoch: Epoch,
    stream: StreamId,
    pub(crate) merge: Merge<Payload>,
    /// What Kafka has confirmed, per partition.
    pub(crate) offsets: Arc<Offsets>,
    /// The batch that the producer has, kept until its outcome is definite.
    pub(crate) in_flight: Arc<Vec<OutRecord>>,
    /// Largest payload that Kafka takes.
    pub(crate) payload_bytes_max: usize,
    pub(crate) absence: Option<Absence>,
    /// The bounds of an absence that has ended and is to be told.
    pub(crate) hole_ms: Option<(u64, u64)>,
    pub(crate) differences: Differences,
    standby: Option<Standby>,
    /// Whoever is at the other end of the relay is to say who it is.
    greet_due: bool,
}

/// The standby as the owner knows it.
#[derive(Debug)]
struct Standby {
    node: NodeId,
    incarnation: u64,
    subscription: Option<SubscriptionId>,
    outbox: Outbox,
    session: Session,
    asked_at_ms: u64,
    question_due: bool,
}

/// The relay session with the standby.
#[derive(Debug)]
enum Session {
    /// The standby has to be told first where it goes on.
    Greeting,
    Standing,
    Ended {
        since_ms: u64,
    },
}

impl Standby {
    fn has_ended(&self) -> bool {
        matches!(self.session, Session::Ended { .. })
    }
}

/// What the writer counts.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) fresh: u64,
    pub(crate) duplicate: u64,
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

impl Owner {
    /// An owner whose merge already holds what this node retained and what the topic's tail shows.
    pub(crate) fn new(
        (epoch, stream): (Epoch, StreamId),
        merge: Merge<Payload>,
        offsets: Offsets,
        payload_bytes_max: usize,
    ) -> Self {
        let (offsets, in_flight) = (Arc::new(offsets), Arc::default());
        Self {
            epoch,
            stream,
            merge,
            offsets,
            in_flight,
            payload_bytes_max,
            absence: None,
            hole_ms: None,
            differences: Differences::default(),
            standby: None,
            greet_due: false,
        }
    }

    pub(crate) fn frames(
        &mut self,
        side: Side,
        frames: impl Iterator<Item = twinfeed_dedup::Frame<Payload>>,
        now_ms: u64,
    ) -> Counts {
        let mut counts = Counts::default();
        for frame in frames {
            if let Some(absence) = &self.absence
                && let Some(bounds) = absence.ended_by(frame.subscription, frame.payload.received_at_ns / 1_000_000)
            {
                (self.hole_ms, self.absence) = (Some(bounds), None);
            }
            self.differences.take_in(side, &frame, now_ms);
            counts.add(&self.merge.frame(frame, now_ms));
        }
        counts
    }

    /// A relay session stands that began before this owner did.
    pub(crate) fn ask_who(&mut self) {
        self.greet_due = true;
    }

    /// The standby says who it is, at the beginning of a session or asked for it; true for one that is not the one known so far.
    pub(crate) fn standby_greets(&mut self, node: NodeId, incarnation: u64) -> bool {
        if let Some(known) = self.standby.as_mut().filter(|standby| standby.incarnation == incarnation) {
            known.outbox.rewind();
            known.session = Session::Greeting;
            return false;
        }
        self.merge.standby_left();
        self.merge.standby_joined();
        self.standby = Some(Standby {
            node,
            incarnation,
            subscription: None,
            outbox: Outbox::default(),
            session: Session::Greeting,
            asked_at_ms: 0,
            question_due: false,
        });
        true
    }

    /// The standby's session is gone.
    pub(crate) fn session_ended(&mut self, now_ms: u64) {
        if let Some(standby) = self.standby.as_mut().filter(|standby| !standby.has_ended()) {
            standby.session = Session::Ended { since_ms: now_ms };
        }
    }

    /// Acts on a message of the standby. False where frames are missing between two sessions: the session must end, the standby
    /// starts over.
    pub(crate) fn heard(&mut self, message: StandbyMessage, now_ms: u64, counts: &mut Counts) -> bool {
        let Some(standby) = self.standby.as_mut().filter(|standby| !standby.has_ended()) else {
            // What it was told by another owner, or by this one before the stream left and came again, is no more.
            self.greet_due = true;
            return true;
        };
        match message {
            // `standby_greets` is asked for it.
            StandbyMessage::Hello { .. } => {}
            StandbyMessage::ReceivedThrough(number) => standby.outbox.confirm(number),
            StandbyMessage::AllSent { asked_at_ms } => {
                // Nobody can have been asked later than now.
                self.merge.caught_up(Side::Standby, asked_at_ms.min(now_ms));
            }
            StandbyMessage::Subscription(subscription) => {
                let subscription = subscription.map(SubscriptionId);
                if standby.subscription != subscription {
                    standby.subscription = subscription;
                    self.merge.standby_subscription(subscription, now_ms);
                }
            }
            StandbyMessage::Frames { subscription, first_index, frames } => {
                let subscription = SubscriptionId(subscription);
                if self.merge.next_index(subscription).is_some_and(|next| first_index > next) {
                    return false;
                }
                let more = self.frames(Side::Standby, number(subscription, first_index, frames), now_ms);
                counts.fresh += more.fresh;
                counts.duplicate += more.duplicate;
            }
        }
        true
    }

    /// Cuts the next batch, if something is ready, of at most so many records and bytes; it is in flight then. Returns what was
    /// left out of it because Kafka would not take it; `None` without a batch.
    pub(crate) fn cut(&mut self, (records_max, bytes_max): (usize, usize), now_ms: u64) -> Option<Vec<OutRecord>> {
        let records = self.merge.cut(now_ms, records_max, bytes_max)?;
        let mut oversize = Vec::new();
        let mut in_flight = Vec::with_capacity(records.len());
        for record in records {
            let Payload { bytes, received_at_ns, .. } = record.payload;
            let out = OutRecord {
                stream: self.stream.0,
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
            };
            // One that Kafka never takes would fail all others of its transaction.
            if out.payload.len() > self.payload_bytes_max {
                oversize.push(out);
            } else {
                in_flight.push(out);
            }
        }
        self.in_flight = Arc::new(in_flight);
        Some(oversize)
    }

    /// Kafka has the batch in flight: a fingerprint counts as seen, and a frame as resolved, only from here on.
    /// Returns the records for the meters.
    pub(crate) fn committed(&mut self, next_offsets: impl IntoIterator<Item = (i32, i64)>) -> Arc<Vec<OutRecord>> {
        self.number_messages();
        let mut next_offsets = next_offsets.into_iter().peekable();
        if next_offsets.peek().is_some() {
            let offsets = Arc::make_mut(&mut self.offsets);
            for (partition, offset) in next_offsets {
                let known = offsets.entry(partition).or_insert(0);
                *known = (*known).max(offset);
            }
        }
        self.merge.committed();
        std::mem::take(&mut self.in_flight)
    }

    /// After a producer was lost with a batch in flight: the tail says whether the batch is in the topic. A
    /// transaction is whole or absent, so one of its records decides for all.
    pub(crate) fn landed(&self, tail: &[TailRecord]) -> bool {
        match self.in_flight.first() {
            Some(first) => tail.iter().any(|t| t.id.epoch == first.epoch && t.id.sequence == first.sequence),
            // All its records were refused: there is nothing left to write.
            None => true,
        }
    }

    /// Takes a record out of the batch in flight.
    pub(crate) fn leave_out(&mut self, sequence: u64) -> Option<OutRecord> {
        let position = self.in_flight.iter().position(|record| record.sequence == sequence)?;
        Some(Arc::make_mut(&mut self.in_flight).remove(position))
    }

    /// Gives what the merge has to say its numbers and the offsets that it speaks of. With the offsets of a later commit, a
    /// standby that hears this message and not that commit's ack would read the tail from behind records it knows nothing of.
    fn number_messages(&mut self) {
        let messages = self.merge.take_messages();
        if let Some(standby) = &mut self.standby {
            messages.into_iter().for_each(|message| standby.outbox.push(message, Arc::clone(&self.offsets)));
        }
    }

    /// Numbers what the merge has to say, and forgets a standby that does not listen any more.
    pub(crate) fn look(&mut self, now_ms: u64) {
        self.differences.look(&self.merge, now_ms);
        self.number_messages();
        let is_lost = |standby: &Standby| {
            let silent = matches!(standby.session, Session::Ended { since_ms } if now_ms.saturating_sub(since_ms) > STANDBY_SILENT_MAX_MS);
            silent || standby.outbox.overflowed()
        };
        if self.standby.as_ref().is_some_and(is_lost) {
            self.forget_standby();
        }
        if let Some(standby) = &mut self.standby
            && now_ms.saturating_sub(standby.asked_at_ms) >= QUESTION_EVERY_MS
        {
            (standby.asked_at_ms, standby.question_due) = (now_ms, true);
        }
    }

    /// The next message for the standby's session, if there is one.
    pub(crate) fn next_message(&mut self) -> Option<OwnerMessage> {
        self.number_messages();
        if std::mem::take(&mut self.greet_due) && self.connected_standby().is_none() {
            return Some(OwnerMessage::Greet);
        }
        let standby = self.standby.as_mut()?;
        match standby.session {
            Session::Ended { .. } => None,
            Session::Standing if std::mem::take(&mut standby.question_due) => {
                let asked_at_ms = standby.asked_at_ms;
                let since_ms = self.merge.status().standby_behind_since_ms;
                Some(OwnerMessage::Question {
                    asked_at_ms,
                    subscription: standby.subscription.map_or(0, |subscription| subscription.0),
                    behind_ms: since_ms.map_or(0, |since_ms| asked_at_ms.saturating_sub(since_ms).max(1)),
                })
            }
            Session::Standing => standby.outbox.next(),
            Session::Greeting => {
                standby.session = Session::Standing;
                let next = self.merge.standby_next_indices().map(|(subscription, index)| (subscription.0, index));
                Some(OwnerMessage::Welcome { next: next.collect() })
            }
        }
    }

    /// The standby whose relay session is open.
    pub(crate) fn connected_standby(&self) -> Option<NodeId> {
        self.standby.as_ref().filter(|standby| !standby.has_ended()).map(|standby| standby.node)
    }

    /// When the standby comes back, it is welcomed as one that was never met.
    pub(crate) fn forget_standby(&mut self) {
        self.standby = None;
        self.merge.standby_left();
    }
}

fn number(
    subscription: SubscriptionId,
    first_index: u64,
    frames: Vec<Frame>,
) -> impl Iterator<Item = twinfeed_dedup::Frame<Payload>> {
    frames.into_iter().zip(first_index..).map(move |(frame, index)| payload::numbered(subscription, index, frame))
}
