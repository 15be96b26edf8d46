//! Becoming the writer of a topic: `node/src/pipeline/opening.rs` as steps.
//!
//! The init fences, the check comes after it, the tail after the check; each waits for an answer out of the net.

use std::collections::BTreeMap;

use twinfeed_dedup::TailRecord;
use twinfeed_writer::{Failure, InTopic, OpenError, Opened, Plan, Remedy, StreamId, StreamPlan, TailFrom};

use super::{Bug, Stamped, Writer, depart, number};
use crate::fencing::net::{Ends, Event, Input, Net};
use crate::fencing::plan::Step;
use crate::fencing::producer::{Outcome, Producer, Stage};

/// `QUICK_INIT_MS` and its growth in `node/src/kafka/producer.rs`; the last object waits.
const PATIENCE_MS: [f64; 3] = [12.0, 48.0, 192.0];

/// How long transactions of other streams may hide the tail; `Reader::settled` in `node/src/kafka/tail.rs`.
pub(crate) const HIDDEN_MAX_US: u64 = 7_500_000;

/// A look at what the topic holds of streams that have joined.
pub(super) struct Finding {
    number: u64,
    plans: Vec<StreamPlan>,
}

/// A takeover sequence under way.
pub(super) struct Sequence {
    pub(super) number: u64,
    pub(super) plan: Plan,
    pub(super) stage: Stages,
    pub(super) producer: Option<Producer>,
    pub(super) tries: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stages {
    AskingFirst,
    Initialising,
    Confirming,
    ReadingTail,
}

impl Writer {
    pub(super) fn begin_sequence(&mut self, plan: Plan, net: &mut Net) {
        if !plan.ask_first {
            net.reach(self.actor, Step::Applied);
        }
        let (number, ask_first) = (net.number(), plan.ask_first);
        self.sequence = Some(Sequence { number, plan, stage: Stages::AskingFirst, producer: None, tries: 0 });
        if ask_first || self.bug == Bug::CheckBeforeInit {
            self.ask(Stages::AskingFirst, net);
        } else {
            self.init(net);
        }
    }

    fn ask(&mut self, stage: Stages, net: &mut Net) {
        let Some(sequence) = &mut self.sequence else { return };
        sequence.stage = stage;
        let (opening, epoch) = (sequence.number, sequence.plan.epoch.0);
        net.after_ms((0.3, 4.0), Event::ReadAssignment { by: self.actor, opening, epoch });
    }

    fn init(&mut self, net: &mut Net) {
        let Some(sequence) = &mut self.sequence else { return };
        sequence.stage = Stages::Initialising;
        let writer = self.actor.writer as u64;
        let id = match self.bug {
            Bug::NoFencing => writer << 32 | sequence.plan.epoch.0,
            _ => writer,
        };
        let mut producer = Producer::new(id, net.number(), self.bug);
        depart(self.actor, &mut producer, net);
        if let Some(patience_ms) = PATIENCE_MS.get(sequence.tries) {
            let object = producer.object;
            net.after_ms((*patience_ms, *patience_ms), Event::To(self.actor, Input::OutOfPatience { object }));
        }
        sequence.producer = Some(producer);
    }

    pub(super) fn lose_patience(&mut self, object: u64, net: &mut Net) {
        let is_asking = |p: &&Producer| p.object == object && p.stage() == Stage::Initialising;
        if let Some(sequence) = &mut self.sequence
            && sequence.producer.as_ref().filter(is_asking).is_some()
        {
            sequence.tries += 1;
            self.init(net);
        }
    }

    pub(super) fn is_initialising(&self, object: u64) -> bool {
        self.sequence.as_ref().is_some_and(|sequence| {
            sequence.stage == Stages::Initialising && sequence.producer.as_ref().is_some_and(|p| p.object == object)
        })
    }

    pub(super) fn initialised(&mut self, net: &mut Net) {
        net.reach(self.actor, Step::Initialised);
        if self.bug == Bug::CheckBeforeInit || self.promoted_itself {
            self.measure_tail(net);
        } else {
            self.ask(Stages::Confirming, net);
        }
    }

    pub(super) fn not_initialised(&mut self, outcome: Outcome, net: &mut Net) {
        let remedy = if outcome == Outcome::Fenced { Remedy::Reopen } else { Remedy::Wait };
        self.fail(OpenError::Kafka(Failure { text: "not opened".to_owned(), remedy }), net);
    }

    pub(super) fn confirmed(&mut self, opening: u64, holds: Option<bool>, net: &mut Net) {
        let Some(sequence) = self.sequence.as_ref().filter(|sequence| sequence.number == opening) else { return };
        match (holds, sequence.stage) {
            (None, _) => self.fail(OpenError::Unconfirmed("no leader".to_owned()), net),
            (Some(false), _) => self.fail(OpenError::NotOwner, net),
            (Some(true), Stages::AskingFirst) => {
                net.reach(self.actor, Step::Confirmed);
                self.init(net);
            }
            (Some(true), _) => {
                net.reach(self.actor, Step::Confirmed);
                self.measure_tail(net);
            }
        }
    }

