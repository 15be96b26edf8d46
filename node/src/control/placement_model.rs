//! What `placement` is told about nodes and writers, and what it answers. Plain values: the coordinator fills them from
//! cluster state and the nodes' reports, and proposes the answer.

use crate::model::{
    connector::{Assignment, Redundancy},
    ids::{NodeId, WriterId},
};

/// Whether a member lives, as far as the leader can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    Up,
    /// It says nothing, which frozen, cut-off and slow nodes do as well as dead ones: it may still hold what nobody else
    /// does.
    Silent,
    /// Its address refuses connections, or it has been silent for too long to wait for it.
    Dead,
}

/// A member as the leader sees it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    pub id: NodeId,
    /// Failure domain; empty when unknown, which never counts as the same as another.
    pub zone: String,
    pub liveness: Liveness,
    pub draining: bool,
}

/// A writer as the leader sees it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterFacts {
    pub id: WriterId,
    /// Wants an assignment: running or paused. False when stopped.
    pub running: bool,
    pub redundancy: Redundancy,
    pub assignment: Option<Assignment>,
    /// The node an operator wants as owner.
    pub wanted_owner: Option<NodeId>,
    /// The standby is aligned and could take over now without loss, as both nodes see it.
    pub redundant: bool,
    /// The standby says that it could take over now without loss; None while it says nothing.
    pub standby_holds: Option<bool>,
    /// The owner runs an older revision than its standby does: another configuration, or not restarted yet.
    pub outdated: bool,
    /// Whether records of the owner reach Kafka; None while nobody knows yet.
    pub owner_delivers: Option<bool>,
    /// The standby's subscription is connected and it could deliver.
    pub standby_ready: bool,
    /// Damped: the owner moved too often lately, so nothing but its death or an operator moves it now.
    pub hold: bool,
}

/// Where one writer shall live. A standby implies an owner on another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    pub writer: WriterId,
    pub owner: Option<NodeId>,
    pub standby: Option<NodeId>,
}
