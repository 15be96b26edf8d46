//! A writer at one node: the code that ships, run against this world instead of a real one; `node/src/pipeline/actor.rs` is its
//! twin. What the writer asks for goes into the net, and what comes out of the net becomes its input.
//!
//! It decides nothing by itself. Seeded bugs are lies that it tells the writer, or that it makes of what the writer says.

mod lies;
mod line;
pub(crate) mod opening;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use twinfeed_dedup::{Fingerprint, RecordId, SubscriptionId, TailRecord};
use twinfeed_writer::event::Event as Told;
use twinfeed_writer::record::OutRecord;
use twinfeed_writer::relay::{OwnerMessage, StandbyMessage};
use twinfeed_writer::{Assigned, Committed, Epoch, Failure, Message, Now, Output, Remedy, Settings, Sight, StreamId};

use super::broker::Stamped;
use super::bug::Bug;
use super::journal::Report;
use super::net::{Actor, Event, Input, Net, StreamNo};
use super::plan::{Means, Step};
use super::producer::{Next, Outcome, Producer, Stage};
use super::register::Streams;
use lies::Lies;
use line::Line;
use opening::{Finding, Sequence};

const LOOKS_MS: (f64, f64) = (50.0, 51.0);
const BREATHER_US: u64 = 2_000;

pub(crate) struct Writer {
    pub(crate) actor: Actor,
    core: twinfeed_writer::Writer,
    /// Of the role that it has been told last.
    epoch: Epoch,
    means: Means,
    bug: Bug,
    /// Its streams, and by which entry each came.
    wanted: Streams,
    joined: BTreeMap<StreamNo, u64>,
    lines: BTreeMap<StreamNo, Line>,
    lies: BTreeMap<StreamNo, Lies>,
    session: Option<u64>,
    /// The owner has said something in this session.
    stood: bool,
    producer: Option<Producer>,
    /// A stream has left, and another of its name may come.
    has_left: bool,
    finding: Option<Finding>,
    /// The subscription of which a standby has sent frames last.
    frames_of: BTreeMap<StreamNo, u64>,
    is_writing: bool,
    /// Streams of which the present batch has records.
    written: Vec<StreamNo>,
    sequence: Option<Sequence>,
    is_cut_planned: bool,
    is_draining: bool,
    promoted_itself: bool,
}

impl Writer {
    pub(crate) fn start(actor: Actor, streams: &Streams, assigned: Assigned, (means, net): (&Means, &mut Net)) -> Self {
        let mut writer = Self {
            actor,
            core: twinfeed_writer::Writer::new([], net.prng.next()),
            epoch: Epoch(0),
            means: means.clone(),
            bug: means.bug,
            wanted: Streams::clone(streams),
            joined: BTreeMap::new(),
            lines: BTreeMap::new(),
            lies: BTreeMap::new(),
            has_left: false,
            finding: None,
            frames_of: BTreeMap::new(),
            session: None,
            stood: false,
            producer: None,
            is_writing: false,
            written: Vec::new(),
            sequence: None,
            is_cut_planned: false,
            is_draining: false,
            promoted_itself: false,
        };
        net.after_ms(LOOKS_MS, Event::To(actor, Input::Look));
        writer.join_wanted(net);
        writer.assume(assigned, net);
        writer
    }

    /// The streams that are its own from here on.
    pub(crate) fn has_streams(&mut self, streams: &Streams, net: &mut Net) {
        self.wanted = Streams::clone(streams);
        let gone = |(stream, since): &(&StreamNo, &u64)| !streams.contains(&(**stream, **since));
        let leaving: Vec<StreamNo> = self.joined.iter().filter(gone).map(|(stream, _)| *stream).collect();
        for stream in leaving {
            self.lines.get_mut(&stream).into_iter().for_each(Line::stop);
            let stream = StreamId(identity(stream));
            self.step(twinfeed_writer::Input::Leave { stream, at_once: false }, net);
        }
        self.join_wanted(net);
    }

    fn join_wanted(&mut self, net: &mut Net) {
        let is_new = |(stream, _): &&(StreamNo, u64)| !self.joined.contains_key(stream) && !self.is_draining;
        let new: Vec<_> = self.wanted.iter().filter(is_new).copied().collect();
        for (stream, since) in new {
            self.joined.insert(stream, since);
            self.lines.insert(stream, Line::new(self.means.pace));
            self.lies.insert(stream, Lies::new(self.bug));
            net.after_ms((5.0, 30.0), Event::To(self.actor, Input::Connect { stream }));
            let settings = settings(self.actor, (stream, since), &self.means);
            self.step(twinfeed_writer::Input::Join(Box::new(settings)), net);
        }
    }

