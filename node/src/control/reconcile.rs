//! What this node must start, change and stop so that it runs what the cluster state asks of it.
//! `worker` calls it on every new state with what it runs; applying the answer makes the next one empty.

use std::collections::BTreeMap;

use super::state::State;
use crate::model::{
    connector::{Line, TargetState, Writer},
    ids::{Epoch, NodeId, WriterId},
    report::Role,
};

/// A role with everything whose change the running writer must hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSpec {
    pub role: Role,
    pub epoch: Epoch,
    /// The standby for an owner, the owner for a standby.
    pub peer: Option<NodeId>,
    /// The URL to read. It never changes under a running writer: a promoted standby keeps its own.
    pub line: Line,
    /// Running connectors of the writer with their revisions: a new configuration or a restart is a new revision.
    pub revisions: BTreeMap<String, u64>,
}

/// One step of the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleChange {
    Start {
        writer: WriterId,
        to: RoleSpec,
    },
    /// Same writer, other role, epoch, peer or configuration.
    Change {
        writer: WriterId,
        from: RoleSpec,
        to: RoleSpec,
    },
    Stop {
        writer: WriterId,
        from: RoleSpec,
    },
}

/// Compares what node `me` should run with what it runs. Stops come first: they free what starts may need.
pub fn diff(state: &State, me: NodeId, running: &BTreeMap<WriterId, RoleSpec>) -> Vec<RoleChange> {
    let desired: BTreeMap<&WriterId, RoleSpec> =
        state.writers().iter().filter_map(|(id, writer)| Some((id, desired_role(state, me, writer)?))).collect();
    let stops = running.iter().filter(|(id, _)| !desired.contains_key(id));
    let mut changes: Vec<_> =
        stops.map(|(id, from)| RoleChange::Stop { writer: id.clone(), from: from.clone() }).collect();
    for (id, to) in desired {
        let writer = id.clone();
        match running.get(id) {
            None => changes.push(RoleChange::Start { writer, to }),
            Some(from) if *from != to => changes.push(RoleChange::Change { writer, from: from.clone(), to }),
            Some(_) => {}
        }
    }
    changes
}

fn desired_role(state: &State, me: NodeId, writer: &Writer) -> Option<RoleSpec> {
    let assignment = writer.assignment.as_ref()?;
    let (role, peer, line) = if assignment.owner == me {
        (Role::Owner, assignment.standby, assignment.owner_line)
    } else if assignment.standby == Some(me) {
        (Role::Standby, Some(assignment.owner), assignment.owner_line.other())
    } else {
        return None;
    };
    let connectors = writer.connectors.iter().filter_map(|name| state.connectors().get(name));
    // Paused connectors keep their assignment and run nothing.
    let running = connectors.filter(|connector| connector.target == TargetState::Running);
    let revisions: BTreeMap<_, _> = running.map(|c| (c.name.clone(), c.revision)).collect();
    (!revisions.is_empty()).then_some(RoleSpec { role, epoch: assignment.epoch, peer, line, revisions })
}
