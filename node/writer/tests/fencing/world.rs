//! The world of a run: three nodes, Kafka, Raft with a leader who may be wrong, the feeds, and the faults.
//!
//! It takes events out of the net one by one and hands them to whom they concern; everything that is not a writer is decided here.

mod faults;
mod leader;
mod lines;

use twinfeed_dedup::{Resolved, ToStandby};
use twinfeed_writer::relay::OwnerMessage;

use super::broker::{Broker, Later, Request};
use super::bug::Bug;
use super::net::{Actor, Ends, Event, Input, Net, NodeId, StreamNo};
use super::node::Node;
use super::plan::{Means, NODES, Plan, Step};
use super::prng::Prng;
use super::register::Register;
use super::stream::Stream;
use super::verdict::{self, Verdict};
use super::writer::{identity, opening::HIDDEN_MAX_US};
use leader::LOOKS_MS;

/// Time for everything under way to arrive after the feeds' last message; an owner waits up to ten seconds for a standby that is
/// gone before it stops to count on it.
const AFTERMATH_US: u64 = 13_000_000;

pub(crate) struct World {
    plan: Plan,
    net: Net,
    broker: Broker,
    register: Register,
    nodes: Vec<Node>,
    streams: Vec<Stream>,
    faults: u32,
    faults_left: u32,
    /// The next marker is forgotten, and Kafka is silent for so long.
    forgets_for_us: Option<u64>,
}

/// Runs the plan of a seed and judges what came of it.
pub(crate) fn run(bug: Bug, seed: u64, is_traced: bool) -> Verdict {
    let mut prng = Prng::new(seed);
    let plan = Plan::draw(bug, &mut prng);
    let streams = Stream::draw_all(&plan, &mut prng);
    let mut world = World::new(plan, streams, prng, is_traced);
    let end_us = world.feeds_end_us() + AFTERMATH_US;
    world.start();
    while let Some(event) = world.net.next(end_us) {
        world.handle(event);
    }
    verdict::judge(&world.plan, &world.broker, (world.net.journals(), &world.streams), world.faults)
}

impl World {
    fn new(plan: Plan, streams: Vec<Stream>, mut prng: Prng, is_traced: bool) -> Self {
        let means = |pace| Means { bug: plan.bug, options: plan.options.clone(), buffer_bytes_max: 64 << 20, pace };
        let nodes = (0..NODES).map(|id| Node::new(id, plan.writers.len(), &means(plan.paces[id]))).collect();
        let first = |writer: usize| {
            let owner = if plan.is_spread { writer % NODES } else { 0 };
            (owner, (owner + 1 + prng.below(NODES - 1)) % NODES)
        };
        let first: Vec<_> = (0..plan.writers.len()).map(first).collect();
        let present =
            |streams: &Vec<_>| streams.iter().copied().filter(|stream| plan.is_there_first(*stream)).collect();
        let register = Register::new(first.into_iter(), plan.writers.iter().map(present).collect());
        let feeds_end_us = streams.iter().map(Stream::ends_us).max().unwrap_or(0);
        let net = Net::new(prng, plan.manners, streams.len(), (feeds_end_us, is_traced));
        net.say(|| format!("{plan:?}"));
        Self {
            net,
            broker: Broker::new(plan.epoch_max),
            register,
            nodes,
            streams,
            faults: 0,
            faults_left: plan.faults,
            forgets_for_us: None,
            plan,
        }
    }

    fn feeds_end_us(&self) -> u64 {
        self.streams.iter().map(Stream::ends_us).max().unwrap_or(0)
    }

