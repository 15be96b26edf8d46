//! The timestamps that records get in Kafka. They say when a frame was read, by the clock of the node that read it, until
//! Kafka refuses that: it takes no record whose timestamp is more than an hour (`message.timestamp.after.max.ms`) ahead of
//! its own clock, and would stop the stream for as long as a node's clock is wrong. Then they are bounded by what is known
//! of the time. The header keeps what the node's clock said. Pure.

/// No timestamp, as Kafka understands it: taken whatever the clocks say.
const NONE: i64 = -1;
/// After this long a record's own timestamp is tried again: a clock that was set right is believed again.
const BOUNDED_FOR_MS: u64 = 5 * 60 * 1_000;

/// What a writer knows of time besides its own clock.
#[derive(Debug, Default)]
pub(crate) struct Timestamps {
    bound: Bound,
    bounded_since_ms: u64,
    /// The latest timestamp that Kafka took, and the present moment of then.
    accepted: Option<(u64, u64)>,
}

/// What records are bounded by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Bound {
    #[default]
    Nothing,
    /// This node's clock: right where the frames came from a node whose clock is not.
    OwnClock,
    /// What Kafka took last and the time that has passed since.
    Accepted,
}

impl Timestamps {
    /// The timestamp of a record whose own is `own_ms`. `wall_ms` is this node's clock, `now_ms` a time that never jumps;
    /// all in milliseconds.
    pub(crate) fn stamp(&self, own_ms: i64, wall_ms: u64, now_ms: u64) -> i64 {
        let bound = if self.is_over(now_ms) { Bound::Nothing } else { self.bound };
        let latest_ms = match (bound, self.accepted) {
            (Bound::Nothing, _) => return own_ms,
            (Bound::OwnClock, _) => wall_ms,
            (Bound::Accepted, Some((at_ms, then_ms))) => at_ms + now_ms.saturating_sub(then_ms),
            (Bound::Accepted, None) => return NONE,
        };
        i64::try_from(latest_ms).map_or(NONE, |latest_ms| own_ms.min(latest_ms))
    }

    /// Kafka took a record of this timestamp.
    pub(crate) fn accepted(&mut self, timestamp_ms: i64, now_ms: u64) {
        let Ok(ms) = u64::try_from(timestamp_ms) else { return };
        let known = self.accepted.map(|(at_ms, then_ms)| at_ms + now_ms.saturating_sub(then_ms));
        self.accepted = Some((known.map_or(ms, |known| known.max(ms)), now_ms));
    }

    /// Kafka refused records as invalid. False: with every bound, so it is not about their timestamps.
    pub(crate) fn refused(&mut self, now_ms: u64) -> bool {
        let next = match self.bound {
            Bound::Nothing => Bound::OwnClock,
            Bound::OwnClock if !self.is_over(now_ms) => Bound::Accepted,
            // What helped before helps again.
            known if self.is_over(now_ms) => known,
            _ => return false,
        };
        (self.bound, self.bounded_since_ms) = (next, now_ms);
        true
    }

    fn is_over(&self, now_ms: u64) -> bool {
        self.bound != Bound::Nothing && now_ms.saturating_sub(self.bounded_since_ms) >= BOUNDED_FOR_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    const TRUE_MS: u64 = 1_000 * HOUR_MS;
    const AHEAD_MS: u64 = TRUE_MS + 24 * HOUR_MS;

    #[test]
    fn nothing_is_touched_before_a_refusal() {
        let mut times = Timestamps::default();
        times.accepted(TRUE_MS as i64, 0);
        assert_eq!(times.stamp(AHEAD_MS as i64, TRUE_MS, 10), AHEAD_MS as i64);
    }

    #[test]
    fn frames_of_a_node_with_a_wrong_clock_get_the_time_of_one_with_a_right_one() {
        let mut times = Timestamps::default();
        assert!(times.refused(0));
        assert_eq!(times.stamp(AHEAD_MS as i64, TRUE_MS, 10), TRUE_MS as i64);
        assert_eq!(times.stamp(TRUE_MS as i64 - 5, TRUE_MS, 10), TRUE_MS as i64 - 5, "a right one is kept");
    }

    #[test]
    fn under_a_wrong_clock_time_goes_on_from_what_kafka_took_last() {
        let mut times = Timestamps::default();
        times.accepted(TRUE_MS as i64, 1_000);
        assert!(times.refused(2_000) && times.refused(2_100));
        assert_eq!(times.stamp(AHEAD_MS as i64, AHEAD_MS, 3_000), TRUE_MS as i64 + 2_000);
        times.accepted(TRUE_MS as i64 + 1_500, 3_000);
        assert_eq!(
            times.stamp(AHEAD_MS as i64, AHEAD_MS, 3_000),
            TRUE_MS as i64 + 2_000,
            "an older record turns nothing back"
        );
    }

    #[test]
    fn a_writer_that_knows_no_time_gives_none() {
        let mut times = Timestamps::default();
        assert!(times.refused(0) && times.refused(10));
        assert_eq!(times.stamp(AHEAD_MS as i64, AHEAD_MS, 20), NONE);
        times.accepted(NONE, 20);
        assert_eq!(times.stamp(AHEAD_MS as i64, AHEAD_MS, 30), NONE);
        assert!(!times.refused(40), "it was not about timestamps");
    }

    #[test]
    fn a_clock_is_believed_again_after_a_while_and_one_refusal_restores_the_bound() {
        let mut times = Timestamps::default();
        times.accepted(TRUE_MS as i64, 0);
        assert!(times.refused(0) && times.refused(0));
        assert_eq!(times.stamp(AHEAD_MS as i64, AHEAD_MS, BOUNDED_FOR_MS), AHEAD_MS as i64);
        assert!(times.refused(BOUNDED_FOR_MS));
        assert_eq!(times.stamp(AHEAD_MS as i64, AHEAD_MS, BOUNDED_FOR_MS), (TRUE_MS + BOUNDED_FOR_MS) as i64);
    }
}