    /// An owner that can write and counts on its standby, for the world's idea of a whole cluster.
    pub(crate) fn owns(&self, epoch: u64) -> bool {
        let is_well = |(stream, line): (&StreamNo, &Line)| {
            let status = self.core.merge_status(StreamId(identity(*stream)));
            status.is_some_and(|status| status.own_aligned && status.redundant) && line.is_known()
        };
        self.core.welcomes_standby(Epoch(epoch))
            && self.lines.iter().all(is_well)
            && self.session.is_some()
            && self.producer.is_some()
    }

    pub(crate) fn stands_redundant(&self, epoch: u64) -> bool {
        let is_well = |(stream, line): (&StreamNo, &Line)| {
            let report = self.core.report(StreamId(identity(*stream)));
            report.is_some_and(|report| report.redundant) && line.is_reported()
        };
        self.core.welcomes_owner(Epoch(epoch)) && self.lines.iter().all(is_well) && self.session.is_some()
    }

    pub(crate) fn welcomes_standby(&self, epoch: u64) -> bool {
        self.core.welcomes_standby(Epoch(epoch))
    }

    /// The epoch of the owner that this standby looks for.
    pub(crate) fn dials(&self) -> Option<u64> {
        let Epoch(epoch) = self.epoch;
        (self.session.is_none() && self.core.welcomes_owner(Epoch(epoch))).then_some(epoch)
    }

    fn stands(&self) -> bool {
        self.core.welcomes_owner(self.epoch)
    }

    fn owns_merges(&self) -> bool {
        self.lines.keys().any(|stream| self.core.merge_status(StreamId(identity(*stream))).is_some())
    }

    pub(crate) fn assume(&mut self, assigned: Assigned, net: &mut Net) {
        net.say(|| format!("{}: assumes {assigned:?}", self.actor));
        let (Assigned::Owner { epoch } | Assigned::Standby { epoch }) = assigned;
        self.epoch = epoch;
        self.step(twinfeed_writer::Input::Assume(assigned), net);
    }

    /// Stops for good: no more frames, and what an owner has is committed if it can be.
    pub(crate) fn drain(&mut self, net: &mut Net) {
        self.is_draining = true;
        self.lines.values_mut().for_each(Line::stop);
        self.sequence = None;
        if self.stands() {
            self.end_session(net);
        }
        self.step(twinfeed_writer::Input::Drain, net);
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.core.is_drained()
    }

    // --- the step --------------------------------------------------------------------------------------------------

    fn step(&mut self, input: twinfeed_writer::Input, net: &mut Net) {
        let now = Now { us: net.now_us, wall_ns: net.now_us * 1_000 };
        for output in self.core.step(input, now) {
            self.act(output, net);
        }
        if std::mem::take(&mut self.has_left) {
            self.join_wanted(net);
        }
        self.speak(net);
        if let Some(at_us) = self.core.cut_at_us().filter(|_| !self.is_cut_planned) {
            self.is_cut_planned = true;
            net.at(at_us.max(net.now_us), Event::To(self.actor, Input::CutBatch));
        }
    }

    fn act(&mut self, output: Output, net: &mut Net) {
        match output {
            Output::Open(plan) => self.begin_sequence(plan, net),
            Output::Find(plans) => self.find(plans, net),
            Output::Left(stream) => {
                let stream = number(stream);
                self.has_left = true;
                self.joined.remove(&stream);
                self.lines.remove(&stream);
            }
            Output::WarmUp => {}
            Output::Write(batch) => {
                let records = batch.iter().flat_map(|records| records.iter());
                self.write(records.map(stamped).collect(), net);
            }
            Output::Close => {
                (self.sequence, self.finding, self.producer, self.is_writing) = (None, None, None, false);
            }
            Output::EndRelay => self.end_session(net),
            Output::Reconnect { stream, reason } => {
                net.journal(number(stream)).violations.push(format!("a line that speaks was connected anew: {reason}"));
            }
            Output::AskKafka => net.after_ms((0.5, 2.0), Event::To(self.actor, Input::KafkaAnswers)),
            Output::Event(told) => self.told(&told, net),
        }
    }

