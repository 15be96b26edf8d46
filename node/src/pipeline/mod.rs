//! One actor per writer and node: frames in, merged, batched, committed, acknowledged.
//!
//! `writer` is the loop and owns everything; `owner`, `standby` and `opening` are what it is at a time; `outbox`,
//! `meter` and `subscription` are its small pure parts. The actor learns its role from the worker and whether it is
//! still the assigned owner through a closure: this room does not know that Raft exists.

mod handle;
mod meter;
mod opening;
mod options;
mod outbox;
mod owner;
mod pending;
mod phase;
mod progress;
mod reach;
mod standby;
mod subscription;
mod timestamps;
mod writer;

pub use handle::{Role, WriterHandle, start};
pub use opening::{Confirm, ConfirmError};
pub use options::{Emit, Options};

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;

use crate::model::frame::{Frame, FrameKind};

/// What a frame carries through the merge.
#[derive(Debug)]
pub(crate) struct Payload {
    pub(crate) bytes: Bytes,
    pub(crate) kind: FrameKind,
    pub(crate) received_at_ns: u64,
    charge: Charge,
}

/// Bytes that this writer holds, whatever part of it holds them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger(Arc<AtomicUsize>);

/// A share of the ledger, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    ledger: Ledger,
    bytes: usize,
}

impl Ledger {
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn charge(&self, payload_bytes: usize) -> Charge {
        // What a buffered frame costs besides its payload: map node, index, fingerprint, handle.
        const OVERHEAD_BYTES: usize = 128;
        let bytes = payload_bytes + OVERHEAD_BYTES;
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Charge { ledger: self.clone(), bytes }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.ledger.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Payload {
    pub(crate) fn new(frame: Frame, ledger: &Ledger) -> Self {
        let charge = ledger.charge(frame.payload.len());
        Self { bytes: frame.payload, kind: frame.kind, received_at_ns: frame.received_at_ns, charge }
    }

    /// What it is charged for.
    pub(crate) fn weight_bytes(&self) -> usize {
        self.charge.bytes
    }

    pub(crate) fn fingerprint(&self) -> twinfeed_dedup::Fingerprint {
        let kind = match self.kind {
            FrameKind::Text => twinfeed_dedup::FrameKind::Text,
            FrameKind::Binary => twinfeed_dedup::FrameKind::Binary,
        };
        twinfeed_dedup::Fingerprint::of(kind, &self.bytes)
    }
}
