//! Becoming the writer of a topic: `node/src/pipeline/opening.rs` as steps, and what a finished opening makes of the phase.
//!
//! The init fences, the check comes after it, the tail after the check; each waits for an answer out of the net.

use twinfeed_dedup::{Merge, TailRecord};

use super::{Opening, Phase, REOPEN_MAX_US, REOPEN_MIN_US, TailFrom, Writer, depart};
use crate::fencing::net::{Event, Input, Net};
use crate::fencing::owner::Owner;
use crate::fencing::plan::{Bug, Step};
use crate::fencing::producer::Producer;

/// `QUICK_INIT_MS` and its growth in `node/src/kafka/producer.rs`; the last object waits.
const PATIENCE_MS: [f64; 3] = [12.0, 48.0, 192.0];

/// A takeover sequence under way.
pub(super) struct Sequence {
    pub(super) number: u64,
    pub(super) epoch: u64,
    pub(super) tail_from: TailFrom,
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
    pub(super) fn begin_sequence(&mut self, (epoch, tail_from): (u64, TailFrom), ask_first: bool, net: &mut Net) {
        let number = net.number();
        let stage = Stages::AskingFirst;
        self.sequence = Some(Sequence { number, epoch, tail_from, stage, producer: None, tries: 0 });
        if ask_first || self.bug == Bug::CheckBeforeInit {
            self.ask(Stages::AskingFirst, net);
        } else {
            self.init(net);
        }
    }

    fn ask(&mut self, stage: Stages, net: &mut Net) {
        let Some(sequence) = &mut self.sequence else { return };
        sequence.stage = stage;
        let (opening, epoch) = (sequence.number, sequence.epoch);
        net.after_ms((0.3, 4.0), Event::ReadAssignment { by: self.actor, opening, epoch });
    }

    pub(super) fn init(&mut self, net: &mut Net) {
        let Some(sequence) = &mut self.sequence else { return };
        sequence.stage = Stages::Initialising;
        let id = if self.bug == Bug::NoFencing { sequence.epoch } else { 0 };
        let mut producer = Producer::new(id, net.number(), self.bug);
        depart(self.actor, &mut producer, net);
        if let Some(patience_ms) = PATIENCE_MS.get(sequence.tries) {
            let object = producer.object;
            net.after_ms((*patience_ms, *patience_ms), Event::To(self.actor, Input::OutOfPatience { object }));
        }
        sequence.producer = Some(producer);
    }

    pub(super) fn initialised(&mut self, net: &mut Net) {
        net.reach(self.actor.node, Step::Initialised);
        if self.bug == Bug::CheckBeforeInit || self.promoted_itself {
            self.measure_tail(net);
        } else {
            self.ask(Stages::Confirming, net);
        }
    }

    pub(super) fn confirmed(&mut self, opening: u64, holds: Option<bool>, net: &mut Net) {
        let Some(sequence) = self.sequence.as_ref().filter(|sequence| sequence.number == opening) else { return };
        match (holds, sequence.stage) {
            (None, _) => {
                self.sequence = None;
                self.retry_opening_later(net);
            }
            (Some(false), _) => {
                net.say(|| format!("node {}: is not the owner any more", self.actor.node));
                let phase = std::mem::replace(&mut self.phase, Phase::Deposed);
                self.leave(&phase, net);
            }
            (Some(true), Stages::AskingFirst) => {
                net.reach(self.actor.node, Step::Confirmed);
                self.init(net);
            }
            (Some(true), _) => {
                net.reach(self.actor.node, Step::Confirmed);
                self.measure_tail(net);
            }
        }
    }

    fn measure_tail(&mut self, net: &mut Net) {
        let Some(sequence) = &mut self.sequence else { return };
        sequence.stage = Stages::ReadingTail;
        let opening = sequence.number;
        net.after_ms((0.3, 3.0), Event::To(self.actor, Input::MeasureTail { opening }));
    }

