//! A line's own clock: it goes only while everything that the line's node had read is known to have been shown to the merge.
//!
//! A process that was frozen, a relay that is broken or slow, an inbox that is never empty: the line is not behind for them.
//! The watch asks it how old an entry is on this line.

use std::collections::VecDeque;

/// A longer step between two reports counts as this much: who says twice a second that nothing waits is not believed for
/// the time between. Two of the usual steps, as timers are late.
const STEP_MS_MAX: u64 = 400;
/// What is remembered of the past: where within a stretch the time stood still is not.
const STRETCH_MS: u64 = 1_000;
const MARKS_MAX: usize = 128;

/// Where the clock stood at a moment.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    at_ms: u64,
    counted_ms: u64,
}

/// Its time is at most as much as has passed: an entry is never taken for older than it is.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    now: Mark,
    /// Oldest first, the last one not after `now`. Before the first nothing counts.
    marks: VecDeque<Mark>,
}

impl Clock {
    /// Time before `now_ms` does not count.
    pub(crate) fn restart(&mut self, now_ms: u64) {
        self.now.at_ms = self.now.at_ms.max(now_ms);
        self.marks.clear();
        self.marks.push_back(self.now);
    }

    pub(crate) fn caught_up(&mut self, through_ms: u64) {
        let step_ms = through_ms.saturating_sub(self.now.at_ms);
        if step_ms > STEP_MS_MAX || self.marks.back().is_none_or(|last| self.now.at_ms >= last.at_ms + STRETCH_MS) {
            self.mark(self.now);
        }
        self.now.at_ms += step_ms;
        self.now.counted_ms += step_ms.min(STEP_MS_MAX);
        if step_ms > STEP_MS_MAX {
            self.mark(self.now);
        }
    }

    /// Where there are too many marks, the past is told in longer stretches.
    fn mark(&mut self, mark: Mark) {
        if self.marks.len() >= MARKS_MAX {
            let mut place = 0;
            self.marks.retain(|_| {
                place += 1;
                place % 2 == 1
            });
        }
        self.marks.push_back(mark);
    }

    /// The line was read all the time between two moments, the second of which is now.
    pub(crate) fn is_good(&self, from_ms: u64, now_ms: u64) -> bool {
        let is_heard = now_ms.saturating_sub(self.now.at_ms) <= super::UNHEARD_MS_MAX;
        is_heard && self.counted_since(from_ms) >= self.now.at_ms.saturating_sub(from_ms)
    }

    /// The moment since which this much time has counted; `None` if there was none.
    pub(crate) fn counted_back(&self, counted_ms: u64) -> Option<u64> {
        let stood_at_ms = self.now.counted_ms.checked_sub(counted_ms)?;
        let before = self.marks.partition_point(|mark| mark.counted_ms <= stood_at_ms).checked_sub(1)?;
        // If the time stood still within the stretch, then after the moment, for all that is known.
        Some(self.marks[before].at_ms + (stood_at_ms - self.marks[before].counted_ms))
    }

    /// How much time has counted since a moment.
    pub(crate) fn counted_since(&self, moment_ms: u64) -> u64 {
        let after = self.marks.partition_point(|mark| mark.at_ms <= moment_ms);
        let end = self.marks.get(after).unwrap_or(&self.now);
        let stood_at_ms = match after.checked_sub(1).map(|before| self.marks[before]) {
            Some(before) => end.counted_ms.min(before.counted_ms + (moment_ms - before.at_ms)),
            None => end.counted_ms,
        };
        self.now.counted_ms - stood_at_ms
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
        assert_eq!(clock.counted_back(500), Some(1_900), "the step counts as 400 ms");
        assert_eq!((clock.counted_since(1_900), clock.counted_since(22_000)), (500, 0));
        assert!(!clock.is_good(1_900, 22_000) && clock.is_good(22_000, 22_000));
        clock.caught_up(3_000);
        assert_eq!(clock.counted_since(1_900), 500, "it does not run backwards");
    }

    /// A node speaks when a timer says so, and timers are late.
    #[test]
    fn steps_that_are_a_little_late_count_whole() {
        let mut clock = Clock::default();
        clock.restart(0);
        (1..=300).for_each(|step| clock.caught_up(step * 204));
        assert_eq!((clock.counted_since(0), clock.counted_back(60_000)), (61_200, Some(1_200)));
        assert!(clock.is_good(0, 61_200));
    }

    /// However many pauses there were, and however long ago: never older, and not much younger.
    #[test]
    fn an_entry_is_never_older_than_what_has_counted() {
        let mut clock = Clock::default();
        clock.restart(0);
        let mut counted = vec![0_u64];
        for n in 0..3_000_u64 {
            // Freezes of some seconds now and then, among steps of all lengths.
            let step_ms = if n % 97 == 0 { 5_000 } else { 1 + n * 7 % 390 };
            let (last_ms, stood_ms) = (counted.len() as u64 - 1, counted[counted.len() - 1]);
            // As late as can be: it counts at the end of the step.
            let counts_ms = step_ms.min(STEP_MS_MAX);
            counted.extend((1..=step_ms).map(|ms| stood_ms + (ms + counts_ms).saturating_sub(step_ms)));
            clock.caught_up(last_ms + step_ms);
        }
        let (now_ms, all) = (counted.len() - 1, counted[counted.len() - 1]);
        for moment in (0..=now_ms).step_by(61) {
            let (said, real) = (clock.counted_since(moment as u64), all - counted[moment]);
            assert!(said <= real, "{said} of {real} since {moment}");
            if now_ms - moment < 30_000 {
                assert!(real <= said + 2 * STRETCH_MS, "{said} of {real} since {moment}");
            }
        }
        for wanted in (0..all).step_by(61) {
            let Some(moment) = clock.counted_back(wanted) else { continue };
            assert!(all - counted[moment as usize] >= wanted, "{wanted} back to {moment}");
        }
    }
}
