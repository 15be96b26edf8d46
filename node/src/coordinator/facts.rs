//! From cluster state and the nodes' reports to what placement is told. Pure.

use std::{collections::BTreeMap, sync::Arc};

use super::redundancies::Redundancies;
use crate::{
    control::{Liveness, NodeFacts, State, WriterFacts},
    model::{
        connector::{Assignment, TargetState, Writer},
        ids::{Epoch, NodeId, WriterId},
        report::{NodeReport, Role, WriterReport},
    },
};

/// An owner that lives but has not committed what waits for this long is replaced by a standby that reaches Kafka and
/// holds everything. A slow commit takes 0.4 s, a takeover of an open transaction 1 s, a broker's pause about as much:
/// longer than these, and far below the 10 s after which the broker itself would end the transaction. A standby that does
/// not hold everything never replaces it: that would lose messages, and waiting loses none.
pub(super) const STALLED_MS_MAX: u64 = 1_800;
/// When Kafka comes back for everybody, the standby may see it first, as an owner tries in growing intervals. So it must
/// have reached Kafka for a part of the owner's wait, which gives the owner the time to come back by itself.
const REACHED_SHARE: u64 = 3;
/// The largest such time: above the owner's longest pause and one opening.
const REACHED_MS_MAX: u64 = 10_000;

/// The last report of every node that has one.
pub(super) type Reports = BTreeMap<NodeId, Arc<NodeReport>>;

pub(super) fn nodes(state: &State, reports: &Reports, liveness: impl Fn(NodeId) -> Liveness) -> Vec<NodeFacts> {
    let leaving = |id: &NodeId| reports.get(id).is_some_and(|report| report.leaving);
    state
        .nodes()
        .values()
        .map(|node| NodeFacts {
            id: node.id,
            zone: node.zone.clone(),
            liveness: liveness(node.id),
            draining: node.draining || leaving(&node.id),
        })
        .collect()
}

/// An assigned writer with what its two nodes say under the present epoch.
pub(super) struct Pair<'a> {
    pub(super) writer: &'a WriterId,
    pub(super) assignment: &'a Assignment,
    /// The newest revision among its running connectors, of a configuration or a restart; None while none runs.
    pub(super) revision: Option<u64>,
    pub(super) owner: Option<&'a WriterReport>,
    pub(super) standby: Option<&'a WriterReport>,
}

impl Pair<'_> {
    /// The owner goes on with an older revision than the stored one: another configuration, or a restart, waits.
    pub(super) fn is_outdated(&self) -> bool {
        self.owner.is_some_and(|owner| !owner.needs_epoch && !self.runs_newest(owner))
    }

    fn runs_newest(&self, report: &WriterReport) -> bool {
        self.revision.is_none_or(|newest| !report.is_older_than(newest))
    }

    /// The standby under the stored revision: one that is about to begin anew has nothing to offer.
    pub(super) fn present_standby(&self) -> Option<&WriterReport> {
        self.standby.filter(|standby| self.runs_newest(standby))
    }

    /// The standby could take over now without loss, as both see it: either alone may not have noticed yet that the
    /// standby began anew. What the owner had with a former standby says nothing about the present one.
    fn is_redundant(&self) -> bool {
        let (Some(owner), Some(standby)) = (self.owner, self.present_standby()) else { return false };
        owner.redundant && owner.standby == self.assignment.standby && standby.redundant
    }
}

/// Every assigned writer.
pub(super) fn pairs<'a>(state: &'a State, reports: &'a Reports) -> impl Iterator<Item = Pair<'a>> {
    state.writers().iter().filter_map(|(id, writer)| pair(state, reports, id, writer))
}

fn pair<'a>(state: &'a State, reports: &'a Reports, id: &'a WriterId, writer: &'a Writer) -> Option<Pair<'a>> {
    let assignment = writer.assignment.as_ref()?;
    let connectors = writer.connectors.iter().filter_map(|name| state.connectors().get(name));
    let running = connectors.filter(|connector| connector.target == TargetState::Running);
    Some(Pair {
        writer: id,
        assignment,
        revision: running.map(|connector| connector.revision).max(),
        owner: report(reports, id, assignment, assignment.owner, Role::Owner),
        standby: assignment.standby.and_then(|standby| report(reports, id, assignment, standby, Role::Standby)),
    })
}

