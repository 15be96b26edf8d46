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
}

impl Opening {
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
