//! The standby's side of a writer: keeps every frame until the owner resolves it, and sends it on.

use std::collections::VecDeque;

use twinfeed_dedup::{Retention, SnapshotError, SubscriptionId, ToStandby};

use super::{
    Payload,
    opening::{Offsets, Warm},
    reach::Reach,
};
use crate::{
    faults::{self, Point},
    model::{
        frame::Frame,
        ids::Epoch,
        relay::{OwnerMessage, OwnerSession, StandbyMessage},
    },
    telemetry::FailoverReason,
};

/// Frames in one relay message; bounds the message at about 64 KiB of usual frames.
const RELAY_FRAMES_MAX: usize = 256;
const RELAY_BYTES_MAX: usize = 512 * 1024;
/// A frozen owner is replaced sooner than this after its acks have stopped; one that only cannot reach Kafka, later.
const REACHED_MS_MIN: u64 = 1_000;

/// State of a standby.
pub(super) struct Standby {
    pub(super) epoch: Epoch,
    pub(super) retention: Retention<Payload>,
    /// Offsets of the last ack: where a takeover starts reading.
    pub(super) acked: Option<Offsets>,
    pub(super) warm: Option<Warm>,
    pub(super) reach: Reach,
    incarnation: u64,
    received_through: u64,
    session: Option<OwnerSession>,
    /// Whether this session's owner has said where to go on.
    welcomed: bool,
    /// Own subscriptions whose frames the owner may still need, oldest first; only the last can be live.
    queue: VecDeque<Queued>,
    /// The session's channel was full when something was left to send.
    blocked: bool,
}

/// An own subscription on its way to the owner: announced, its frames in order, and its end, all on one ordered channel.
#[derive(Debug)]
struct Queued {
    id: SubscriptionId,
    ended: bool,
    announced: bool,
    end_announced: bool,
    /// The next index to send in this session; None: from the first one retained.
    cursor: Option<u64>,
}

impl Standby {
    /// Starts with what a former role of this node retained, or with nothing.
    pub(super) fn new(epoch: Epoch, retention: Retention<Payload>, live: Option<SubscriptionId>) -> Self {
        let mut standby = Self::without_queue(epoch, retention);
        standby.queue.extend(live.map(Queued::new));
        standby
    }

    fn without_queue(epoch: Epoch, retention: Retention<Payload>) -> Self {
        Self {
            epoch,
            retention,
            acked: None,
            warm: None,
            reach: Reach::default(),
            incarnation: rand::random(),
            received_through: 0,
            session: None,
            welcomed: false,
            queue: VecDeque::new(),
            blocked: false,
        }
    }

    /// Another owner, or the same one anew: what is retained stays, what the former one promised does not. The live
    /// connection goes on as subscription `renewed`, because the new owner knows nothing of it.
    pub(super) fn new_owner(&mut self, epoch: Epoch, renewed: Option<SubscriptionId>) {
        self.epoch = epoch;
        self.incarnation = rand::random();
        self.received_through = 0;
        self.session = None;
        self.welcomed = false;
        self.queue.clear();
        self.retention.disconnected();
        if let Some(id) = renewed {
            self.retention.subscribed(id);
            self.queue.push_back(Queued::new(id));
        }
    }

    /// A relay session to the owner began.
    pub(super) fn owner_connected(&mut self, session: OwnerSession) {
        // A fresh session's channel has room for its first messages.
        let _ = session.outgoing.try_send(StandbyMessage::Hello { incarnation: self.incarnation });
        let _ = session.outgoing.try_send(StandbyMessage::ReceivedThrough(self.received_through));
        self.session = Some(session);
        self.welcomed = false;
        self.blocked = false;
    }

    /// The session is gone; whether it had ever stood: an owner that is still opening refuses some.
    pub(super) fn session_ended(&mut self) -> bool {
        self.session = None;
        std::mem::take(&mut self.welcomed)
    }

    /// Waits for the owner's next message, or for room in a session that was full.
    pub(super) async fn next(&mut self) -> Next {
        let Some(session) = self.session.as_mut() else { return std::future::pending().await };
        let (incoming, outgoing) = (&mut session.incoming, &session.outgoing);
        tokio::select! {
            message = incoming.recv() => Next::Message(message),
            _ = outgoing.reserve(), if self.blocked => Next::Room,
        }
    }

