//! What a node is to one writer: what it has seen of the assignment, and the writer that it runs because of it;
//! `node/src/worker/` for one writer.

use twinfeed_writer::{Assigned, Epoch};

use super::net::{Actor, Event, Input, Net, NodeId, WriterNo};
use super::plan::Means;
use super::register::{Assignment, Streams};
use super::writer::Writer;

pub(crate) struct Member {
    node: NodeId,
    number: WriterNo,
    streams: Streams,
    pub(crate) seen: Option<Assignment>,
    /// Epochs assigned up to this entry were another process's.
    pub(crate) memory_starts_at: u64,
    running: Option<Running>,
    /// The predecessor that still drains; another writer starts only after it has ended.
    draining: Option<Writer>,
    means: Means,
}

struct Running {
    role: Assigned,
    peer: Option<NodeId>,
    /// `None`: the owner's memory is gone, and it waits for a new epoch.
    writer: Option<Writer>,
}

impl Member {
    pub(crate) fn new((node, number): (NodeId, WriterNo), means: Means) -> Self {
        let streams = Streams::from([]);
        Self { node, number, streams, seen: None, memory_starts_at: 0, running: None, draining: None, means }
    }

    pub(crate) fn needs_epoch(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.writer.is_none())
    }

    pub(crate) fn writer(&mut self) -> Option<&mut Writer> {
        self.running.as_mut()?.writer.as_mut()
    }

    /// The writer with this number, running or draining.
    pub(crate) fn writer_of(&mut self, actor: Actor) -> Option<&mut Writer> {
        let running = self.running.as_mut().and_then(|running| running.writer.as_mut());
        running.into_iter().chain(self.draining.as_mut()).find(|writer| writer.actor == actor)
    }

    /// The standby that this node's owner would talk to.
    pub(crate) fn registered_standby(&self) -> Option<NodeId> {
        self.running.as_ref().and_then(|running| running.peer)
    }

    pub(crate) fn apply(&mut self, assignment: Assignment, streams: Streams, net: &mut Net) {
        if self.seen.is_some_and(|seen| seen.index >= assignment.index) {
            return;
        }
        (self.seen, self.streams) = (Some(assignment), streams);
        self.reconcile(net);
        if let Some(Running { writer: Some(writer), .. }) = &mut self.running {
            writer.has_streams(&self.streams, net);
        }
    }

    /// Forgets a drained predecessor; the role that waited for that begins.
    pub(crate) fn after_input(&mut self, net: &mut Net) {
        if self.draining.take_if(|writer| writer.is_drained()).is_some() {
            self.reconcile(net);
        }
    }

    pub(crate) fn crash(&mut self) {
        (self.running, self.draining, self.seen) = (None, None, None);
    }

    fn reconcile(&mut self, net: &mut Net) {
        let Some(seen) = self.seen else { return };
        let desired = if seen.owner == self.node {
            Some((Assigned::Owner { epoch: Epoch(seen.epoch) }, seen.standby))
        } else if seen.standby == Some(self.node) {
            Some((Assigned::Standby { epoch: Epoch(seen.epoch) }, Some(seen.owner)))
        } else {
            None
        };
        match (&self.running, desired) {
            (None, None) => {}
            (Some(_), None) => self.stop(net),
            (None, Some(spec)) => self.start(spec, net),
            (Some(running), Some(spec)) if (running.role, running.peer) == spec => {}
            (Some(_), Some(spec)) => self.change(spec, net),
        }
    }

    fn is_forgotten(&self, role: Assigned) -> bool {
        matches!(role, Assigned::Owner { epoch } if epoch.0 <= self.memory_starts_at)
    }

    fn start(&mut self, (role, peer): (Assigned, Option<NodeId>), net: &mut Net) {
        if self.draining.is_some() {
            return;
        }
        let actor = Actor { node: self.node, writer: self.number, number: net.number() };
        let writer = (!self.is_forgotten(role)).then(|| Writer::start(actor, &self.streams, role, (&self.means, net)));
        self.running = Some(Running { role, peer, writer });
        self.connect(net);
    }

    fn change(&mut self, (role, peer): (Assigned, Option<NodeId>), net: &mut Net) {
        let is_forgotten = self.is_forgotten(role);
        match &mut self.running {
            Some(Running { role: from, peer: with, writer: Some(writer) }) if !is_forgotten => {
                if *from != role {
                    writer.assume(role, net);
                }
                (*from, *with) = (role, peer);
                self.connect(net);
            }
            _ => {
                self.stop(net);
                self.start((role, peer), net);
            }
        }
    }

    fn stop(&mut self, net: &mut Net) {
        if let Some(mut writer) = self.running.take().and_then(|running| running.writer) {
            writer.drain(net);
            self.draining = Some(writer).filter(|writer| !writer.is_drained());
        }
    }

    /// A standby dials its owner anew.
    fn connect(&mut self, net: &mut Net) {
        let Some(Running { role, writer: Some(writer), .. }) = &self.running else { return };
        let actor = writer.actor;
        let sessions = net.sessions.iter().filter(|(_, session)| session.standby == actor);
        let former: Vec<u64> = sessions.map(|(number, _)| *number).collect();
        former.into_iter().for_each(|session| net.end_session(session));
        if matches!(role, Assigned::Standby { .. }) {
            net.after_ms((1.0, 10.0), Event::To(actor, Input::Dial));
        }
    }
}
