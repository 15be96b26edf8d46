//! A chain: the entries of one fingerprint, oldest first.
//!
//! Most payloads come once, so the common chain is a single number; a repeated payload gets a queue and, per slot, a
//! cursor that only moves forward, so that thousands of equal entries cost no more than one.

use std::collections::VecDeque;

use crate::slots::Slot;

/// Ordinals of the entries of one fingerprint.
#[derive(Debug)]
pub(crate) enum Chain {
    One(u64),
    Many(Box<Repeats>),
}

/// Ordinals of a repeated payload. Places count from the chain's beginning and never shift.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    ordinals: VecDeque<u64>,
    /// Place of the front, that is, how many have been forgotten.
    forgotten: u64,
    /// Per slot: every place before it is of no use to that slot any more.
    cursors: [u64; Slot::COUNT],
}

impl Chain {
    /// Returns the oldest ordinal that `matches`; what it refuses once, it must refuse for ever.
    pub(crate) fn first_match(&mut self, slot: Slot, matches: impl Fn(u64) -> bool) -> Option<u64> {
        match self {
            Self::One(ordinal) => matches(*ordinal).then_some(*ordinal),
            Self::Many(repeats) => repeats.first_match(slot, matches),
        }
    }

    pub(crate) fn push(&mut self, ordinal: u64) {
        match self {
            Self::One(first) => {
                let ordinals = VecDeque::from([*first, ordinal]);
                *self = Self::Many(Box::new(Repeats { ordinals, ..Repeats::default() }));
            }
            Self::Many(repeats) => repeats.ordinals.push_back(ordinal),
        }
    }

    /// Forgets the oldest ordinal; true if the chain is empty then.
    pub(crate) fn pop_is_empty(&mut self) -> bool {
        match self {
            Self::One(_) => true,
            Self::Many(repeats) => {
                repeats.ordinals.pop_front();
                repeats.forgotten += 1;
                repeats.ordinals.is_empty()
            }
        }
    }

    /// Starts a slot over, for its next subscription.
    pub(crate) fn rewind(&mut self, slot: Slot) {
        if let Self::Many(repeats) = self {
            repeats.cursors[slot.index()] = 0;
        }
    }
}

impl Repeats {
    fn first_match(&mut self, slot: Slot, matches: impl Fn(u64) -> bool) -> Option<u64> {
        let cursor = &mut self.cursors[slot.index()];
        *cursor = (*cursor).max(self.forgotten);
        while let Some(ordinal) = self.ordinals.get((*cursor - self.forgotten) as usize) {
            if matches(*ordinal) {
                return Some(*ordinal);
            }
            *cursor += 1;
        }
        None
    }
}
