//! The writer of one node: the code that ships, run against this world instead of a real one; `node/src/pipeline/actor.rs` is its
//! twin. What the writer asks for goes into the net, and what comes out of the net becomes its input.
//!
//! It decides nothing by itself. Seeded bugs are lies that it tells the writer, or that it makes of what the writer says.

mod lies;
mod line;
pub(crate) mod opening;

use std::collections::VecDeque;
use std::rc::Rc;

use twinfeed_dedup::{Fingerprint, RecordId, SubscriptionId, TailRecord};
use twinfeed_writer::event::Event as Told;
use twinfeed_writer::record::OutRecord;
use twinfeed_writer::relay::{OwnerMessage, StandbyMessage};
use twinfeed_writer::report::Role;
use twinfeed_writer::{Assigned, Committed, Epoch, Failure, Message, Now, Output, Remedy, Settings};

use super::broker::Stamped;
use super::bug::Bug;
use super::journal::Report;
use super::net::{Actor, Event, Input, Net, StreamNo};
use super::plan::{Means, Step};
use super::producer::{Next, Outcome, Producer, Stage};
use lies::Lies;
use line::Line;
use opening::Sequence;

const LOOKS_MS: (f64, f64) = (50.0, 51.0);
const BREATHER_US: u64 = 2_000;

pub(crate) struct Writer {
    pub(crate) actor: Actor,
    core: twinfeed_writer::Writer,
    bug: Bug,
    lies: Lies,
    line: Line,
    session: Option<u64>,
    /// The owner has said something in this session.
    stood: bool,
    producer: Option<Producer>,
    is_writing: bool,
    sequence: Option<Sequence>,
    is_cut_planned: bool,
    is_draining: bool,
    promoted_itself: bool,
}

impl Writer {
    pub(crate) fn start(actor: Actor, assigned: Assigned, means: &Means, net: &mut Net) -> Self {
        let settings = Settings {
            connector: format!("c{}", actor.stream),
            topic: "t".to_owned(),
            stream: identity(actor.stream),
            feeds: 2,
            node: format!("n{}", actor.node),
            revision: 1,
            merge: means.options.clone(),
            commit_interval_us: 10_000,
            behind_ms_max: 5_000,
            buffer_bytes_max: means.buffer_bytes_max,
        };
        let mut writer = Self {
            actor,
            core: twinfeed_writer::Writer::new(settings, net.prng.next()),
            bug: means.bug,
            lies: Lies::new(means.bug),
            line: Line::new(means.pace),
            session: None,
            stood: false,
            producer: None,
            is_writing: false,
            sequence: None,
            is_cut_planned: false,
            is_draining: false,
            promoted_itself: false,
        };
        net.after_ms((5.0, 30.0), Event::To(actor, Input::Connect));
        net.after_ms(LOOKS_MS, Event::To(actor, Input::Look));
        writer.assume(assigned, net);
        writer
    }

    /// An owner that can write and counts on its standby, for the world's idea of a whole cluster.
    pub(crate) fn owns(&self, epoch: u64) -> bool {
        let status = self.core.merge_status();
        self.core.welcomes_standby(Epoch(epoch))
            && status.is_some_and(|status| status.own_aligned && status.redundant)
            && self.line.is_known()
            && self.session.is_some()
            && self.producer.is_some()
    }

    pub(crate) fn stands_redundant(&self, epoch: u64) -> bool {
        let report = self.core.report();
        self.core.welcomes_owner(Epoch(epoch)) && self.line.is_reported() && self.session.is_some() && report.redundant
    }

    pub(crate) fn welcomes_standby(&self, epoch: u64) -> bool {
        self.core.welcomes_standby(Epoch(epoch))
    }

    /// The epoch of the owner that this standby looks for.
    pub(crate) fn dials(&self) -> Option<u64> {
        let Epoch(epoch) = self.core.report().epoch;
        (self.session.is_none() && self.core.welcomes_owner(Epoch(epoch))).then_some(epoch)
    }

    pub(crate) fn assume(&mut self, assigned: Assigned, net: &mut Net) {
        net.say(|| format!("{}: assumes {assigned:?}", self.actor));
        self.step(twinfeed_writer::Input::Assume(assigned), net);
    }

