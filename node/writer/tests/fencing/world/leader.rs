//! The leader: who owns which stream, as far as it knows who is alive.

use super::World;
use crate::fencing::net::{Event, NodeId, StreamNo};
use crate::fencing::plan::NODES;
use crate::fencing::register::Assignment;

/// How long the leader waits before it looks again.
pub(super) const LOOKS_MS: (f64, f64) = (80.0, 120.0);

impl World {
    pub(super) fn announce(&mut self, stream: StreamNo, assignment: Assignment) {
        self.net.say(|| format!("raft: stream {stream}: {assignment:?}"));
        for node in 0..NODES {
            self.net.after_ms((0.5, 20.0), Event::Apply(node, stream, assignment));
        }
    }

    pub(super) fn assign(&mut self, stream: StreamNo, owner: NodeId, standby: Option<NodeId>) {
        let assignment = self.register.assign(stream, owner, standby);
        self.announce(stream, assignment);
    }

    pub(super) fn works(&self, node: NodeId) -> bool {
        self.nodes[node].up && !self.nodes[node].suspected
    }

    /// A standby for this owner; `last` is taken only when no other can.
    pub(super) fn pick_standby(&mut self, owner: NodeId, last: NodeId) -> Option<NodeId> {
        let offset = self.net.prng.below(NODES);
        let mut free = (0..NODES).map(|n| (n + offset) % NODES).filter(|n| *n != owner && self.works(*n));
        let first = free.next()?;
        if first == last { free.next().or(Some(first)) } else { Some(first) }
    }

    pub(super) fn leader_looks(&mut self) {
        self.net.after_ms(LOOKS_MS, Event::LeaderLooks);
        (0..self.streams.len()).for_each(|stream| self.place(stream));
    }

    /// `control::solve` and `restarted_owners` for one writer.
    fn place(&mut self, stream: StreamNo) {
        let Assignment { owner, standby, .. } = self.register.read(stream);
        let able = standby.filter(|standby| self.works(*standby));
        let needs_epoch = self.nodes[owner].needs_epoch(stream);
        if self.works(owner) && !needs_epoch {
            if able.is_none() {
                let standby = self.pick_standby(owner, owner);
                if standby.is_some() {
                    self.assign(stream, owner, standby);
                }
            }
        } else if let Some(promoted) = able {
            let standby = self.pick_standby(promoted, owner);
            self.assign(stream, promoted, standby);
        } else if self.works(owner) {
            let assignment = self.register.new_epoch(stream);
            self.announce(stream, assignment);
        } else if let Some(other) = (0..NODES).find(|node| self.works(*node)) {
            let standby = self.pick_standby(other, owner);
            self.assign(stream, other, standby);
        }
    }
}