    /// From where the tail has to be read, now that its end is known; `None` where there is nothing to read.
    pub(crate) fn tail_start(&self, opening: u64, end: usize) -> Option<usize> {
        let sequence = self.sequence.as_ref().filter(|sequence| sequence.number == opening)?;
        let from = match sequence.tail_from {
            TailFrom::End => end,
            TailFrom::Recent => 0,
            TailFrom::Offset(offset) => offset,
        };
        (from < end).then_some(from)
    }

    pub(super) fn tail(&mut self, opening: u64, (tail, next_offset): (Vec<TailRecord>, usize), net: &mut Net) {
        let Some(sequence) = self.sequence.take_if(|sequence| sequence.number == opening) else { return };
        net.reach(self.actor.node, Step::TailRead);
        self.producer = sequence.producer;
        self.reopen_pause_us = REOPEN_MIN_US;
        self.go_live(tail, next_offset, net);
        self.next_cut_us = net.now_us;
        net.reach(self.actor.node, Step::Live);
        self.plan_cut(net);
    }

    fn go_live(&mut self, tail: Vec<TailRecord>, next_offset: usize, net: &mut Net) {
        let phase = std::mem::replace(&mut self.phase, Phase::Deposed);
        self.phase = match phase {
            Phase::Opening(opening) => {
                let epoch = opening.epoch;
                net.journal.live(self.actor.node, epoch);
                net.say(|| format!("node {}: live at epoch {epoch}, tail {}", self.actor.node, tail.len()));
                let merge = self.merge(opening, tail, net.now_ms());
                let mut owner = Owner::new(epoch, merge, next_offset, self.bug);
                owner.merge.own_subscription(self.numbering.live(), net.now_ms());
                Phase::Owning(Box::new(owner))
            }
            Phase::Owning(mut owner) => {
                net.journal.recoveries += 1;
                let landed = owner.landed(&tail) && (self.bug != Bug::RetryWithoutTail || owner.in_flight.is_empty());
                net.say(|| format!("node {}: recovers, batch landed {landed}", self.actor.node));
                if landed {
                    owner.committed(next_offset);
                } else {
                    let batch = owner.in_flight.clone();
                    self.write(&batch, net);
                }
                Phase::Owning(owner)
            }
            other => {
                self.close();
                other
            }
        };
    }

    fn merge(&self, opened: Opening, tail: Vec<TailRecord>, now_ms: u64) -> Merge<()> {
        let Opening { epoch, retention, tail_from } = opened;
        if tail_from != TailFrom::End {
            let tail = if self.bug == Bug::NoTailAtTakeover { Vec::new() } else { tail };
            return Merge::take_over(self.options.clone(), epoch, *retention, tail, now_ms);
        }
        let mut merge = Merge::new(self.options.clone(), epoch);
        let mut current = None;
        for frame in retention.into_retained() {
            if current.replace(frame.subscription) != Some(frame.subscription) {
                merge.own_subscription(current, now_ms);
            }
            merge.frame(frame, now_ms);
        }
        merge
    }

    pub(super) fn retry_opening_later(&mut self, net: &mut Net) {
        let jitter = 0.5 + net.prng.unit() / 2.0;
        self.reopen_at_us = Some(net.now_us + (self.reopen_pause_us as f64 * jitter) as u64);
        self.reopen_pause_us = (self.reopen_pause_us * 2).min(REOPEN_MAX_US);
    }

    pub(super) fn reopen(&mut self, net: &mut Net) {
        self.reopen_at_us = None;
        let plan = match &self.phase {
            Phase::Opening(opening) => (opening.epoch, opening.tail_from),
            Phase::Owning(owner) => (owner.epoch, TailFrom::Offset(owner.offset)),
            Phase::Standing(_) | Phase::Deposed => return,
        };
        self.begin_sequence(plan, true, net);
    }
}
