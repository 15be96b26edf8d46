//! What a frame carries through the merge, and how a numbered one is made of it.

use bytes::Bytes;
use twinfeed_dedup::{Fingerprint, SubscriptionId};

use crate::{
    frame::{Frame, FrameKind},
    settings::FRAME_OVERHEAD_BYTES,
};

/// The content of a frame and when it was read.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) bytes: Bytes,
    pub(crate) kind: FrameKind,
    pub(crate) received_at_ns: u64,
}

/// A frame under its name in the protocol, weighed and recognised.
pub(crate) fn numbered(subscription: SubscriptionId, index: u64, frame: Frame) -> twinfeed_dedup::Frame<Payload> {
    let kind = match frame.kind {
        FrameKind::Text => twinfeed_dedup::FrameKind::Text,
        FrameKind::Binary => twinfeed_dedup::FrameKind::Binary,
    };
    twinfeed_dedup::Frame {
        subscription,
        index,
        fingerprint: Fingerprint::of(kind, &frame.payload),
        bytes: frame.payload.len() + FRAME_OVERHEAD_BYTES,
        payload: Payload { bytes: frame.payload, kind: frame.kind, received_at_ns: frame.received_at_ns },
    }
}
