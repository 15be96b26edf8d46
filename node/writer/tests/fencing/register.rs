//! Raft as everything else sees it: one linearizable register with the assignment of the one writer.
//!
//! Its value changes at one point in time and strictly upwards; who learns of it when is the network's affair. Mirrors `assign` and
//! `new_epoch` of `node/src/control/state.rs`: a new owner is a new epoch (the index of the log entry), a new standby is not.

use super::net::NodeId;

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
    now: Assignment,
}

impl Register {
    pub(crate) fn new(owner: NodeId, standby: Option<NodeId>) -> Self {
        Self { now: Assignment { owner, standby, epoch: 1, index: 1 } }
    }

    pub(crate) fn read(&self) -> Assignment {
        self.now
    }

    pub(crate) fn assign(&mut self, owner: NodeId, standby: Option<NodeId>) -> Assignment {
        let index = self.now.index + 1;
        let epoch = if owner == self.now.owner { self.now.epoch } else { index };
        self.now = Assignment { owner, standby, epoch, index };
        self.now
    }

    pub(crate) fn new_epoch(&mut self) -> Assignment {
        let index = self.now.index + 1;
        self.now = Assignment { epoch: index, index, ..self.now };
        self.now
    }
}
