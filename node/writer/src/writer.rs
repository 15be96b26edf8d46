//! The writer: one fencing domain. It has one role, one producer and one relay session for all its streams, which move together;
//! what a single stream does with its frames is in `stream`.
//!
//! Stages: `Standing` (the streams retain and relay), `Opening` (the takeover sequence, still retaining), `Owning` (they merge, the
//! writer commits), `Deposed` (fenced; waits for the worker's word). A producer that was fenced never reopens by itself: the
//! assignment is confirmed first. Here are the step, the relay and the look; `roles` changes stages, `membership` lets streams come
//! and go, `opening` opens producers, `writing` cuts and commits.

mod membership;
mod opening;
mod roles;
mod turns;
mod writing;

use std::collections::{BTreeMap, BTreeSet};

use twinfeed_dedup::MergeStatus;

use self::turns::Turns;
use crate::{
    Epoch, NodeId, StreamId,
    entropy::Entropy,
    pace::Pace,
    port::{Input, Message, Now, Output, Sight},
    report::WriterReport,
    settings::Settings,
    stream::Stream,
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

/// What the writer is at this node, and so each of its streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Deposed,
    Standing(Epoch),
    Opening(Epoch),
    Owning(Epoch),
}

/// One writer at one node.
#[derive(Debug)]
pub struct Writer {
    streams: BTreeMap<StreamId, Stream>,
    entropy: Entropy,
    stage: Stage,
    producer: Producer,
    /// Streams with records in the batch that the producer has.
    in_flight: Vec<StreamId>,
    timestamps: Timestamps,
    /// When to try opening again after a failure.
    reopen_at_us: Option<u64>,
    /// Somebody finds out what the topics hold of streams that have joined.
    is_finding: bool,
    /// When that is tried again after a failure.
    find_at_us: Option<u64>,
    pace: Pace,
    commit_interval_us: u64,
    next_cut_us: u64,
    /// Streams with something to write.
    ready: BTreeSet<StreamId>,
    /// The node at the other end of the relay session.
    standby: Option<NodeId>,
    /// The same for a standby: a session with its owner stands.
    has_owner: bool,
    /// Streams that may have something to say in the relay session.
    speakers: Turns,
    is_draining: bool,
    outputs: Vec<Output>,
}

impl Writer {
    /// A writer of these streams without a role yet. `seed` makes its names and its jitter; two writers never have the same one.
    pub fn new(streams: impl IntoIterator<Item = Settings>, seed: u64) -> Self {
        let streams: Vec<Settings> = streams.into_iter().collect();
        let commit_interval_us = streams.iter().map(|settings| settings.commit_interval_us).min().unwrap_or(0);
        Self {
            streams: streams.into_iter().map(|settings| (settings.stream, Stream::new(settings))).collect(),
            entropy: Entropy::new(seed),
            stage: Stage::Deposed,
            producer: Producer::None,
            in_flight: Vec::new(),
            timestamps: Timestamps::default(),
            reopen_at_us: None,
            is_finding: false,
            find_at_us: None,
            pace: Pace::default(),
            commit_interval_us,
            next_cut_us: 0,
            ready: BTreeSet::new(),
            standby: None,
            has_owner: false,
            speakers: Turns::default(),
            is_draining: false,
            outputs: Vec::new(),
        }
    }

    /// Takes in what has happened, and returns what is to be done about it, in this order.
    pub fn step(&mut self, input: Input, now: Now) -> Vec<Output> {
        match input {
            Input::Assume(assigned) => self.assume(assigned, now),
            Input::Join(settings) => self.join(*settings, now),
            Input::Leave { stream, at_once } => self.leave(stream, at_once, now),
            Input::Fed { stream, event } => self.with(stream, now, |stream, _| stream.fed(event, now)),
            Input::StandbyConnected { node } => {
                self.standby = Some(node);
                self.all(now, |stream, _| stream.standby_connected(now));
            }
            Input::OwnerConnected => {
                self.has_owner = true;
                self.all(now, |stream, _| stream.owner_connected());
            }
            Input::FromStandby { stream, message } => {
                let Some(node) = self.standby else { return Vec::new() };
                let mut makes_sense = true;
                self.with(stream, now, |stream, _| makes_sense = stream.hear_standby(message, node, now));
                if !makes_sense {
                    self.end_relay(now);
                }
            }
            Input::FromOwner { stream, message } => {
                let mut makes_sense = true;
                self.with(stream, now, |stream, entropy| makes_sense = stream.hear_owner(message, entropy, now));
                if !makes_sense {
                    self.end_relay(now);
                }
            }
            Input::RelayEnded => self.relay_ended(now),
            Input::Opened(result) => self.opened(result, now),
            Input::Found(result) => self.found(result, now),
            Input::Written(result) => self.written(result, now),
            Input::KafkaAnswered(reached) => self.all(now, |stream, _| stream.kafka_answered(reached, now)),
            Input::Cut => self.cut(now),
            Input::Look(sight) => self.look(&sight, now),
            Input::Drain => self.is_draining = true,
        }
        std::mem::take(&mut self.outputs)
    }