    fn fail(&mut self, error: OpenError, net: &mut Net) {
        self.sequence = None;
        self.step(twinfeed_writer::Input::Opened(Err(error)), net);
    }

    pub(super) fn find(&mut self, plans: Vec<StreamPlan>, net: &mut Net) {
        let number = net.number();
        self.finding = Some(Finding { number, plans });
        let measure = Input::MeasureTail { opening: number, until: None };
        net.after_ms((0.3, 3.0), Event::To(self.actor, measure));
    }

    fn measure_tail(&mut self, net: &mut Net) {
        let Some(sequence) = &mut self.sequence else { return };
        sequence.stage = Stages::ReadingTail;
        let opening = sequence.number;
        net.after_ms((0.3, 3.0), Event::To(self.actor, Input::MeasureTail { opening, until: None }));
    }

    /// Whether the tail ends where the log ends, whoever has a transaction open before that.
    pub(crate) fn waits_for_others(&self) -> bool {
        self.bug != Bug::TailEndsEarly
    }

    pub(super) fn tail_hidden(&mut self, opening: u64, net: &mut Net) {
        let failure = Failure { text: "a transaction hides the tail".to_owned(), remedy: Remedy::Reopen };
        if self.sequence.as_ref().is_some_and(|sequence| sequence.number == opening) {
            self.fail(OpenError::Kafka(failure), net);
        } else if self.finding.take_if(|finding| finding.number == opening).is_some() {
            self.step(twinfeed_writer::Input::Found(Err(OpenError::Kafka(failure))), net);
        }
    }

    /// From where the tail has to be read, now that its end is known; `None` where there is nothing to read.
    pub(crate) fn tail_start(&self, opening: u64, end: usize) -> Option<usize> {
        let sequence = self.sequence.as_ref().filter(|sequence| sequence.number == opening);
        let finding = self.finding.as_ref().filter(|finding| finding.number == opening);
        let plans = sequence.map(|sequence| &sequence.plan.streams).or(finding.map(|finding| &finding.plans))?;
        let from = plans.iter().map(|plan| self.reads_from(plan, end)).min()?;
        (from < end).then_some(from)
    }

    fn reads_from(&self, plan: &StreamPlan, end: usize) -> usize {
        match &plan.tail_from {
            TailFrom::End => end,
            TailFrom::Recent(_) if self.bug != Bug::TailFromLastAck => 0,
            TailFrom::Recent(acked) | TailFrom::Offsets(acked) => acked.get(&0).map_or(0, |offset| *offset as usize),
        }
    }

    pub(super) fn tail(&mut self, opening: u64, (read, ends): (Vec<(i64, Stamped)>, Ends), net: &mut Net) {
        if let Some(finding) = self.finding.take_if(|finding| finding.number == opening) {
            let found = |plan: &StreamPlan| self.in_topic(plan, &read, &ends, false);
            let found = Opened { streams: finding.plans.iter().map(found).collect() };
            return self.step(twinfeed_writer::Input::Found(Ok(found)), net);
        }
        let Some(sequence) = self.sequence.take_if(|sequence| sequence.number == opening) else { return };
        net.reach(self.actor, Step::TailRead);
        self.producer = sequence.producer;
        let recovers = self.owns_merges();
        for stream in self.lines.keys() {
            if recovers {
                net.journal(*stream).recoveries += 1;
            } else {
                net.journal(*stream).live(self.actor.node, sequence.plan.epoch.0);
            }
        }
        let untold = if recovers { Bug::RetryWithoutTail } else { Bug::NoTailAtTakeover };
        let found = |plan: &StreamPlan| self.in_topic(plan, &read, &ends, self.bug == untold);
        let opened = Opened { streams: sequence.plan.streams.iter().map(found).collect() };
        self.step(twinfeed_writer::Input::Opened(Ok(opened)), net);
        net.reach(self.actor, Step::Live);
    }

    /// What was read, as far as a stream's plan asks for it.
    fn in_topic(
        &self,
        plan: &StreamPlan,
        read: &[(i64, Stamped)],
        ends: &Ends,
        is_untold: bool,
    ) -> (StreamId, InTopic) {
        let from = self.reads_from(plan, ends.next_offset) as i64;
        let is_own = |stamped: &Stamped| stamped.stream == plan.stream.0 || self.bug == Bug::MixedStreams;
        let own = read.iter().filter(|(offset, stamped)| *offset >= from && is_own(stamped));
        let named = |(offset, stamped): &(i64, Stamped)| TailRecord {
            acknowledged: plan.tail_from.is_acknowledged(0, *offset),
            ..stamped.record
        };
        let in_topic = InTopic {
            tail: if is_untold { Vec::new() } else { own.map(named).collect() },
            offsets: BTreeMap::from([(0, ends.next_offset as i64)]),
            // When it was read is nobody's business here.
            last_received_at_ms: ends.written.contains(&number(plan.stream)).then_some(0),
            payload_bytes_max: usize::MAX,
        };
        (plan.stream, in_topic)
    }
}