    fn end_session(&mut self, net: &mut Net) {
        if let Some(session) = self.session.take() {
            net.end_session(session);
            if self.stands() {
                net.after_ms((20.0, 60.0), Event::To(self.actor, Input::Dial));
            }
        }
    }

    /// What an operator is told is what the verdict believes.
    fn told(&self, told: &Told, net: &mut Net) {
        net.say(|| format!("{}: {} {}", self.actor, told.kind, told.message));
        let stream: StreamNo = told.connector[1..].parse().expect("a stream's connector");
        let journal = net.journal(stream);
        match told.kind.as_str() {
            "subscription.gave_up" => journal.has_given_up = true,
            "gap" => journal.reports.push(Report::Gap),
            "takeover.started" => {
                journal.takeovers += 1;
                if told.attributes["redundant"] == "false" {
                    journal.reports.push(Report::TakeoverBeforeRedundancy);
                }
            }
            "aligned" => {
                let id = u64::from_str_radix(&told.attributes["subscription"], 16).expect("a subscription's name");
                journal.aligned.insert(SubscriptionId(id));
            }
            "record.rejected" => journal.violations.push("a record was left out, though all are small".to_owned()),
            _ => {}
        }
    }

    /// Hands the session what it has room for.
    fn speak(&mut self, net: &mut Net) {
        while let Some(session) = self.session.filter(|session| net.has_room(*session, self.actor)) {
            match self.core.next_message() {
                Some(Message::ToOwner(stream, said)) => {
                    let stream = number(stream);
                    if let StandbyMessage::Frames { subscription, first_index, frames } = &said {
                        net.journal(stream).sent(SubscriptionId(*subscription), *first_index, frames);
                    }
                    net.send_up(session, stream, said);
                }
                Some(Message::ToStandby(stream, said)) => {
                    let stream = number(stream);
                    if let Some(said) = self.lies.get_mut(&stream).and_then(|lies| lies.say(said)) {
                        net.send_down(session, stream, said);
                    }
                }
                None => return,
            }
        }
    }

    // --- writing ---------------------------------------------------------------------------------------------------

    /// librdkafka sends a batch in one request or in several.
    fn write(&mut self, batch: Vec<Stamped>, net: &mut Net) {
        let Some(producer) = &mut self.producer else { return };
        self.written = self.lines.keys().copied().filter(|stream| holds(&batch, *stream)).collect();
        let records = batch.len().div_ceil(1 + net.prng.below(3)).max(1);
        producer.write(batch.chunks(records).map(Rc::from).collect::<VecDeque<Rc<[Stamped]>>>());
        depart(self.actor, producer, net);
        self.is_writing = true;
        net.reach(self.actor, Step::Begun);
    }

    fn written(&mut self, outcome: Outcome, net: &mut Net) {
        let outcome = match outcome {
            Outcome::Unknown if self.bug == Bug::UnknownIsSuccess => Outcome::Committed { next_offset: 0, slow: true },
            Outcome::Committed { next_offset, .. } if self.bug == Bug::NoRecycle => {
                Outcome::Committed { next_offset, slow: false }
            }
            other => other,
        };
        self.is_writing = false;
        let failure = |text: &str, remedy| Err(Failure { text: text.to_owned(), remedy });
        let result = match outcome {
            Outcome::Committed { next_offset, slow } => {
                net.reach(self.actor, Step::Committed);
                let next_offset = next_offset as i64;
                for stream in &self.written {
                    let said = self.lies.get_mut(stream).map(|lies| lies.committed(next_offset)).unwrap_or_default();
                    if let Some(session) = self.session {
                        said.into_iter().for_each(|said| net.send_down(session, *stream, said));
                    }
                }
                let offsets = |stream: &StreamNo| (StreamId(identity(*stream)), vec![(0, next_offset)]);
                Ok(Committed {
                    next_offsets: self.written.iter().map(offsets).collect(),
                    timestamp_ms_max: -1,
                    took_us: 0,
                    settled_us: 0,
                    breather_us: BREATHER_US,
                    recycle: slow,
                })
            }
            Outcome::Aborted => {
                self.abandon(net);
                failure("not written", Remedy::Wait)
            }
            Outcome::Fenced => {
                self.lines.keys().for_each(|stream| net.journal(*stream).fenced += 1);
                failure("fenced", Remedy::Fenced)
            }
            Outcome::Unknown | Outcome::Opened => failure("unknown", Remedy::Reopen),
        };
        net.say(|| format!("{}: written {outcome:?}", self.actor));
        self.step(twinfeed_writer::Input::Written(result), net);
    }

