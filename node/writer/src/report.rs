//! What a writer says of itself: the one truth from which status, presence, metrics and pages are derived.
//!
//! A report is of one tenure: when the role or the epoch changes, its counts begin anew and its series end.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use twinfeed_dedup::MergeStatus;

use crate::{Epoch, NodeId, comparison::Comparison, frame::EndKind, meter::Histogram};

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
    /// Owner: aligned, not behind, and one commit cut later: losing the owner loses nothing. Standby: so the owner has said.
    pub redundant: bool,
    /// Owner: redundant, and its own line keeps up as well: a fault of a node or a line loses nothing that both lines
    /// deliver.
    #[serde(default)]
    pub covered: bool,
    /// Owner: how the two lines compare.
    #[serde(default)]
    pub lines: Lines,
    /// Owner: what differs between the two lines, while something does and it has been looked at.
    #[serde(default)]
    pub comparison: Option<Arc<Comparison>>,
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
    /// What only this node's own metrics show; it does not travel.
    #[serde(skip)]
    pub tally: Tally,
}

impl WriterReport {
    /// Whether it speaks of this role under this epoch, and not of a former one.
    pub fn is_of(&self, role: Role, epoch: Epoch) -> bool {
        self.role == role && self.epoch == epoch
    }

    /// Whether it runs an older revision than this. Nodes of older versions do not say what they run.
    pub fn is_older_than(&self, revision: u64) -> bool {
        self.revision > 0 && self.revision < revision
    }
}

/// How the owner's and the standby's line compare, as the owner sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Lines {
    /// Both are connected and neither has delivered anything since: nothing to compare yet, and nothing to lose.
    pub idle: bool,
    /// For how long the owner's line has lacked what the standby's has delivered, in milliseconds; 0 while it keeps up.
    pub own_behind_ms: u64,
    /// The same of the standby's line.
    pub standby_behind_ms: u64,
    /// Of the messages of the last minute, how many the owner's line alone has delivered, and how many the standby's.
    pub own_alone: u64,
    pub standby_alone: u64,
    pub of: u64,
    /// For how long one of them, though it delivers, could not be matched to the other.
    pub unmatched_ms: u64,
    /// By how much they usually differ in time.
    pub skew_ms: u64,
}

impl Lines {
    /// Which part of the messages of the last minute a line alone has: what losing it would cost now.
    pub fn part(&self, alone: u64) -> f64 {
        if self.of == 0 { 0.0 } else { alone as f64 / self.of as f64 }
    }
}

/// Why a frame or record will never be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// The buffer's limit was reached.
    BufferFull,
    /// Larger than Kafka takes.
    Oversize,
}

/// Why another node became the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailoverReason {
    OwnerDead,
    CannotDeliver,
    /// By an operator, a drain, or a stop of the owner's node.
    Requested,
}

/// A takeover by this node in this tenure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Takeover {
    pub reason: FailoverReason,
    /// From applying the assignment to the first delivery.
    pub seconds: f64,
}

/// Counts of one tenure.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tally {
    /// Whose they are.
    pub connector: Arc<str>,
    pub topic: Arc<str>,
    /// Subscriptions that the connector wants on all nodes together.
    pub feeds: u8,
    /// Frames and their payload bytes off the own connection, and when the last one was read, nanoseconds since 1970.
    pub received: u64,
    pub received_bytes: u64,
    pub last_received_at_ns: u64,
    /// Connections that ended or could not be made, by [`EndKind`].
    pub reconnects: [u64; EndKind::ALL.len()],
    /// By [`DropReason`].
    pub dropped: [u64; 2],
    /// Frames that became a message.
    pub accepted: u64,
    /// Copies that came over the own connection, and over the standby's.
    pub deduplicated: [u64; 2],
    /// These four outlive a tenure.
    pub gap_events: u64,
    pub gap_messages: u64,
    /// When the last possible loss was reported, milliseconds since 1970; 0 without one.
    pub last_gap_at_ms: u64,
    pub fenced: u64,
    pub takeover: Option<Takeover>,
    pub latency: Histogram,
    pub batch_records: Histogram,
    pub commit: Histogram,
    /// What the writer holds, in bytes and messages.
    pub held_bytes: u64,
    pub held_bytes_max: u64,
    pub ready_records: u64,
    /// Of the owner's merge.
    pub merge: MergeStatus,
}

impl DropReason {
    pub const ALL: [Self; 2] = [Self::BufferFull, Self::Oversize];
}
