//! A record on its way to Kafka: one type from the cut of a batch to the producer.

use bytes::Bytes;

/// A record to be written: the payload as it came off the wire, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutRecord {
    /// Names the stream it belongs to.
    pub stream: u64,
    /// Position among the records made of one message, from 0.
    pub sub_index: u32,
    /// Epoch of the assignment under which it is written.
    pub epoch: u64,
    /// Dense per epoch, from 1.
    pub sequence: u64,
    pub fingerprint: u128,
    /// The subscription that delivered the frame first.
    pub subscription: u64,
    /// Index of the frame in that subscription, dense from 1.
    pub index: u64,
    /// Wall clock when the frame was read, nanoseconds since 1970.
    pub received_at_ns: u64,
    /// The record's timestamp in Kafka, milliseconds since 1970: the same moment, unless Kafka refuses it; -1 for none.
    pub timestamp_ms: i64,
    pub payload: Bytes,
}
