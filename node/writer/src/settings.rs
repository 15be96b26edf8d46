//! What a writer is told of a stream, once.

use twinfeed_dedup::Options as MergeOptions;

use crate::{Epoch, StreamId};

/// What a frame costs besides its payload: queue entries, index, fingerprint, handle.
pub(crate) const FRAME_OVERHEAD_BYTES: usize = 128;

/// Everything a stream's decisions depend on; nothing of it changes while it lives.
#[derive(Debug, Clone)]
pub struct Settings {
    pub connector: String,
    pub topic: String,
    /// Subscriptions that the connector wants on all nodes together.
    pub feeds: u8,
    pub stream: StreamId,
    /// The log index at which the stream came to its writer: no record of it has a smaller epoch, so whatever writers it had before,
    /// its epochs never decrease.
    pub since: Epoch,
    /// Name of this node, for events.
    pub node: String,
    /// Of the connector's configuration, for the report.
    pub revision: u64,
    pub merge: MergeOptions,
    /// Time between two cuts while there is something to write, in microseconds; a writer goes by the shortest of its streams.
    pub commit_interval_us: u64,
    /// How long a line may lack what its twin has delivered before it is connected anew, in milliseconds; 0: never.
    pub behind_ms_max: u64,
    /// Frames retained or not yet committed, in bytes.
    pub buffer_bytes_max: usize,
}