    /// Acts on a message of the owner.
    pub(super) fn heard(&mut self, message: OwnerMessage, now_ms: u64) -> Result<Heard, SnapshotError> {
        match message {
            OwnerMessage::Welcome { next } => return Ok(self.welcome(&next)),
            OwnerMessage::Merge { number, committed, message } => {
                // Sent again after a broken session, although it had arrived.
                if number <= self.received_through {
                    return Ok(Heard::Nothing);
                }
                if matches!(&message, ToStandby::Ack(ack) if !ack.resolved.is_empty()) {
                    faults::point(Point::StandbyBeforeRelease);
                }
                self.retention.receive(message)?;
                self.received_through = number;
                let committed = Some(committed.into_iter().collect());
                if committed != self.acked {
                    self.reach.progressed(now_ms);
                    self.acked = committed;
                }
                if self.retention.is_redundant() {
                    // The owner holds or has written everything from before this subscription; frames of ended ones
                    // that it never knew would stay for ever.
                    let queue = &self.queue;
                    self.retention.forget_except(|id| queue.iter().any(|queued| queued.id == id));
                }
            }
        }
        Ok(Heard::Nothing)
    }

    /// The owner said what it has: go on from there. Whatever precedes a subscription that it knows has reached it,
    /// as the channel is ordered; ended subscriptions that it does not know can never be aligned and stay here.
    fn welcome(&mut self, next: &[(u64, u64)]) -> Heard {
        let known = |id: SubscriptionId| next.iter().find(|(subscription, _)| *subscription == id.0).map(|&(_, i)| i);
        if let Some(last_known) = self.queue.iter().rposition(|q| known(q.id).is_some()) {
            self.queue.drain(..last_known);
        }
        self.queue.retain(|q| !q.ended || known(q.id).is_some());
        for queued in &mut self.queue {
            queued.cursor = known(queued.id);
            queued.announced = false;
            queued.end_announced = false;
        }
        self.welcomed = true;
        // It knows no subscription of this standby, so it has forgotten it, or never met it, and begins to number anew. Its
        // messages would pass for old ones: acks lost with offsets that move on, and frames written again by a takeover.
        if next.is_empty() {
            self.received_through = 0;
        }
        // An owner that has forgotten this standby expects the live subscription from its first frame on, which may
        // have been resolved and released long ago.
        let forgotten = self.queue.back().filter(|live| {
            let first = self.retention.retained_from(live.id, 0).next().map(|frame| frame.index);
            !live.ended && live.cursor.is_none() && first.is_none_or(|first| first > 1)
        });
        if forgotten.is_some_and(|live| self.retention.has_numbered(live.id)) {
            Heard::Forgotten
        } else {
            Heard::Nothing
        }
    }

    /// The owner has forgotten this standby: start over, with the live connection as subscription `renewed`.
    pub(super) fn start_over(&mut self, renewed: Option<SubscriptionId>) {
        self.queue.clear();
        if let Some(id) = renewed {
            self.retention.subscribed(id);
            self.queue.push_back(Queued::new(id));
        }
    }

    /// Keeps frames of the own subscription.
    pub(super) fn retain(&mut self, frames: impl Iterator<Item = twinfeed_dedup::Frame<Payload>>) {
        faults::point(Point::StandbyBeforeRetain);
        frames.for_each(|frame| self.retention.frame(frame));
        faults::point(Point::StandbyBeforeSend);
    }

    /// A connection came up.
    pub(super) fn subscribed(&mut self, id: SubscriptionId) {
        self.disconnected();
        self.retention.subscribed(id);
        self.queue.push_back(Queued::new(id));
    }

    /// The live connection is gone.
    pub(super) fn disconnected(&mut self) {
        self.retention.disconnected();
        if let Some(live) = self.queue.back_mut() {
            live.ended = true;
        }
    }

    /// Sends what the owner lacks, in order, as far as the session has room.
    pub(super) fn send(&mut self) {
        self.blocked = false;
        if !self.welcomed {
            return;
        }
        let Some(outgoing) = self.session.as_ref().map(|s| s.outgoing.clone()) else { return };
        for position in 0..self.queue.len() {
            while let Some((message, after)) = self.next_message(position) {
                let Ok(permit) = outgoing.try_reserve() else {
                    self.blocked = true;
                    return;
                };
                permit.send(message);
                self.queue[position].advance(after);
            }
        }
        while self.queue.front().is_some_and(|q| q.end_announced) {
            self.queue.pop_front();
        }
    }

