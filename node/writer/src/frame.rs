//! A frame: what one WebSocket subscription delivered, as it came off the wire, and what a feed tells its writer.

use bytes::Bytes;

/// The wire kind of a WebSocket data frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    Text,
    Binary,
}

/// One data frame with the moment it was read.
#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: FrameKind,
    pub payload: Bytes,
    /// Wall clock at the read, nanoseconds since 1970. Informational: no decision rests on it.
    pub received_at_ns: u64,
}

/// What a feed session tells its writer, in order. `subscription` is random and new for every connection.
#[derive(Debug)]
pub enum FeedEvent {
    /// Connected, and every subscription message sent.
    Opened { subscription: u64 },
    /// Frames of the live subscription in order; never empty.
    Frames { subscription: u64, frames: Vec<Frame> },
    /// The connection is gone; a reconnect follows by itself unless the session was stopped or gives up.
    Closed { subscription: u64, reason: String },
    /// A connect attempt failed; the next one comes after `retry_in_ms` unless the session gives up.
    ConnectFailed { reason: String, attempt: u32, retry_in_ms: u64 },
    /// The last event: reconnecting is disabled or its attempts are used up. Only an operator can help.
    GaveUp { reason: String },
}
