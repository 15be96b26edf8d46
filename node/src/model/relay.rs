//! What standby and owner say to each other over the relay, as plain values; `relay/` carries them over gRPC.

use tokio::sync::mpsc;
use twinfeed_dedup::ToStandby;

use super::{
    frame::Frame,
    ids::{Epoch, NodeId},
};

/// From the standby's writer to the owner's, in order.
#[derive(Debug)]
pub enum StandbyMessage {
    /// The first of every relay session. `incarnation` is new whenever the standby starts without memory.
    Hello { incarnation: u64 },
    /// The standby's live subscription, if any.
    Subscription(Option<u64>),
    /// Frames of one subscription with dense indices from `first_index`.
    Frames { subscription: u64, first_index: u64, frames: Vec<Frame> },
    /// Number of the last owner message received.
    ReceivedThrough(u64),
}

/// From the owner's writer to the standby's, in order.
#[derive(Debug)]
pub enum OwnerMessage {
    /// Answers `Hello`: per subscription the owner knows, the next index it expects. Empty: it knows nothing of this standby,
    /// and numbers its messages from 1 again.
    Welcome { next: Vec<(u64, u64)> },
    /// A numbered message, repeated after a broken session until confirmed; dense from 1 for as long as the owner remembers the
    /// standby.
    Merge { number: u64, committed: Vec<(i32, i64)>, message: ToStandby },
}

/// One relay session as its user sees it: ordered messages in, ordered messages out; either end closing ends it.
#[derive(Debug)]
pub struct Session<In, Out> {
    pub incoming: mpsc::Receiver<In>,
    pub outgoing: mpsc::Sender<Out>,
}

/// A standby's session as the owner's writer sees it.
pub type StandbySession = Session<StandbyMessage, OwnerMessage>;

/// The owner's session as the standby's writer sees it.
pub type OwnerSession = Session<OwnerMessage, StandbyMessage>;

/// A relay session offered to a running writer; one of another epoch is dropped, and tried again by the standby.
#[derive(Debug)]
pub enum Offer {
    /// Standby `node` connected to this owner; `incarnation` is from its hello.
    Standby { session: StandbySession, epoch: Epoch, node: NodeId, incarnation: u64 },
    /// This standby connected to its owner.
    Owner { session: OwnerSession, epoch: Epoch },
}
