//! The audit: do the two subscriptions carry the same messages at all?
//!
//! The merge shows it every entry it forgets while both are aligned. Feeds that conflate, or that are not the same feed, leave
//! entries that one side never delivers; above one in a hundred the stream says so, once per change.

use crate::member::Side;

const MESSAGES: u64 = 1_024;
const UNMATCHED_MAX: u64 = MESSAGES / 100;

#[derive(Debug, Default)]
pub(crate) struct Audit {
    messages: u64,
    sides: [Count; 2],
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    unmatched: u64,
    differs: bool,
}

/// A side that has begun to lack messages of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) side: Side,
    pub(crate) unmatched: u64,
    pub(crate) messages: u64,
}

impl Audit {
    /// Counts one forgotten entry and the sides that never delivered it.
    pub(crate) fn count(&mut self, lacks: impl Fn(Side) -> bool) -> [Option<Difference>; 2] {
        self.messages += 1;
        for side in Side::BOTH {
            self.sides[side.index()].unmatched += u64::from(lacks(side));
        }
        if self.messages < MESSAGES {
            return [None; 2];
        }
        let messages = std::mem::take(&mut self.messages);
        Side::BOTH.map(|side| {
            let count = &mut self.sides[side.index()];
            let unmatched = std::mem::take(&mut count.unmatched);
            let differed = std::mem::replace(&mut count.differs, unmatched > UNMATCHED_MAX);
            (count.differs && !differed).then_some(Difference { side, unmatched, messages })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_a_difference_once_and_again_after_it_was_gone() {
        let mut audit = Audit::default();
        let mut reports = |lacking: u64| {
            let found: Vec<_> =
                (0..MESSAGES).flat_map(|n| audit.count(|side| side == Side::Own && n < lacking)).collect();
            found.into_iter().flatten().map(|difference| difference.unmatched).collect::<Vec<_>>()
        };
        assert_eq!(reports(UNMATCHED_MAX), []);
        assert_eq!(reports(20), [20]);
        assert_eq!(reports(30), []);
        assert_eq!(reports(0), []);
        assert_eq!(reports(30), [30]);
    }
}
