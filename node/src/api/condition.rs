//! How a connector really is, judged from what was decided and what the nodes last reported: its state, one line on
//! what is wrong, what is not lost and what happens next, and whether a second fault would lose data. Pure.

use std::sync::Arc;

use twinfeed_proto::admin::ConnectorState;

use crate::{
    control::State,
    model::{
        connector::{Assignment, Connector, Redundancy, TargetState},
        ids::NodeId,
        report::{ClusterView, NodeView, Role, WriterReport},
        spec::ConnectorSpec,
    },
    raft::{RaftHandle, RaftStatus},
    telemetry::StateLabel,
};

/// What a server says to everybody who connects: so many messages, on both subscriptions together, and within this time.
const GREETINGS_MAX: u64 = 2;
const GREETING_MS_MAX: u64 = 500;
/// Two subscriptions that were connected a moment ago have had no time to be matched.
const UNMATCHED_SHOWN_MS_MIN: u64 = 30_000;
/// A shorter wait for Kafka is no news.
pub(super) const STALL_SHOWN_MS_MIN: u64 = 2_000;

/// Everything one answer is made from, taken at one moment.
pub(super) struct Scene {
    pub(super) state: Arc<State>,
    pub(super) view: ClusterView,
    pub(super) raft: RaftStatus,
}

/// One connector as judged.
pub(super) struct Condition<'a> {
    pub(super) state: ConnectorState,
    /// Empty when all is well.
    pub(super) message: String,
    /// Worth knowing, though nothing is wrong.
    pub(super) note: String,
    pub(super) at_risk: bool,
    /// Both subscriptions are connected and nothing has come yet: there is nothing that a fault could lose.
    pub(super) idle: bool,
    pub(super) redundancy: Redundancy,
    pub(super) assignment: Option<&'a Assignment>,
    /// The owner's report under the present epoch.
    pub(super) owner: Option<&'a WriterReport>,
    /// The standby's report under the present epoch.
    pub(super) standby: Option<&'a WriterReport>,
    /// Of the stored configuration.
    revision: u64,
}

impl Scene {
    /// The node's name, or its id where it is a member no more.
    pub(super) fn node_name(&self, id: NodeId) -> String {
        self.state.nodes().get(&id).map_or_else(|| format!("node {id}"), |node| node.name.clone())
    }

    /// What the leader knows of a node.
    pub(super) fn node(&self, id: NodeId) -> Option<&NodeView> {
        self.view.nodes.get(&id)
    }

    /// True unless the leader says that the node is down: before its first word, nothing is known.
    pub(super) fn may_be_up(&self, id: NodeId) -> bool {
        self.node(id).is_none_or(|node| node.up)
    }

    fn report(&self, connector: &Connector, id: NodeId, role: Role, now: &Assignment) -> Option<&WriterReport> {
        let report = self.node(id).filter(|node| node.up)?.report.writers.get(&connector.writer.0)?;
        report.is_of(role, now.epoch).then_some(report)
    }
}

impl<'a> Condition<'a> {
    /// Judges one connector.
    pub(super) fn of(scene: &'a Scene, connector: &Connector) -> Self {
        let assignment = scene.state.writers().get(&connector.writer).and_then(|writer| writer.assignment.as_ref());
        let spec = ConnectorSpec::parse(&connector.name, &connector.config);
        let mut condition = Self {
            state: ConnectorState::Unspecified,
            message: String::new(),
            note: String::new(),
            at_risk: false,
            idle: false,
            redundancy: spec.as_ref().map_or(Redundancy::Dual, |(spec, _)| spec.redundancy),
            assignment,
            owner: assignment.and_then(|now| scene.report(connector, now.owner, Role::Owner, now)),
            standby: assignment.and_then(|now| scene.report(connector, now.standby?, Role::Standby, now)),
            revision: connector.revision,
        };
        (condition.state, condition.message) = match (connector.target, spec, assignment) {
            (TargetState::Paused, ..) => (ConnectorState::Paused, String::new()),
            (TargetState::Stopped, ..) => (ConnectorState::Stopped, String::new()),
            (TargetState::Running, Err(errors), _) => {
                let first = errors.first().map(|error| error.message.as_str()).unwrap_or_default();
                (ConnectorState::Failed, format!("its configuration is not valid any more: {first}"))
            }
            (TargetState::Running, Ok(_), None) => unassigned(scene),
            (TargetState::Running, Ok(_), Some(now)) => condition.assigned(scene, connector, now),
        };
        if connector.target == TargetState::Running && condition.redundancy == Redundancy::Dual {
            condition.idle = condition.is_idle();
            condition.at_risk = !condition.redundant() && !condition.idle;
        }
        if condition.state == ConnectorState::Running {
            condition.note = condition.remark(scene, connector);
        }
        condition
    }

