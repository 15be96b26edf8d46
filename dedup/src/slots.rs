//! Slots: small numbers for the few subscriptions that a window tells apart, so that an entry needs one byte.
//!
//! The window hands them out and takes them back; a set of them is a bitset.

/// A subscription's place in every entry's [`SlotSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(u8);

impl Slot {
    /// Slots there are: the owner's and the standby's subscription, the last ended one, a replayed one, and spare.
    pub(crate) const COUNT: usize = 8;

    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A set of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SlotSet(u8);

impl SlotSet {
    pub(crate) const EMPTY: Self = Self(0);

    pub(crate) fn of(slot: Slot) -> Self {
        Self(1 << slot.0)
    }

    pub(crate) fn with(self, slot: Slot) -> Self {
        Self(self.0 | Self::of(slot).0)
    }

    pub(crate) fn without(self, slot: Slot) -> Self {
        Self(self.0 & !Self::of(slot).0)
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) fn contains(self, slot: Slot) -> bool {
        self.0 & Self::of(slot).0 != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The lowest slot that is not in the set.
    pub(crate) fn first_missing(self) -> Option<Slot> {
        let number = self.0.trailing_ones();
        (number < Slot::COUNT as u32).then_some(Slot(number as u8))
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Slot> {
        (0..Slot::COUNT as u8).map(Slot).filter(move |slot| self.contains(*slot))
    }
}
