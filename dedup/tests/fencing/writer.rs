//! The writer actor of one node, step by step as `node/src/pipeline/{writer,opening,subscription}.rs` have it.
//!
//! Where those wait, this sends something into the net and acts when the answer comes; `Sequence` is the future of
//! `opening::sequence`. It runs the real `Merge` and `Retention`. Left out: metrics, limits of memory and channels (nothing here is
//! long enough to meet them), and the topic's creation. Seeded bugs are the branches on `Bug`.

mod numbering;
mod opening;

use std::collections::VecDeque;
use std::rc::Rc;

use twinfeed_dedup::{
    Ack, Fingerprint, Frame, Notice, Options, RecordId, Resolved, Retention, SubscriptionId, TailRecord, ToStandby,
};

use super::journal::Report;
use super::net::{Actor, Down, Event, Input, Net, Up};
use super::owner::Owner;
use super::plan::{Bug, Step};
use super::producer::{Next, Outcome, Producer, Stage};
use super::standby::Standby;
use numbering::Numbering;
use opening::{Sequence, Stages};

const HOUSEKEEPING_MS: (f64, f64) = (50.0, 51.0);
const AFTER_COMMIT_US: u64 = 2_000;
const COMMIT_INTERVAL_US: u64 = 10_000;
const REOPEN_MIN_US: u64 = 100_000;
const REOPEN_MAX_US: u64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Owner { epoch: u64 },
    Standby { epoch: u64 },
}

pub(crate) enum Phase {
    Standing(Box<Standby>),
    Opening(Opening),
    Owning(Box<Owner>),
    Deposed,
}

pub(crate) struct Opening {
    epoch: u64,
    retention: Box<Retention<()>>,
    tail_from: TailFrom,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TailFrom {
    /// Nothing that this node holds can be in the topic.
    End,
    Offset(usize),
    /// Nothing was acked: the last records, which here are all.
    Recent,
}

pub(crate) struct Writer {
    pub(crate) actor: Actor,
    pub(crate) phase: Phase,
    options: Options,
    bug: Bug,
    numbering: Numbering,
    producer: Option<Producer>,
    is_writing: bool,
    sequence: Option<Sequence>,
    reopen_at_us: Option<u64>,
    reopen_pause_us: u64,
    next_cut_us: u64,
    is_cut_planned: bool,
    is_draining: bool,
    promoted_itself: bool,
}

impl Writer {
    pub(crate) fn start(actor: Actor, role: Role, (options, bug): (Options, Bug), net: &mut Net) -> Self {
        let mut writer = Self {
            actor,
            phase: Phase::Deposed,
            options,
            bug,
            numbering: Numbering::default(),
            producer: None,
            is_writing: false,
            sequence: None,
            reopen_at_us: None,
            reopen_pause_us: REOPEN_MIN_US,
            next_cut_us: 0,
            is_cut_planned: false,
            is_draining: false,
            promoted_itself: false,
        };
        net.after_ms((5.0, 30.0), Event::To(actor, Input::Connect));
        net.after_ms(HOUSEKEEPING_MS, Event::To(actor, Input::Housekeeping));
        writer.assume(role, net);
        writer
    }

    pub(crate) fn socket(&self) -> Option<u64> {
        self.numbering.socket
    }

    /// An owner that can write and counts on its standby, for the world's idea of a whole cluster.
    pub(crate) fn owns(&self, epoch: u64) -> bool {
        let is_whole = |owner: &Owner| {
            let status = owner.merge.status();
            owner.epoch == epoch && status.own_aligned && status.redundant && owner.session().is_some()
        };
        matches!(&self.phase, Phase::Owning(owner) if is_whole(owner)) && self.producer.is_some()
    }

    pub(crate) fn stands_redundant(&self, epoch: u64) -> bool {
        let is_redundant =
            |standby: &Standby| standby.epoch == epoch && standby.session.is_some() && standby.retention.is_redundant();
        matches!(&self.phase, Phase::Standing(standby) if is_redundant(standby))
    }