    /// Both subscriptions connected under the stored configuration, matched to each other, and a commit cut made since.
    fn redundant(&self) -> bool {
        self.owner.is_some_and(|owner| owner.delivering && owner.covered && self.is_sound(owner))
            && self.standby.is_some_and(|standby| self.is_sound(standby))
    }

    fn is_sound(&self, report: &WriterReport) -> bool {
        report.subscription.connected && !report.is_older_than(self.revision)
    }

    fn is_idle(&self) -> bool {
        self.owner.is_some_and(|owner| owner.delivering && owner.lines.idle && self.is_sound(owner))
            && self.standby.is_some_and(|standby| self.is_sound(standby))
    }

    /// More has come than what a server says to everybody who connects: three messages, or one that came later than a greeting.
    pub(super) fn has_data(&self) -> bool {
        let spoke_later = |report: &WriterReport| {
            let subscription = &report.subscription;
            subscription.last_message_ms > subscription.connected_since_ms + GREETING_MS_MAX
        };
        let received: u64 = self.owner.map_or(0, |owner| owner.frames_received);
        received > GREETINGS_MAX || [self.owner, self.standby].into_iter().flatten().any(spoke_later)
    }

    /// What is worth knowing of a stream that runs.
    fn remark(&self, scene: &Scene, connector: &Connector) -> String {
        let Some((owner, now)) = self.owner.zip(self.assignment) else { return String::new() };
        let subscription = &owner.subscription;
        if self.idle {
            return "idle: both subscriptions are connected, nothing has come to compare yet".to_owned();
        }
        if subscription.connected && !self.has_data() {
            let said = if owner.frames_received == 0 { "nothing" } else { "nothing but a greeting" };
            return format!("{said} has come since it connected: is the subscription message right?");
        }
        let (own, standby) = (owner.lines.part(owner.lines.own_alone), owner.lines.part(owner.lines.standby_alone));
        if own + standby > 0.0 && self.standby.is_some() {
            let secondary = now.standby.map_or_else(|| "the standby".to_owned(), |id| scene.node_name(id));
            return format!(
                "of the last minute's messages the line of {} alone has {:.1} %, that of {secondary} {:.1} %: losing it would cost \
                 as much; see: wsctl connector compare {}",
                scene.node_name(now.owner),
                own * 100.0,
                standby * 100.0,
                connector.name,
            );
        }
        String::new()
    }

    fn assigned(&self, scene: &Scene, connector: &Connector, now: &Assignment) -> (ConnectorState, String) {
        let owner_name = scene.node_name(now.owner);
        if !scene.may_be_up(now.owner) {
            return match now.standby.filter(|standby| scene.may_be_up(*standby)) {
                Some(standby) => {
                    let standby_name = scene.node_name(standby);
                    let text = if self.standby.is_none_or(|report| report.redundant) {
                        format!("owner {owner_name} does not answer; {standby_name} takes over")
                    } else {
                        format!(
                            "owner {owner_name} does not answer; {standby_name} lacks what it alone had and takes over \
                             if it stays away"
                        )
                    };
                    (ConnectorState::Starting, text)
                }
                None => {
                    let text = format!(
                        "owner {owner_name} does not answer and no standby is up; it goes on when a node is back"
                    );
                    (ConnectorState::Unassigned, text)
                }
            };
        }
        let Some(owner) = self.owner else {
            return (ConnectorState::Starting, format!("{owner_name} is starting it"));
        };
        if let Some(why) = &owner.failed {
            let command = format!("wsctl connector restart {}", connector.name);
            return (ConnectorState::Failed, format!("{why}; correct the cause, then: {command}"));
        }
        if !owner.delivering {
            let why = owner.trouble.clone().unwrap_or_else(|| "it waits for Kafka to open its producer".to_owned());
            let held_back = self.held_back(connector, owner);
            let text = format!("{owner_name} cannot deliver yet: {why}; it goes on trying{held_back}");
            return (ConnectorState::Starting, text);
        }
        let connected = |report: Option<&WriterReport>| report.is_some_and(|report| report.subscription.connected);
        if !connected(self.owner) && !connected(self.standby) {
            let why = reason(&owner.subscription.last_error);
            return (ConnectorState::Starting, format!("no subscription is connected{why}; it goes on trying"));
        }
        (ConnectorState::Running, self.shortfall(scene, connector, now, owner))
    }