/// `held` says which streams stay with a living owner for now, whether it delivers or not.
pub(super) fn writers(
    state: &State,
    reports: &Reports,
    redundancies: &Redundancies,
    held: impl Fn(&WriterId) -> bool,
) -> Vec<WriterFacts> {
    let of = |(id, writer)| {
        let facts = writer_facts(state, reports, redundancies, (id, writer));
        WriterFacts { hold: facts.hold && held(id), ..facts }
    };
    state.writers().iter().map(of).collect()
}

fn writer_facts(
    state: &State,
    reports: &Reports,
    redundancies: &Redundancies,
    (id, writer): (&WriterId, &Writer),
) -> WriterFacts {
    let connectors: Vec<_> = writer.connectors.iter().filter_map(|name| state.connectors().get(name)).collect();
    let pair = pair(state, reports, id, writer);
    let pair = pair.as_ref();
    let (owner, standby) = (pair.and_then(|pair| pair.owner), pair.and_then(|pair| pair.standby));
    let present = pair.and_then(Pair::present_standby);
    // Paused connectors read nothing, so there is nothing that a move could lose.
    let reading = connectors.iter().any(|connector| connector.target == TargetState::Running);
    WriterFacts {
        id: id.clone(),
        running: connectors.iter().any(|connector| connector.target != TargetState::Stopped),
        redundancy: redundancies.of(writer),
        assignment: writer.assignment.clone(),
        wanted_owner: writer.wanted_owner,
        redundant: !reading || pair.is_some_and(Pair::is_redundant),
        standby_holds: present.map(|standby| standby.redundant),
        // One that does not reach Kafka with the new configuration would deliver nothing.
        outdated: pair.is_some_and(Pair::is_outdated) && present.is_some_and(|standby| standby.kafka_connected),
        owner_delivers: owner.map(|report| !report.needs_epoch && report.stalled_ms < STALLED_MS_MAX),
        standby_ready: owner.zip(standby).is_some_and(|(owner, standby)| {
            // An owner that lost its memory holds nothing: its standby is the better one even while Kafka is away.
            standby.subscription.connected
                && (owner.needs_epoch || present.is_some_and(|standby| could_deliver(owner, standby)))
        }),
        // A crash is never held.
        hold: owner.is_some_and(|report| !report.needs_epoch),
    }
}

/// Whether the standby could deliver all that the owner waits with.
fn could_deliver(owner: &WriterReport, standby: &WriterReport) -> bool {
    standby.redundant && standby.kafka_reached_ms >= (owner.stalled_ms / REACHED_SHARE).clamp(1, REACHED_MS_MAX)
}

/// A node's report on a writer, if it speaks of the present epoch.
fn report<'a>(
    reports: &'a Reports,
    writer: &WriterId,
    assignment: &Assignment,
    node: NodeId,
    role: Role,
) -> Option<&'a WriterReport> {
    let report = reports.get(&node)?.writers.get(&writer.0)?;
    report.is_of(role, assignment.epoch).then_some(report)
}

