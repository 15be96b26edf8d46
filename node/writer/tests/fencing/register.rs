//! Raft as everything else sees it: one linearizable log with the assignment of each stream's writer.
//!
//! Its value changes at one point in time and strictly upwards; who learns of it when is the network's affair. Mirrors `assign` and
//! `new_epoch` of `node/src/control/state.rs`: a new owner is a new epoch (the index of the log entry), a new standby is not.

use super::net::{NodeId, StreamNo};

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
}

impl Register {
    /// One entry of the log for the first assignment of each stream.
    pub(crate) fn new(first: impl Iterator<Item = (NodeId, NodeId)>) -> Self {
        let assigned = |(index, (owner, standby))| Assignment { owner, standby: Some(standby), epoch: index, index };
        let now: Vec<Assignment> = (1..).zip(first).map(assigned).collect();
        Self { index: now.len() as u64, now }
    }

    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    pub(crate) fn read(&self, stream: StreamNo) -> Assignment {
        self.now[stream]
    }

    pub(crate) fn assign(&mut self, stream: StreamNo, owner: NodeId, standby: Option<NodeId>) -> Assignment {
        self.index += 1;
        let (index, now) = (self.index, &mut self.now[stream]);
        let epoch = if owner == now.owner { now.epoch } else { index };
        *now = Assignment { owner, standby, epoch, index };
        *now
    }

    pub(crate) fn new_epoch(&mut self, stream: StreamNo) -> Assignment {
        self.index += 1;
        let (index, now) = (self.index, &mut self.now[stream]);
        *now = Assignment { epoch: index, index, ..*now };
        *now
    }
}
