//! What each node tells the leader about itself, several times a second: the coordinator decides on it, the admin
//! API shows it. Never stored in Raft.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    connector::Assignment,
    event::Event,
    ids::{Epoch, NodeId, WriterId},
};

/// Role of a node for one writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Role {
    Owner,
    #[default]
    Standby,
}

/// One subscription at one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct SubscriptionReport {
    pub connected: bool,
    pub connected_since_ms: u64,
    pub reconnects: u64,
    pub last_error: String,
    /// Without user info and query.
    pub url: String,
    /// When a message last came, on this connection or one before; 0 before the first. Keep-alives do not count.
    #[serde(default)]
    pub last_message_ms: u64,
    /// Empty messages so far, which are never records.
    #[serde(default)]
    pub keep_alives: u64,
    /// It will not connect again; the reason.
    #[serde(default)]
    pub gave_up: Option<String>,
}

/// How one writer fares at one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct WriterReport {
    pub role: Role,
    pub epoch: Epoch,
    /// Of the connector as it runs it, which may be older than the stored one; 0 from a node that does not say.
    #[serde(default)]
    pub revision: u64,
    pub subscription: SubscriptionReport,
    /// Owner: the producer is open, fenced all others, and records can be committed.
    pub delivering: bool,
    /// Owner: the node whose relay is connected; `aligned` and `redundant` speak of it alone.
    #[serde(default)]
    pub standby: Option<NodeId>,
    /// Owner: the standby's subscription has been matched to the own one.
    pub aligned: bool,
    /// Owner: aligned and one commit cut later; without it a second fault loses data.
    pub redundant: bool,
    /// Owner: for how long records have been waiting without a commit, in milliseconds; 0 when nothing waits, and when
    /// it has failed for good.
    #[serde(default)]
    pub stalled_ms: u64,
    /// Standby: for how long Kafka has answered all its questions, in milliseconds. Asked only while the owner's acks
    /// stay away, 0 otherwise.
    #[serde(default)]
    pub kafka_reached_ms: u64,
    /// Standby: the producer that waits for a takeover has connected with this configuration.
    #[serde(default)]
    pub kafka_connected: bool,
    /// Owner by an assignment from before this process started: what it had in memory is gone, so it may only begin
    /// under a new epoch (sequences are dense per epoch).
    #[serde(default)]
    pub needs_epoch: bool,
    /// Cannot recover by itself; the reason.
    pub failed: Option<String>,
    /// Present trouble that may pass (broker unreachable, feed refuses).
    pub trouble: Option<String>,
    pub frames_received: u64,
    pub frames_deduplicated: u64,
    pub records_committed: u64,
    pub records_per_second: f64,
    pub unacked_records: u64,
    pub retained_frames: u64,
    pub latency_p50_ms: f64,
    pub latency_p99_ms: f64,
}

impl WriterReport {
    /// Whether it speaks of this role under the present assignment, and not of a former one.
    pub fn is_of(&self, role: Role, assignment: &Assignment) -> bool {
        self.role == role && self.epoch == assignment.epoch
    }

    /// Whether it runs an older revision than this. Nodes of older versions do not say what they run.
    pub fn is_older_than(&self, revision: u64) -> bool {
        self.revision > 0 && self.revision < revision
    }
}

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
    /// Events since the last report.
    pub events: Vec<Event>,
    /// Owners whose relay this node, as standby, just lost: probe them at once.
    pub suspects: Vec<NodeId>,
}

/// A node's last report as the leader knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    pub report: NodeReport,
    pub up: bool,
    /// Milliseconds since the leader heard from the node.
    pub last_contact_ms: u64,
}

/// Everything the leader knows of the nodes, by id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct ClusterView {
    pub leader: NodeId,
    pub nodes: BTreeMap<NodeId, NodeView>,
}