    /// As a courtesy, the coordinator is asked to end the transaction that is given up.
    fn abandon(&mut self, net: &mut Net) {
        if let Some(producer) = self.producer.take()
            && let Some(request) = producer.abandon()
        {
            let Producer { transactional_id: id, object, attempt, .. } = producer;
            let abandoned = Input::Depart { id, object, attempt, request };
            net.after_ms((0.05, 0.3), Event::To(self.actor, abandoned));
        }
    }

    // --- Kafka's answers -------------------------------------------------------------------------------------------

    fn with_producer(&mut self, object: u64, attempt: Option<u64>) -> Option<&mut Producer> {
        let opening = self.sequence.as_mut().and_then(|sequence| sequence.producer.as_mut());
        let known = |p: &&mut Producer| p.object == object && attempt.is_none_or(|attempt| p.attempt == attempt);
        opening.into_iter().chain(self.producer.as_mut()).find(known)
    }

    fn proceed(&mut self, object: u64, next: Next, net: &mut Net) {
        let actor = self.actor;
        match next {
            Next::Send => {
                if let Some(producer) = self.with_producer(object, None) {
                    depart(actor, producer, net);
                    let step = match producer.stage() {
                        Stage::Committing { .. } => Step::Produced,
                        _ => return,
                    };
                    net.reach(actor, step);
                }
            }
            Next::SendAfter { delay_us } => {
                if let Some(producer) = self.with_producer(object, None) {
                    producer.attempt += 1;
                    let attempt = producer.attempt;
                    net.at(net.now_us + delay_us, Event::To(actor, Input::Retry { object, attempt }));
                }
            }
            Next::Over(Outcome::Opened) => self.initialised(net),
            Next::Over(outcome) if self.is_initialising(object) => self.not_initialised(outcome, net),
            Next::Over(outcome) => self.written(outcome, net),
        }
    }

    // --- everything that can happen --------------------------------------------------------------------------------

    pub(crate) fn handle(&mut self, input: Input, net: &mut Net) {
        match input {
            Input::Reply { object, attempt, reply } => {
                let now_us = net.now_us;
                let next = self.with_producer(object, Some(attempt)).map(|producer| producer.answered(reply, now_us));
                next.into_iter().for_each(|next| self.proceed(object, next, net));
            }
            Input::Cut { object, attempt } => {
                let (gives_up, jitter_us) = (net.prng.chance(0.4), net.prng.between_ms(0.0, 200.0));
                let next = self.with_producer(object, Some(attempt)).map(|producer| producer.cut(gives_up, jitter_us));
                next.into_iter().for_each(|next| self.proceed(object, next, net));
            }
            Input::Retry { object, attempt } if self.with_producer(object, Some(attempt)).is_some() => {
                self.proceed(object, Next::Send, net);
            }
            Input::OutOfPatience { object } => self.lose_patience(object, net),
            Input::Confirmed { opening, holds } => self.confirmed(opening, holds, net),
            Input::Tail { opening, records, ends } => self.tail(opening, (records, ends), net),
            Input::TailHidden { opening } => self.tail_hidden(opening, net),
            Input::TakeFeed { stream } => self.take_feed(stream, net),
            Input::GiveUp { stream } => self.give_up(stream, net),
            Input::KafkaAnswers => self.step(twinfeed_writer::Input::KafkaAnswered(true), net),
            Input::CutBatch => {
                self.is_cut_planned = false;
                self.step(twinfeed_writer::Input::Cut, net);
            }
            Input::Look => {
                net.after_ms(LOOKS_MS, Event::To(self.actor, Input::Look));
                let lines = self.lines.iter().map(|(stream, line)| (StreamId(identity(*stream)), line.sight()));
                let sight = Sight { kafka_connected: false, lines: lines.collect() };
                self.step(twinfeed_writer::Input::Look(sight), net);
                self.lines.values_mut().for_each(Line::looked);
            }
            Input::Up { session, stream, said } => self.hear_standby(session, stream, said, net),
            Input::Down { session, stream, said } if self.session == Some(session) => {
                self.hear_owner(stream, said, net);
            }
            Input::Room { session } if self.session == Some(session) => self.speak(net),
            Input::SessionEnded { session } if self.session == Some(session) => self.session_ended(net),
            // The world's own, or overtaken by something newer.
            _ => {}
        }
    }

    // --- relay -----------------------------------------------------------------------------------------------------

