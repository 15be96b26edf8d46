//! The standby's side of a writer: keeps every frame until the owner resolves it, and sends it on.

use std::collections::VecDeque;

use twinfeed_dedup::{Retention, SnapshotError, SubscriptionId};

use crate::{
    Epoch,
    frame::Frame,
    payload::Payload,
    port::Offsets,
    reach::Reach,
    relay::{OwnerMessage, StandbyMessage},
    report::FailoverReason,
};

/// Frames in one relay message; bounds the message at about 64 KiB of usual frames.
const RELAY_FRAMES_MAX: usize = 256;
const RELAY_BYTES_MAX: usize = 512 * 1024;
/// A frozen owner is replaced sooner than this after its acks have stopped; one that only cannot reach Kafka, later.
const REACHED_MS_MIN: u64 = 1_000;
/// The owner asks some five times a second; what it asks while so many wait is never answered, as it asks again.
const QUESTIONS_MAX: usize = 16;

/// State of a standby.
#[derive(Debug)]
pub(crate) struct Standby {
    pub(crate) epoch: Epoch,
    pub(crate) retention: Retention<Payload>,
    /// Offsets of the last ack: where a takeover starts reading.
    pub(crate) acked: Option<Offsets>,
    pub(crate) reach: Reach,
    incarnation: u64,
    received_through: u64,
    session: Session,
    /// The owner is to hear what has been received.
    confirmation_due: bool,
    /// The owner's questions that are not answered, oldest first: when it asked, and when that was heard.
    questions: VecDeque<(u64, u64)>,
    answer: Option<Answer>,
    /// When the owner was heard last.
    pub(crate) heard_at_ms: Option<u64>,
    /// For how long the own line lacks what the owner's has, and which subscription that was said of.
    behind: Option<(SubscriptionId, u64)>,
    /// Own subscriptions whose frames the owner may still need, oldest first; only the last can be live.
    queue: VecDeque<Queued>,
}

/// An answer to the owner's question, due when all before this index of the subscription that was there is sent.
#[derive(Debug)]
struct Answer {
    asked_at_ms: u64,
    through: Option<(SubscriptionId, u64)>,
}