/// Writers whose owner has lost its memory, waits for a new epoch, and has no standby that could take over.
pub(super) fn restarted_owners(
    state: &State,
    reports: &Reports,
    liveness: impl Fn(NodeId) -> Liveness,
) -> Vec<(WriterId, Epoch)> {
    // Placement moves the writer to a standby that speaks; one that does not yet may hold the only copy.
    let may_speak = |pair: &Pair<'_>| {
        pair.standby.is_none() && pair.assignment.standby.is_some_and(|id| liveness(id) != Liveness::Dead)
    };
    let waiting = pairs(state, reports).filter(|pair| pair.owner.is_some_and(|owner| owner.needs_epoch));
    waiting.filter(|pair| !may_speak(pair)).map(|pair| (pair.writer.clone(), pair.assignment.epoch)).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::changeover::UNMATCHED_FRAMES_MIN, *};
    use crate::model::{
        command::{Command, Proposal},
        connector::{Config, NodeRecord},
        ids::ClusterId,
        report::SubscriptionReport,
    };

    const OWNER: NodeId = 1;
    const STANDBY: NodeId = 2;
    /// The revision of the connector's configuration: its log index.
    pub(in crate::coordinator) const NEWEST: u64 = 4;

    /// One running connector owned by node 1 with node 2 as standby, both connected to their feed.
    pub(in crate::coordinator) fn scene(change: impl Fn(&mut WriterReport, &mut WriterReport)) -> (State, Reports) {
        let mut state = State::default();
        let node = |id: NodeId| NodeRecord { id, name: format!("n{id}"), ..NodeRecord::default() };
        let config = [("websocket.url", "ws://feed"), ("kafka.topic", "t")];
        let config: Config = config.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let target = TargetState::Running;
        let mut commands = vec![
            Command::InitCluster { id: ClusterId("c".to_owned()), name: "c".to_owned() },
            Command::PutNode { node: node(OWNER) },
            Command::PutNode { node: node(STANDBY) },
            Command::CreateConnector { name: "prices".to_owned(), config, target },
        ];
        let mut index = 0;
        let mut apply = |state: &mut State, command| {
            index += 1;
            state.apply(index, &Proposal { request_id: index.to_string(), asked: 0, proposed_at_ms: 0, command });
        };
        commands.drain(..).for_each(|command| apply(&mut state, command));
        let writer = state.writers().keys().next().unwrap().clone();
        let command = Command::Assign {
            writer: writer.clone(),
            expected_epoch: Epoch::default(),
            expected_standby: None,
            owner: Some(OWNER),
            standby: Some(STANDBY),
        };
        apply(&mut state, command);
        let epoch = state.writers()[&writer].assignment.as_ref().unwrap().epoch;
        let report = |role| {
            let subscription = SubscriptionReport { connected: true, ..SubscriptionReport::default() };
            WriterReport { role, epoch, subscription, ..WriterReport::default() }
        };
        let (mut owner, mut standby) = (report(Role::Owner), report(Role::Standby));
        change(&mut owner, &mut standby);
        let node =
            |id, report| NodeReport { id, writers: [(writer.0.clone(), report)].into(), ..NodeReport::default() };
        (state, [(OWNER, node(OWNER, owner).into()), (STANDBY, node(STANDBY, standby).into())].into())
    }

    fn redundancies(state: &State) -> Redundancies {
        let mut redundancies = Redundancies::default();
        redundancies.follow(state);
        redundancies
    }

    fn owner_after(held: bool, change: impl Fn(&mut WriterReport, &mut WriterReport)) -> Option<NodeId> {
        let (state, reports) = scene(change);
        next_owner(&state, &reports, held, |_| Liveness::Up)
    }

    fn next_owner(
        state: &State,
        reports: &Reports,
        held: bool,
        liveness: impl Fn(NodeId) -> Liveness,
    ) -> Option<NodeId> {
        let facts = writers(state, reports, &redundancies(state), |_| held);
        let placed = crate::control::solve(&nodes(state, reports, liveness), &facts);
        placed.first().unwrap().owner
    }

    /// The standby has taken over a configuration that the owner has not, and both call it redundant.
    pub(in crate::coordinator) fn outdated(owner: &mut WriterReport, standby: &mut WriterReport) {
        (owner.revision, owner.standby, owner.redundant) = (1, Some(STANDBY), true);
        (standby.revision, standby.redundant, standby.kafka_connected) = (NEWEST, true, true);
        standby.frames_received = UNMATCHED_FRAMES_MIN;
    }

    #[test]
    fn an_owner_of_an_older_configuration_is_replaced_once_both_call_its_standby_redundant() {
        assert_eq!(owner_after(false, outdated), Some(STANDBY));
        let but = |more: fn(&mut WriterReport, &mut WriterReport)| {
            owner_after(false, |owner, standby| {
                outdated(owner, standby);
                more(owner, standby);
            })
        };
        assert_eq!(but(|owner, _| owner.revision = NEWEST), Some(OWNER), "nothing to do");
        assert_eq!(but(|owner, _| owner.revision = 0), Some(OWNER), "a node that does not say what it runs");
        assert_eq!(but(|_, standby| standby.revision = 1), Some(OWNER), "the standby has not taken it over yet");
        assert_eq!(but(|_, standby| standby.kafka_connected = false), Some(OWNER), "it could not deliver");
        assert_eq!(but(|owner, _| owner.redundant = false), Some(OWNER));
        assert_eq!(but(|_, standby| standby.redundant = false), Some(OWNER), "the owner speaks of its former life");
        assert_eq!(but(|owner, _| owner.standby = Some(3)), Some(OWNER), "the owner speaks of a former standby");
    }

    #[test]
    fn a_silent_owner_is_waited_for_until_its_standby_says_that_it_holds_everything() {
        let after = |state: &State, reports: &Reports| {
            next_owner(state, reports, false, |id| if id == OWNER { Liveness::Silent } else { Liveness::Up })
        };
        let (state, mut reports) = scene(|_, standby| standby.redundant = true);
        assert_eq!(after(&state, &reports), Some(STANDBY));
        reports.remove(&STANDBY);
        assert_eq!(after(&state, &reports), Some(OWNER), "a new leader has not heard it yet");
        let (state, reports) = scene(|owner, _| (owner.redundant, owner.standby) = (true, Some(STANDBY)));
        assert_eq!(after(&state, &reports), Some(OWNER), "what the owner said before proves nothing now");
    }

    #[test]
    fn an_owner_without_memory_begins_anew_only_when_no_standby_may_hold_the_copy() {
        let (state, mut reports) = scene(|owner, _| owner.needs_epoch = true);
        let begins = |reports: &Reports, liveness| restarted_owners(&state, reports, |_| liveness).len();
        assert_eq!(begins(&reports, Liveness::Up), 1, "placement has left it where it is");
        reports.remove(&STANDBY);
        assert_eq!(begins(&reports, Liveness::Up), 0, "it will say in a moment");
        assert_eq!(begins(&reports, Liveness::Silent), 0, "it may be back");
        assert_eq!(begins(&reports, Liveness::Dead), 1);
    }

    #[test]
    fn nothing_is_moved_to_a_standby_that_is_about_to_begin_anew() {
        let stale = |owner: &mut WriterReport, standby: &mut WriterReport| {
            outdated(owner, standby);
            (owner.stalled_ms, standby.kafka_reached_ms, standby.revision) = (STALLED_MS_MAX, STALLED_MS_MAX, 1);
        };
        assert_eq!(owner_after(false, stale), Some(OWNER));
        let (state, reports) = scene(|owner, standby| {
            outdated(owner, standby);
            standby.revision = 1;
        });
        assert!(
            writers(&state, &reports, &redundancies(&state), |_| false).iter().all(|facts| !facts.redundant),
            "a planned move waits, too"
        );
    }

    #[test]
    fn an_owner_that_waits_for_kafka_is_replaced_by_a_standby_that_reaches_it() {
        let stalled = |owner: &mut WriterReport, standby: &mut WriterReport| {
            owner.stalled_ms = STALLED_MS_MAX;
            standby.redundant = true;
            standby.kafka_reached_ms = STALLED_MS_MAX / REACHED_SHARE;
        };
        assert_eq!(owner_after(false, stalled), Some(STANDBY));
        assert_eq!(owner_after(true, stalled), Some(OWNER), "it was moved a moment ago");
        let but = |more: fn(&mut WriterReport, &mut WriterReport)| {
            owner_after(false, |owner, standby| {
                stalled(owner, standby);
                more(owner, standby);
            })
        };
        assert_eq!(but(|owner, _| owner.stalled_ms -= 1), Some(OWNER), "not yet");
        assert_eq!(but(|_, standby| standby.kafka_reached_ms = 0), Some(OWNER), "Kafka is down for all");
        assert_eq!(but(|_, standby| standby.subscription.connected = false), Some(OWNER), "the standby has no feed");
        assert_eq!(but(|_, standby| standby.redundant = false), Some(OWNER), "the owner alone holds some messages");
    }

    #[test]
    fn when_kafka_comes_back_for_all_the_owner_gets_time_to_go_on() {
        let reached = |kafka_reached_ms| {
            owner_after(false, |owner, standby| {
                owner.stalled_ms = 60_000;
                standby.redundant = true;
                standby.kafka_reached_ms = kafka_reached_ms;
            })
        };
        assert_eq!(reached(REACHED_MS_MAX - 1), Some(OWNER));
        assert_eq!(reached(REACHED_MS_MAX), Some(STANDBY), "it is back for the standby only");
    }

    #[test]
    fn a_restarted_owner_is_replaced_even_while_kafka_is_away_or_the_stream_is_held() {
        assert_eq!(owner_after(true, |owner, _| owner.needs_epoch = true), Some(STANDBY));
    }
}
