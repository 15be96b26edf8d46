//! What a merge reports: the fate of a frame, its state at a glance, and the events an operator must know of.
//!
//! The pipeline turns these into metrics, the stream's state and events; nothing in the merge depends on them.

use crate::SubscriptionId;

/// Says what became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// A new message: it will be in one of the next batches.
    Fresh,
    /// The copy of a message that is known already.
    Duplicate,
    /// Buffered: its subscription is not aligned yet. The frame may have completed the alignment.
    Joining,
    /// Not taken in.
    Ignored(Ignored),
}

/// Says why a frame was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// Its index was received before: normal after a broken relay.
    AlreadyReceived,
    /// Frames before it are missing: the caller must send them first, or start a new subscription.
    Hole,
    /// A later subscription of the same node has taken over.
    Superseded,
    /// The subscription was never announced.
    UnknownSubscription,
}

/// What a merge holds, in bytes as the caller weighs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeldBytes {
    /// Records waiting for a batch.
    pub ready: usize,
    /// Records of the batch in flight.
    pub in_flight: usize,
    /// Frames of newcomers waiting for alignment.
    pub joining: usize,
}

/// The state of a merge at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MergeStatus {
    /// The owner's subscription is live and aligned.
    pub own_aligned: bool,
    /// The standby's subscription is live and aligned.
    pub standby_aligned: bool,
    /// The standby's subscription is live, aligned, and holds everything that is not in the topic.
    pub redundant: bool,
    /// A single fault may lose or repeat messages: not (own aligned, standby redundant).
    pub at_risk: bool,
    /// Entries in the window.
    pub entries: usize,
    /// Frames of newcomers waiting for alignment.
    pub joining_frames: usize,
    /// Frames of the standby waiting for a commit.
    pub unacked_frames: usize,
    /// Records waiting for a batch.
    pub ready_records: usize,
    /// Records of the batch in flight.
    pub in_flight_records: usize,
}

/// An event worth an operator's or an auditor's attention. Times are the caller's `now_ms`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A newcomer was matched, position by position.
    Aligned {
        /// The newcomer.
        subscription: SubscriptionId,
        /// Frames it had delivered by then.
        after_frames: u64,
    },
    /// A newcomer was accepted without a match, because nothing live was left to match it with: messages between the two
    /// times may be missing, and a few around them may be in the topic twice.
    AlignedByFiat {
        /// The newcomer.
        subscription: SubscriptionId,
        /// When the last frame before it arrived; `None` if there was none under this owner.
        last_before_ms: Option<u64>,
        /// When its own first frame arrived.
        first_after_ms: u64,
    },
    /// The window was full before an aligned subscription caught up: it has to align anew.
    AlignmentLost {
        /// The subscription that lags.
        subscription: SubscriptionId,
    },
    /// The two feeds do not carry the same messages (conflation, wrong endpoint): the topic holds the union.
    FeedsDiffer {
        /// The subscription that lacks messages of the other.
        subscription: SubscriptionId,
        /// Messages it never delivered, out of the last `messages`.
        unmatched: u64,
        /// Messages looked at.
        messages: u64,
    },
}