    /// When [`Input::Cut`] is due; `None` while there is nothing to write or nobody to write it.
    pub fn cut_at_us(&self) -> Option<u64> {
        (self.producer == Producer::Idle && !self.ready.is_empty()).then_some(self.next_cut_us)
    }

    /// The next message for the relay session that is open, of each stream in turn. Asked whenever the session has room: what is not
    /// taken out is kept, and repeated in the next session until the other side has it.
    pub fn next_message(&mut self) -> Option<Message> {
        while let Some(id) = self.speakers.next() {
            if let Some(message) = self.streams.get_mut(&id).and_then(Stream::next_message) {
                self.speakers.add(id);
                return Some(message);
            }
        }
        None
    }

    /// What it says of a stream.
    pub fn report(&self, stream: StreamId) -> Option<&WriterReport> {
        self.streams.get(&stream).map(|stream| stream.account.report())
    }

    /// A draining writer has nothing left that it could commit.
    pub fn is_drained(&self) -> bool {
        match (self.stage, self.producer) {
            (Stage::Owning(_), Producer::Writing) => false,
            (Stage::Owning(_), Producer::Idle) => self.ready.is_empty(),
            _ => true,
        }
    }

    /// Whether a relay session of this epoch with its standby is welcome: one of another epoch or role is ended, and the standby
    /// tries again until both agree.
    pub fn welcomes_standby(&self, epoch: Epoch) -> bool {
        self.stage == Stage::Owning(epoch) && !self.is_draining
    }

    /// The same for one with its owner.
    pub fn welcomes_owner(&self, epoch: Epoch) -> bool {
        self.stage == Stage::Standing(epoch) && !self.is_draining
    }

    /// The state of a stream's merge while it owns one.
    pub fn merge_status(&self, stream: StreamId) -> Option<MergeStatus> {
        self.streams.get(&stream).and_then(Stream::merge_status)
    }

    // --- streams ---------------------------------------------------------------------------------------------------

    /// Whatever concerns one stream, and what follows from it.
    fn with(&mut self, id: StreamId, now: Now, act: impl FnOnce(&mut Stream, &mut Entropy)) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        act(stream, &mut self.entropy);
        stream.take_notices(now);
        self.outputs.extend(stream.account.take_events().map(Output::Event));
        if stream.has_left() {
            return self.remove(id);
        }
        if stream.has_ready() {
            self.ready.insert(id);
        } else {
            self.ready.remove(&id);
        }
        self.speakers.add(id);
    }

    fn all(&mut self, now: Now, mut act: impl FnMut(&mut Stream, &mut Entropy)) {
        let ids: Vec<StreamId> = self.streams.keys().copied().collect();
        ids.into_iter().for_each(|id| self.with(id, now, &mut act));
    }

    // --- relay -----------------------------------------------------------------------------------------------------

    /// What one stream has heard cannot be, so none can go on with the session.
    fn end_relay(&mut self, now: Now) {
        self.outputs.push(Output::EndRelay);
        self.relay_ended(now);
    }

    fn relay_ended(&mut self, now: Now) {
        (self.standby, self.has_owner) = (None, false);
        self.all(now, |stream, _| stream.relay_ended(now));
    }

    // --- time ------------------------------------------------------------------------------------------------------

    fn look(&mut self, sight: &Sight, now: Now) {
        if self.reopen_at_us.is_some_and(|at_us| at_us <= now.us) {
            self.reopen();
        }
        if self.find_at_us.is_some_and(|at_us| at_us <= now.us) {
            self.find();
        }
        let state = (sight.kafka_connected, self.producer != Producer::None);
        let mut ask_kafka = false;
        for (id, line) in &sight.lines {
            let mut reconnect = None;
            self.with(*id, now, |stream, _| {
                let wishes = stream.look(line, state, now);
                ask_kafka |= wishes.ask_kafka;
                reconnect = wishes.reconnect;
            });
            self.reconnect(*id, reconnect);
        }
        if ask_kafka {
            self.outputs.push(Output::AskKafka);
        }
    }

    fn reconnect(&mut self, stream: StreamId, reason: Option<String>) {
        self.outputs.extend(reason.map(|reason| Output::Reconnect { stream, reason }));
    }
}
