//! A connector as stored: the byte-exact configuration map, and the checked specification read from it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ids::{Epoch, NodeId, WriterId};

/// The configuration map exactly as submitted (Kafka Connect shape).
pub type Config = BTreeMap<String, String>;

/// What an operator asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetState {
    Running,
    Paused,
    Stopped,
}

/// A connector in cluster state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connector {
    pub name: String,
    pub config: Config,
    pub target: TargetState,
    /// Raft log index of the last change of this connector; the etag.
    pub revision: u64,
    /// That of the last change for which both nodes reopen at once.
    #[serde(default)]
    pub reopened: u64,
    /// That of the last change of the configuration. Who runs this one or a later one only lacks a restart.
    #[serde(default)]
    pub configured: u64,
    /// That of its creation. A connector deleted and made anew under its old name is another one, and so is its stream.
    #[serde(default)]
    pub created: u64,
    pub created_at_ms: u64,
    pub updated_at_ms: u64,
    pub writer: WriterId,
}

/// Who writes: owner and standby of one writer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    pub owner: NodeId,
    pub standby: Option<NodeId>,
    pub epoch: Epoch,
    /// Which of the connector's two URLs the owner reads; the standby reads the other.
    #[serde(default)]
    pub owner_line: Line,
}

/// One of a connector's two URLs. Without a second URL both lines read the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Line {
    #[default]
    Primary,
    Secondary,
}

impl Line {
    /// The one that the twin reads.
    pub fn other(self) -> Self {
        match self {
            Self::Primary => Self::Secondary,
            Self::Secondary => Self::Primary,
        }
    }
}

/// A fencing domain in cluster state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// Connectors whose streams move together with this writer.
    pub connectors: Vec<String>,
    pub assignment: Option<Assignment>,
    /// The node an operator wants as owner (`failover --to-node`); cleared when it is.
    pub wanted_owner: Option<NodeId>,
}

/// A member of the cluster in cluster state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct NodeRecord {
    pub id: NodeId,
    pub name: String,
    /// host:port of the internal gRPC listener.
    pub internal_address: String,
    /// host:port of the admin gRPC listener.
    pub admin_address: String,
    /// Failure domain; empty when unknown.
    pub zone: String,
    pub draining: bool,
}

/// One subscription of two, or one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redundancy {
    Dual,
    Single,
}