    /// What else can be done where the owner has to write what it holds before it may take over a new configuration.
    fn held_back(&self, connector: &Connector, owner: &WriterReport) -> String {
        if owner.is_older_than(connector.configured) {
            let command = format!("wsctl connector restart {} --force", connector.name);
            format!(", with the old configuration; the new one at once, without what waits: {command}")
        } else {
            String::new()
        }
    }

    /// The owner goes on as it is until its standby, which has begun anew, has taken its place.
    fn changing_over(&self, scene: &Scene, now: &Assignment, new_configuration: bool) -> String {
        let primary = scene.node_name(now.owner);
        let secondary = now.standby.map_or_else(|| "a standby".to_owned(), |id| scene.node_name(id));
        let (what, how, correct) = if new_configuration {
            ("the new configuration", "with the old one", ": correct it")
        } else {
            ("the restarted subscription", "as before", "")
        };
        if let Some(why) = self.standby.and_then(|standby| standby.failed.as_ref()) {
            return format!("{what} fails at {secondary} ({why}); {primary} goes on {how}{correct}");
        }
        let subscription = self.standby.map(|standby| &standby.subscription);
        // Without an error it is still connecting for the first time.
        if let Some(subscription) = subscription.filter(|s| !s.connected && !s.last_error.is_empty()) {
            let why = reason(&subscription.last_error);
            return format!("{what} does not connect at {secondary}{why}; {primary} goes on {how}{correct}");
        }
        let is_cut_off = |standby: &WriterReport| !standby.kafka_connected && !standby.is_older_than(self.revision);
        if self.standby.is_some_and(is_cut_off) {
            let correct = if new_configuration { ": correct it, if it stays so" } else { "" };
            return format!("{what} has not reached Kafka at {secondary}; {primary} goes on {how}{correct}");
        }
        if new_configuration {
            format!("{primary} goes on with the old configuration until {secondary} takes over with the new one")
        } else {
            format!("{primary} goes on until {secondary}, which begins anew, takes over: a restart")
        }
    }

    /// What a running connector lacks.
    fn shortfall(&self, scene: &Scene, connector: &Connector, now: &Assignment, owner: &WriterReport) -> String {
        let held_back = self.held_back(connector, owner);
        if let Some(trouble) = &owner.trouble {
            return format!("{trouble}; it goes on trying{held_back}");
        }
        if owner.stalled_ms >= STALL_SHOWN_MS_MIN {
            let (name, seconds) = (scene.node_name(now.owner), owner.stalled_ms / 1_000);
            return format!(
                "{name} has waited {seconds} s for Kafka; nothing lost (kept in memory), it goes on trying{held_back}"
            );
        }
        if self.redundancy == Redundancy::Single || self.redundant() || self.is_idle() {
            return String::new();
        }
        if owner.is_older_than(self.revision) {
            return self.changing_over(scene, now, owner.is_older_than(connector.configured));
        }
        let primary = scene.node_name(now.owner);
        if !owner.subscription.connected {
            let why = reason(&owner.subscription.last_error);
            return format!("primary at {primary} is not connected{why}; nothing lost (secondary active)");
        }
        let Some(standby) = now.standby else {
            return "one node only can take it, a second fault loses data; start, undrain or add a node".to_owned();
        };
        let secondary = scene.node_name(standby);
        match self.standby {
            None if !scene.may_be_up(standby) => {
                format!(
                    "standby {secondary} does not answer; nothing lost (primary active), another takes its place if it \
                     stays away"
                )
            }
            None => format!("standby {secondary} is starting; nothing lost (primary active)"),
            Some(report) if !report.subscription.connected => {
                let why = reason(&report.subscription.last_error);
                format!("secondary at {secondary} is not connected{why}; nothing lost (primary active)")
            }
            Some(report) if report.failed.is_some() => {
                let why = report.failed.as_deref().unwrap_or_default();
                format!("secondary at {secondary} has failed ({why}); nothing lost (primary active)")
            }
            Some(_) => lines_shortfall(owner, (&primary, &secondary), &connector.name),
        }
    }
}

