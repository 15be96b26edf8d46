//! What each node tells the leader about itself, several times a second: the coordinator decides on it, the admin
//! API shows it. Never stored in Raft.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use twinfeed_writer::comparison::Comparison;
pub use twinfeed_writer::report::{Lines, Role, SubscriptionReport, WriterReport};

use super::ids::{NodeId, WriterId};

/// The reports of the writers that run on a node, as they change.
pub type WriterReports = BTreeMap<WriterId, watch::Receiver<WriterReport>>;

/// One node's report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct NodeReport {
    pub id: NodeId,
    pub name: String,
    pub version: String,
    /// On its way out: as good as draining.
    #[serde(default)]
    pub leaving: bool,
    pub term: u64,
    pub last_log_index: u64,
    pub applied_index: u64,
    /// By writer id.
    pub writers: BTreeMap<String, WriterReport>,
}

/// A node's last report as the leader knows it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NodeView {
    pub report: NodeReport,
    pub up: bool,
    /// Milliseconds since the leader heard from the node.
    pub last_contact_ms: u64,
}

/// Everything the leader knows of the nodes, by id.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClusterView {
    pub leader: NodeId,
    pub nodes: BTreeMap<NodeId, NodeView>,
}
