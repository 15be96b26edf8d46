//! How a node leaves its cluster: it says so, waits for its writers to be moved, and then for what it owned to be
//! delivered by others. Make before break, and the break includes Raft: a new owner confirms its assignment with the
//! leader before it writes, so a leader that goes first makes it wait for an election.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    control::{self, State},
    model::{
        ids::{NodeId, WriterId},
        report::{ClusterView, Role},
    },
};

/// All of it. Writers that have not moved by then are taken over when the node is gone.
const LEAVE_MAX: Duration = Duration::from_secs(10);
/// The last part: a new owner that does not reach Kafka will not reach it sooner for being waited for.
const DELIVERED_WITHIN: Duration = Duration::from_secs(3);

/// What a node needs to leave.
pub struct Leaving {
    pub me: NodeId,
    /// Tells `Local`, and through its reports the leader.
    pub say: watch::Sender<bool>,
    pub state: watch::Receiver<Arc<State>>,
    pub view: watch::Receiver<ClusterView>,
}

impl Leaving {
    /// Returns once the others can do without this node, or would not be served by waiting any longer.
    pub async fn leave(mut self) {
        let deadline = Instant::now() + LEAVE_MAX;
        let owned = owned(&self.state.borrow(), self.me);
        self.say.send_replace(true);
        let me = self.me;
        let moved = self.view.wait_for(|view| is_alone(view, me) || is_idle(view, me));
        if timeout_at(deadline, moved).await.is_err() {
            tracing::warn!("node.left_with_writers: they are taken over once this node is gone");
            return;
        }
        let state = &self.state;
        let delivered = self.view.wait_for(|view| {
            is_alone(view, me) || owned.iter().all(|writer| is_settled(view, &state.borrow(), me, writer))
        });
        if timeout_at(deadline.min(Instant::now() + DELIVERED_WITHIN), delivered).await.is_err() {
            tracing::warn!("node.left_early: not every new owner delivers yet; see the state of the connectors");
        }
    }
}

/// What runs here as owner; a paused writer keeps its assignment and runs nowhere.
fn owned(state: &State, me: NodeId) -> Vec<WriterId> {
    let is_mine = |id: &&WriterId| control::role(state, me, id).is_some_and(|spec| spec.role == Role::Owner);
    state.writers().keys().filter(is_mine).cloned().collect()
}

/// Nobody is there to move anything to.
fn is_alone(view: &ClusterView, me: NodeId) -> bool {
    !view.nodes.iter().any(|(id, node)| *id != me && node.up)
}

fn is_idle(view: &ClusterView, me: NodeId) -> bool {
    view.nodes.get(&me).is_none_or(|node| node.report.writers.is_empty())
}

/// Whether a writer needs nothing from this node any more.
fn is_settled(view: &ClusterView, state: &State, me: NodeId, writer: &WriterId) -> bool {
    // Deleted or stopped meanwhile.
    let Some(assignment) = state.writers().get(writer).and_then(|writer| writer.assignment.as_ref()) else {
        return true;
    };
    let report = view.nodes.get(&assignment.owner).and_then(|node| node.report.writers.get(&writer.0));
    assignment.owner != me
        && report.is_some_and(|report| {
            report.is_of(Role::Owner, assignment.epoch) && (report.delivering || report.failed.is_some())
        })
}

#[cfg(test)]
#[path = "leave_test.rs"]
mod tests;
