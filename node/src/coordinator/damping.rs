//! How long a stream that was taken from a living owner stays where it is. Pure: time is an argument.
//!
//! A network that comes and goes would otherwise move a stream at each turn, and each move is a takeover. The first
//! hold is 10 s; each further move within the memory doubles it, up to 5 min. A crash is never held: `facts` asks only
//! about owners that live. A new leader remembers nothing, which costs at most one move more per election.

use std::collections::BTreeMap;

use crate::model::ids::WriterId;

/// Above the silence of a move (a second or two) and the time in which the new pair aligns.
const HOLD_FIRST_MS: u64 = 10_000;
const HOLD_MS_MAX: u64 = 300_000;
/// A stream that was not moved for this long after its last hold begins anew.
const CALM_MS: u64 = 600_000;

#[derive(Debug, Clone, Copy)]
struct Hold {
    length_ms: u64,
    until_ms: u64,
}

/// The holds of all streams that were moved lately.
#[derive(Debug, Default)]
pub(super) struct Damping {
    holds: BTreeMap<WriterId, Hold>,
}

impl Damping {
    /// The stream was taken from a living owner.
    pub(super) fn moved(&mut self, writer: &WriterId, now_ms: u64) {
        let length_ms = match self.holds.get(writer) {
            Some(hold) if now_ms < hold.until_ms + CALM_MS => (hold.length_ms * 2).min(HOLD_MS_MAX),
            _ => HOLD_FIRST_MS,
        };
        self.holds.insert(writer.clone(), Hold { length_ms, until_ms: now_ms + length_ms });
        self.holds.retain(|_, hold| now_ms < hold.until_ms + CALM_MS);
    }

    /// Whether the stream stays for now, although its owner does not deliver.
    pub(super) fn holds(&self, writer: &WriterId, now_ms: u64) -> bool {
        self.holds.get(writer).is_some_and(|hold| now_ms < hold.until_ms)
    }

    /// Forgets everything: this node begins to lead.
    pub(super) fn clear(&mut self) {
        self.holds.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(name: &str) -> WriterId {
        WriterId(name.to_owned())
    }

    #[test]
    fn each_move_holds_twice_as_long_up_to_the_limit() {
        let (mut damping, flapping) = (Damping::default(), writer("flapping"));
        let mut now_ms = 1_000;
        let mut holds_ms = Vec::new();
        for _ in 0..8 {
            assert!(!damping.holds(&flapping, now_ms));
            damping.moved(&flapping, now_ms);
            let moved_at_ms = now_ms;
            while damping.holds(&flapping, now_ms) {
                now_ms += 100;
            }
            holds_ms.push(now_ms - moved_at_ms);
        }
        assert_eq!(holds_ms, [10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000, 300_000]);
    }

    #[test]
    fn a_stream_that_was_calm_begins_anew_and_others_are_free() {
        let (mut damping, calm) = (Damping::default(), writer("calm"));
        damping.moved(&calm, 0);
        damping.moved(&calm, HOLD_FIRST_MS);
        assert!(damping.holds(&calm, HOLD_FIRST_MS * 3 - 1) && !damping.holds(&calm, HOLD_FIRST_MS * 3));
        assert!(!damping.holds(&writer("other"), 1));
        let later_ms = HOLD_FIRST_MS * 3 + CALM_MS;
        damping.moved(&calm, later_ms);
        assert!(!damping.holds(&calm, later_ms + HOLD_FIRST_MS));
    }

    #[test]
    fn what_is_calm_is_forgotten() {
        let mut damping = Damping::default();
        (0..100).for_each(|n| damping.moved(&writer(&n.to_string()), n));
        damping.moved(&writer("late"), HOLD_FIRST_MS + CALM_MS + 100);
        assert_eq!(damping.holds.len(), 1);
    }
}
