//! One stream of a writer at this node: its role's phase, its numbering, its account. It says what it wants of producer and relay;
//! the writer, which has them for all its streams, decides when.
//!
//! Here are what feed and relay bring, the look and the limits; `roles` changes phases, `takeover` makes an owner of an opening.

mod roles;
mod takeover;

use std::sync::Arc;

use twinfeed_dedup::{MergeStatus, Side};

use crate::{
    NodeId, StreamId,
    account::Account,
    entropy::Entropy,
    frame::FeedEvent,
    inbox::Inbox,
    numbering::Numbering,
    owner::{Counts, Owner},
    phase::Phase,
    port::{Committed, Failure, LineSight, Message, Now, Remedy},
    record::OutRecord,
    relay::{OwnerMessage, StandbyMessage},
    renewal::{Compared, Renewal},
    settings::Settings,
    standby::Heard,
};

#[derive(Debug)]
pub(crate) struct Stream {
    settings: Settings,
    pub(crate) account: Account,
    numbering: Numbering,
    phase: Phase,
    inbox: Inbox,
    renewal: Renewal,
    /// It is no part of its writer any more, as soon as nothing of it is under way.
    is_leaving: bool,
}

/// What a look at a stream asks of the writer.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// Whether Kafka can be reached.
    pub(crate) ask_kafka: bool,
    /// The own connection is to be made anew, and why.
    pub(crate) reconnect: Option<String>,
}

