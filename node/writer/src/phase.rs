//! The phases of a writer on this node.

use twinfeed_dedup::Retention;

use crate::{Epoch, owner::Owner, payload::Payload, port::TailFrom, standby::Standby};

/// What a writer is at a time.
#[derive(Debug)]
pub(crate) enum Phase {
    Standing(Box<Standby>),
    Opening(Opening),
    Owning(Box<Owner>),
    Deposed,
}

/// On the way to the producer: frames are retained until it is open.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) epoch: Epoch,
    pub(crate) retention: Box<Retention<Payload>>,
    pub(crate) tail_from: TailFrom,
    /// Everything that the former owner had is here or in the topic.
    pub(crate) redundant: bool,
    /// When the own connection was lost meanwhile, first: nobody is left to match the next one with.
    pub(crate) lost_at_ms: Option<u64>,
}

impl Opening {
    /// The own connection is gone.
    pub(crate) fn disconnected(&mut self, wall_ms: u64) {
        self.retention.disconnected();
        self.lost_at_ms.get_or_insert(wall_ms);
    }

    /// The hole that a lost connection left: until the next one's first frame, or until now if there is none yet.
    pub(crate) fn hole_ms(&self, wall_ms: u64) -> Option<(u64, u64)> {
        let lost_at_ms = self.lost_at_ms?;
        let first = self.retention.subscription().and_then(|id| self.retention.retained_from(id, 0).next());
        let first_ms = first.map(|frame| frame.payload.received_at_ns / 1_000_000);
        Some((lost_at_ms, first_ms.filter(|first_ms| *first_ms > lost_at_ms).unwrap_or(wall_ms)))
    }

    /// When the first frame that waits here was read off the wire; now, if none does.
    pub(crate) fn first_received_at_ms(&self, wall_ms: u64) -> u64 {
        self.retention.oldest_retained().map_or(wall_ms, |frame| frame.payload.received_at_ns / 1_000_000)
    }
}
