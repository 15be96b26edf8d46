//! The writer: owns the role, the subscription's numbering, the merge or the retention, and knows where its producer stands.
//!
//! Phases: `Standing` (retain and relay), `Opening` (the takeover sequence, still retaining), `Owning` (merge and commit), `Deposed`
//! (fenced; waits for the worker's word). A producer that was fenced never reopens by itself: the assignment is confirmed first.
//! Here are the step, what feed and relay bring, and the limits; `roles` changes phases, `writing` cuts and commits, `takeover`
//! makes an owner of an opening.

mod roles;
mod takeover;
mod writing;

use twinfeed_dedup::{MergeStatus, Side};

use crate::{
    Epoch,
    account::Account,
    entropy::Entropy,
    frame::FeedEvent,
    inbox::Inbox,
    numbering::Numbering,
    owner::Counts,
    pace::Pace,
    phase::Phase,
    port::{Input, Message, Now, Output, Sight},
    relay::{OwnerMessage, StandbyMessage},
    renewal::{Compared, Renewal},
    report::WriterReport,
    settings::Settings,
    standby::Heard,
    timestamps::Timestamps,
};

/// Where the producer stands, as far as the writer has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Producer {
    None,
    /// Open, with nothing to do.
    Idle,
    /// A batch is with it.
    Writing,
}

/// One writer at one node.
#[derive(Debug)]
pub struct Writer {
    settings: Settings,
    account: Account,
    entropy: Entropy,
    numbering: Numbering,
    phase: Phase,
    producer: Producer,
    /// A takeover sequence is under way.
    is_opening: bool,
    timestamps: Timestamps,
    /// When to try opening again after a failure.
    reopen_at_us: Option<u64>,
    pace: Pace,
    next_cut_us: u64,
    inbox: Inbox,
    renewal: Renewal,
    is_draining: bool,
    outputs: Vec<Output>,
}

