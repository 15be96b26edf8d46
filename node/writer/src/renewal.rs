//! When a line that lacks what its twin delivers is connected anew: soon the first time, ever more rarely where that does not help.

/// Between two renewals of one line, at most: a feed whose connections differ for good is not hammered.
const PAUSE_MS_MAX: u64 = 10 * 60 * 1_000;
/// A line that has kept up for this long is as good as one that was never behind.
const FORGOTTEN_AFTER_MS: u64 = 10 * 60 * 1_000;

/// The renewals of the own line.
#[derive(Debug, Default)]
pub(crate) struct Renewal {
    last_at_ms: Option<u64>,
    pause_ms: u64,
}

impl Renewal {
    /// Whether the line is to be connected anew now. It has lacked messages for `behind_ms`, 0 if it keeps up, and may for
    /// `behind_ms_max`, 0 for ever.
    pub(crate) fn is_due(&mut self, behind_ms: u64, behind_ms_max: u64, now_ms: u64) -> bool {
        if behind_ms_max == 0 || behind_ms < behind_ms_max {
            return false;
        }
        let since_ms = self.last_at_ms.map(|at_ms| now_ms.saturating_sub(at_ms));
        match since_ms.filter(|since_ms| *since_ms < FORGOTTEN_AFTER_MS + self.pause_ms) {
            Some(since_ms) if since_ms < self.pause_ms => return false,
            Some(_) => self.pause_ms = (self.pause_ms * 2).min(PAUSE_MS_MAX),
            None => self.pause_ms = (behind_ms_max * 2).min(PAUSE_MS_MAX),
        }
        self.last_at_ms = Some(now_ms);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_renewed_once_it_has_lacked_too_long_and_then_ever_more_rarely() {
        let mut renewal = Renewal::default();
        assert!(!renewal.is_due(0, 5_000, 0) && !renewal.is_due(4_999, 5_000, 4_999));
        let renewed: Vec<u64> =
            (0..400).map(|second| second * 1_000).filter(|at_ms| renewal.is_due(6_000, 5_000, *at_ms)).collect();
        assert_eq!(renewed, [0, 10_000, 30_000, 70_000, 150_000, 310_000]);
        assert!(!renewal.is_due(60_000, 0, 9_000_000), "never");
        assert!(renewal.is_due(6_000, 5_000, 9_000_000), "long ago is forgotten");
        assert!(renewal.is_due(6_000, 5_000, 9_010_000));
    }
}
