//! The world of a run: the nodes, the channels between them, the topic, the event queue and the faults.

use std::collections::{HashMap, VecDeque};

use twinfeed_dedup::{
    Ack, Fingerprint, Frame, Merge, Notice, Observed, Record, RecordId, Resolved, Retention, Side, SubscriptionId,
    TailRecord, ToStandby,
};

use super::agenda::Agenda;
use super::feed::{Message, make_feed};
use super::prng::Prng;
use super::scenario::{Bug, Scenario};

const SKEW_MS_MAX: f64 = 50.0;
const CHANNEL_MS_MAX: f64 = 5.0;
const COMMIT_EVERY_US: u64 = 10_000;
/// How often a node says that it has shown, or sent, all that it has read.
const CAUGHT_UP_EVERY_US: u64 = 100_000;
/// How long a line may be silent beside a speaking twin until it must have been found: skew, margin and a few messages. One that
/// was aligned out of a broken relay's backlog takes its age, of five seconds at most, for the skew at first.
const FOUND_WITHIN_US: u64 = 8_000_000;
/// Time for everything under way to arrive after the feed's last message.
const AFTERMATH_US: u64 = 6_000_000;

/// What a run came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    /// Records out of the order of their sequences, or of their subscription's frames.
    pub(crate) disordered: u64,
    pub(crate) kills: u32,
    pub(crate) flaps: u32,
    pub(crate) relay_breaks: u32,
    pub(crate) silences: u32,
    /// Silences that were not found in time, and lines that were called behind and were not.
    pub(crate) missed: u32,
    pub(crate) falsely_behind: u32,
}

/// Index into the nodes; a node that dies never comes back.
type NodeId = usize;

#[derive(Debug)]
struct Node {
    alive: bool,
    role: Role,
    subscription: Option<SubscriptionId>,
    index: u64,
    /// Offset of the topic as of the last ack.
    acked_offset: usize,
    /// Number of the last owner message taken in.
    received_through: u64,
}

#[derive(Debug)]
enum Role {
    Owner(Box<Merge<()>>),
    /// Also a standby that has been promoted and has not taken over yet.
    Standby(Box<Retention<()>>),
}

/// What the standby says to the owner, in order.
#[derive(Debug, Clone)]
enum Upward {
    Subscription(Option<SubscriptionId>),
    Frame(Frame<()>),
    /// The answer to a question of the owner's, asked at this time.
    AllSent {
        asked_ms: u64,
    },
}

#[derive(Debug)]
enum Event {
    Receive {
        node: NodeId,
        subscription: SubscriptionId,
        fingerprint: Fingerprint,
    },
    Relayed {
        link: u64,
        said: Upward,
    },
    Told {
        link: u64,
        number: u64,
        offset: usize,
        message: ToStandby,
    },
    CommitTick {
        epoch: u64,
    },
    Committed {
        epoch: u64,
        batch: Vec<Record<()>>,
    },
    Kill,
    Flap,
    Reconnect {
        node: NodeId,
    },
    BreakRelay,
    MendRelay {
        epoch: u64,
    },
    TakeOver {
        epoch: u64,
    },
    Join {
        epoch: u64,
    },
    /// Both nodes say how far they are.
    Look {
        epoch: u64,
    },
    Silence,
    SilenceMustBeFound {
        subscription: SubscriptionId,
    },
}

/// The ordered channel between owner and standby. Breaking it loses what is under way; a new `generation` starts over.
#[derive(Debug, Default)]
struct Link {
    generation: u64,
    is_up: bool,
    upward_free_us: u64,
    downward_free_us: u64,
    last_number: u64,
    /// Owner messages that the standby has not confirmed: (number, topic offset, message).
    unconfirmed: VecDeque<(u64, usize, ToStandby)>,
}

