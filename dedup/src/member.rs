//! A member: one subscription as the merge sees it, from its announcement until a later one supersedes it.
//!
//! Plain state with small questions; the merge makes every decision.

use crate::SubscriptionId;
use crate::joining::Joining;
use crate::ring::Ring;
use crate::slots::Slot;

/// Whose subscription: one of the two lines of a stream, whatever connection it consists of at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The owner's own.
    Own,
    /// The one that comes through the relay.
    Standby,
}

impl Side {
    /// The owner's, then the standby's.
    pub const BOTH: [Self; 2] = [Self::Own, Self::Standby];

    /// Its place in a pair.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Own => 0,
            Self::Standby => 1,
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Own => Self::Standby,
            Self::Standby => Self::Own,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Member<P> {
    pub(crate) id: SubscriptionId,
    pub(crate) next_index: u64,
    /// Its connection is up, as far as the caller has said.
    pub(crate) live: bool,
    pub(crate) last_frame_ms: u64,
    pub(crate) stage: Stage<P>,
}

#[derive(Debug)]
pub(crate) enum Stage<P> {
    Joining(Joining<P>),
    Aligned(Aligned),
}

/// What an aligned subscription has, and keeps as a reference after its end.
#[derive(Debug)]
pub(crate) struct Aligned {
    pub(crate) slot: Slot,
    pub(crate) ring: Ring,
    /// The sequence whose commit makes it redundant: everything found up to its alignment.
    pub(crate) redundant_from: u64,
}

/// An aligned subscription of the past: the last thing a newcomer can be compared with.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) aligned: Aligned,
    pub(crate) last_frame_ms: u64,
}

impl<P> Member<P> {
    pub(crate) fn aligned(&self) -> Option<&Aligned> {
        match &self.stage {
            Stage::Aligned(aligned) => Some(aligned),
            Stage::Joining(_) => None,
        }
    }

    pub(crate) fn joining(&self) -> Option<&Joining<P>> {
        match &self.stage {
            Stage::Aligned(_) => None,
            Stage::Joining(joining) => Some(joining),
        }
    }

    pub(crate) fn is_live_and_aligned(&self) -> bool {
        self.live && self.aligned().is_some()
    }
}