    fn start(&mut self) {
        (0..self.plan.writers.len()).for_each(|writer| self.announce(writer, self.register.read(writer)));
        self.net.after_ms(LOOKS_MS, Event::LeaderLooks);
        self.net.after_ms((100.0, 300.0), Event::NextFault);
        for (at_us, stream) in self.plan.turns() {
            self.net.at(at_us, Event::Turn(stream));
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::To(actor, input) => self.deliver(actor, input),
            Event::Arrive { from, id, request } => {
                let (reply, later) = self.broker.handle(id, &request);
                self.net.say(|| format!("kafka: {id}: {request:?} -> {reply:?}"));
                if let Some(later) = later {
                    self.act_later(later);
                }
                if let Some((actor, object, attempt)) = from {
                    self.net.after_ms((0.2, 1.5), Event::To(actor, Input::Reply { object, attempt, reply }));
                }
            }
            Event::Broker(Later::WriteMarkers(id)) if self.forgets_for_us.is_some() => {
                let lasts_us = self.forgets_for_us.take().unwrap_or(0);
                self.net.say(|| "kafka: forgets a marker".to_owned());
                self.broker.forget_markers(id);
                self.net.kafka_answers_from_us = self.net.now_us + lasts_us;
            }
            Event::Broker(later) => {
                if let Some(later) = self.broker.act(later) {
                    self.act_later(later);
                }
            }
            Event::ReadAssignment { by, opening, epoch } => {
                let now = self.register.read(by.writer);
                let holds = !self.net.prng.chance(0.02);
                let holds = holds.then_some((now.owner, now.epoch) == (by.node, epoch));
                self.net.after_ms((0.3, 4.0), Event::To(by, Input::Confirmed { opening, holds }));
            }
            Event::Turn(stream) => self.turn(stream),
            Event::Apply(node, writer, assignment, streams) => {
                if let Some(thaws_us) = self.frozen_until(node) {
                    // A zombie goes on at once; what it missed reaches it later.
                    let late_us = self.net.prng.between_ms(0.0, 80.0);
                    return self.net.at(thaws_us + late_us, Event::Apply(node, writer, assignment, streams));
                }
                self.nodes[node].apply(writer, (assignment, streams), &mut self.net);
            }
            Event::EndSession(session) => self.net.end_session(session),
            Event::Restart(node) => self.restart(node),
            Event::Strike(node, blow) => self.strike(node, blow),
            Event::Recognise(node) => self.nodes[node].suspected = false,
            Event::Relieve(stream) => self.relieve(stream),
            Event::LeaderLooks => self.leader_looks(),
            Event::NextFault => self.next_fault(),
        }
    }

    fn act_later(&mut self, later: Later) {
        let delay_ms = match later {
            Later::WriteMarkers(_) => (0.2, 3.0),
            Later::Expire(..) => {
                let expires_ms = self.plan.expires_us as f64 / 1_000.0;
                (expires_ms, expires_ms + 10.0)
            }
        };
        self.net.after_ms(delay_ms, Event::Broker(later));
    }

    fn frozen_until(&self, node: NodeId) -> Option<u64> {
        Some(self.nodes[node].frozen_until_us).filter(|until_us| *until_us > self.net.now_us)
    }

    // --- what reaches a writer -------------------------------------------------------------------------------------