    fn next_message(&self, position: usize) -> Option<(StandbyMessage, Sent)> {
        let queued = &self.queue[position];
        if !queued.announced {
            return Some((StandbyMessage::Subscription(Some(queued.id.0)), Sent::Announced));
        }
        if let Some((message, next)) = self.frames_from(queued.id, queued.cursor.unwrap_or(0)) {
            return Some((message, Sent::Frames { next }));
        }
        (queued.ended && !queued.end_announced).then_some((StandbyMessage::Subscription(None), Sent::End))
    }

    fn frames_from(&self, id: SubscriptionId, from: u64) -> Option<(StandbyMessage, u64)> {
        let mut frames = Vec::new();
        let mut bytes = 0;
        let mut first_index = from;
        for frame in self.retention.retained_from(id, from).take(RELAY_FRAMES_MAX) {
            if frames.is_empty() {
                first_index = frame.index;
            } else if frame.index != first_index + frames.len() as u64 {
                break; // a resolved frame between: the owner has it already
            }
            bytes += frame.payload.bytes.len();
            frames.push(Frame {
                kind: frame.payload.kind,
                payload: frame.payload.bytes.clone(),
                received_at_ns: frame.payload.received_at_ns,
            });
            if bytes > RELAY_BYTES_MAX {
                break;
            }
        }
        let next = first_index + frames.len() as u64;
        (!frames.is_empty()).then_some((StandbyMessage::Frames { subscription: id.0, first_index, frames }, next))
    }

    /// Finds out whether Kafka can be reached from here, while the owner's acks stay away.
    pub(super) fn look(&mut self, now_ms: u64) {
        self.reach.look(self.warm.as_ref(), self.retention.retained_frames() > 0, now_ms);
    }

    /// Why the owner is replaced, as far as it shows here.
    pub(super) fn reason(&self, now_ms: u64) -> FailoverReason {
        match (self.session.is_some(), self.reach.reached_ms(now_ms)) {
            (true, reached_ms) if reached_ms >= REACHED_MS_MIN => FailoverReason::CannotDeliver,
            (true, 0) => FailoverReason::Requested,
            // Gone, or frozen: its connection stands and its acks stay away.
            (false | true, _) => FailoverReason::OwnerDead,
        }
    }

    /// Confirms to the owner what has been received. A confirmation dropped at a full channel is made up by the next.
    pub(super) fn confirm(&mut self) {
        if let Some(session) = self.session.as_ref().filter(|_| self.welcomed) {
            let _ = session.outgoing.try_send(StandbyMessage::ReceivedThrough(self.received_through));
        }
    }
}

/// What a message of the owner asks the writer to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Nothing,
    /// Renew the live subscription.
    Forgotten,
}

/// What a standby's session brings.
pub(super) enum Next {
    /// A message; None when the session has ended.
    Message(Option<OwnerMessage>),
    Room,
}

/// What a sent message changes in the queue.
enum Sent {
    Announced,
    Frames { next: u64 },
    End,
}

impl Queued {
    fn new(id: SubscriptionId) -> Self {
        Self { id, ended: false, announced: false, end_announced: false, cursor: None }
    }

    fn advance(&mut self, sent: Sent) {
        match sent {
            Sent::Announced => self.announced = true,
            Sent::Frames { next } => self.cursor = Some(next),
            Sent::End => self.end_announced = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use twinfeed_dedup::{Ack, Options};

    use super::*;

    fn merge(number: u64, offset: i64) -> OwnerMessage {
        let (subscription, unseen, resolved) = (SubscriptionId(1), Vec::new(), Vec::new());
        let message = ToStandby::Ack(Ack { subscription, unseen, resolved, aligned: true, redundant: false });
        OwnerMessage::Merge { number, committed: vec![(0, offset)], message }
    }

    #[test]
    fn a_message_that_comes_again_is_old_unless_the_owner_has_forgotten_this_standby() {
        let mut standby = Standby::new(Epoch(1), Retention::new(Options::default()), Some(SubscriptionId(1)));
        let mut hear = |message| {
            standby.heard(message, 0).expect("no snapshot to be damaged");
            standby.acked.as_ref().and_then(|acked| acked.get(&0).copied())
        };
        assert_eq!(hear(merge(7, 70)), Some(70));
        hear(OwnerMessage::Welcome { next: vec![(1, 5)] });
        assert_eq!(hear(merge(7, 71)), Some(70), "a session later, the same message");
        hear(OwnerMessage::Welcome { next: Vec::new() });
        assert_eq!(hear(merge(1, 80)), Some(80), "the first message of an owner that knows nothing of it");
    }
}