/// The relay session with the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Session {
    None,
    /// The owner has to hear first who speaks.
    Greeting,
    /// It has, and has not answered yet where to go on.
    Greeted,
    Standing,
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
    pub(crate) fn new(
        epoch: Epoch,
        retention: Retention<Payload>,
        live: Option<SubscriptionId>,
        incarnation: u64,
    ) -> Self {
        Self {
            epoch,
            retention,
            acked: None,
            reach: Reach::default(),
            incarnation,
            received_through: 0,
            session: Session::None,
            confirmation_due: false,
            questions: VecDeque::new(),
            answer: None,
            heard_at_ms: None,
            behind: None,
            queue: live.map(Queued::new).into_iter().collect(),
        }
    }

    /// Another owner, or the same one anew: what is retained stays, what the former one promised does not. The live
    /// connection goes on as subscription `renewed`, because the new owner knows nothing of it.
    pub(crate) fn new_owner(&mut self, epoch: Epoch, renewed: Option<SubscriptionId>, incarnation: u64) {
        self.epoch = epoch;
        self.incarnation = incarnation;
        self.received_through = 0;
        self.session = Session::None;
        self.retention.new_owner();
        self.start_over(renewed);
    }

    /// A relay session to the owner began.
    pub(crate) fn owner_connected(&mut self) {
        self.session = Session::Greeting;
        self.questions.clear();
        (self.answer, self.behind) = (None, None);
    }

    /// The session is gone; whether it had ever stood: an owner that is still opening refuses some.
    pub(crate) fn session_ended(&mut self) -> bool {
        std::mem::replace(&mut self.session, Session::None) == Session::Standing
    }

    /// Acts on a message of the owner.
    pub(crate) fn heard(&mut self, message: OwnerMessage, now_ms: u64) -> Result<Heard, Unheard> {
        self.heard_at_ms = Some(now_ms);
        match message {
            OwnerMessage::Welcome { next } => return Ok(self.welcome(&next)),
            OwnerMessage::Greet => self.session = Session::Greeting,
            // Said to another of its name, which has left: what is not confirmed is said again after the welcome.
            OwnerMessage::Question { .. } | OwnerMessage::Merge { .. } if self.session != Session::Standing => {}
            OwnerMessage::Question { asked_at_ms, subscription, behind_ms } => {
                if self.questions.len() < QUESTIONS_MAX {
                    self.questions.push_back((asked_at_ms, now_ms));
                }
                self.behind = (behind_ms > 0).then_some((SubscriptionId(subscription), behind_ms));
            }
            OwnerMessage::Merge { number, committed, message } => {
                // Sent again after a broken session, although it had arrived.
                if number <= self.received_through {
                    return Ok(Heard::Nothing);
                }
                // A lost ack is a lost rule of the protocol: whatever swallowed it, the next session brings it again.
                let expected = self.received_through + 1;
                if number != expected {
                    return Err(Unheard::Missing { expected, number });
                }
                self.retention.receive(message).map_err(Unheard::Damaged)?;
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
        self.session = Session::Standing;
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
    pub(crate) fn start_over(&mut self, renewed: Option<SubscriptionId>) {
        self.queue.clear();
        self.retention.forgotten();
        if let Some(id) = renewed {
            self.retention.subscribed(id);
            self.queue.push_back(Queued::new(id));
        }
    }

    /// A connection came up.
    pub(crate) fn subscribed(&mut self, id: SubscriptionId) {
        self.disconnected();
        self.retention.subscribed(id);
        self.queue.push_back(Queued::new(id));
    }

    /// The live connection is gone.
    pub(crate) fn disconnected(&mut self) {
        self.retention.disconnected();
        if let Some(live) = self.queue.back_mut() {
            live.ended = true;
        }
    }

    /// The next message for the owner's session: who speaks, what was received, and what the owner lacks, in order.
    pub(crate) fn next_message(&mut self) -> Option<StandbyMessage> {
        match self.session {
            Session::None => return None,
            Session::Greeting => {
                (self.session, self.confirmation_due) = (Session::Greeted, true);
                return Some(StandbyMessage::Hello { incarnation: self.incarnation });
            }
            Session::Greeted | Session::Standing => {}
        }
        // Before frames: an owner that hears nothing of its acks gives its standby up, however much it hears of the feed.
        if std::mem::take(&mut self.confirmation_due) {
            return Some(StandbyMessage::ReceivedThrough(self.received_through));
        }
        if self.session == Session::Greeted {
            return None;
        }
        while self.queue.front().is_some_and(|queued| queued.end_announced) {
            self.queue.pop_front();
        }
        // Before frames that came later: a channel that is never empty would never carry it.
        if self.answer.as_ref().is_some_and(|answer| self.has_sent(answer)) {
            return self.answer.take().map(|Answer { asked_at_ms, .. }| StandbyMessage::AllSent { asked_at_ms });
        }
        let next = (0..self.queue.len()).find_map(|position| Some((position, self.message_of(position)?)));
        let (position, (message, after)) = next?;
        self.queue[position].advance(after);
        Some(message)
    }

    /// What had been read when the owner was heard to ask is under way to it.
    fn has_sent(&self, answer: &Answer) -> bool {
        let Some(queued) = self.queue.front() else { return true };
        match answer.through {
            // An earlier one has not been sent to its end.
            Some((id, _)) if queued.id != id => !self.queue.iter().any(|queued| queued.id == id),
            Some((id, index)) => {
                let mut waiting = self.retention.retained_from(id, queued.cursor.unwrap_or(0));
                queued.announced && waiting.next().is_none_or(|frame| frame.index >= index)
            }
            None => !queued.ended,
        }
    }

    fn message_of(&self, position: usize) -> Option<(StandbyMessage, Sent)> {
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

    /// Whether Kafka should be asked for a sign of life, while the owner's acks stay away; and confirms what was received.
    /// The retention holds what the own connection had brought by `read_through_ms`.
    pub(crate) fn look(&mut self, read_through_ms: u64, now_ms: u64) -> bool {
        let is_read = |(_, heard_at_ms): &mut (u64, u64)| *heard_at_ms <= read_through_ms;
        if self.answer.is_none() {
            while let Some((asked_at_ms, _)) = self.questions.pop_front_if(is_read) {
                self.answer = Some(Answer { asked_at_ms, through: self.retention.received() });
            }
        }
        self.confirmation_due = self.session == Session::Standing;
        self.reach.look(self.retention.retained_frames() > 0, now_ms)
    }

    /// For how long the live line lacks what the owner's has delivered, as the owner said last; 0 while it keeps up.
    pub(crate) fn behind_ms(&self) -> u64 {
        self.behind.filter(|(id, _)| self.retention.subscription() == Some(*id)).map_or(0, |(_, behind_ms)| behind_ms)
    }

    /// The live subscription, if it lacks what the owner's has.
    pub(crate) fn lacking(&self) -> Option<SubscriptionId> {
        self.retention.subscription().filter(|_| self.behind_ms() > 0)
    }

    /// Why the owner is replaced, as far as it shows here.
    pub(crate) fn reason(&self, now_ms: u64) -> FailoverReason {
        match (self.session != Session::None, self.reach.reached_ms(now_ms)) {
            (true, reached_ms) if reached_ms >= REACHED_MS_MIN => FailoverReason::CannotDeliver,
            (true, 0) => FailoverReason::Requested,
            // Gone, or frozen: its connection stands and its acks stay away.
            (false | true, _) => FailoverReason::OwnerDead,
        }
    }
}

/// What a message of the owner asks the writer to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Nothing,
    /// Renew the live subscription.
    Forgotten,
}

/// Why a message of the owner ends the session; the next one repeats it.
#[derive(Debug)]
pub(crate) enum Unheard {
    Missing { expected: u64, number: u64 },
    Damaged(SnapshotError),
}

impl std::fmt::Display for Unheard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing { expected, number } => {
                write!(
                    f,
                    "the relay lost a message of the owner: {number} came instead of {expected}; it is sent again"
                )
            }
            Self::Damaged(error) => error.fmt(f),
        }
    }
}