    fn deliver(&mut self, actor: Actor, input: Input) {
        if let Some(thaws_us) = self.frozen_until(actor.node) {
            return self.net.at(thaws_us, Event::To(actor, input));
        }
        if let Input::Up { session, .. } | Input::Down { session, .. } = &input
            && !self.net.sessions.contains_key(session)
        {
            return;
        }
        match &input {
            Input::Down { session, stream, said } => {
                self.check_release(actor, *stream, said);
                self.net.taken(*session, false);
            }
            Input::Up { session, .. } => self.net.taken(*session, true),
            _ => {}
        }
        let net = &mut self.net;
        let Some(writer) = self.nodes[actor.node].writer_of(actor) else { return };
        match input {
            Input::Depart { id, object, attempt, request } => {
                let is_commit = matches!(request, Request::EndTxn { commit: true, .. });
                net.route(actor, id, (object, attempt), request);
                if is_commit {
                    net.reach(actor, Step::EndTxnSent);
                }
            }
            Input::MeasureTail { opening, until } => self.measure_tail(actor, opening, until),
            Input::ReadTail { opening, from } => {
                let records = self.broker.read_from(from).map(|(offset, stamped)| (offset, *stamped)).collect();
                let ends = self.ends(actor);
                self.tell_tail(actor, Input::Tail { opening, records, ends });
            }
            Input::Connect { stream } => self.connect(actor, stream),
            Input::Frame { stream, socket, position } => self.frame((actor, stream), socket, position),
            Input::LateFrame { stream, socket, position } if writer.socket(stream) == Some(socket) => {
                writer.frame(stream, self.streams[stream].payloads[position].clone(), net);
            }
            Input::LateFrame { .. } => {}
            Input::Dial => self.dial(actor),
            other => writer.handle(other, net),
        }
        self.nodes[actor.node].members[actor.writer].after_input(&mut self.net);
    }

    /// Where the tail ends; behind transactions of other streams nothing can be read, so it waits for them.
    fn measure_tail(&mut self, actor: Actor, opening: u64, until: Option<(usize, u64)>) {
        let now_us = self.net.now_us;
        let (end, since_us) = until.unwrap_or((self.broker.end_offset(), now_us));
        let stable = self.broker.stable_offset();
        let Some(writer) = self.nodes[actor.node].writer_of(actor) else { return };
        if stable < end && writer.waits_for_others() {
            if now_us - since_us >= HIDDEN_MAX_US {
                return self.tell_tail(actor, Input::TailHidden { opening });
            }
            let again = Input::MeasureTail { opening, until: Some((end, since_us)) };
            return self.net.after_ms((1.0, 20.0), Event::To(actor, again));
        }
        match writer.tail_start(opening, stable) {
            Some(from) => self.net.after_ms((0.5, 20.0), Event::To(actor, Input::ReadTail { opening, from })),
            None => {
                let ends = self.ends(actor);
                self.tell_tail(actor, Input::Tail { opening, records: Vec::new(), ends });
            }
        }
    }

    fn ends(&self, actor: Actor) -> Ends {
        let is_of = |of: u64, stream| of == identity(stream) || self.plan.bug == Bug::MixedStreams;
        let has_written = |stream: &StreamNo| self.broker.committed_from(0).any(|found| is_of(found.stream, *stream));
        let written = self.plan.writers[actor.writer].iter().copied().filter(has_written).collect();
        Ends { next_offset: self.broker.stable_offset(), written }
    }

    fn tell_tail(&mut self, actor: Actor, told: Input) {
        if let Some(writer) = self.nodes[actor.node].writer_of(actor) {
            writer.handle(told, &mut self.net);
        }
    }

    /// I8: a frame may be let go of only when its content is committed in the topic. A subscription that never aligned promises
    /// nothing: the stream is at risk until the next one has, and a takeover meanwhile is reported.
    fn check_release(&mut self, actor: Actor, stream: StreamNo, said: &OwnerMessage) {
        let OwnerMessage::Merge { message: ToStandby::Ack(ack), .. } = said else { return };
        let journal = self.net.journal(stream);
        let mut early = Vec::new();
        for resolved in ack.resolved.iter().filter(|resolved| resolved.index > 0) {
            let frames = journal.frames.get(&resolved.subscription);
            let Some(fingerprint) = frames.and_then(|frames| frames.get(&resolved.index)) else { continue };
            if journal.aligned.contains(&resolved.subscription)
                && !self.broker.holds(identity(stream), resolved.record, *fingerprint)
            {
                early.push(*resolved);
            }
        }
        let (count, first) = &mut journal.released_early;
        *count += early.len() as u64;
        *first = first.or(early.first().copied());
        early
            .iter()
            .for_each(|resolved: &Resolved| self.net.say(|| format!("I8: {actor} is told to release {resolved:?}")));
    }
}