/// What two connected lines lack to be redundant.
fn lines_shortfall(owner: &WriterReport, (primary, secondary): (&str, &str), connector: &str) -> String {
    let lines = &owner.lines;
    if lines.own_behind_ms > 0 {
        let seconds = lines.own_behind_ms.div_ceil(1_000);
        return format!(
            "primary at {primary} has lacked for {seconds} s what the secondary delivers, though it is connected; nothing lost \
             (secondary active), it is connected anew"
        );
    }
    if lines.standby_behind_ms > 0 {
        let seconds = lines.standby_behind_ms.div_ceil(1_000);
        return format!(
            "secondary at {secondary} has lacked for {seconds} s what the primary delivers, though it is connected; nothing \
             lost (primary active), it is connected anew"
        );
    }
    if lines.unmatched_ms >= UNMATCHED_SHOWN_MS_MIN {
        let seconds = lines.unmatched_ms / 1_000;
        let pointers = owner.comparison.as_ref().map(|found| found.pointers.join(", ")).unwrap_or_default();
        let at = if pointers.is_empty() { pointers } else { format!(" at {pointers}") };
        return format!(
            "the two subscriptions could not be matched for {seconds} s: their messages differ{at}; nothing lost (primary \
             active); see: wsctl connector compare {connector}"
        );
    }
    if !owner.aligned {
        return format!("secondary at {secondary} is not aligned yet; nothing lost (primary active)");
    }
    "aligned, redundant after the next commit; nothing lost".to_owned()
}

/// Before the coordinator has spoken, or because it has nobody to choose.
fn unassigned(scene: &Scene) -> (ConnectorState, String) {
    let nodes = scene.state.nodes();
    let up = nodes.values().filter(|node| scene.may_be_up(node.id));
    let (up, free) = up.fold((0, 0), |(up, free), node| (up + 1, free + usize::from(!node.draining)));
    if free > 0 && scene.raft.leader.is_some() {
        return (ConnectorState::Starting, "a node is being chosen for it".to_owned());
    }
    let text = format!("no node has it: {up} of {} nodes are up, {free} take work; start or undrain one", nodes.len());
    (ConnectorState::Unassigned, text)
}

fn reason(last_error: &str) -> String {
    if last_error.is_empty() { String::new() } else { format!(" ({last_error})") }
}

/// Every connector's state, for the metrics of the leader.
pub fn states(raft: &RaftHandle, view: ClusterView) -> Vec<(String, StateLabel)> {
    let scene = Scene { state: raft.state().borrow().clone(), view, raft: raft.status().borrow().clone() };
    let label = |connector| match Condition::of(&scene, connector).state {
        ConnectorState::Running => StateLabel::Running,
        ConnectorState::Paused => StateLabel::Paused,
        ConnectorState::Stopped => StateLabel::Stopped,
        ConnectorState::Failed => StateLabel::Failed,
        ConnectorState::Unassigned => StateLabel::Unassigned,
        ConnectorState::Starting | ConnectorState::Unspecified => StateLabel::Starting,
    };
    scene.state.connectors().values().map(|connector| (connector.name.clone(), label(connector))).collect()
}

/// One line per thing that is wrong with the cluster; empty when it is healthy.
pub(super) fn problems(scene: &Scene) -> Vec<String> {
    let mut problems = Vec::new();
    if scene.raft.leader.is_none() {
        problems.push(
            "no leader: connectors go on where they run, nothing is moved or changed until most nodes are back"
                .to_owned(),
        );
    }
    for (id, record) in scene.state.nodes() {
        if let Some(node) = scene.node(*id).filter(|node| !node.up) {
            problems.push(format!(
                "{name} is down, silent for {seconds} s; start it again, or if its disk is gone: wsctl node remove \
                 {name}",
                name = record.name,
                seconds = node.last_contact_ms / 1_000,
            ));
        }
    }
    for connector in scene.state.connectors().values() {
        let condition = Condition::of(scene, connector);
        if !condition.message.is_empty() {
            problems.push(format!("{}: {}", connector.name, condition.message));
        }
    }
    problems
}

#[cfg(test)]
#[path = "condition_test.rs"]
mod tests;