struct World<'a> {
    scenario: &'a Scenario,
    prng: Prng,
    feed: Vec<Message>,
    now_us: u64,
    agenda: Agenda<Event>,
    nodes: Vec<Node>,
    owner: NodeId,
    standby: Option<NodeId>,
    epoch: u64,
    /// The promoted standby has not taken over yet.
    vacant: bool,
    link: Link,
    topic: Vec<TailRecord>,
    in_flight: Option<Vec<Record<()>>>,
    subscriptions: u64,
    covered_from_us: u64,
    /// The subscription that delivers nothing any more.
    silent: Option<SubscriptionId>,
    outcome: Outcome,
}

/// Runs a scenario from a seed and compares the topic with the feed.
pub(crate) fn run(scenario: &Scenario, seed: u64) -> Outcome {
    let mut prng = Prng::new(seed);
    let feed = make_feed(scenario.feed(), &mut prng);
    let end_us = feed.last().map_or(0, |message| message.sent_us) + AFTERMATH_US;
    let mut world = World::new(scenario, prng, feed);
    world.start();
    while let Some((at_us, event)) = world.agenda.pop() {
        if at_us > end_us {
            break;
        }
        world.now_us = at_us;
        world.handle(event);
    }
    world.settle_accounts()
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, prng: Prng, feed: Vec<Message>) -> Self {
        Self {
            scenario,
            prng,
            feed,
            now_us: 0,
            agenda: Agenda::default(),
            nodes: Vec::new(),
            owner: 0,
            standby: None,
            epoch: 1,
            vacant: false,
            link: Link::default(),
            topic: Vec::new(),
            in_flight: None,
            subscriptions: 0,
            covered_from_us: u64::MAX,
            silent: None,
            outcome: Outcome::default(),
        }
    }

    fn start(&mut self) {
        let merge = Merge::new(self.scenario.options.clone(), self.epoch);
        self.owner = self.add_node(Role::Owner(Box::new(merge)));
        self.subscribe(self.owner);
        self.after(COMMIT_EVERY_US, Event::CommitTick { epoch: 1 });
        self.after(CAUGHT_UP_EVERY_US, Event::Look { epoch: 1 });
        if self.scenario.silences > 0 {
            let silence_us = self.prng.between_ms(1_000.0, 4_000.0);
            self.after(silence_us, Event::Silence);
        }
        let join_us = self.prng.between_ms(0.0, 100.0);
        self.after(join_us, Event::Join { epoch: 1 });
        let kill_us = self.prng.between_ms(100.0, 1_500.0);
        self.after(kill_us, Event::Kill);
        if self.scenario.flaps > 0 {
            let flap_us = self.prng.between_ms(100.0, 1_500.0);
            self.after(flap_us, Event::Flap);
        }
        if self.scenario.relay_breaks > 0 {
            let break_us = self.prng.between_ms(100.0, 1_500.0);
            self.after(break_us, Event::BreakRelay);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Receive { node, subscription, fingerprint } => self.receive(node, subscription, fingerprint),
            Event::Relayed { link, said } if link == self.link.generation => self.hear(said),
            Event::Told { link, number, offset, message } if link == self.link.generation => {
                self.tell(number, offset, message);
            }
            Event::CommitTick { epoch } if epoch == self.epoch => self.commit_tick(),
            Event::Committed { epoch, batch } if epoch == self.epoch => self.commit(batch),
            Event::Kill => self.kill(),
            Event::Flap => self.flap(),
            Event::Reconnect { node } => self.subscribe(node),
            Event::BreakRelay => self.break_relay(),
            Event::MendRelay { epoch } if epoch == self.epoch => self.mend_relay(),
            Event::TakeOver { epoch } if epoch == self.epoch => self.take_over(),
            Event::Join { epoch } if epoch == self.epoch => self.join(),
            Event::Look { epoch } if epoch == self.epoch => self.look(),
            Event::Silence => self.fall_silent(),
            Event::SilenceMustBeFound { subscription } => {
                // Once the feed has ended nothing shows that a line is silent.
                let goes_on = self.feed.last().is_some_and(|message| message.sent_us > self.now_us);
                self.outcome.missed += u32::from(goes_on && self.silent == Some(subscription));
            }
            // Of an earlier epoch, or lost with a broken link.
            Event::Relayed { .. }
            | Event::Told { .. }
            | Event::CommitTick { .. }
            | Event::Committed { .. }
            | Event::MendRelay { .. }
            | Event::TakeOver { .. }
            | Event::Look { .. }
            | Event::Join { .. } => {}
        }
    }

    fn now_ms(&self) -> u64 {
        self.now_us / 1_000
    }

    fn after(&mut self, delay_us: u64, event: Event) {
        self.at(self.now_us + delay_us, event);
    }

    fn at(&mut self, at_us: u64, event: Event) {
        self.agenda.enter(at_us, event);
    }

    fn add_node(&mut self, role: Role) -> NodeId {
        let acked_offset = self.topic.len();
        self.nodes.push(Node { alive: true, role, subscription: None, index: 0, acked_offset, received_through: 0 });
        self.nodes.len() - 1
    }

    fn merge(&mut self) -> &mut Merge<()> {
        match &mut self.nodes[self.owner].role {
            Role::Owner(merge) => merge,
            Role::Standby(_) => panic!("the owner has not taken over yet"),
        }
    }

    fn retention(&mut self, node: NodeId) -> &mut Retention<()> {
        match &mut self.nodes[node].role {
            Role::Standby(retention) => retention,
            Role::Owner(_) => panic!("node {node} is the owner"),
        }
    }

    // --- subscriptions -------------------------------------------------------------------------------------------------

    fn subscribe(&mut self, node: NodeId) {
        if !self.nodes[node].alive {
            return;
        }
        self.subscriptions += 1;
        // Random ids: nothing may depend on their order.
        let subscription = SubscriptionId(self.prng.next() | 1);
        (self.nodes[node].subscription, self.nodes[node].index) = (Some(subscription), 0);
        self.schedule_frames(node, subscription);
        let now_ms = self.now_ms();
        match &mut self.nodes[node].role {
            Role::Owner(merge) => {
                merge.own_subscription(Some(subscription), now_ms);
                self.send_messages();
            }
            Role::Standby(retention) => {
                retention.subscribed(subscription);
                self.relay(node, Upward::Subscription(Some(subscription)));
            }
        }
    }

    fn schedule_frames(&mut self, node: NodeId, subscription: SubscriptionId) {
        let delay_us = self.prng.between_ms(1.0, SKEW_MS_MAX);
        let first_us = self.now_us + self.prng.between_ms(5.0, 30.0);
        let mut last_us = self.now_us;
        self.covered_from_us = self.covered_from_us.min(first_us);
        let from = self.feed.partition_point(|message| message.sent_us < first_us);
        for position in from..self.feed.len() {
            let Message { sent_us, fingerprint } = self.feed[position];
            last_us = last_us.max(sent_us + delay_us + self.prng.exponential_ms(3.0));
            let is_late = self.scenario.reorder_ms > 0.0 && self.prng.chance(0.2);
            let late_us = if is_late { self.prng.between_ms(0.0, self.scenario.reorder_ms) } else { 0 };
            self.at(last_us + late_us, Event::Receive { node, subscription, fingerprint });
        }
    }

    fn receive(&mut self, node: NodeId, subscription: SubscriptionId, fingerprint: Fingerprint) {
        let now_ms = self.now_ms();
        let place = &mut self.nodes[node];
        if !place.alive || place.subscription != Some(subscription) || self.silent == Some(subscription) {
            return;
        }
        place.index += 1;
        let frame = Frame { subscription, index: place.index, fingerprint, bytes: 1, payload: () };
        match &mut place.role {
            Role::Owner(merge) => {
                let observed = merge.frame(frame, now_ms);
                assert!(!matches!(observed, Observed::Ignored(_)), "own frame: {observed:?}");
                self.send_messages();
            }
            Role::Standby(retention) => {
                retention.frame(frame.clone());
                self.relay(node, Upward::Frame(frame));
            }
        }
    }

    // --- between owner and standby ----------------------------------------------------------------------------------------

    fn relay(&mut self, node: NodeId, said: Upward) {
        if self.standby != Some(node) || !self.link.is_up {
            return;
        }
        let at_us = self.now_us + self.prng.between_ms(0.5, CHANNEL_MS_MAX);
        self.link.upward_free_us = self.link.upward_free_us.max(at_us);
        self.at(self.link.upward_free_us, Event::Relayed { link: self.link.generation, said });
    }

    fn hear(&mut self, said: Upward) {
        let now_ms = self.now_ms();
        match said {
            Upward::Subscription(subscription) => self.merge().standby_subscription(subscription, now_ms),
            Upward::AllSent { asked_ms } => self.merge().caught_up(Side::Standby, asked_ms),
            Upward::Frame(frame) => {
                if self.scenario.bug == Bug::ReleasedBeforeCommit {
                    self.release(frame.subscription, frame.index);
                }
                let observed = self.merge().frame(frame, now_ms);
                assert!(!matches!(observed, Observed::Ignored(_)), "relayed frame: {observed:?}");
            }
        }
        self.send_messages();
    }

    fn release(&mut self, subscription: SubscriptionId, index: u64) {
        let resolved = vec![Resolved { subscription, index, record: RecordId::UNKNOWN }];
        let nobody = SubscriptionId(0);
        let ack = Ack { subscription: nobody, unseen: Vec::new(), resolved, aligned: true, redundant: true };
        if let Some(standby) = self.standby {
            self.retention(standby).receive(ToStandby::Ack(ack)).expect("an ack has no bytes to misread");
        }
    }

    fn send_messages(&mut self) {
        let offset = self.topic.len();
        for message in self.merge().take_messages() {
            self.link.last_number += 1;
            let number = self.link.last_number;
            self.link.unconfirmed.push_back((number, offset, message.clone()));
            self.send(number, offset, message);
        }
    }

    fn send(&mut self, number: u64, offset: usize, message: ToStandby) {
        if !self.link.is_up {
            return;
        }
        let at_us = self.now_us + self.prng.between_ms(0.5, CHANNEL_MS_MAX);
        self.link.downward_free_us = self.link.downward_free_us.max(at_us);
        self.at(self.link.downward_free_us, Event::Told { link: self.link.generation, number, offset, message });
    }

    fn tell(&mut self, number: u64, offset: usize, message: ToStandby) {
        let Some(standby) = self.standby else { return };
        let message = self.distort(standby, message);
        let node = &mut self.nodes[standby];
        node.received_through = number;
        node.acked_offset = node.acked_offset.max(offset);
        self.retention(standby).receive(message).expect("the channel does not damage bytes");
        self.link.unconfirmed.retain(|(unconfirmed, _, _)| *unconfirmed > number);
    }

    /// Applies the seeded bugs that live in messages.
    fn distort(&mut self, standby: NodeId, message: ToStandby) -> ToStandby {
        let ToStandby::Ack(mut ack) = message else { return message };
        let subscription = self.nodes[standby].subscription;
        match self.scenario.bug {
            Bug::AckWithoutSubscription => ack.subscription = subscription.unwrap_or(ack.subscription),
            Bug::PrefixAcks => {
                let highest: Vec<Resolved> = ack.resolved.clone();
                for resolved in highest {
                    let before = self.retention(standby).retained_from(resolved.subscription, 0);
                    let before: Vec<u64> =
                        before.map(|frame| frame.index).filter(|index| *index < resolved.index).collect();
                    let record = RecordId::UNKNOWN;
                    ack.resolved.extend(before.into_iter().map(|index| Resolved { index, record, ..resolved }));
                }
            }
            _ => {}
        }
        ToStandby::Ack(ack)
    }

    fn break_relay(&mut self) {
        // While the owner's connection is down, too, it would be the second fault at a time.
        let is_allowed = self.standby.is_some()
            && !self.vacant
            && self.silent.is_none()
            && self.link.is_up
            && self.merge().status().own_aligned;
        if !is_allowed {
            self.after(20_000, Event::BreakRelay);
            return;
        }
        self.link.generation += 1;
        self.link.is_up = false;
        self.outcome.relay_breaks += 1;
        let span_ms = self.scenario.options.span_ms as f64;
        let long_ms = if self.prng.chance(0.5) { 100.0 } else { 2.5 * span_ms };
        let broken_us = self.prng.between_ms(5.0, long_ms);
        self.after(broken_us, Event::MendRelay { epoch: self.epoch });
        if self.outcome.relay_breaks < self.scenario.relay_breaks {
            let next_us = self.prng.between_ms(300.0, 2_000.0);
            self.after(broken_us + next_us, Event::BreakRelay);
        }
    }

    /// The standby continues every subscription where the owner expects it; the owner repeats what was not confirmed.
    fn mend_relay(&mut self) {
        let Some(standby) = self.standby else { return };
        self.link.is_up = true;
        let known: HashMap<SubscriptionId, u64> = self.merge().standby_next_indices().collect();
        let connected = self.nodes[standby].subscription;
        let retention = self.retention(standby);
        let (held, current): (Vec<SubscriptionId>, _) = (retention.subscriptions().collect(), retention.subscription());
        let mut says = Vec::new();
        for subscription in held {
            says.push(Upward::Subscription(Some(subscription)));
            let next = known.get(&subscription).copied().unwrap_or(1);
            says.extend(retention.retained_from(subscription, next).cloned().map(Upward::Frame));
        }
        says.push(Upward::Subscription(current));
        if connected.is_none() {
            says.push(Upward::Subscription(None));
        }
        for said in says {
            self.relay(standby, said);
        }
        for (number, offset, message) in self.link.unconfirmed.clone() {
            self.send(number, offset, message);
        }
    }

    // --- silence -----------------------------------------------------------------------------------------------------------

    /// The owner's inbox is empty here between two events; the standby answers by return.
    fn look(&mut self) {
        let now_ms = self.now_ms();
        self.merge().caught_up(Side::Own, now_ms);
        if let Some(standby) = self.standby.filter(|_| self.link.is_up) {
            self.relay(standby, Upward::AllSent { asked_ms: now_ms });
        }
        for notice in self.merge().take_notices() {
            if let Notice::Behind { subscription, side, .. } = notice {
                self.found(subscription, side);
            }
        }
        self.send_messages();
        self.after(CAUGHT_UP_EVERY_US, Event::Look { epoch: self.epoch });
    }

    /// A line is behind: it is connected anew.
    fn found(&mut self, subscription: SubscriptionId, side: Side) {
        if self.silent != Some(subscription) {
            self.outcome.falsely_behind += 1;
            return;
        }
        self.silent = None;
        let node = if side == Side::Own { Some(self.owner) } else { self.standby };
        if let Some(node) = node {
            self.drop_connection(node);
            let down_us = self.prng.between_ms(10.0, 300.0);
            self.after(down_us, Event::Reconnect { node });
        }
        if self.outcome.silences < self.scenario.silences {
            let next_us = self.prng.between_ms(300.0, 2_000.0);
            self.after(next_us, Event::Silence);
        }
    }

    /// One line delivers nothing any more, while everything else is as it should be.
    fn fall_silent(&mut self) {
        let victim = self.standby.filter(|_| !self.vacant && self.link.is_up && self.silent.is_none());
        let is_allowed = victim.is_some() && self.merge().status().own_aligned && self.standby_is_redundant();
        let Some(standby) = victim.filter(|_| is_allowed) else {
            self.after(20_000, Event::Silence);
            return;
        };
        let node = if self.prng.chance(0.5) { self.owner } else { standby };
        self.silent = self.nodes[node].subscription;
        self.outcome.silences += 1;
        if let Some(subscription) = self.silent {
            self.after(FOUND_WITHIN_US, Event::SilenceMustBeFound { subscription });
        }
    }

    // --- the topic ---------------------------------------------------------------------------------------------------------

    fn commit_tick(&mut self) {
        let now_ms = self.now_ms();
        if self.in_flight.is_none() {
            if let Some(batch) = self.merge().cut(now_ms, 10_000, usize::MAX) {
                self.in_flight = Some(batch.clone());
                let lands_us = self.prng.between_ms(1.0, 6.0);
                self.after(lands_us, Event::Committed { epoch: self.epoch, batch });
            } else {
                self.merge().idle_cut(now_ms);
            }
            self.send_messages();
        }
        self.after(COMMIT_EVERY_US, Event::CommitTick { epoch: self.epoch });
    }

    fn land(&mut self, batch: Vec<Record<()>>) {
        self.topic.extend(batch.into_iter().map(|Record { id, fingerprint, subscription, index, .. }| TailRecord {
            id,
            fingerprint,
            subscription,
            index,
            acknowledged: false,
        }));
    }

    fn commit(&mut self, batch: Vec<Record<()>>) {
        self.land(batch);
        self.in_flight = None;
        self.merge().committed();
        self.send_messages();
    }

    // --- faults --------------------------------------------------------------------------------------------------------------

    fn standby_is_redundant(&mut self) -> bool {
        let waits = self.scenario.bug != Bug::NoWaitForRedundant;
        self.standby.is_some_and(|standby| !waits || self.retention(standby).is_redundant())
    }

    fn kill(&mut self) {
        if self.outcome.kills >= self.scenario.kills {
            return;
        }
        // A line that has just fallen silent is a fault, too, until it has been found.
        let is_allowed = !self.vacant && self.silent.is_none() && self.standby_is_redundant();
        let Some(standby) = self.standby.filter(|_| is_allowed) else {
            let again_us = if self.scenario.kills_chase_flaps { 1_000 } else { 20_000 };
            self.after(again_us, Event::Kill);
            return;
        };
        self.nodes[self.owner].alive = false;
        if let Some(batch) = self.in_flight.take()
            && self.prng.chance(0.5)
        {
            self.land(batch);
        }
        self.epoch += 1;
        (self.owner, self.standby, self.vacant) = (standby, None, true);
        self.link = Link { generation: self.link.generation + 1, ..Link::default() };
        self.outcome.kills += 1;
        let noticed_ms = if self.prng.chance(0.5) { 50.0 } else { 1_500.0 };
        let noticed_us = self.prng.between_ms(5.0, noticed_ms);
        self.after(noticed_us, Event::TakeOver { epoch: self.epoch });
        if self.outcome.kills < self.scenario.kills {
            let next_us = self.prng.between_ms(300.0, 2_500.0);
            self.after(next_us, Event::Kill);
        }
    }

    fn take_over(&mut self) {
        let now_ms = self.now_ms();
        let node = &mut self.nodes[self.owner];
        let offset = if self.scenario.bug == Bug::NoTailRead { self.topic.len() } else { node.acked_offset };
        let placeholder = Role::Standby(Box::new(Retention::new(self.scenario.options.clone())));
        let Role::Standby(retention) = std::mem::replace(&mut node.role, placeholder) else {
            panic!("an owner cannot take over");
        };
        let tail = self.topic[offset..].iter().copied();
        let merge = Merge::take_over(self.scenario.options.clone(), self.epoch, *retention, tail, now_ms);
        node.role = Role::Owner(Box::new(merge));
        self.vacant = false;
        self.after(1_000, Event::CommitTick { epoch: self.epoch });
        self.after(CAUGHT_UP_EVERY_US, Event::Look { epoch: self.epoch });
        let join_us = self.prng.between_ms(1.0, 100.0);
        self.after(join_us, Event::Join { epoch: self.epoch });
    }

    fn join(&mut self) {
        let retention = Retention::new(self.scenario.options.clone());
        let node = self.add_node(Role::Standby(Box::new(retention)));
        self.standby = Some(node);
        self.link = Link { generation: self.link.generation + 1, is_up: true, ..Link::default() };
        self.merge().standby_joined();
        self.subscribe(node);
    }

    /// One connection drops: never both, and, unless the scenario is rough, only while both are aligned.
    fn flap(&mut self) {
        let Some(node) = self.choose_victim() else {
            self.after(20_000, Event::Flap);
            return;
        };
        self.outcome.flaps += 1;
        self.drop_connection(node);
        let chased = self.scenario.kills_chase_flaps;
        let down_us = if chased { self.prng.between_ms(0.1, 1.0) } else { self.prng.between_ms(10.0, 300.0) };
        self.after(down_us, Event::Reconnect { node });
        if chased {
            self.after(down_us, Event::Kill);
        }
        if self.outcome.flaps < self.scenario.flaps {
            let next_us = self.prng.between_ms(300.0, 2_000.0);
            self.after(next_us, Event::Flap);
        }
    }

    fn drop_connection(&mut self, node: NodeId) {
        self.nodes[node].subscription = None;
        let now_ms = self.now_ms();
        match &mut self.nodes[node].role {
            Role::Owner(merge) => {
                merge.own_subscription(None, now_ms);
                self.send_messages();
            }
            Role::Standby(retention) => {
                retention.disconnected();
                self.relay(node, Upward::Subscription(None));
            }
        }
    }

    fn choose_victim(&mut self) -> Option<NodeId> {
        let standby = self.standby.filter(|_| !self.vacant && self.silent.is_none())?;
        let own_aligned = self.merge().status().own_aligned;
        let redundant = self.standby_is_redundant();
        if own_aligned && redundant {
            return Some(if self.link.is_up && self.prng.chance(0.5) { self.owner } else { standby });
        }
        // Before the first alignment the standby alone may have seen the feed's first messages: two faults at a time again.
        let rough = self.scenario.flaps_while_joining && self.outcome.flaps + self.outcome.kills > 0;
        if rough && own_aligned && self.nodes[standby].subscription.is_some() {
            return Some(standby);
        }
        let owner_joins = self.nodes[self.owner].subscription.is_some() && !own_aligned;
        (rough && redundant && owner_joins).then_some(self.owner)
    }

    // --- the verdict -------------------------------------------------------------------------------------------------------------

    fn settle_accounts(mut self) -> Outcome {
        let mut balance: HashMap<Fingerprint, i64> = HashMap::new();
        for message in self.feed.iter().filter(|message| message.sent_us >= self.covered_from_us) {
            *balance.entry(message.fingerprint).or_default() += 1;
        }
        for record in &self.topic {
            *balance.entry(record.fingerprint).or_default() -= 1;
        }
        self.outcome.lost = balance.values().filter(|rest| **rest > 0).sum::<i64>().unsigned_abs();
        self.outcome.duplicated = balance.values().filter(|rest| **rest < 0).sum::<i64>().unsigned_abs();
        self.outcome.disordered = self.count_disordered();
        self.outcome
    }

    /// Sequences are dense per epoch, and the records of a subscription are in the order of its frames.
    fn count_disordered(&self) -> u64 {
        let mut sequences: HashMap<u64, u64> = HashMap::new();
        let mut indices: HashMap<SubscriptionId, u64> = HashMap::new();
        let mut disordered = 0;
        for TailRecord { id, subscription, index, .. } in &self.topic {
            let last_sequence = sequences.insert(id.epoch, id.sequence).unwrap_or(0);
            let last_index = indices.insert(*subscription, *index).unwrap_or(0);
            disordered += u64::from(id.sequence != last_sequence + 1 || *index <= last_index);
        }
        disordered
    }
}
