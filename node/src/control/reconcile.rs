//! What this node must start, change and stop so that it runs what the cluster state asks of it.
//! `worker` calls it on every new state with what it runs; applying the answer makes the next one empty.

use std::collections::BTreeMap;

use super::state::State;
use crate::model::{
    connector::{Line, TargetState},
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
    /// Running connectors of the writer with their last reopening: who runs another one begins anew.
    pub reopened: BTreeMap<String, u64>,
    /// The newest revision of these: a new configuration, or a restart.
    pub revision: u64,
}

impl RoleSpec {
    /// Whether a writer that runs `self` has to begin anew to become `to`; otherwise it can change while it runs.
    pub fn begins_anew(&self, to: &Self) -> bool {
        self.reopened != to.reopened || self.revision != to.revision
    }

    /// A new revision alone ends no owner, nor a standby on its way to becoming one: it holds what nobody else does.
    /// It goes on with what it has until the coordinator has put a standby in its place or given it a new epoch.
    fn keeps_revision(&self, to: &Self) -> bool {
        to.role == Role::Owner && self.reopened == to.reopened && (self.role == Role::Standby || self.epoch == to.epoch)
    }
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
        state.writers().keys().filter_map(|id| Some((id, role(state, me, id)?))).collect();
    let stops = running.iter().filter(|(id, _)| !desired.contains_key(id));
    let mut changes: Vec<_> =
        stops.map(|(id, from)| RoleChange::Stop { writer: id.clone(), from: from.clone() }).collect();
    for (id, mut to) in desired {
        let writer = id.clone();
        if let Some(from) = running.get(id).filter(|from| from.keeps_revision(&to)) {
            to.revision = from.revision;
        }
        match running.get(id) {
            None => changes.push(RoleChange::Start { writer, to }),
            Some(from) if *from != to => changes.push(RoleChange::Change { writer, from: from.clone(), to }),
            Some(_) => {}
        }
    }
    changes
}

/// What node `me` should run for a writer, from scratch.
pub fn role(state: &State, me: NodeId, writer: &WriterId) -> Option<RoleSpec> {
    let writer = state.writers().get(writer)?;
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
    let revision = running.clone().map(|c| c.revision).max()?;
    let reopened = running.map(|c| (c.name.clone(), c.reopened)).collect();
    Some(RoleSpec { role, epoch: assignment.epoch, peer, line, reopened, revision })
}
