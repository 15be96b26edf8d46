//! The world of a run: three nodes, Kafka, Raft with a leader who may be wrong, a feed, and the faults.
//!
//! It takes events out of the net one by one and hands them to whom they concern; everything that is not a writer is decided here.

use bytes::Bytes;
use twinfeed_dedup::{Fingerprint, FrameKind, Resolved, ToStandby};
use twinfeed_writer::relay::OwnerMessage;

use super::broker::{Broker, Later, Request};
use super::feed::{Message, make_feed};
use super::net::{Actor, Event, Input, Net, NodeId, Session};
use super::node::Node;
use super::plan::{Blow, Bug, Fault, Means, Plan, Step};
use super::prng::Prng;
use super::register::{Assignment, Register};
use super::verdict::{self, Verdict};

const NODES: usize = 3;
const SKEW_MS_MAX: f64 = 20.0;
/// Time for everything under way to arrive after the feed's last message; an owner waits up to ten seconds for a standby that is
/// gone before it stops to count on it.
const AFTERMATH_US: u64 = 13_000_000;
/// No fault falls so shortly before the feed's end: a gap is noticed, and reported, with the first frame after it.
const QUIET_US: u64 = 200_000;
/// How long the leader waits before it looks again.
const LOOKS_MS: (f64, f64) = (80.0, 120.0);

pub(crate) struct World {
    plan: Plan,
    net: Net,
    broker: Broker,
    register: Register,
    nodes: Vec<Node>,
    feed: Vec<Message>,
    payloads: Vec<Bytes>,
    skews_us: [u64; NODES],
    faults_left: u32,
    /// The next marker is forgotten, and Kafka is silent for so long.
    forgets_for_us: Option<u64>,
    covered_from_us: u64,
}

/// Runs the plan of a seed and judges what came of it.
pub(crate) fn run(bug: Bug, seed: u64, is_traced: bool) -> Verdict {
    let mut prng = Prng::new(seed);
    let plan = Plan::draw(bug, &mut prng);
    let feed = make_feed(plan.feed, &mut prng);
    let end_us = feed.last().map_or(0, |message| message.sent_us) + AFTERMATH_US;
    let mut world = World::new(plan, feed, prng, is_traced);
    world.start();
    while let Some(event) = world.net.next(end_us) {
        world.handle(event);
    }
    verdict::judge(&world.plan, &world.broker, &world.net.journal, &world.feed, world.covered_from_us)
}

impl World {
    fn new(plan: Plan, feed: Vec<Message>, mut prng: Prng, is_traced: bool) -> Self {
        let means = Means { bug: plan.bug, options: plan.options.clone(), buffer_bytes_max: 64 << 20 };
        let (feed, payloads) = with_payloads(feed);
        let nodes = (0..NODES).map(|id| Node::new(id, means.clone())).collect();
        let skews_us = [0; NODES].map(|_| prng.between_ms(1.0, SKEW_MS_MAX));
        let feed_ends_us = feed.last().map_or(0, |message| message.sent_us);
        let net = Net::new(prng, (plan.break_rate, plan.relay_messages_max), feed_ends_us, is_traced);
        net.say(|| format!("{plan:?}"));
        Self {
            net,
            broker: Broker::new(plan.epoch_max),
            register: Register::new(0, Some(1)),
            nodes,
            feed,
            payloads,
            skews_us,
            faults_left: plan.faults,
            forgets_for_us: None,
            covered_from_us: u64::MAX,
            plan,
        }
    }