    // --- roles -----------------------------------------------------------------------------------------------------

    pub(crate) fn assume(&mut self, role: Role, net: &mut Net) {
        net.say(|| format!("node {}: assumes {role:?}", self.actor.node));
        let phase = std::mem::replace(&mut self.phase, Phase::Deposed);
        self.phase = match (phase, role) {
            (Phase::Standing(standby), Role::Owner { epoch }) => self.promote(*standby, epoch, net),
            (Phase::Standing(mut standby), Role::Standby { epoch }) => {
                if standby.epoch != epoch {
                    let renewed = self.numbering.renew(net);
                    standby.new_owner(epoch, renewed, net.prng.next());
                }
                Phase::Standing(standby)
            }
            (Phase::Opening(opening), Role::Owner { epoch }) if opening.epoch == epoch => Phase::Opening(opening),
            (Phase::Opening(opening), Role::Owner { epoch }) => {
                self.begin_opening(epoch, *opening.retention, opening.tail_from, net)
            }
            (Phase::Opening(opening), Role::Standby { epoch }) => {
                self.close();
                let live = self.numbering.live();
                Phase::Standing(Box::new(Standby::new(epoch, *opening.retention, live, net.prng.next())))
            }
            (Phase::Owning(owner), Role::Owner { epoch }) if owner.epoch == epoch => Phase::Owning(owner),
            (phase @ (Phase::Owning(_) | Phase::Deposed), Role::Owner { epoch }) => {
                self.leave(&phase, net);
                if epoch > 1 {
                    net.journal.reports.push(Report::OwnerWithoutMemory);
                }
                let retention = self.fresh_retention(net);
                self.begin_opening(epoch, retention, TailFrom::End, net)
            }
            (phase @ (Phase::Owning(_) | Phase::Deposed), Role::Standby { epoch }) => {
                self.leave(&phase, net);
                let retention = self.fresh_retention(net);
                let live = self.numbering.live();
                Phase::Standing(Box::new(Standby::new(epoch, retention, live, net.prng.next())))
            }
        };
    }

    fn promote(&mut self, standby: Standby, epoch: u64, net: &mut Net) -> Phase {
        let is_redundant = standby.retention.is_redundant();
        net.say(|| format!("node {}: takes over at epoch {epoch}, redundant {is_redundant}", self.actor.node));
        net.journal.takeovers += 1;
        if !is_redundant {
            net.journal.reports.push(Report::TakeoverBeforeRedundancy);
        }
        let tail_from = standby.acked.map_or(TailFrom::Recent, TailFrom::Offset);
        self.begin_opening(epoch, standby.retention, tail_from, net)
    }

    fn leave(&mut self, phase: &Phase, net: &mut Net) {
        self.close();
        if let Phase::Owning(owner) = phase
            && let Some(session) = owner.session()
        {
            net.end_session(session);
        }
    }

    fn fresh_retention(&mut self, net: &mut Net) -> Retention<()> {
        let mut retention = Retention::new(self.options.clone());
        if let Some(id) = self.numbering.renew(net) {
            retention.subscribed(id);
        }
        retention
    }

    fn begin_opening(&mut self, epoch: u64, retention: Retention<()>, tail_from: TailFrom, net: &mut Net) -> Phase {
        net.reach(self.actor.node, Step::Applied);
        self.begin_sequence((epoch, tail_from), false, net);
        Phase::Opening(Opening { epoch, retention: Box::new(retention), tail_from })
    }

    /// Lets go of producer and pending work.
    fn close(&mut self) {
        (self.sequence, self.producer, self.is_writing) = (None, None, false);
        (self.reopen_at_us, self.reopen_pause_us) = (None, REOPEN_MIN_US);
    }

    /// Stops for good: no more frames, and what an owner has is committed if it can be.
    pub(crate) fn drain(&mut self, net: &mut Net) {
        self.is_draining = true;
        self.numbering.socket = None;
        self.sequence = None;
        if let Phase::Standing(standby) = &self.phase
            && let Some(session) = standby.session
        {
            net.end_session(session);
        }
        self.plan_cut(net);
    }

