//! The phases of a writer on this node, and what the relay brings in each.

use twinfeed_dedup::Retention;

use super::{
    Payload,
    opening::TailFrom,
    owner::Owner,
    standby::{Next, Standby},
};
use crate::{
    clock::wall_ms,
    model::{ids::Epoch, relay::StandbyMessage},
};

/// What a writer is at a time.
pub(super) enum Phase {
    Standing(Box<Standby>),
    Opening(Opening),
    Owning(Box<Owner>),
    Deposed,
}

/// On the way to the producer: frames are retained until it is open.
pub(super) struct Opening {
    pub(super) epoch: Epoch,
    pub(super) retention: Box<Retention<Payload>>,
    pub(super) tail_from: TailFrom,
    /// Everything that the former owner had is here or in the topic.
    pub(super) redundant: bool,
    /// When the own connection was lost meanwhile, first: nobody is left to match the next one with.
    pub(super) lost_at_ms: Option<u64>,
}

impl Opening {
    /// The own connection is gone.
    pub(super) fn disconnected(&mut self) {
        self.retention.disconnected();
        self.lost_at_ms.get_or_insert_with(wall_ms);
    }

    /// The hole that a lost connection left: until the next one's first frame, or until now if there is none yet.
    pub(super) fn hole_ms(&self) -> Option<(u64, u64)> {
        let lost_at_ms = self.lost_at_ms?;
        let first = self.retention.subscription().and_then(|id| self.retention.retained_from(id, 0).next());
        let first_ms = first.map(|frame| frame.payload.received_at_ns / 1_000_000);
        Some((lost_at_ms, first_ms.filter(|first_ms| *first_ms > lost_at_ms).unwrap_or_else(wall_ms)))
    }

    /// When the first frame that waits here was read off the wire; now, if none does.
    pub(super) fn first_received_at_ms(&self) -> u64 {
        self.retention.oldest_retained().map_or_else(wall_ms, |frame| frame.payload.received_at_ns / 1_000_000)
    }
}

/// What the relay brings.
pub(super) enum Relayed {
    /// None when the session has ended.
    FromStandby(Option<StandbyMessage>),
    FromOwner(Next),
}

impl Phase {
    /// Waits for the relay; for ever in a phase that has none.
    pub(super) async fn hear(&mut self) -> Relayed {
        match self {
            Phase::Owning(owner) => Relayed::FromStandby(owner.hear().await),
            Phase::Standing(standby) => Relayed::FromOwner(standby.next().await),
            Phase::Opening(_) | Phase::Deposed => std::future::pending().await,
        }
    }
}
