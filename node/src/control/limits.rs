//! Bounds of the cluster state. Every replica must refuse alike, so they are constants of the log format, not options:
//! raising one needs every node upgraded first, lowering one must not touch what is stored already.

/// Longest name of a cluster, node or connector, and longest address or zone, in bytes.
pub(super) const NAME_BYTES_MAX: usize = 255;
/// Longest request id in bytes; a UUID has 36.
pub(super) const REQUEST_ID_BYTES_MAX: usize = 128;
/// Most members, dead ones included until they are removed.
pub(super) const NODES_MAX: usize = 64;
/// Most connectors.
pub(super) const CONNECTORS_MAX: usize = 10_000;
/// Largest configuration of one connector: sum of its keys and values in bytes. Real ones have about 2 KiB; the rest is
/// room for inline certificates. An entry must also fit one append between nodes, see `raft::network`.
pub(super) const CONFIG_BYTES_MAX: usize = 256 * 1024;
/// Largest sum of all configurations in bytes: the state is held in memory and sent as one snapshot.
pub(super) const CONFIGS_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long an outcome is remembered for a repeated request id, in milliseconds: 24 h.
pub(super) const REQUEST_AGE_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// Most remembered outcomes, oldest forgotten first.
pub(super) const REQUESTS_MAX: usize = 4096;
/// Outcomes that are kept whatever their age: one proposer with a clock days ahead must not erase the memory that makes
/// a retry over an election safe.
pub(super) const REQUESTS_KEPT_MIN: usize = 512;
/// Most removed node ids remembered. An id is random and never comes back, so this only refuses late zombies.
pub(super) const REMOVED_NODES_MAX: usize = 1024;
