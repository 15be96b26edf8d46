//! Times in which one line was all there was. Whether it was whole can only be said by its twin, afterwards: a line that turns out
//! to lack messages as soon as it is compared lacked them before, and nobody else delivered them.

use std::ops::RangeInclusive;

/// A line that lacks nothing for so long after its twin came was whole before, too. Long enough for a channel with a message every
/// few seconds to show.
const PROVEN_AFTER_MS: u64 = 5_000;
/// A line whose lack begins later than twice the usual time between the messages that it lacks had delivered some of them: it was
/// whole before. Never sooner than this, as messages come in bursts, and never later.
const BEGAN_WITHIN_MS: RangeInclusive<u64> = 200..=PROVEN_AFTER_MS;

/// What is not proven of one line.
#[derive(Debug, Default)]
pub(crate) struct Solo {
    /// Nobody else counts, since then.
    since_ms: Option<u64>,
    /// The last such time, while it may still turn out that the line lacked messages.
    past: Option<(u64, u64)>,
}

impl Solo {
    /// The twin has delivered until then, and does not count any more.
    pub(crate) fn begin(&mut self, from_ms: u64) {
        if self.since_ms.is_none() {
            let unproven = self.past.take();
            self.since_ms = Some(unproven.map_or(from_ms, |(from, _)| from.min(from_ms)));
        }
    }

    /// The twin counts; what it has delivered begins at this moment.
    pub(crate) fn end(&mut self, at_ms: u64) {
        if let Some(from_ms) = self.since_ms.take() {
            self.past = Some((from_ms, at_ms.max(from_ms)));
        }
    }

    /// The twin had not delivered any more since an earlier moment.
    pub(crate) fn back_to(&mut self, at_ms: u64) {
        self.since_ms = self.since_ms.map(|since_ms| since_ms.min(at_ms));
    }

    pub(crate) fn since_ms(&self) -> Option<u64> {
        self.since_ms
    }

    /// Of what was delivered until then the line lacks nothing.
    pub(crate) fn proven(&mut self, through_ms: u64) {
        self.past.take_if(|(_, to_ms)| through_ms >= to_ms.saturating_add(PROVEN_AFTER_MS));
    }

    /// The line lacks messages since a moment, one in `every_ms`: the time in which nobody delivered them, if it lacked them before.
    pub(crate) fn lacks(&mut self, since_ms: u64, every_ms: u64) -> Option<(u64, u64)> {
        let within_ms = every_ms.saturating_mul(2).clamp(*BEGAN_WITHIN_MS.start(), *BEGAN_WITHIN_MS.end());
        self.past.take().filter(|(_, to_ms)| since_ms <= to_ms.saturating_add(within_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twin_that_had_fallen_silent_before_it_went_left_the_line_alone_earlier() {
        let mut solo = Solo::default();
        solo.back_to(5_000);
        assert_eq!(solo.since_ms(), None, "it is not alone");
        solo.begin(10_000);
        solo.back_to(9_000);
        solo.back_to(9_500);
        solo.end(20_000);
        assert_eq!(solo.lacks(20_000, 10), Some((9_000, 20_000)));
    }

    #[test]
    fn what_is_not_proven_adds_up() {
        let mut solo = Solo::default();
        solo.begin(1_000);
        solo.begin(2_000);
        solo.end(3_000);
        solo.proven(3_000 + PROVEN_AFTER_MS - 1);
        solo.begin(7_000);
        solo.end(9_000);
        assert_eq!(solo.lacks(9_100, 10), Some((1_000, 9_000)));
        assert_eq!(solo.lacks(9_100, 10), None, "it is told once");
    }

    #[test]
    fn a_line_that_lacked_nothing_at_first_was_whole_before() {
        let mut solo = Solo::default();
        solo.begin(1_000);
        solo.end(3_000);
        solo.proven(3_000 + PROVEN_AFTER_MS);
        assert_eq!(solo.lacks(9_000, 10), None);
        for (since_ms, every_ms, is_told) in [
            (21_200, 10, true),
            (21_201, 10, false),
            (23_000, 1_000, true),
            (23_001, 1_000, false),
            (26_001, 9_000, false),
        ] {
            solo.begin(20_000);
            solo.end(21_000);
            assert_eq!(solo.lacks(since_ms, every_ms).is_some(), is_told, "since {since_ms}, one in {every_ms} ms");
        }
    }
}
