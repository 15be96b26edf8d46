//! Raft as everything else sees it: one linearizable log with the assignment of each writer.
//!
//! Its value changes at one point in time and strictly upwards; who learns of it when is the network's affair. Mirrors `assign` and
//! `new_epoch` of `node/src/control/state.rs`: a new owner is a new epoch (the index of the log entry), a new standby is not.

use std::rc::Rc;

use super::net::{NodeId, StreamNo, WriterNo};

/// The streams of a writer, each with the index of the entry by which it came.
pub(crate) type Streams = Rc<[(StreamNo, u64)]>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) owner: NodeId,
    pub(crate) standby: Option<NodeId>,
    pub(crate) epoch: u64,
    /// Index of the entry that made it.
    pub(crate) index: u64,
}

#[derive(Debug)]
pub(crate) struct Register {
    index: u64,
    now: Vec<Assignment>,
    streams: Vec<Streams>,
}

impl Register {
    /// One entry of the log for the first assignment of each writer.
    pub(crate) fn new(first: impl Iterator<Item = (NodeId, NodeId)>, streams: Vec<Vec<StreamNo>>) -> Self {
        let assigned = |(index, (owner, standby))| Assignment { owner, standby: Some(standby), epoch: index, index };
        let now: Vec<Assignment> = (1..).zip(first).map(assigned).collect();
        let streams = streams.into_iter().map(|streams| streams.into_iter().map(|stream| (stream, 0)).collect());
        Self { index: now.len() as u64, now, streams: streams.collect() }
    }

    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    pub(crate) fn read(&self, writer: WriterNo) -> Assignment {
        self.now[writer]
    }

    pub(crate) fn streams(&self, writer: WriterNo) -> Streams {
        Rc::clone(&self.streams[writer])
    }

    /// The stream comes to its writer, or leaves it.
    pub(crate) fn turn(&mut self, writer: WriterNo, stream: StreamNo) -> Assignment {
        self.index += 1;
        let index = self.index;
        let is_there = self.streams[writer].iter().any(|(known, _)| *known == stream);
        let others = self.streams[writer].iter().copied().filter(|(known, _)| *known != stream);
        self.streams[writer] = others.chain((!is_there).then_some((stream, index))).collect();
        self.now[writer].index = index;
        self.now[writer]
    }

    pub(crate) fn assign(&mut self, writer: WriterNo, owner: NodeId, standby: Option<NodeId>) -> Assignment {
        self.index += 1;
        let (index, now) = (self.index, &mut self.now[writer]);
        let epoch = if owner == now.owner { now.epoch } else { index };
        *now = Assignment { owner, standby, epoch, index };
        *now
    }

    pub(crate) fn new_epoch(&mut self, writer: WriterNo) -> Assignment {
        self.index += 1;
        let (index, now) = (self.index, &mut self.now[writer]);
        *now = Assignment { epoch: index, index, ..*now };
        *now
    }
}