    pub(crate) fn is_drained(&self) -> bool {
        match &self.phase {
            Phase::Owning(owner) => {
                let is_busy = self.is_writing || owner.merge.status().ready_records > 0;
                !is_busy || self.producer.is_none()
            }
            _ => true,
        }
    }

    // --- writing ---------------------------------------------------------------------------------------------------

    fn plan_cut(&mut self, net: &mut Net) {
        let is_free = self.producer.is_some() && !self.is_writing && !self.is_cut_planned;
        if let Phase::Owning(owner) = &self.phase
            && is_free
            && owner.merge.status().ready_records > 0
        {
            self.is_cut_planned = true;
            net.at(self.next_cut_us.max(net.now_us), Event::To(self.actor, Input::CutBatch));
        }
    }

    fn cut(&mut self, net: &mut Net) {
        self.is_cut_planned = false;
        let now_ms = net.now_ms();
        if self.producer.is_some()
            && !self.is_writing
            && let Phase::Owning(owner) = &mut self.phase
            && owner.cut(now_ms)
        {
            let batch = owner.in_flight.clone();
            self.next_cut_us = net.now_us + COMMIT_INTERVAL_US;
            self.write(&batch, net);
        }
    }

    /// librdkafka sends a batch in one request or in several.
    fn write(&mut self, batch: &[TailRecord], net: &mut Net) {
        let Some(producer) = &mut self.producer else { return };
        let records = batch.len().div_ceil(1 + net.prng.below(3)).max(1);
        producer.write(batch.chunks(records).map(Rc::from).collect::<VecDeque<Rc<[TailRecord]>>>());
        depart(self.actor, producer, net);
        self.is_writing = true;
        net.reach(self.actor.node, Step::Begun);
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
        let Phase::Owning(owner) = &mut self.phase else { return };
        if let Outcome::Committed { next_offset, slow } = outcome {
            owner.committed(next_offset);
            self.next_cut_us = self.next_cut_us.max(net.now_us + AFTER_COMMIT_US);
            if slow {
                self.producer = None;
                self.reopen(net);
            }
            net.reach(self.actor.node, Step::Committed);
            return self.tell(net);
        }
        net.say(|| format!("node {}: write failed, {outcome:?}", self.actor.node));
        if let Some(producer) = self.producer.take()
            && outcome == Outcome::Aborted
            && let Some(request) = producer.abandon()
        {
            let Producer { transactional_id: id, object, attempt, .. } = producer;
            let abandoned = Input::Depart { id, object, attempt, request };
            net.after_ms((0.05, 0.3), Event::To(self.actor, abandoned));
        }
        match outcome {
            Outcome::Aborted => self.retry_opening_later(net),
            Outcome::Fenced | Outcome::Unknown | Outcome::Opened | Outcome::Committed { .. } => {
                net.journal.fenced += u32::from(outcome == Outcome::Fenced);
                self.reopen(net);
            }
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
                    net.reach(actor.node, step);
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
            Next::Over(outcome) => self.written(outcome, net),
        }
    }

    // --- everything that can happen --------------------------------------------------------------------------------

    pub(crate) fn handle(&mut self, input: Input, net: &mut Net) {
        let now_ms = net.now_ms();
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
            Input::Tail { opening, records, next_offset } => self.tail(opening, (records, next_offset), net),
            Input::CutBatch => self.cut(net),
            Input::Housekeeping => self.housekeeping(net),
            Input::Up { session, said } => self.hear_standby(session, said, net),
            Input::Down { session, said } => self.hear_owner(session, said, net),
            Input::SessionEnded { session } => match &mut self.phase {
                Phase::Owning(owner) => owner.session_ended(session, now_ms),
                Phase::Standing(standby) if standby.session == Some(session) => self.lose_owner(net),
                _ => {}
            },
            // The world's own, or overtaken by something newer.
            _ => {}
        }
        self.plan_cut(net);
    }

