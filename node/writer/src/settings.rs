//! What a writer is told once, at its start.

use twinfeed_dedup::Options as MergeOptions;

/// What a frame costs besides its payload: queue entries, index, fingerprint, handle.
pub(crate) const FRAME_OVERHEAD_BYTES: usize = 128;

/// Everything a writer's decisions depend on; nothing of it changes while it lives.
#[derive(Debug, Clone)]
pub struct Settings {
    pub connector: String,
    pub topic: String,
    /// Subscriptions that the connector wants on all nodes together.
    pub feeds: u8,
    /// Names the stream in every record.
    pub stream: u64,
    /// Name of this node, for events.
    pub node: String,
    /// Of the connector's configuration, for the report.
    pub revision: u64,
    pub merge: MergeOptions,
    /// Time between two cuts while there is something to write, in microseconds.
    pub commit_interval_us: u64,
    /// How long a line may lack what its twin has delivered before it is connected anew, in milliseconds; 0: never.
    pub behind_ms_max: u64,
    /// Frames retained or not yet committed, in bytes.
    pub buffer_bytes_max: usize,
}
