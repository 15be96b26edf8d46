//! How one node's Raft is set up. `config` fills it; nothing here reads files or the environment.

use std::path::PathBuf;

use super::error::Error;

/// Options of one node.
#[derive(Debug, Clone)]
pub struct Options {
    /// Directory of the identity, the log and the snapshot; made with mode 0700.
    pub data_dir: PathBuf,
    /// What people call this node; unique in the cluster, kept in the data directory.
    pub name: String,
    /// Failure domain; empty when unknown.
    pub zone: String,
    /// host:port under which other nodes reach this node's internal listener.
    pub internal_address: String,
    /// host:port of the admin listener, for people.
    pub admin_address: String,
    /// Name and internal address of the nodes that found the cluster together, the same list on each of them.
    /// Empty: this node alone is the cluster.
    pub initial_members: Vec<(String, String)>,
    /// The cluster's name; a node with another name is refused.
    pub cluster_name: String,
    /// Interval of the leader's heartbeats and time limit of one append, in milliseconds. Default 100.
    pub heartbeat_ms: u64,
    /// Bounds of the election timeout in milliseconds. Default 300..400. A lost leader is replaced within about the
    /// upper bound (its lease) plus this node's own timeout.
    pub election_ms: (u64, u64),
    /// How long a proposal is tried, over elections and forwards, in milliseconds. Default 5,000.
    pub propose_timeout_ms: u64,
    /// How long a linearizable read is tried, in milliseconds. Default 3,000.
    pub read_timeout_ms: u64,
    /// Log entries after which a snapshot is taken. Default 2,000.
    pub snapshot_entries: u64,
    /// Largest message between nodes in bytes, both ways. Default 16 MiB, which is also the least that snapshots fit.
    pub message_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::new(),
            name: String::new(),
            zone: String::new(),
            internal_address: String::new(),
            admin_address: String::new(),
            initial_members: Vec::new(),
            cluster_name: "twinfeed".to_owned(),
            heartbeat_ms: 100,
            election_ms: (300, 400),
            propose_timeout_ms: 5_000,
            read_timeout_ms: 3_000,
            snapshot_entries: 2_000,
            message_bytes_max: 16 * 1024 * 1024,
        }
    }
}

/// Bytes of a snapshot per message. As JSON numbers they grow up to fourfold, still a quarter of the message limit.
const SNAPSHOT_CHUNK_BYTES: u64 = 1024 * 1024;
/// Time limit of one snapshot message, in milliseconds: the last one includes an fsync of the whole state.
const SNAPSHOT_CHUNK_TIMEOUT_MS: u64 = 10_000;

impl Options {
    /// The initial members in the form nodes compare: sorted, "name=address" joined by commas.
    pub(super) fn member_list(&self) -> String {
        let mut members: Vec<_> =
            self.initial_members.iter().map(|(name, address)| format!("{name}={address}")).collect();
        members.sort();
        members.join(",")
    }

    pub(super) fn openraft_config(&self) -> Result<openraft::Config, Error> {
        let config = openraft::Config {
            cluster_name: self.cluster_name.clone(),
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: self.election_ms.0,
            election_timeout_max: self.election_ms.1,
            install_snapshot_timeout: SNAPSHOT_CHUNK_TIMEOUT_MS,
            snapshot_max_chunk_size: SNAPSHOT_CHUNK_BYTES,
            snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(self.snapshot_entries),
            replication_lag_threshold: self.snapshot_entries.saturating_mul(2),
            max_in_snapshot_log_to_keep: self.snapshot_entries / 2,
            ..openraft::Config::default()
        };
        config.validate().map_err(|e| Error::refused(format!("the raft timeouts do not fit together: {e}")))
    }
}