    fn lose_patience(&mut self, object: u64, net: &mut Net) {
        if let Some(sequence) = &mut self.sequence
            && sequence.stage == Stages::Initialising
            && sequence.producer.as_ref().is_some_and(|producer| producer.object == object)
        {
            sequence.tries += 1;
            self.init(net);
        }
    }

    fn lose_owner(&mut self, net: &mut Net) {
        let Phase::Standing(standby) = &mut self.phase else { return };
        standby.session_ended();
        if self.bug == Bug::SelfPromotion {
            self.promoted_itself = true;
            let Phase::Standing(standby) = std::mem::replace(&mut self.phase, Phase::Deposed) else { return };
            let epoch = standby.epoch;
            self.phase = self.promote(*standby, epoch, net);
        } else {
            net.after_ms((20.0, 60.0), Event::To(self.actor, Input::Dial));
        }
    }

    fn housekeeping(&mut self, net: &mut Net) {
        net.after_ms(HOUSEKEEPING_MS, Event::To(self.actor, Input::Housekeeping));
        if self.reopen_at_us.is_some_and(|at_us| at_us <= net.now_us) {
            self.reopen(net);
        }
        let now_ms = net.now_ms();
        match &mut self.phase {
            Phase::Owning(owner) => {
                if self.producer.is_some() && !self.is_writing {
                    owner.merge.idle_cut(now_ms);
                }
                self.tell(net);
            }
            Phase::Standing(standby) => {
                if let (Some(session), Some(said)) = (standby.session, standby.confirmation()) {
                    net.send_up(session, said);
                }
                self.send_on(net);
            }
            Phase::Opening(_) | Phase::Deposed => {}
        }
    }

    // --- feed ------------------------------------------------------------------------------------------------------

    pub(crate) fn connected(&mut self, socket: u64, net: &mut Net) {
        let id = self.numbering.opened(socket);
        net.say(|| format!("node {}: connected as {id:?}", self.actor.node));
        let now_ms = net.now_ms();
        match &mut self.phase {
            Phase::Standing(standby) => standby.subscribed(id),
            Phase::Opening(opening) => opening.retention.subscribed(id),
            Phase::Owning(owner) => owner.merge.own_subscription(Some(id), now_ms),
            Phase::Deposed => {}
        }
        self.send_on(net);
    }

    pub(crate) fn disconnected(&mut self, net: &mut Net) {
        self.numbering.socket = None;
        let now_ms = net.now_ms();
        match &mut self.phase {
            Phase::Standing(standby) => standby.disconnected(),
            Phase::Opening(opening) => {
                opening.retention.disconnected();
                // `Opening::hole_ms`: nobody is left to match the next connection with.
                net.journal.reports.push(Report::Gap);
            }
            Phase::Owning(owner) => owner.merge.own_subscription(None, now_ms),
            Phase::Deposed => {}
        }
        self.send_on(net);
        net.after_ms((10.0, 120.0), Event::To(self.actor, Input::Connect));
    }

    pub(crate) fn frame(&mut self, fingerprint: Fingerprint, net: &mut Net) {
        self.numbering.last_index += 1;
        let (subscription, index) = (SubscriptionId(self.numbering.id), self.numbering.last_index);
        net.journal.frames.entry(subscription).or_default().push(fingerprint);
        let frame = Frame { subscription, index, fingerprint, bytes: 1, payload: () };
        match &mut self.phase {
            Phase::Standing(standby) => standby.retention.frame(frame),
            Phase::Opening(opening) => opening.retention.frame(frame),
            Phase::Owning(owner) => drop(owner.merge.frame(frame, net.now_ms())),
            Phase::Deposed => {}
        }
        self.send_on(net);
        self.plan_cut(net);
    }

    // --- relay -----------------------------------------------------------------------------------------------------

    /// The owner's end of a new session; `None` where this writer is no owner at that epoch.
    pub(crate) fn accepts(&self, epoch: u64) -> bool {
        matches!(&self.phase, Phase::Owning(owner) if owner.epoch == epoch) && !self.is_draining
    }

