//! When a line that lacks what its twin delivers is connected anew: soon, and more rarely where that does not help.

/// Between two renewals of one line that did not help, at most: a feed whose connections differ for good is not hammered.
const PAUSE_MS_MAX: u64 = 2 * 60 * 1_000;
/// A line that has kept up for this long, whatever was before, was mended by its renewal.
const KEPT_UP_MS: u64 = 2_000;

/// The renewals of the own line.
#[derive(Debug, Default)]
pub(crate) struct Renewal {
    last_at_ms: Option<u64>,
    pause_ms: u64,
    kept_up_since_ms: Option<u64>,
}

/// How the own line compares with its twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compared {
    /// It has what its twin delivers.
    KeepsUp,
    Behind {
        for_ms: u64,
    },
    /// One of them is down, or has no place yet.
    Unknown,
}

impl Renewal {
    /// Whether the line is to be connected anew now. It may be behind for `behind_ms_max`, 0 for ever.
    pub(crate) fn is_due(&mut self, line: Compared, behind_ms_max: u64, now_ms: u64) -> bool {
        let behind_ms = match line {
            Compared::KeepsUp => {
                if now_ms.saturating_sub(*self.kept_up_since_ms.get_or_insert(now_ms)) >= KEPT_UP_MS {
                    (self.last_at_ms, self.pause_ms) = (None, 0);
                }
                return false;
            }
            Compared::Behind { for_ms } => for_ms,
            Compared::Unknown => 0,
        };
        self.kept_up_since_ms = None;
        if behind_ms_max == 0 || behind_ms < behind_ms_max {
            return false;
        }
        match self.last_at_ms.map(|at_ms| now_ms.saturating_sub(at_ms)) {
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

    const BEHIND: Compared = Compared::Behind { for_ms: 6_000 };

    /// Seconds in which a line that is behind for good is connected anew.
    fn renewed(renewal: &mut Renewal, seconds: std::ops::Range<u64>) -> Vec<u64> {
        seconds.filter(|second| renewal.is_due(BEHIND, 5_000, second * 1_000)).collect()
    }

    #[test]
    fn a_line_is_renewed_once_it_has_lacked_too_long_and_then_more_rarely() {
        let mut renewal = Renewal::default();
        assert!(!renewal.is_due(Compared::Unknown, 5_000, 0));
        assert!(!renewal.is_due(Compared::Behind { for_ms: 4_999 }, 5_000, 0));
        assert_eq!(renewed(&mut renewal, 0..600), [0, 10, 30, 70, 150, 270, 390, 510]);
        assert!(!renewal.is_due(Compared::Behind { for_ms: 60_000 }, 0, 9_000_000), "never");
    }

    #[test]
    fn a_line_that_has_kept_up_meanwhile_is_renewed_as_soon_as_one_that_was_never_behind() {
        for (kept_up_ms, next) in [(KEPT_UP_MS, 101), (KEPT_UP_MS - 1, 150)] {
            let mut renewal = Renewal::default();
            assert_eq!(renewed(&mut renewal, 0..90), [0, 10, 30, 70]);
            // Without a place at first, and then there for a while.
            for (line, at_ms) in [
                (Compared::Unknown, 90_000),
                (Compared::KeepsUp, 95_000),
                (Compared::KeepsUp, 95_000 + kept_up_ms),
                (Compared::Unknown, 99_000),
            ] {
                assert!(!renewal.is_due(line, 5_000, at_ms));
            }
            assert_eq!(renewed(&mut renewal, 101..160).first(), Some(&next), "{kept_up_ms} ms");
        }
    }
}