    /// Stops for good: no more frames, and what an owner has is committed if it can be.
    pub(crate) fn drain(&mut self, net: &mut Net) {
        self.is_draining = true;
        self.line.stop();
        self.sequence = None;
        if self.core.report().role == Role::Standby {
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
        self.speak(net);
        if let Some(at_us) = self.core.cut_at_us().filter(|_| !self.is_cut_planned) {
            self.is_cut_planned = true;
            net.at(at_us.max(net.now_us), Event::To(self.actor, Input::CutBatch));
        }
    }

    fn act(&mut self, output: Output, net: &mut Net) {
        match output {
            Output::Open(plan) => self.begin_sequence(plan, net),
            Output::WarmUp => {}
            Output::Write(batch) => self.write(&batch, net),
            Output::Close => (self.sequence, self.producer, self.is_writing) = (None, None, false),
            Output::EndRelay => self.end_session(net),
            Output::Reconnect { reason } => {
                net.journal(self.actor.stream)
                    .violations
                    .push(format!("a line that speaks was connected anew: {reason}"));
            }
            Output::AskKafka => net.after_ms((0.5, 2.0), Event::To(self.actor, Input::KafkaAnswers)),
            Output::Event(told) => self.told(&told, net),
        }
    }

    fn end_session(&mut self, net: &mut Net) {
        self.session.take().into_iter().for_each(|session| net.end_session(session));
    }

    /// What an operator is told is what the verdict believes.
    fn told(&self, told: &Told, net: &mut Net) {
        net.say(|| format!("{}: {} {}", self.actor, told.kind, told.message));
        let journal = net.journal(self.actor.stream);
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
                Some(Message::ToOwner(said)) => {
                    if let StandbyMessage::Frames { subscription, first_index, frames } = &said {
                        net.journal(self.actor.stream).sent(SubscriptionId(*subscription), *first_index, frames);
                    }
                    net.send_up(session, said);
                }
                Some(Message::ToStandby(said)) => {
                    if let Some(said) = self.lies.say(said) {
                        net.send_down(session, said);
                    }
                }
                None => return,
            }
        }
    }

    // --- writing ---------------------------------------------------------------------------------------------------

    /// librdkafka sends a batch in one request or in several.
    fn write(&mut self, batch: &[OutRecord], net: &mut Net) {
        let Some(producer) = &mut self.producer else { return };
        let batch: Vec<Stamped> = batch.iter().map(stamped).collect();
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
                if let Some(session) = self.session {
                    self.lies.committed(next_offset).into_iter().for_each(|said| net.send_down(session, said));
                }
                Ok(Committed {
                    next_offsets: vec![(0, next_offset)],
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
                net.journal(self.actor.stream).fenced += 1;
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
            Input::TakeFeed => self.take_feed(net),
            Input::GiveUp => self.give_up(net),
            Input::KafkaAnswers => self.step(twinfeed_writer::Input::KafkaAnswered(true), net),
            Input::CutBatch => {
                self.is_cut_planned = false;
                self.step(twinfeed_writer::Input::Cut, net);
            }
            Input::Look => {
                net.after_ms(LOOKS_MS, Event::To(self.actor, Input::Look));
                self.step(twinfeed_writer::Input::Look(self.line.sight()), net);
                self.line.looked();
            }
            Input::Up { session, said } => self.hear_standby(session, said, net),
            Input::Down { session, said } if self.session == Some(session) => self.hear_owner(said, net),
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

    fn hear_standby(&mut self, session: u64, said: StandbyMessage, net: &mut Net) {
        if let StandbyMessage::Hello { incarnation } = said {
            if self.core.merge_status().is_none() || self.is_draining {
                return net.end_session(session);
            }
            if let Some(former) = self.session.replace(session) {
                net.end_session(former);
            }
            let node = net.sessions.get(&session).map_or(0, |session| session.standby.node as u64);
            return self.step(twinfeed_writer::Input::StandbyConnected { node, incarnation }, net);
        }
        if self.session != Some(session) || self.is_draining {
            return;
        }
        if self.bug == Bug::GiveUpEndsStream && self.line.has_ended() {
            return;
        }
        self.lies.heard(&said);
        self.step(twinfeed_writer::Input::FromStandby(said), net);
    }

    fn hear_owner(&mut self, said: OwnerMessage, net: &mut Net) {
        self.stood = true;
        let said = self.lies.believe(said);
        self.step(twinfeed_writer::Input::FromOwner(said), net);
    }

    fn session_ended(&mut self, net: &mut Net) {
        self.session = None;
        let stands = self.core.report().role == Role::Standby;
        self.step(twinfeed_writer::Input::RelayEnded, net);
        if stands && self.bug == Bug::SelfPromotion && self.stood {
            self.promoted_itself = true;
            let epoch = self.core.report().epoch;
            self.assume(Assigned::Owner { epoch }, net);
        } else if stands {
            net.after_ms((20.0, 60.0), Event::To(self.actor, Input::Dial));
        }
    }

    /// The owner forgets its standby: it has heard something that cannot be.
    pub(crate) fn forget_standby(&mut self, net: &mut Net) {
        if self.core.merge_status().is_some() && self.session.is_some() {
            let said = StandbyMessage::Hello { incarnation: 0 };
            self.step(twinfeed_writer::Input::FromStandby(said), net);
        }
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