    pub(crate) fn standby_connected(&mut self, session: u64, (incarnation, through): (u64, u64), net: &mut Net) {
        if let Phase::Owning(owner) = &mut self.phase {
            if let Some(former) = owner.session() {
                net.end_session(former);
            }
            let welcome = owner.standby_connected(session, incarnation, through);
            net.send_down(session, welcome);
            self.tell(net);
        }
    }

    fn hear_standby(&mut self, session: u64, said: Up, net: &mut Net) {
        let now_ms = net.now_ms();
        let Phase::Owning(owner) = &mut self.phase else { return };
        if owner.session() != Some(session) || self.is_draining {
            return;
        }
        if self.bug == Bug::ReleaseBeforeCommit
            && let Up::Frames { subscription, first_index, fingerprints } = &said
        {
            let record = RecordId::UNKNOWN;
            let indices = (*first_index..).take(fingerprints.len());
            let resolved = indices.map(|index| Resolved { subscription: *subscription, index, record }).collect();
            let subscription = SubscriptionId(0);
            let ack = Ack { subscription, unseen: Vec::new(), resolved, aligned: true, redundant: true };
            let message = ToStandby::Ack(ack);
            net.send_down(session, Down::Merge { number: u64::MAX, committed: owner.offset, message });
        }
        if !owner.heard(said, now_ms) {
            owner.forget_standby();
            net.end_session(session);
        }
    }

    fn hear_owner(&mut self, session: u64, said: Down, net: &mut Net) {
        let Phase::Standing(standby) = &mut self.phase else { return };
        if standby.session != Some(session) {
            return;
        }
        let said = if self.bug == Bug::PrefixAcks { as_prefix(said, &standby.retention) } else { said };
        // [`Bug::ReleaseBeforeCommit`] speaks outside the numbering, [`Bug::OldNumbers`] goes on with it in a new session.
        let keeps_through =
            released_early(&said) || (self.bug == Bug::OldNumbers && matches!(said, Down::Welcome { .. }));
        let through = standby.received_through;
        if standby.heard(said) {
            let renewed = self.numbering.renew(net);
            standby.start_over(renewed);
        }
        if keeps_through {
            standby.received_through = through;
        }
        self.send_on(net);
    }

    fn send_on(&mut self, net: &mut Net) {
        if let Phase::Standing(standby) = &mut self.phase
            && let Some(session) = standby.session
        {
            standby.send().into_iter().for_each(|said| net.send_up(session, said));
        }
    }

    fn tell(&mut self, net: &mut Net) {
        let Phase::Owning(owner) = &mut self.phase else { return };
        let (said, notices) = owner.tell(net.now_ms());
        if let Some(session) = owner.session() {
            said.into_iter().for_each(|said| net.send_down(session, said));
        }
        for notice in notices {
            net.say(|| format!("node {}: {notice:?}", self.actor.node));
            match notice {
                Notice::Aligned { subscription, .. } => drop(net.journal.aligned.insert(subscription)),
                Notice::AlignedByFiat { last_before_ms: Some(_), .. } => net.journal.reports.push(Report::Gap),
                _ => {}
            }
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

fn released_early(said: &Down) -> bool {
    matches!(said, Down::Merge { number: u64::MAX, .. })
}

/// [`Bug::PrefixAcks`]: every retained frame before a resolved one is resolved, too.
fn as_prefix(said: Down, retention: &Retention<()>) -> Down {
    let Down::Merge { number, committed, message: ToStandby::Ack(mut ack) } = said else { return said };
    for resolved in ack.resolved.clone() {
        let before = retention.retained_from(resolved.subscription, 0).map(|frame| frame.index);
        let before = before.filter(|index| *index < resolved.index);
        ack.resolved.extend(before.map(|index| Resolved { index, record: RecordId::UNKNOWN, ..resolved }));
    }
    Down::Merge { number, committed, message: ToStandby::Ack(ack) }
}