    fn start(&mut self) {
        self.announce(self.register.read());
        self.net.after_ms(LOOKS_MS, Event::LeaderLooks);
        self.net.after_ms((100.0, 300.0), Event::NextFault);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::To(actor, input) => self.deliver(actor, input),
            Event::Arrive { from, id, request } => {
                let (reply, later) = self.broker.handle(id, &request);
                self.net.say(|| format!("kafka: {request:?} -> {reply:?}"));
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
                let now = self.register.read();
                let holds = !self.net.prng.chance(0.02);
                let holds = holds.then_some((now.owner, now.epoch) == (by.node, epoch));
                self.net.after_ms((0.3, 4.0), Event::To(by, Input::Confirmed { opening, holds }));
            }
            Event::Apply(node, assignment) => {
                if let Some(thaws_us) = self.frozen_until(node) {
                    // A zombie goes on at once; what it missed reaches it later.
                    let late_us = self.net.prng.between_ms(0.0, 80.0);
                    return self.net.at(thaws_us + late_us, Event::Apply(node, assignment));
                }
                self.nodes[node].apply(assignment, &mut self.net);
            }
            Event::EndSession(session) => self.net.end_session(session),
            Event::Restart(node) => self.restart(node),
            Event::Strike(node, blow) => self.strike(node, blow),
            Event::Recognise(node) => self.nodes[node].suspected = false,
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
            Input::Down { session, said } => {
                self.check_release(actor, said);
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
                    net.reach(actor.node, Step::EndTxnSent);
                }
            }
            Input::MeasureTail { opening } => {
                let end = self.broker.stable_offset();
                match writer.tail_start(opening, end) {
                    Some(from) => net.after_ms((0.5, 20.0), Event::To(actor, Input::ReadTail { opening, from })),
                    None => writer.handle(Input::Tail { opening, records: Vec::new(), next_offset: end }, net),
                }
            }
            Input::ReadTail { opening, from } => {
                let records = self.broker.committed_from(from).copied().collect();
                let next_offset = self.broker.stable_offset();
                writer.handle(Input::Tail { opening, records, next_offset }, net);
            }
            Input::Connect => self.connect(actor),
            Input::Frame { socket, position } => self.frame(actor, socket, position),
            Input::LateFrame { socket, position } if writer.socket() == Some(socket) => {
                writer.frame(self.payloads[position].clone(), net);
            }
            Input::LateFrame { .. } => {}
            Input::Dial => self.dial(actor),
            other => writer.handle(other, net),
        }
        self.nodes[actor.node].after_input(&mut self.net);
    }

    /// I8: a frame may be let go of only when its content is committed in the topic. A subscription that never aligned promises
    /// nothing: the stream is at risk until the next one has, and a takeover meanwhile is reported.
    fn check_release(&mut self, actor: Actor, said: &OwnerMessage) {
        let OwnerMessage::Merge { message: ToStandby::Ack(ack), .. } = said else { return };
        let aligned = &self.net.journal.aligned;
        let promised = |resolved: &&Resolved| resolved.index > 0 && aligned.contains(&resolved.subscription);
        for resolved in ack.resolved.iter().filter(promised).copied().collect::<Vec<Resolved>>() {
            let frames = self.net.journal.frames.get(&resolved.subscription);
            let Some(fingerprint) = frames.and_then(|frames| frames.get(&resolved.index)) else { continue };
            if !self.broker.holds(resolved.record, *fingerprint) {
                self.net.say(|| format!("I8: {actor:?} is told to release {resolved:?}"));
                let (count, first) = &mut self.net.journal.released_early;
                *count += 1;
                first.get_or_insert(resolved);
            }
        }
    }

    fn connect(&mut self, actor: Actor) {
        let socket = self.net.prng.next() | 1;
        let first_us = self.net.now_us;
        self.covered_from_us = self.covered_from_us.min(first_us);
        let position = self.feed.partition_point(|message| message.sent_us < first_us);
        if let Some(writer) = self.nodes[actor.node].writer_of(actor)
            && writer.socket().is_none()
        {
            writer.connected(socket, &mut self.net);
            self.plan_frame(actor, socket, position);
        }
    }

    /// Frames of one connection arrive in order, unless the run reorders them.
    fn plan_frame(&mut self, actor: Actor, socket: u64, position: usize) {
        let Some(message) = self.feed.get(position) else { return };
        let jitter_us = self.net.prng.exponential_ms(1.0);
        let at_us = (message.sent_us + self.skews_us[actor.node] + jitter_us).max(self.net.now_us);
        self.net.at(at_us, Event::To(actor, Input::Frame { socket, position }));
    }

    fn frame(&mut self, actor: Actor, socket: u64, position: usize) {
        let is_late = self.plan.reorder_ms > 0.0 && self.net.prng.chance(0.2);
        let Some(writer) = self.nodes[actor.node].writer_of(actor) else { return };
        if writer.socket() != Some(socket) {
            return;
        }
        if is_late {
            let late_ms = (0.0, self.plan.reorder_ms);
            self.net.after_ms(late_ms, Event::To(actor, Input::LateFrame { socket, position }));
        } else {
            writer.frame(self.payloads[position].clone(), &mut self.net);
        }
        self.plan_frame(actor, socket, position + 1);
    }

    /// A standby dials the owner it knows; refused, it tries again.
    fn dial(&mut self, actor: Actor) {
        let Some(seen) = self.nodes[actor.node].seen else { return };
        let Some(epoch) = self.nodes[actor.node].writer_of(actor).and_then(|writer| writer.dials()) else { return };
        let is_reachable = self.frozen_until(seen.owner).is_none();
        let owner = &mut self.nodes[seen.owner];
        let is_expected = is_reachable && owner.registered_standby() == Some(actor.node);
        let accepts = owner.writer().filter(|writer| is_expected && writer.welcomes_standby(epoch));
        let Some(owner) = accepts.map(|writer| writer.actor) else {
            return self.net.after_ms((10.0, 40.0), Event::To(actor, Input::Dial));
        };
        let session = self.net.open_session(owner, actor);
        if let Some(writer) = self.nodes[actor.node].writer_of(actor) {
            writer.owner_connected(session, &mut self.net);
        }
    }

    // --- the leader ------------------------------------------------------------------------------------------------

    fn announce(&mut self, assignment: Assignment) {
        self.net.say(|| format!("raft: {assignment:?}"));
        for node in 0..NODES {
            self.net.after_ms((0.5, 20.0), Event::Apply(node, assignment));
        }
    }

    fn assign(&mut self, owner: NodeId, standby: Option<NodeId>) {
        let assignment = self.register.assign(owner, standby);
        self.announce(assignment);
    }

    fn works(&self, node: NodeId) -> bool {
        self.nodes[node].up && !self.nodes[node].suspected
    }

    /// A standby for this owner; `last` is taken only when no other can.
    fn pick_standby(&mut self, owner: NodeId, last: NodeId) -> Option<NodeId> {
        let offset = self.net.prng.below(NODES);
        let mut free = (0..NODES).map(|n| (n + offset) % NODES).filter(|n| *n != owner && self.works(*n));
        let first = free.next()?;
        if first == last { free.next().or(Some(first)) } else { Some(first) }
    }

    /// `control::solve` and `restarted_owners` for one writer.
    fn leader_looks(&mut self) {
        self.net.after_ms(LOOKS_MS, Event::LeaderLooks);
        let Assignment { owner, standby, .. } = self.register.read();
        let able = standby.filter(|standby| self.works(*standby));
        let needs_epoch = self.nodes[owner].needs_epoch();
        if self.works(owner) && !needs_epoch {
            if able.is_none() {
                let standby = self.pick_standby(owner, owner);
                if standby.is_some() {
                    self.assign(owner, standby);
                }
            }
        } else if let Some(promoted) = able {
            let standby = self.pick_standby(promoted, owner);
            self.assign(promoted, standby);
        } else if self.works(owner) {
            let assignment = self.register.new_epoch();
            self.announce(assignment);
        } else if let Some(other) = (0..NODES).find(|node| self.works(*node)) {
            let standby = self.pick_standby(other, owner);
            self.assign(other, standby);
        }
    }

    // --- faults ----------------------------------------------------------------------------------------------------

    /// Owner and standby do their work, and the standby could take over without a loss.
    fn is_whole(&mut self) -> bool {
        let now = self.register.read();
        let Some(standby) = now.standby else { return false };
        let is_ready = |node: &Node, now_us| {
            node.up && !node.suspected && node.frozen_until_us <= now_us && node.seen == Some(now)
        };
        let now_us = self.net.now_us;
        let are_ready = is_ready(&self.nodes[now.owner], now_us) && is_ready(&self.nodes[standby], now_us);
        are_ready
            && self.net.ambush.is_none()
            && self.forgets_for_us.is_none()
            && self.net.kafka_answers_from_us <= now_us
            && self.nodes[now.owner].writer().is_some_and(|writer| writer.owns(now.epoch))
            && self.nodes[standby].writer().is_some_and(|writer| writer.stands_redundant(now.epoch))
    }

    fn next_fault(&mut self) {
        let feed_ends_us = self.feed.last().map_or(0, |message| message.sent_us);
        if self.faults_left == 0 || self.net.now_us + QUIET_US > feed_ends_us {
            return;
        }
        let may_fall = if self.plan.rough && self.net.journal.faults > 0 {
            self.net.prng.chance(0.3)
        } else {
            // Before the first alignment the standby alone may have the feed's first messages.
            self.is_whole()
        };
        if !may_fall {
            return self.net.after_ms((5.0, 15.0), Event::NextFault);
        }
        self.faults_left -= 1;
        self.net.journal.faults += 1;
        let fault = self.plan.draw_fault(&mut self.net.prng);
        self.net.say(|| format!("fault: {fault:?}"));
        self.inflict(fault);
        self.net.after_ms((20.0, 300.0), Event::NextFault);
    }

    fn inflict(&mut self, fault: Fault) {
        let Assignment { owner, standby, .. } = self.register.read();
        match fault {
            Fault::StrikeOwner(blow) => self.strike(owner, blow),
            Fault::StrikeStandby(blow) => standby.into_iter().for_each(|standby| self.strike(standby, blow)),
            Fault::Promote => self.promote(),
            Fault::ReplaceStandby => {
                let last = standby.unwrap_or(owner);
                let other = self.pick_standby(owner, last);
                self.assign(owner, other);
            }
            Fault::FlapOwner => self.flap(owner),
            Fault::FlapStandby => standby.into_iter().for_each(|standby| self.flap(standby)),
            Fault::BreakRelay => {
                let sessions: Vec<u64> = self.net.sessions.keys().copied().collect();
                sessions.into_iter().for_each(|session| self.net.end_session(session));
            }
            Fault::ForgetStandby => self.forget_standby(owner),
            Fault::StallKafka { lasts_us } => self.net.kafka_answers_from_us = self.net.now_us + lasts_us,
            Fault::ForgetMarker { lasts_us, blow } => {
                self.forgets_for_us = Some(lasts_us);
                self.net.ambush = blow.map(|(step, blow)| (Some(owner), step, blow));
            }
            Fault::Ambush(step, blow) => self.net.ambush = Some((Some(owner), step, blow)),
            Fault::AmbushOpening(step, blow) => {
                self.net.ambush = Some((standby, step, blow));
                self.promote();
            }
        }
    }

    fn promote(&mut self) {
        let Assignment { owner, standby, .. } = self.register.read();
        if let Some(promoted) = standby.filter(|standby| self.works(*standby)) {
            let standby = self.pick_standby(promoted, promoted);
            self.assign(promoted, standby.or(Some(owner).filter(|owner| self.works(*owner))));
        }
    }

    fn forget_standby(&mut self, owner: NodeId) {
        if self.frozen_until(owner).is_none()
            && let Some(writer) = self.nodes[owner].writer()
        {
            writer.forget_standby(&mut self.net);
        }
    }

    fn flap(&mut self, node: NodeId) {
        if self.frozen_until(node).is_none()
            && let Some(writer) = self.nodes[node].writer().filter(|writer| writer.socket().is_some())
        {
            writer.disconnected(&mut self.net);
        }
    }

    fn strike(&mut self, node: NodeId, blow: Blow) {
        // What waits for a thaw keeps its order only if the thaw is not put off.
        if !self.nodes[node].up || (blow != Blow::Crash && self.frozen_until(node).is_some()) {
            return;
        }
        self.net.say(|| format!("node {node}: {blow:?}"));
        match blow {
            Blow::Crash => {
                self.nodes[node].crash();
                let ends = |session: &Session| session.owner.node == node || session.standby.node == node;
                let sessions = self.net.sessions.iter().filter(|(_, session)| ends(session));
                let broken: Vec<u64> = sessions.map(|(number, _)| *number).collect();
                // What its kernel has sent still arrives, up to a point.
                broken.into_iter().for_each(|session| self.net.after_ms((0.0, 3.0), Event::EndSession(session)));
                self.net.after_ms((30.0, 800.0), Event::Restart(node));
            }
            Blow::Pause { lasts_us, noticed } => {
                let thaws_us = self.net.now_us + lasts_us;
                self.nodes[node].frozen_until_us = thaws_us;
                if noticed {
                    self.nodes[node].suspected = true;
                    self.net.at(thaws_us + 20_000, Event::Recognise(node));
                }
            }
        }
    }

    fn restart(&mut self, node: NodeId) {
        let now = self.register.read();
        self.nodes[node].up = true;
        self.nodes[node].frozen_until_us = 0;
        self.nodes[node].memory_starts_at = now.index;
        self.net.after_ms((1.0, 20.0), Event::Apply(node, now));
    }
}

/// The writer recognises a frame by its payload, so each message gets one, and the fingerprint that follows from it.
fn with_payloads(feed: Vec<Message>) -> (Vec<Message>, Vec<Bytes>) {
    let payload = |message: &Message| Bytes::copy_from_slice(&message.fingerprint.as_u128().to_be_bytes());
    let payloads: Vec<Bytes> = feed.iter().map(payload).collect();
    let named = |(message, payload): (Message, &Bytes)| Message {
        fingerprint: Fingerprint::of(FrameKind::Text, payload),
        ..message
    };
    (feed.into_iter().zip(&payloads).map(named).collect(), payloads)
}
