//! The nouns that cross the crate's border: frames going in, records coming out, records found in the topic.
//!
//! Everyone who feeds or drains a [`Merge`](crate::Merge) uses them; they carry data and decide nothing.

use crate::Fingerprint;

/// Names one live WebSocket connection; random, made by the caller, and never used again: a reconnect is a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub u64);

/// Names one record of the topic. The order is the order of commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId {
    /// Epoch of the assignment under which the record was written, from 1. 0 means that the content is known to be in the
    /// topic, and nobody knows in which record; the sequence then only tells such entries apart.
    pub epoch: u64,
    /// Position within the epoch, dense from 1. A hole is a record that the overflow policy dropped.
    pub sequence: u64,
}

impl RecordId {
    /// Stands for any record of the topic, where nobody needs to tell it apart.
    pub const UNKNOWN: Self = Self { epoch: 0, sequence: 0 };
}

/// A frame off the wire, or out of the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<P> {
    /// The connection that delivered it.
    pub subscription: SubscriptionId,
    /// Position within the subscription, dense from 1.
    pub index: u64,
    /// What it is recognised by.
    pub fingerprint: Fingerprint,
    /// What holding it costs in bytes, payload and overhead, as the caller counts it; every limit in bytes adds these up.
    pub bytes: usize,
    /// Opaque to this crate.
    pub payload: P,
}

/// A message that has to be written, with everything its record headers carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<P> {
    /// Its name in the topic.
    pub id: RecordId,
    /// What it is recognised by.
    pub fingerprint: Fingerprint,
    /// The connection that delivered it first.
    pub subscription: SubscriptionId,
    /// Its index within that subscription.
    pub index: u64,
    /// What its frame weighed.
    pub bytes: usize,
    /// Opaque to this crate.
    pub payload: P,
}

/// What a [`Merge`](crate::Merge) holds in bytes, by where it is. Only `ready` waits for Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeldBytes {
    /// Records waiting for a batch.
    pub ready: usize,
    /// Records of the batch in flight; the caller has them, and their bytes count until the commit.
    pub in_flight: usize,
    /// Frames of newcomers waiting for alignment; bounded by [`Options::joining_bytes_max`](crate::Options) for each side.
    pub joining: usize,
}

impl HeldBytes {
    /// All of it.
    pub fn total(self) -> usize {
        self.ready + self.in_flight + self.joining
    }
}

/// The headers of one record read back from the topic's tail at a takeover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailRecord {
    /// Its name in the topic.
    pub id: RecordId,
    /// What it is recognised by.
    pub fingerprint: Fingerprint,
    /// The connection that delivered it.
    pub subscription: SubscriptionId,
    /// Its index within that subscription.
    pub index: u64,
    /// The former owner had told this standby of it: a frame of a subscription that it had aligned is no copy of it.
    pub acknowledged: bool,
}
