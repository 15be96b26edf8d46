//! One node: whether it works, and what it is to each writer.
//!
//! The world crashes, freezes and restarts it. A node that restarts has lost everything but its place in the log.

use super::member::Member;
use super::net::{Actor, Net, NodeId, WriterNo};
use super::plan::Means;
use super::register::{Assignment, Streams};
use super::writer::Writer;

pub(crate) struct Node {
    pub(crate) up: bool,
    pub(crate) frozen_until_us: u64,
    /// Taken for dead by the leader.
    pub(crate) suspected: bool,
    pub(crate) members: Vec<Member>,
}

impl Node {
    pub(crate) fn new(id: NodeId, writers: usize, means: &Means) -> Self {
        let members = (0..writers).map(|number| Member::new((id, number), means.clone())).collect();
        Self { up: true, frozen_until_us: 0, suspected: false, members }
    }

    pub(crate) fn needs_epoch(&self, writer: WriterNo) -> bool {
        self.up && self.members[writer].needs_epoch()
    }

    pub(crate) fn writer(&mut self, writer: WriterNo) -> Option<&mut Writer> {
        self.members[writer].writer()
    }

    pub(crate) fn writer_of(&mut self, actor: Actor) -> Option<&mut Writer> {
        self.members[actor.writer].writer_of(actor)
    }

    pub(crate) fn apply(&mut self, writer: WriterNo, (assignment, streams): (Assignment, Streams), net: &mut Net) {
        if self.up {
            self.members[writer].apply(assignment, streams, net);
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
