//! Times in which one line was all there was. Whether it was whole can only be said by its twin, afterwards: a line that turns out
//! to lack messages as soon as it is compared lacked them before, and nobody else delivered them.

/// A line that lacks nothing for so long after its twin came was whole before, too; one that lacks messages later than this has
/// begun to later. Long enough for a channel with a message every few seconds to show.
const PROVEN_AFTER_MS: u64 = 5_000;

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

    /// The line lacks messages since a moment: the time in which nobody delivered what it lacked, if it began before.
    pub(crate) fn lacks(&mut self, since_ms: u64) -> Option<(u64, u64)> {
        self.past.take().filter(|(_, to_ms)| since_ms <= to_ms.saturating_add(PROVEN_AFTER_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_proven_adds_up() {
        let mut solo = Solo::default();
        solo.begin(1_000);
        solo.begin(2_000);
        solo.end(3_000);
        solo.proven(3_000 + PROVEN_AFTER_MS - 1);
        solo.begin(7_000);
        solo.end(9_000);
        assert_eq!(solo.lacks(9_100), Some((1_000, 9_000)));
        assert_eq!(solo.lacks(9_100), None, "it is told once");
    }

    #[test]
    fn a_line_that_lacked_nothing_at_first_was_whole_before() {
        let mut solo = Solo::default();
        solo.begin(1_000);
        solo.end(3_000);
        solo.proven(3_000 + PROVEN_AFTER_MS);
        assert_eq!(solo.lacks(9_000), None);
        solo.begin(20_000);
        solo.end(21_000);
        assert_eq!(solo.lacks(21_001 + PROVEN_AFTER_MS), None, "it began to lack later");
    }
}
