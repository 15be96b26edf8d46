//! From cluster state and the nodes' reports to what placement is told. Pure.

use std::collections::BTreeMap;

use crate::{
    control::{NodeFacts, State, WriterFacts},
    model::{
        connector::{Assignment, Redundancy, TargetState, Writer},
        ids::{NodeId, WriterId},
        report::{NodeReport, Role, WriterReport},
        spec::ConnectorSpec,
    },
};

/// The last report of every node that has one.
pub(super) type Reports = BTreeMap<NodeId, NodeReport>;

pub(super) fn nodes(state: &State, reports: &Reports, is_up: impl Fn(NodeId) -> bool) -> Vec<NodeFacts> {
    let leaving = |id: &NodeId| reports.get(id).is_some_and(|report| report.leaving);
    state
        .nodes()
        .values()
        .map(|node| NodeFacts {
            id: node.id,
            zone: node.zone.clone(),
            up: is_up(node.id),
            draining: node.draining || leaving(&node.id),
        })
        .collect()
}

pub(super) fn writers(state: &State, reports: &Reports) -> Vec<WriterFacts> {
    state.writers().iter().map(|(id, writer)| writer_facts(state, reports, id, writer)).collect()
}

fn writer_facts(state: &State, reports: &Reports, id: &WriterId, writer: &Writer) -> WriterFacts {
    let connectors: Vec<_> = writer.connectors.iter().filter_map(|name| state.connectors().get(name)).collect();
    let single = connectors.iter().all(|connector| {
        ConnectorSpec::parse(&connector.name, &connector.config)
            .is_ok_and(|(spec, _)| spec.redundancy == Redundancy::Single)
    });
    let owner = writer.assignment.as_ref().and_then(|a| report(reports, id, a, a.owner, Role::Owner));
    let standby = writer.assignment.as_ref().and_then(|a| report(reports, id, a, a.standby?, Role::Standby));
    // Paused connectors read nothing, so there is nothing that a move could lose.
    let reading = connectors.iter().any(|connector| connector.target == TargetState::Running);
    // Redundancy belongs to a pair: what the owner had with a former standby says nothing about the present one.
    let assigned_standby = writer.assignment.as_ref().and_then(|a| a.standby);
    WriterFacts {
        id: id.clone(),
        running: connectors.iter().any(|connector| connector.target != TargetState::Stopped),
        redundancy: if single { Redundancy::Single } else { Redundancy::Dual },
        assignment: writer.assignment.clone(),
        wanted_owner: writer.wanted_owner,
        redundant: !reading || owner.is_some_and(|report| report.redundant && report.standby == assigned_standby),
        owner_delivers: owner.map(|report| !report.needs_epoch),
        standby_ready: standby.is_some_and(|report| report.subscription.connected),
        hold: false,
    }
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
    (report.role == role && report.epoch == assignment.epoch).then_some(report)
}

/// Writers whose owner waits for a new epoch and has no standby that could take over.
pub(super) fn restarted_owners(state: &State, reports: &Reports) -> Vec<(WriterId, Assignment)> {
    let waiting = |id: &WriterId, assignment: &Assignment| {
        report(reports, id, assignment, assignment.owner, Role::Owner).is_some_and(|report| report.needs_epoch)
    };
    state
        .writers()
        .iter()
        .filter_map(|(id, writer)| Some((id, writer.assignment.as_ref()?)))
        .filter(|(id, assignment)| waiting(id, assignment))
        .map(|(id, assignment)| (id.clone(), assignment.clone()))
        .collect()
}