impl Stream {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            account: Account::new(&settings),
            settings,
            numbering: Numbering::default(),
            phase: Phase::Deposed,
            inbox: Inbox::default(),
            renewal: Renewal::default(),
            is_leaving: false,
        }
    }

    pub(crate) fn id(&self) -> StreamId {
        self.settings.stream
    }

    pub(crate) fn commit_interval_us(&self) -> u64 {
        self.settings.commit_interval_us
    }

    /// It is to become an owner's, and nobody has looked yet what its topic holds.
    pub(crate) fn is_opening(&self) -> bool {
        matches!(self.phase, Phase::Opening(_))
    }

    pub(crate) fn leave(&mut self, now: Now) {
        if std::mem::replace(&mut self.is_leaving, true) {
            return;
        }
        // The standby first: a line that waits for a match would count when its reference is gone, and what it brings is for whoever
        // comes after this stream. One that went on taking it in would never be done.
        if let Phase::Owning(owner) = &mut self.phase {
            owner.forget_standby();
        }
        self.disconnected(now);
    }

    /// It has left: nothing of it can be committed any more, or is under way.
    pub(crate) fn has_left(&self) -> bool {
        let is_under_way =
            matches!(&self.phase, Phase::Owning(owner) if owner.merge.has_ready() || !owner.in_flight.is_empty());
        self.is_leaving && !is_under_way
    }

    /// The state of the merge while it owns one.
    pub(crate) fn merge_status(&self) -> Option<MergeStatus> {
        match &self.phase {
            Phase::Owning(owner) => Some(owner.merge.status()),
            _ => None,
        }
    }

    // --- writing ---------------------------------------------------------------------------------------------------

    fn owner(&mut self) -> Option<&mut Owner> {
        match &mut self.phase {
            Phase::Owning(owner) => Some(owner),
            _ => None,
        }
    }

    pub(crate) fn has_ready(&self) -> bool {
        matches!(&self.phase, Phase::Owning(owner) if owner.merge.has_ready())
    }

    /// Records that wait to be written.
    pub(crate) fn ready_records(&self) -> usize {
        match &self.phase {
            Phase::Owning(owner) => owner.merge.ready_records(),
            _ => 0,
        }
    }

    /// Cuts a batch of at most so many records and bytes, but of one record at least; whether something of it is for Kafka, and in flight from here on.
    pub(crate) fn cut(&mut self, limits: (usize, usize), now: Now) -> bool {
        let Phase::Owning(owner) = &mut self.phase else { return false };
        let Some(oversize) = owner.cut(limits, now.ms()) else { return false };
        oversize.iter().for_each(|record| self.account.left_out(record));
        if owner.in_flight.is_empty() {
            // Nothing of it is for Kafka, so it is as done as it will ever be.
            owner.committed([]);
            return false;
        }
        true
    }

    /// What is in flight, with the timestamps that `stamp` gives it.
    pub(crate) fn in_flight(&mut self, stamp: impl Fn(i64) -> i64) -> Option<Arc<Vec<OutRecord>>> {
        let owner = self.owner()?;
        for record in Arc::make_mut(&mut owner.in_flight) {
            record.timestamp_ms = stamp(record.timestamp_ms);
        }
        Some(Arc::clone(&owner.in_flight))
    }

    pub(crate) fn committed(&mut self, offsets: &[(i32, i64)], committed: &Committed, now: Now) {
        let Some(owner) = self.owner() else { return };
        let records = owner.committed(offsets.iter().copied());
        self.account.committed(&records, Some(committed), now);
    }

    /// A write failed in which this stream had records.
    pub(crate) fn write_failed(&mut self, failure: &Failure, now: Now) {
        let Some(owner) = self.owner() else { return };
        let epoch = owner.epoch;
        self.account.write_failed(epoch, failure, now);
        if failure.remedy == Remedy::Restamp {
            self.account.timestamps_refused(now);
        }
    }

    /// Kafka refuses one record of what is in flight; whether there is such a one.
    pub(crate) fn leave_out(&mut self, sequence: u64) -> bool {
        let record = self.owner().and_then(|owner| owner.leave_out(sequence));
        record.iter().for_each(|record| self.account.left_out(record));
        record.is_some()
    }

    // --- feed and relay --------------------------------------------------------------------------------------------

    pub(crate) fn fed(&mut self, event: FeedEvent, now: Now) {
        self.inbox.given();
        if self.is_leaving {
            return;
        }
        match event {
            FeedEvent::Opened { subscription, .. } => {
                let id = self.numbering.opened(subscription);
                self.account.subscription_opened(subscription, now);
                match &mut self.phase {
                    Phase::Standing(standby) => standby.subscribed(id),
                    Phase::Opening(opening) => opening.retention.subscribed(id),
                    Phase::Owning(owner) => owner.merge.own_subscription(Some(id), now.ms()),
                    Phase::Deposed => {}
                }
            }
            FeedEvent::Closed { kind, reason, .. } => {
                self.account.subscription_lost(kind, &reason, now);
                self.disconnected(now);
            }
            FeedEvent::ConnectFailed { kind, reason, attempt, retry_in_ms } => {
                self.account.connect_failed(kind, (&reason, attempt), retry_in_ms, now);
            }
            FeedEvent::GaveUp { reason } => self.account.gave_up(&reason, now),
            FeedEvent::Frames { subscription, frames } => {
                let bytes = frames.iter().map(|frame| frame.payload.len()).sum();
                self.account.received(frames.len(), bytes, now);
                let numbering = &mut self.numbering;
                let frames = frames.into_iter().filter_map(|frame| numbering.number(subscription, frame));
                match &mut self.phase {
                    Phase::Standing(standby) => frames.for_each(|frame| standby.retention.frame(frame)),
                    Phase::Opening(opening) => frames.for_each(|frame| opening.retention.frame(frame)),
                    Phase::Owning(owner) => {
                        let counts = owner.frames(Side::Own, frames, now.ms());
                        self.account.merged(counts);
                    }
                    Phase::Deposed => {}
                }
            }
        }
    }

    fn disconnected(&mut self, now: Now) {
        self.numbering.closed();
        match &mut self.phase {
            Phase::Standing(standby) => standby.disconnected(),
            Phase::Opening(opening) => opening.disconnected(now.wall_ms()),
            Phase::Owning(owner) => owner.merge.own_subscription(None, now.ms()),
            Phase::Deposed => {}
        }
    }

    /// Acts on a message of the standby at `node`. False: it cannot be, the session must end, and the standby starts over.
    pub(crate) fn hear_standby(&mut self, message: StandbyMessage, node: NodeId, now: Now) -> bool {
        let Phase::Owning(owner) = &mut self.phase else { return true };
        if self.is_leaving {
            return true;
        }
        if let StandbyMessage::Hello { incarnation } = message {
            if owner.standby_greets(node, incarnation) {
                self.account.standby_joined(now);
            }
            return true;
        }
        let mut counts = Counts::default();
        let makes_sense = owner.heard(message, now.ms(), &mut counts);
        if !makes_sense {
            owner.forget_standby();
            self.account.relay_ended(true, now);
        }
        self.account.merged_relayed(counts);
        makes_sense
    }

    /// A relay session with the standby stands already.
    pub(crate) fn ask_who(&mut self) {
        if let Phase::Owning(owner) = &mut self.phase {
            owner.ask_who();
        }
    }

    /// A relay session to the owner began.
    pub(crate) fn owner_connected(&mut self) {
        if let Phase::Standing(standby) = &mut self.phase {
            standby.owner_connected();
        }
    }

    /// Acts on a message of the owner. False: the session must end; the next one repeats what is missing.
    pub(crate) fn hear_owner(&mut self, message: OwnerMessage, entropy: &mut Entropy, now: Now) -> bool {
        let Phase::Standing(standby) = &mut self.phase else { return true };
        match standby.heard(message, now.ms()) {
            Ok(Heard::Nothing) => {}
            Ok(Heard::Forgotten) => standby.start_over(self.numbering.renew(entropy)),
            Err(why) => {
                standby.session_ended();
                self.account.trouble(&why.to_string(), now);
                return false;
            }
        }
        true
    }

    /// The relay session is gone.
    pub(crate) fn relay_ended(&mut self, now: Now) {
        let stood = match &mut self.phase {
            Phase::Owning(owner) => {
                let stood = owner.connected_standby().is_some();
                owner.session_ended(now.ms());
                stood
            }
            Phase::Standing(standby) => standby.session_ended(),
            Phase::Opening(_) | Phase::Deposed => return,
        };
        self.account.relay_ended(stood, now);
    }

    /// Another relay session has begun, whether or not the end of the former one was heard.
    pub(crate) fn standby_connected(&mut self, now: Now) {
        if let Phase::Owning(owner) = &mut self.phase {
            owner.session_ended(now.ms());
        }
    }

    /// The next message for the relay session that is open.
    pub(crate) fn next_message(&mut self) -> Option<Message> {
        let id = self.id();
        match &mut self.phase {
            Phase::Owning(owner) => owner.next_message().map(|message| Message::ToStandby(id, message)),
            Phase::Standing(standby) => standby.next_message().map(|message| Message::ToOwner(id, message)),
            Phase::Opening(_) | Phase::Deposed => None,
        }
    }

    /// Whether Kafka has answered a question that this stream may have asked.
    pub(crate) fn kafka_answered(&mut self, reached: bool, now: Now) {
        if let Phase::Standing(standby) = &mut self.phase {
            standby.reach.answered(reached, now.ms());
        }
    }

    /// Whatever the merge has noticed is told in the same step: a gap must be known before what follows it is written.
    pub(crate) fn take_notices(&mut self, now: Now) {
        if let Phase::Owning(owner) = &mut self.phase {
            if let Some((from_ms, to_ms)) = owner.hole_ms.take().filter(|(from_ms, to_ms)| from_ms < to_ms) {
                self.account.gap(from_ms, to_ms, now);
            }
            for notice in owner.merge.take_notices() {
                self.account.notice(&notice, now);
            }
        }
    }

    // --- time ------------------------------------------------------------------------------------------------------

    /// `producing`: the writer's producer is open.
    pub(crate) fn look(&mut self, sight: &LineSight, (kafka_connected, producing): (bool, bool), now: Now) -> Wishes {
        let mut wishes = Wishes::default();
        let read_through_ms = self.inbox.look(sight.waiting, now.ms());
        match &mut self.phase {
            Phase::Owning(owner) => {
                if producing && owner.in_flight.is_empty() {
                    owner.merge.idle_cut(now.ms());
                }
                owner.merge.caught_up(Side::Own, read_through_ms);
                self.account.owning(owner, producing, now);
                owner.look(now.ms());
                self.account.differing(&mut owner.differences, now);
            }
            Phase::Standing(standby) => {
                wishes.ask_kafka = standby.look(read_through_ms, now.ms());
                self.account.standing(standby, now);
            }
            Phase::Opening(opening) => self.account.opening(&opening.retention, now),
            Phase::Deposed => {}
        }
        self.limit();
        wishes.reconnect = self.renew_line(now);
        self.account.look(&sight.subscription, kafka_connected, now);
        wishes
    }

    /// The twin is the reference: a live connection that has lacked for too long what the twin's has is made anew, by itself alone.
    fn renew_line(&mut self, now: Now) -> Option<String> {
        let report = self.account.report();
        let (keeps_up, for_ms) = match &self.phase {
            Phase::Owning(_) => (report.covered, report.lines.own_behind_ms),
            Phase::Standing(standby) => (report.redundant, standby.behind_ms()),
            Phase::Opening(_) | Phase::Deposed => (false, 0),
        };
        let line = match for_ms {
            0 if keeps_up => Compared::KeepsUp,
            0 => Compared::Unknown,
            for_ms => Compared::Behind { for_ms },
        };
        self.renewal.is_due(line, self.settings.behind_ms_max, now.ms()).then(|| {
            format!("it has lacked for {for_ms} ms what its twin delivers (twinfeed.websocket.behind.timeout.ms)")
        })
    }

    /// Keeps what this stream holds within its limit, by forgetting the oldest: the newest are worth more to a live feed,
    /// and a socket that is not read is closed by its server. Every drop is part of a reported gap.
    fn limit(&mut self) {
        let bytes_max = self.settings.buffer_bytes_max;
        loop {
            let dropped = match &mut self.phase {
                Phase::Standing(standby) if standby.retention.bytes() > bytes_max => standby.retention.drop_oldest(),
                Phase::Opening(opening) if opening.retention.bytes() > bytes_max => opening.retention.drop_oldest(),
                Phase::Owning(owner) if owner.merge.bytes().ready > bytes_max => {
                    let record = owner.merge.drop_oldest();
                    let Some(record) = record else { return };
                    self.account.overflow(record.payload.received_at_ns);
                    continue;
                }
                _ => return,
            };
            let Some(dropped) = dropped else { return };
            // What the owner has as well, and nobody was promised, is no loss.
            if dropped.is_gap {
                self.account.overflow(dropped.frame.payload.received_at_ns);
            }
        }
    }
}