    /// The standby's end of a new session; its hello makes the owner's.
    pub(crate) fn owner_connected(&mut self, session: u64, net: &mut Net) {
        (self.session, self.stood) = (Some(session), false);
        self.step(twinfeed_writer::Input::OwnerConnected, net);
    }

    fn hear_standby(&mut self, session: u64, stream: StreamNo, said: StandbyMessage, net: &mut Net) {
        if matches!(said, StandbyMessage::Hello { .. }) && self.session != Some(session) {
            if !self.core.welcomes_standby(self.epoch) {
                return net.end_session(session);
            }
            if let Some(former) = self.session.replace(session) {
                net.end_session(former);
            }
            let node = net.sessions.get(&session).map_or(0, |session| session.standby.node as u64);
            self.step(twinfeed_writer::Input::StandbyConnected { node }, net);
        }
        if self.session != Some(session) || self.is_draining {
            return;
        }
        if self.bug == Bug::GiveUpEndsStream && self.lines.get(&stream).is_some_and(Line::has_ended) {
            return;
        }
        if let StandbyMessage::Frames { subscription, .. } = &said {
            self.frames_of.insert(stream, *subscription);
        }
        self.lies.entry(stream).or_insert_with(|| Lies::new(self.bug)).heard(&said);
        self.step(twinfeed_writer::Input::FromStandby { stream: StreamId(identity(stream)), message: said }, net);
    }

    fn hear_owner(&mut self, stream: StreamNo, said: OwnerMessage, net: &mut Net) {
        self.stood = true;
        let message = self.lies.entry(stream).or_insert_with(|| Lies::new(self.bug)).believe(said);
        self.step(twinfeed_writer::Input::FromOwner { stream: StreamId(identity(stream)), message }, net);
    }

    fn session_ended(&mut self, net: &mut Net) {
        self.session = None;
        let stands = self.stands();
        self.step(twinfeed_writer::Input::RelayEnded, net);
        if stands && self.bug == Bug::SelfPromotion && self.stood {
            self.promoted_itself = true;
            let epoch = self.epoch;
            self.assume(Assigned::Owner { epoch }, net);
        } else if stands {
            net.after_ms((20.0, 60.0), Event::To(self.actor, Input::Dial));
        }
    }

    /// The owner forgets its standby of a stream: it has heard something that cannot be.
    pub(crate) fn forget_standby(&mut self, stream: StreamNo, net: &mut Net) {
        if let (Some(_), Some(&subscription)) = (self.session, self.frames_of.get(&stream)) {
            let message = StandbyMessage::Frames { subscription, first_index: u64::MAX / 2, frames: Vec::new() };
            self.step(twinfeed_writer::Input::FromStandby { stream: StreamId(identity(stream)), message }, net);
        }
    }
}

fn settings(actor: Actor, (stream, since): (StreamNo, u64), means: &Means) -> Settings {
    Settings {
        connector: format!("c{stream}"),
        topic: "t".to_owned(),
        stream: StreamId(identity(stream)),
        since: Epoch(if means.bug == Bug::OldEpochAgain { 0 } else { since }),
        feeds: 2,
        node: format!("n{}", actor.node),
        revision: 1,
        merge: means.options.clone(),
        commit_interval_us: 10_000,
        behind_ms_max: 5_000,
        buffer_bytes_max: means.buffer_bytes_max,
    }
}

/// Hands the producer's present request to the network.
fn depart(actor: Actor, producer: &mut Producer, net: &mut Net) {
    producer.attempt += 1;
    let Producer { transactional_id: id, object, attempt, .. } = *producer;
    if let Some(request) = producer.request() {
        net.after_ms((0.05, 0.3), Event::To(actor, Input::Depart { id, object, attempt, request }));
    }
}

/// What the header of a record carries for a stream.
pub(super) fn identity(stream: StreamNo) -> u64 {
    stream as u64 + 1
}

fn number(stream: StreamId) -> StreamNo {
    stream.0 as StreamNo - 1
}

fn holds(batch: &[Stamped], stream: StreamNo) -> bool {
    batch.iter().any(|stamped| stamped.stream == identity(stream))
}

fn stamped(record: &OutRecord) -> Stamped {
    let tail_record = TailRecord {
        id: RecordId { epoch: record.epoch, sequence: record.sequence },
        fingerprint: Fingerprint::from_u128(record.fingerprint),
        subscription: SubscriptionId(record.subscription),
        index: record.index,
        acknowledged: false,
    };
    Stamped { stream: record.stream, record: tail_record }
}
