//! The leader: who owns which writer, as far as it knows who is alive.

use super::World;
use crate::fencing::net::{Event, NodeId, WriterNo};
use crate::fencing::plan::NODES;
use crate::fencing::register::Assignment;

/// How long the leader waits before it looks again.
pub(super) const LOOKS_MS: (f64, f64) = (80.0, 120.0);

impl World {
    pub(super) fn announce(&mut self, writer: WriterNo, assignment: Assignment) {
        self.net.say(|| format!("raft: writer {writer}: {assignment:?}"));
        for node in 0..NODES {
            let streams = self.register.streams(writer);
            self.net.after_ms((0.5, 20.0), Event::Apply(node, writer, assignment, streams));
        }
    }

    pub(super) fn assign(&mut self, writer: WriterNo, owner: NodeId, standby: Option<NodeId>) {
        let assignment = self.register.assign(writer, owner, standby);
        self.announce(writer, assignment);
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
        (0..self.plan.writers.len()).for_each(|writer| self.place(writer));
    }

    /// `control::solve` and `restarted_owners` for one writer.
    fn place(&mut self, writer: WriterNo) {
        let Assignment { owner, standby, .. } = self.register.read(writer);
        let able = standby.filter(|standby| self.works(*standby));
        let needs_epoch = self.nodes[owner].needs_epoch(writer);
        if self.works(owner) && !needs_epoch {
            if able.is_none() {
                let standby = self.pick_standby(owner, owner);
                if standby.is_some() {
                    self.assign(writer, owner, standby);
                }
            }
        } else if let Some(promoted) = able {
            let standby = self.pick_standby(promoted, owner);
            self.assign(writer, promoted, standby);
        } else if self.works(owner) {
            let assignment = self.register.new_epoch(writer);
            self.announce(writer, assignment);
        } else if let Some(other) = (0..NODES).find(|node| self.works(*node)) {
            let standby = self.pick_standby(other, owner);
            self.assign(writer, other, standby);
        }
    }
}
