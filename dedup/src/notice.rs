//! What a merge reports: the fate of a frame, its state at a glance, and the events an operator must know of.
//!
//! The pipeline turns these into metrics, the stream's state and events; nothing in the merge depends on them.

use crate::{Fingerprint, RecordId, Side, SubscriptionId};

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

/// The state of a merge at a glance. Times are the caller's `now_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MergeStatus {
    /// The owner's subscription is live and aligned.
    pub own_aligned: bool,
    /// The standby's subscription is live and aligned.
    pub standby_aligned: bool,
    /// The standby's subscription is live, aligned, not behind, and holds everything that is not in the topic: losing the
    /// owner loses nothing but what the owner's line alone has.
    pub redundant: bool,
    /// A single fault may lose or repeat messages: not (own aligned and not behind, standby redundant).
    pub at_risk: bool,
    /// The moment from which on the owner's line lacks what the standby's has delivered; `None` while it keeps up.
    pub own_behind_since_ms: Option<u64>,
    /// The moment from which on the standby's line lacks what the owner's has delivered; `None` while it keeps up.
    pub standby_behind_since_ms: Option<u64>,
    /// Messages of the last minute that the owner's line alone has delivered.
    pub own_alone: Share,
    /// Messages of the last minute that the standby's line alone has delivered.
    pub standby_alone: Share,
    /// Since when the owner's live subscription has waited for its place; `None` if it is aligned or down.
    pub own_joining_since_ms: Option<u64>,
    /// Since when the standby's live subscription has waited for its place; `None` if it is aligned or down.
    pub standby_joining_since_ms: Option<u64>,
    /// Frames of the owner's subscription since both present ones were there.
    pub own_frames: u64,
    /// Frames of the standby's subscription since both present ones were there.
    pub standby_frames: u64,
    /// Both subscriptions are live and neither has delivered since: there is nothing to compare yet, and nothing to lose.
    pub idle: bool,
    /// By how much the two lines usually differ in time.
    pub skew_ms: u64,
    /// Within the last minute the window was full before the span was over: this is how long it has held its entries.
    pub span_cut_to_ms: Option<u64>,
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

/// A part of the messages of some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// The part.
    pub messages: u64,
    /// All of them.
    pub of: u64,
}

/// A message that only one line has delivered, for showing. The caller may know its payload by the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alone {
    /// Its record.
    pub record: RecordId,
    /// What it is recognised by.
    pub fingerprint: Fingerprint,
    /// When it was delivered.
    pub at_ms: u64,
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
        /// When its own first frame arrived; never before `last_before_ms`.
        first_after_ms: u64,
    },
    /// The window was full before an aligned subscription caught up: it has to align anew.
    AlignmentLost {
        /// The subscription that lags.
        subscription: SubscriptionId,
    },
    /// A line lacks what the other has delivered for longer than their usual skew, though its connection lives.
    Behind {
        /// The subscription that lacks messages.
        subscription: SubscriptionId,
        /// Whose it is.
        side: Side,
        /// It lacks messages from this moment on.
        since_ms: u64,
        /// How many it lacked when this was found.
        lacks: u64,
    },
    /// A line that was behind delivers again what the other has. One that was connected anew says `Aligned` instead.
    CaughtUp {
        /// The subscription.
        subscription: SubscriptionId,
        /// Whose it is.
        side: Side,
        /// How long it was behind.
        lasted_ms: u64,
    },
    /// A line that turned out to lack messages was the only one for a time: what it lacked then may be missing.
    Unproven {
        /// The subscription that lacks messages.
        subscription: SubscriptionId,
        /// Whose it is.
        side: Side,
        /// When the other line had delivered last.
        from_ms: u64,
        /// When the other line began to deliver; never before `from_ms`.
        to_ms: u64,
    },
    /// The two lines have begun to carry different messages (conflation, losses, a wrong endpoint, or what a connection says
    /// for itself): the topic holds the union.
    FeedsDiffer {
        /// The subscription that lacks messages of the other.
        subscription: SubscriptionId,
        /// Messages it never delivered, out of the last `messages`.
        unmatched: u64,
        /// Messages looked at: those of the last minute.
        messages: u64,
    },
    /// A subscription lacks nothing any more of what the other delivers.
    FeedsAgree {
        /// The subscription.
        subscription: SubscriptionId,
        /// How long the difference lasted.
        lasted_ms: u64,
    },
}