/// What a sent message changes in the queue.
#[derive(Debug)]
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
    use twinfeed_dedup::{Ack, Options, ToStandby};

    use super::*;

    fn merge(number: u64, offset: i64) -> OwnerMessage {
        let (subscription, unseen, resolved) = (SubscriptionId(1), Vec::new(), Vec::new());
        let message = ToStandby::Ack(Ack { subscription, unseen, resolved, aligned: true, redundant: false });
        OwnerMessage::Merge { number, committed: vec![(0, offset)], message }
    }

    fn acked(standby: &mut Standby, message: OwnerMessage) -> Option<i64> {
        standby.heard(message, 0).expect("neither missing nor damaged");
        standby.acked.as_ref().and_then(|acked| acked.get(&0).copied())
    }

    fn standby() -> Standby {
        Standby::new(Epoch(1), Retention::new(Options::default()), Some(SubscriptionId(1)), 9)
    }

    fn welcomed() -> Standby {
        let mut standby = standby();
        standby.owner_connected();
        acked(&mut standby, OwnerMessage::Welcome { next: Vec::new() });
        standby
    }

    /// The owner still speaks to a stream that has left, and another of its name has come.
    #[test]
    fn what_is_said_to_another_before_the_welcome_is_not_heard() {
        let mut standby = standby();
        standby.owner_connected();
        assert_eq!(acked(&mut standby, merge(7, 70)), None);
        assert!(matches!(standby.next_message(), Some(StandbyMessage::Hello { .. })));
        acked(&mut standby, OwnerMessage::Welcome { next: Vec::new() });
        assert_eq!(acked(&mut standby, merge(1, 80)), Some(80));
        acked(&mut standby, OwnerMessage::Greet);
        assert!(matches!(standby.next_message(), Some(StandbyMessage::Hello { .. })), "asked for, it greets again");
    }

    #[test]
    fn a_message_that_comes_again_is_old_unless_the_owner_has_forgotten_this_standby() {
        let mut standby = welcomed();
        assert_eq!(acked(&mut standby, merge(1, 70)), Some(70));
        acked(&mut standby, OwnerMessage::Welcome { next: vec![(1, 5)] });
        assert_eq!(acked(&mut standby, merge(1, 71)), Some(70), "a session later, the same message");
        acked(&mut standby, OwnerMessage::Welcome { next: Vec::new() });
        assert_eq!(
            acked(&mut standby, merge(1, 80)),
            Some(80),
            "the first message of an owner that knows nothing of it"
        );
    }

    #[test]
    fn a_message_that_is_missing_ends_the_session_and_confirms_nothing() {
        let mut standby = welcomed();
        acked(&mut standby, merge(1, 70));
        assert!(matches!(standby.heard(merge(3, 90), 0), Err(Unheard::Missing { expected: 2, number: 3 })));
        assert_eq!(standby.received_through, 1);
        assert_eq!(acked(&mut standby, merge(2, 80)), Some(80), "the next session brings it");
    }

    /// A quick feed has always something to send: the answer waits for what was read when the question came, for no more.
    #[test]
    fn an_answer_comes_before_later_frames() {
        let mut standby = standby();
        let bring = |standby: &mut Standby, index| {
            let payload = bytes::Bytes::from_static(b"x");
            let frame = crate::frame::Frame { kind: crate::frame::FrameKind::Text, payload, received_at_ns: 1 };
            standby.retention.frame(crate::payload::numbered(SubscriptionId(1), index, frame));
        };
        standby.retention.subscribed(SubscriptionId(1));
        standby.owner_connected();
        let _hello = standby.next_message();
        acked(&mut standby, OwnerMessage::Welcome { next: Vec::new() });
        let question = OwnerMessage::Question { asked_at_ms: 99, subscription: 0, behind_ms: 0 };
        standby.heard(question, 100).expect("a question");
        bring(&mut standby, 1);
        standby.look(99, 150);
        let sent = std::iter::from_fn(|| standby.next_message()).collect::<Vec<_>>();
        assert!(
            !sent.iter().any(|message| matches!(message, StandbyMessage::AllSent { .. })),
            "more may wait: {sent:?}"
        );
        bring(&mut standby, 2);
        standby.look(100, 200);
        let confirmed = standby.next_message();
        assert!(matches!(confirmed, Some(StandbyMessage::ReceivedThrough(0))), "{confirmed:?}");
        let second = standby.next_message();
        assert!(matches!(second, Some(StandbyMessage::Frames { first_index: 2, .. })), "{second:?}");
        bring(&mut standby, 3);
        let answer = standby.next_message();
        assert!(matches!(answer, Some(StandbyMessage::AllSent { asked_at_ms: 99 })), "{answer:?}");
        assert!(matches!(standby.next_message(), Some(StandbyMessage::Frames { first_index: 3, .. })));
        assert!(standby.next_message().is_none(), "it is answered once");
    }

    #[test]
    fn a_confirmation_comes_before_frames() {
        let mut standby = standby();
        standby.retention.subscribed(SubscriptionId(1));
        let frame = crate::frame::Frame {
            kind: crate::frame::FrameKind::Text,
            payload: bytes::Bytes::from_static(b"x"),
            received_at_ns: 1,
        };
        standby.retention.frame(crate::payload::numbered(SubscriptionId(1), 1, frame));
        standby.owner_connected();
        assert!(matches!(standby.next_message(), Some(StandbyMessage::Hello { incarnation: 9 })));
        assert!(matches!(standby.next_message(), Some(StandbyMessage::ReceivedThrough(0))));
        assert!(standby.next_message().is_none(), "the owner has not said where to go on");
        acked(&mut standby, OwnerMessage::Welcome { next: Vec::new() });
        assert!(matches!(standby.next_message(), Some(StandbyMessage::Subscription(Some(1)))));
        standby.look(0, 0);
        assert!(matches!(standby.next_message(), Some(StandbyMessage::ReceivedThrough(0))));
        assert!(matches!(standby.next_message(), Some(StandbyMessage::Frames { first_index: 1, .. })));
        assert!(standby.next_message().is_none());
    }
}
