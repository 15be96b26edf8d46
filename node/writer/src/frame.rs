//! A frame: what one WebSocket subscription delivered, as it came off the wire; and what a session tells of itself.

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

impl Frame {
    /// Whether it carries nothing: servers send empty messages, or text of nothing but white space, to keep a connection
    /// open. Such a message is never a record, and no sign that the feed itself goes on.
    pub fn is_keep_alive(&self) -> bool {
        match self.kind {
            FrameKind::Text => self.payload.iter().all(u8::is_ascii_whitespace),
            FrameKind::Binary => self.payload.is_empty(),
        }
    }

    /// What it takes of memory.
    pub fn bytes(&self) -> usize {
        self.payload.len() + size_of::<Self>()
    }
}

/// Why a connection ended or was not made, as far as somebody who counts it must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndKind {
    /// No connection: configuration, name, address, TCP or TLS.
    Connect,
    /// The server did not answer the upgrade as it should.
    Handshake,
    /// The server closed or reset the connection.
    Closed,
    /// Nothing came for longer than the idle or pong timeout.
    Idle,
    /// The server broke the protocol, or made work without delivering.
    Protocol,
    /// A message was larger than the bound.
    Oversize,
    /// Asked for by this node.
    Restart,
}

impl EndKind {
    pub const ALL: [Self; 7] =
        [Self::Connect, Self::Handshake, Self::Closed, Self::Idle, Self::Protocol, Self::Oversize, Self::Restart];
}

/// What a feed session tells its writer, in order. `subscription` is random and new for every connection.
#[derive(Debug)]
pub enum FeedEvent {
    /// Connected, and every subscription message sent; `connect_ms` after the dial began.
    Opened { subscription: u64, connect_ms: u64 },
    /// Frames of the live subscription in order; never empty, and no keep-alive among them.
    Frames { subscription: u64, frames: Vec<Frame> },
    /// The connection is gone; a reconnect or `GaveUp` follows by itself unless the session was stopped.
    Closed { subscription: u64, kind: EndKind, reason: String },
    /// A connect attempt failed; the next one comes after `retry_in_ms`.
    ConnectFailed { kind: EndKind, reason: String, attempt: u32, retry_in_ms: u64 },
    /// The last event of all: reconnecting is disabled or its attempts are used up. The connector has failed.
    GaveUp { reason: String },
}

impl FeedEvent {
    /// What it takes of memory.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Opened { .. } => 0,
                Self::Frames { frames, .. } => frames.iter().map(Frame::bytes).sum(),
                Self::Closed { reason, .. } | Self::ConnectFailed { reason, .. } | Self::GaveUp { reason } => {
                    reason.len()
                }
            }
    }

    /// The frames in it; any other event counts as one.
    pub fn frames(&self) -> usize {
        match self {
            Self::Frames { frames, .. } => frames.len(),
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: FrameKind, payload: &'static [u8]) -> Frame {
        Frame { kind, payload: Bytes::from_static(payload), received_at_ns: 0 }
    }

    #[test]
    fn what_carries_nothing_is_a_keep_alive() {
        for payload in [&b""[..], b" ", b"\n", b"\r\n\t "] {
            assert!(frame(FrameKind::Text, payload).is_keep_alive(), "{payload:?}");
        }
        assert!(frame(FrameKind::Binary, b"").is_keep_alive());
        for (kind, payload) in [
            (FrameKind::Text, &b" x "[..]),
            (FrameKind::Text, b"\0"),
            (FrameKind::Binary, b" "),
            (FrameKind::Binary, b"\n"),
        ] {
            assert!(!frame(kind, payload).is_keep_alive(), "{payload:?}");
        }
    }

    #[test]
    fn an_event_weighs_what_it_holds() {
        let frames = vec![frame(FrameKind::Text, b"four"), frame(FrameKind::Text, b"six666")];
        let event = FeedEvent::Frames { subscription: 1, frames };
        assert_eq!((event.frames(), event.bytes()), (2, size_of::<FeedEvent>() + 10 + 2 * size_of::<Frame>()));
        let event = FeedEvent::GaveUp { reason: "why".into() };
        assert_eq!((event.frames(), event.bytes()), (1, size_of::<FeedEvent>() + 3));
    }
}
