//! One node: whether it works, and what it is to each stream.
//!
//! The world crashes, freezes and restarts it. A node that restarts has lost everything but its place in the log.

use super::member::Member;
use super::net::{Actor, Net, NodeId, StreamNo};
use super::plan::Means;
use super::register::Assignment;
use super::writer::Writer;

pub(crate) struct Node {
    pub(crate) up: bool,
    pub(crate) frozen_until_us: u64,
    /// Taken for dead by the leader.
    pub(crate) suspected: bool,
    pub(crate) members: Vec<Member>,
}

impl Node {
    pub(crate) fn new(id: NodeId, streams: usize, means: &Means) -> Self {
        let members = (0..streams).map(|stream| Member::new(id, stream, means.clone())).collect();
        Self { up: true, frozen_until_us: 0, suspected: false, members }
    }

    pub(crate) fn needs_epoch(&self, stream: StreamNo) -> bool {
        self.up && self.members[stream].needs_epoch()
    }

    pub(crate) fn writer(&mut self, stream: StreamNo) -> Option<&mut Writer> {
        self.members[stream].writer()
    }

    pub(crate) fn writer_of(&mut self, actor: Actor) -> Option<&mut Writer> {
        self.members[actor.stream].writer_of(actor)
    }

    pub(crate) fn apply(&mut self, stream: StreamNo, assignment: Assignment, net: &mut Net) {
        if self.up {
            self.members[stream].apply(assignment, net);
        }
    }

    pub(crate) fn crash(&mut self) {
        self.up = false;
        self.members.iter_mut().for_each(Member::crash);
    }

    pub(crate) fn restart(&mut self, log_index: u64) {
        (self.up, self.frozen_until_us) = (true, 0);
        self.members.iter_mut().for_each(|member| member.memory_starts_at = log_index);
    }
}