impl Writer {
    /// A writer without a role yet. `seed` makes its names and its jitter; two writers never have the same one.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            account: Account::new(&settings),
            settings,
            entropy: Entropy::new(seed),
            numbering: Numbering::default(),
            phase: Phase::Deposed,
            producer: Producer::None,
            is_opening: false,
            timestamps: Timestamps::default(),
            reopen_at_us: None,
            pace: Pace::default(),
            next_cut_us: 0,
            inbox: Inbox::default(),
            renewal: Renewal::default(),
            is_draining: false,
            outputs: Vec::new(),
        }
    }

    /// Takes in what has happened, and returns what is to be done about it, in this order.
    pub fn step(&mut self, input: Input, now: Now) -> Vec<Output> {
        match input {
            Input::Assume(assigned) => self.assume(assigned, now),
            Input::Fed(event) => {
                self.inbox.given();
                self.fed(event, now);
            }
            Input::StandbyConnected { node, incarnation } => {
                if let Phase::Owning(owner) = &mut self.phase
                    && owner.standby_connected(node, incarnation)
                {
                    self.account.standby_joined(now);
                }
            }
            Input::OwnerConnected => {
                if let Phase::Standing(standby) = &mut self.phase {
                    standby.owner_connected();
                }
            }
            Input::FromStandby(message) => self.hear_standby(message, now),
            Input::FromOwner(message) => self.hear_owner(message, now),
            Input::RelayEnded => self.relay_ended(now),
            Input::Opened(result) => self.opened(result, now),
            Input::Written(result) => self.written(result, now),
            Input::KafkaAnswered(reached) => {
                if let Phase::Standing(standby) = &mut self.phase {
                    standby.reach.answered(reached, now.ms());
                }
            }
            Input::Cut => self.cut(now),
            Input::Look(sight) => self.look(&sight, now),
            Input::Drain => (self.is_draining, self.is_opening) = (true, false),
        }
        self.take_notices(now);
        self.outputs.extend(self.account.take_events().map(Output::Event));
        std::mem::take(&mut self.outputs)
    }

    /// When [`Input::Cut`] is due; `None` while there is nothing to write or nobody to write it.
    pub fn cut_at_us(&self) -> Option<u64> {
        match &self.phase {
            Phase::Owning(owner) if self.producer == Producer::Idle && owner.merge.has_ready() => {
                Some(self.next_cut_us)
            }
            _ => None,
        }
    }

    /// The next message for the relay session that is open. Asked whenever the session has room: what is not taken out is kept, and
    /// repeated in the next session until the other side has it.
    pub fn next_message(&mut self) -> Option<Message> {
        match &mut self.phase {
            Phase::Owning(owner) => owner.next_message().map(Message::ToStandby),
            Phase::Standing(standby) => standby.next_message().map(Message::ToOwner),
            Phase::Opening(_) | Phase::Deposed => None,
        }
    }

    /// What it says of itself.
    pub fn report(&self) -> &WriterReport {
        self.account.report()
    }

    /// A draining writer has nothing left that it could commit.
    pub fn is_drained(&self) -> bool {
        let Phase::Owning(owner) = &self.phase else { return true };
        match self.producer {
            Producer::None => true,
            Producer::Writing => false,
            Producer::Idle => !owner.merge.has_ready(),
        }
    }

    /// Whether a relay session of this epoch with its standby is welcome: one of another epoch or role is ended, and the standby
    /// tries again until both agree.
    pub fn welcomes_standby(&self, epoch: Epoch) -> bool {
        matches!(&self.phase, Phase::Owning(owner) if owner.epoch == epoch) && !self.is_draining
    }

    /// The same for one with its owner.
    pub fn welcomes_owner(&self, epoch: Epoch) -> bool {
        matches!(&self.phase, Phase::Standing(standby) if standby.epoch == epoch) && !self.is_draining
    }

    /// The state of the merge while it owns one.
    pub fn merge_status(&self) -> Option<MergeStatus> {
        match &self.phase {
            Phase::Owning(owner) => Some(owner.merge.status()),
            _ => None,
        }
    }

    // --- feed and relay --------------------------------------------------------------------------------------------

    fn fed(&mut self, event: FeedEvent, now: Now) {
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

    fn hear_standby(&mut self, message: StandbyMessage, now: Now) {
        let Phase::Owning(owner) = &mut self.phase else { return };
        let mut counts = Counts::default();
        if !owner.heard(message, now.ms(), &mut counts) {
            owner.forget_standby();
            self.outputs.push(Output::EndRelay);
            self.account.relay_ended(true, now);
        }
        self.account.merged_relayed(counts);
    }

    fn hear_owner(&mut self, message: OwnerMessage, now: Now) {
        let Phase::Standing(standby) = &mut self.phase else { return };
        match standby.heard(message, now.ms()) {
            Ok(Heard::Nothing) => {}
            Ok(Heard::Forgotten) => standby.start_over(self.numbering.renew(&mut self.entropy)),
            Err(why) => {
                standby.session_ended();
                self.outputs.push(Output::EndRelay);
                self.account.trouble(&why.to_string(), now);
            }
        }
    }

    fn relay_ended(&mut self, now: Now) {
        let stood = match &mut self.phase {
            Phase::Owning(owner) => {
                owner.session_ended(now.ms());
                true
            }
            Phase::Standing(standby) => standby.session_ended(),
            Phase::Opening(_) | Phase::Deposed => return,
        };
        self.account.relay_ended(stood, now);
    }

    /// Whatever the merge has noticed is told in the same step: a gap must be known before what follows it is written.
    fn take_notices(&mut self, now: Now) {
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

    fn look(&mut self, sight: &Sight, now: Now) {
        if self.reopen_at_us.is_some_and(|at_us| at_us <= now.us) {
            self.reopen();
        }
        let read_through_ms = self.inbox.look(sight.waiting, now.ms());
        match &mut self.phase {
            Phase::Owning(owner) => {
                if self.producer == Producer::Idle {
                    owner.merge.idle_cut(now.ms());
                }
                owner.merge.caught_up(Side::Own, read_through_ms);
                self.account.owning(owner, self.producer != Producer::None, now);
                owner.look(now.ms());
                self.account.differing(&mut owner.differences, now);
            }
            Phase::Standing(standby) => {
                if standby.look(read_through_ms, now.ms()) {
                    self.outputs.push(Output::AskKafka);
                }
                self.account.standing(standby, now);
            }
            Phase::Opening(opening) => self.account.opening(&opening.retention, now),
            Phase::Deposed => {}
        }
        self.limit();
        self.renew_line(now);
        self.account.look(sight, now);
    }

    /// The twin is the reference: a live connection that has lacked for too long what the twin's has is made anew, by itself alone.
    fn renew_line(&mut self, now: Now) {
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
        if self.renewal.is_due(line, self.settings.behind_ms_max, now.ms()) {
            let reason =
                format!("it has lacked for {for_ms} ms what its twin delivers (twinfeed.websocket.behind.timeout.ms)");
            self.outputs.push(Output::Reconnect { reason });
        }
    }

    /// Keeps what this writer holds within its limit, by forgetting the oldest: the newest are worth more to a live feed,
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
