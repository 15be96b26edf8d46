//! A relay session as `relay`, which keeps it open, and `pipeline`, which speaks over it, see it: ordered messages each way,
//! and how many bytes of them may wait. A session that has no room keeps nobody waiting but the message that does not fit.

use crate::{
    model::{
        ids::{Epoch, NodeId},
        relay::{OwnerMessage, StandbyMessage},
    },
    queue::{Receiver, Sender, Weight, channel},
};

/// Bytes that wait in one direction of a session, at either end, or one message that is larger: as much as HTTP/2 lets be
/// under way between the two.
pub const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A burst of small messages belongs to the writer, which may still merge or drop what they speak of.
const WAITING_MESSAGES_MAX: usize = 32;

/// One session; either end closing ends it.
#[derive(Debug)]
pub struct Session<In, Out> {
    pub incoming: Receiver<In>,
    pub outgoing: Sender<Out>,
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

/// What takes of a session's bytes.
pub trait Weigh {
    /// What it holds of memory.
    fn bytes(&self) -> usize;

    /// What it takes of a direction's bounds.
    fn weight(&self) -> Weight {
        Weight { items: 1, bytes: self.bytes() }
    }
}

impl Weigh for StandbyMessage {
    fn bytes(&self) -> usize {
        Self::bytes(self)
    }
}

impl Weigh for OwnerMessage {
    fn bytes(&self) -> usize {
        Self::bytes(self)
    }
}

/// One direction of a session at one end.
pub fn direction<M: Weigh>() -> (Sender<M>, Receiver<M>) {
    channel(WAITING_MESSAGES_MAX, WAITING_BYTES_MAX)
}
