//! When a writer that lost its producer opens the next one. Pure: time and chance are arguments. The writer asks it after
//! each loss; a slow commit is one, as it ends its producer.
//!
//! Once may be chance, and costs no pause. Again and again means that Kafka is slow, and every opening makes it slower: the
//! pauses grow, and differ between writers that lost theirs in the same moment.

use crate::port::Remedy;

/// The first pause after a failure, and the second after a loss that was none.
const PAUSE_MS_MIN: u64 = 100;
/// The longest pauses, before chance. While commits are slow, what is read in a pause is buffered, and committed in fewer and
/// larger transactions; consumers of a Kafka that is always slow wait for it.
const SLOW_MS_MAX: u64 = 2_000;
/// While Kafka is away: the sooner it is met again, the shorter the silence.
const AWAY_MS_MAX: u64 = 1_000;
/// While it refuses and an operator is awaited.
const REFUSED_MS_MAX: u64 = 5_000;
/// After so long without a loss, measured from when the last opening was due, the next one is the first again.
const CALM_MS: u64 = 10_000;

/// What a writer remembers of its losses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Losses without calm between them.
    losses: u32,
    due_at_ms: u64,
}

impl Pace {
    /// A producer was lost, and `remedy` says how (`Remedy::Reopen` for a slow commit). Returns when the next may be opened.
    /// `chance` is drawn evenly from 0 to 1.
    pub(crate) fn lost(&mut self, remedy: Remedy, now_ms: u64, chance: f64) -> u64 {
        if now_ms.saturating_sub(self.due_at_ms) >= CALM_MS {
            self.losses = 0;
        }
        self.losses = self.losses.saturating_add(1);
        let (free, longest_ms) = match remedy {
            Remedy::Reopen | Remedy::Fenced | Remedy::LeaveOut { .. } | Remedy::Restamp => (1, SLOW_MS_MAX),
            Remedy::Wait => (0, AWAY_MS_MAX),
            Remedy::Operator => (0, REFUSED_MS_MAX),
        };
        let doublings = (self.losses - 1).checked_sub(free);
        let pause_ms = doublings.map_or(0, |n| PAUSE_MS_MIN.saturating_mul(1 << n.min(16)).min(longest_ms));
        // Half to one and a half times.
        let pause_ms = (pause_ms as f64 * (0.5 + chance.clamp(0.0, 1.0))) as u64;
        self.due_at_ms = now_ms.saturating_add(pause_ms);
        self.due_at_ms
    }

    /// Everything is forgotten: another role has begun.
    pub(crate) fn begin_anew(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StreamId;

    /// The pauses of losses that follow each opening at once.
    fn pauses(remedy: Remedy, count: usize, chance: f64) -> Vec<u64> {
        let (mut pace, mut now_ms) = (Pace::default(), 1_000_000);
        let mut pause = || {
            let due = pace.lost(remedy, now_ms, chance);
            let pause = due - now_ms;
            // The commit that is slow again.
            now_ms = due + 400;
            pause
        };
        (0..count).map(|_| pause()).collect()
    }

    #[test]
    fn one_slow_commit_costs_no_pause_and_more_of_them_cost_longer_and_longer_ones() {
        assert_eq!(pauses(Remedy::Reopen, 9, 0.5), [0, 100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000]);
        assert_eq!(pauses(Remedy::LeaveOut { stream: StreamId(1), sequence: 1 }, 3, 0.5), [0, 100, 200]);
    }

    #[test]
    fn a_failure_costs_a_pause_at_once() {
        assert_eq!(pauses(Remedy::Wait, 4, 0.5), [100, 200, 400, 800]);
        assert_eq!(pauses(Remedy::Operator, 2, 0.5), [100, 200]);
        assert_eq!(pauses(Remedy::Wait, 100, 0.5).pop(), Some(1_000));
        assert_eq!(pauses(Remedy::Operator, 100, 0.5).pop(), Some(5_000));
    }

    #[test]
    fn writers_that_lost_theirs_together_do_not_come_back_together() {
        assert_eq!(pauses(Remedy::Wait, 3, 0.0), [50, 100, 200]);
        assert_eq!(pauses(Remedy::Wait, 3, 1.0), [150, 300, 600]);
    }

    #[test]
    fn a_quick_commit_in_between_forgets_nothing_and_calm_forgets_all() {
        let mut pace = Pace::default();
        let first = pace.lost(Remedy::Reopen, 1_000_000, 0.5);
        let second = pace.lost(Remedy::Reopen, first + 3_000, 0.5);
        assert_eq!(second, first + 3_000 + 100, "every third commit is slow: Kafka is");
        assert_eq!(pace.lost(Remedy::Reopen, second + CALM_MS, 0.5), second + CALM_MS);
    }

    #[test]
    fn another_role_begins_anew() {
        let mut pace = Pace::default();
        assert_eq!([0; 5].map(|_| pace.lost(Remedy::Wait, 1_000_000, 0.5))[4], 1_001_000);
        pace.begin_anew();
        assert_eq!(pace, Pace::default());
        assert_eq!(pace.lost(Remedy::Reopen, 1_000_000, 0.5), 1_000_000);
    }
}
