//! What standby and owner say to each other over the relay, as plain values; the node carries them over gRPC.

use twinfeed_dedup::{Fingerprint, RecordId, Resolved, ToStandby};

use crate::frame::Frame;

/// From the standby's writer to the owner's, in order.
#[derive(Debug, Clone)]
pub enum StandbyMessage {
    /// The first of every relay session. `incarnation` is new whenever the standby starts without memory.
    Hello { incarnation: u64 },
    /// The standby's live subscription, if any.
    Subscription(Option<u64>),
    /// Frames of one subscription with dense indices from `first_index`.
    Frames { subscription: u64, first_index: u64, frames: Vec<Frame> },
    /// Number of the last owner message received.
    ReceivedThrough(u64),
    /// Answers the owner's question, once everything that had been read from the own connection when it came has been sent.
    AllSent { asked_at_ms: u64 },
}

/// From the owner's writer to the standby's, in order.
#[derive(Debug, Clone)]
pub enum OwnerMessage {
    /// Answers `Hello`: per subscription the owner knows, the next index it expects. Empty: it knows nothing of this standby,
    /// and numbers its messages from 1 again.
    Welcome { next: Vec<(u64, u64)> },
    /// A numbered message, repeated after a broken session until confirmed; dense from 1 for as long as the owner remembers the
    /// standby.
    Merge { number: u64, committed: Vec<(i32, i64)>, message: ToStandby },
    /// The owner does not know this standby: it is to say `Hello` again.
    Greet,
    /// Asks whether the standby has sent all it has, and says what its line lacks. Not numbered: one that is lost is asked again.
    Question {
        /// The owner's own clock; it comes back with the answer.
        asked_at_ms: u64,
        /// The standby's subscription that `behind_ms` speaks of; 0 for none.
        subscription: u64,
        /// For how long its line has lacked what the owner's has delivered; 0 while it keeps up.
        behind_ms: u64,
    },
}

impl StandbyMessage {
    /// What it takes of memory beside itself. Whoever retains its frames shares their payload.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Frames { frames, .. } => frames.iter().map(Frame::bytes).sum(),
            Self::Hello { .. } | Self::Subscription(_) | Self::ReceivedThrough(_) | Self::AllSent { .. } => 0,
        }
    }
}

impl OwnerMessage {
    /// What it takes of memory beside itself.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Welcome { next } => size_of_val(next.as_slice()),
            Self::Merge { committed, message, .. } => size_of_val(committed.as_slice()) + merge_bytes(message),
            Self::Greet | Self::Question { .. } => 0,
        }
    }
}

/// The same for what the merge says to a standby, without what the allocator adds.
pub(crate) fn merge_bytes(message: &ToStandby) -> usize {
    match message {
        ToStandby::Surplus { snapshot, .. } => snapshot.len(),
        ToStandby::Ack(ack) => {
            ack.unseen.len() * size_of::<(RecordId, Fingerprint)>() + ack.resolved.len() * size_of::<Resolved>()
        }
    }
}
