//! The types openraft is generic over, fixed once: proposals in, outcomes out, node ids as `u64`.

use std::io::Cursor;

use crate::model::{
    command::{Outcome, Proposal},
    ids::NodeId,
};

openraft::declare_raft_types!(
    /// Twinfeed's openraft configuration. A snapshot is the state's JSON in memory.
    pub TypeConfig:
        D = Proposal,
        R = Outcome,
        NodeId = NodeId,
        Node = openraft::BasicNode,
        SnapshotData = Cursor<Vec<u8>>,
);

pub(super) type Entry = openraft::Entry<TypeConfig>;
pub(super) type LogId = openraft::LogId<NodeId>;
pub(super) type Raft = openraft::Raft<TypeConfig>;
pub(super) type StorageError = openraft::StorageError<NodeId>;
pub(super) type StoredMembership = openraft::StoredMembership<NodeId, openraft::BasicNode>;
pub(super) type Vote = openraft::Vote<NodeId>;
