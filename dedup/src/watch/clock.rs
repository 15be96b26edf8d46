//! A line's own clock: it goes only while everything that the line's node had read is known to have been shown to the merge.
//!
//! A process that was frozen, a relay that is broken or slow, an inbox that is never empty: the line is not behind for them.
//! The watch asks it how old an entry is on this line.

use std::collections::VecDeque;

/// A longer step between two reports counts as this much: who says twice a second that nothing waits is not believed for
/// the time between.
const STEP_MS_MAX: u64 = 200;
/// Pauses that are remembered; beyond it two become one, which makes entries younger than they are.
const PAUSES_MAX: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Clock {
    through_ms: u64,
    /// Times that do not count, oldest first: from, until.
    pauses: VecDeque<(u64, u64)>,
}

impl Clock {
    /// Time before `now_ms` does not count.
    pub(crate) fn restart(&mut self, now_ms: u64) {
        self.through_ms = self.through_ms.max(now_ms);
        self.pauses.clear();
        self.pauses.push_back((0, self.through_ms));
    }

    pub(crate) fn caught_up(&mut self, through_ms: u64) {
        let step_ms = through_ms.saturating_sub(self.through_ms);
        if step_ms > STEP_MS_MAX {
            if self.pauses.len() >= PAUSES_MAX
                && let Some((from_ms, _)) = self.pauses.pop_front()
                && let Some((next_from_ms, _)) = self.pauses.front_mut()
            {
                *next_from_ms = from_ms;
            }
            self.pauses.push_back((self.through_ms, through_ms - STEP_MS_MAX));
        }
        self.through_ms = self.through_ms.max(through_ms);
    }

    /// The line was read all the time between two moments, the second of which is now.
    pub(crate) fn is_good(&self, from_ms: u64, now_ms: u64) -> bool {
        let is_heard = now_ms.saturating_sub(self.through_ms) <= super::UNHEARD_MS_MAX;
        is_heard && self.pauses.back().is_none_or(|(_, until_ms)| *until_ms <= from_ms)
    }

    /// The moment since which this much time has counted; `None` if there was none.
    pub(crate) fn counted_back(&self, counted_ms: u64) -> Option<u64> {
        let mut moment_ms = self.through_ms.checked_sub(counted_ms)?;
        for (from_ms, until_ms) in self.pauses.iter().rev() {
            if *until_ms <= moment_ms {
                break;
            }
            moment_ms = moment_ms.checked_sub(until_ms - from_ms)?;
        }
        Some(moment_ms)
    }

    /// How much time has counted since a moment.
    pub(crate) fn counted_since(&self, moment_ms: u64) -> u64 {
        let paused = |(from_ms, until_ms): &(u64, u64)| until_ms.saturating_sub((*from_ms).max(moment_ms));
        let paused_ms: u64 = self.pauses.iter().map(paused).sum();
        self.through_ms.saturating_sub(moment_ms).saturating_sub(paused_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_steps_count() {
        let mut clock = Clock::default();
        clock.restart(1_000);
        assert_eq!(clock.counted_back(1), None, "nothing has counted");
        (1..=10).for_each(|step| clock.caught_up(1_000 + step * 100));
        assert_eq!(clock.counted_back(1_000), Some(1_000));
        assert_eq!(clock.counted_back(1_001), None);
        clock.caught_up(22_000);
        assert_eq!(clock.counted_back(300), Some(1_900), "the step counts as 200 ms, at its end");
        assert_eq!((clock.counted_since(1_900), clock.counted_since(10_000)), (300, 200));
        clock.caught_up(3_000);
        assert_eq!(clock.counted_since(1_900), 300, "it does not run backwards");
    }

    #[test]
    fn forgotten_pauses_make_entries_younger() {
        let mut clock = Clock::default();
        clock.restart(0);
        (1..=100).for_each(|step| clock.caught_up(step * 1_000));
        assert_eq!(clock.counted_since(90_000), 2_000);
        assert!(clock.counted_since(0) <= 100 * STEP_MS_MAX, "{clock:?}");
    }
}
