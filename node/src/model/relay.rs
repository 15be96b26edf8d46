//! What standby and owner say to each other over the relay, as plain values; `relay/` carries them over gRPC.

use tokio::sync::mpsc;
pub use twinfeed_writer::relay::{OwnerMessage, StandbyMessage};

use super::ids::{Epoch, NodeId};

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
