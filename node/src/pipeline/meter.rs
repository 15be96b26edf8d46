//! Counts, rate and latency of one writer, for its report. Pure: the writer says when.

use std::collections::VecDeque;

/// Width of a latency bucket: 5 %, so a quantile is off by that much at most.
const BUCKET_RATIO: f64 = 1.05;
/// Covers 1 us to about 20 minutes.
const BUCKETS: usize = 432;
/// Measurements are kept for one to two turns.
const LATENCY_TURN_MS: u64 = 10_000;
/// The rate is taken over this many milliseconds.
const RATE_SPAN_MS: u64 = 5_000;

/// Latency quantiles of the last ten to twenty seconds, in fixed memory: what was slow at the start says nothing later.
#[derive(Debug)]
pub(super) struct Latency {
    current: Vec<u64>,
    previous: Vec<u64>,
    turned_at_ms: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { current: vec![0; BUCKETS], previous: vec![0; BUCKETS], turned_at_ms: 0 }
    }
}

impl Latency {
    /// Adds one measurement, in microseconds.
    pub(super) fn record(&mut self, us: u64) {
        let bucket = (us.max(1) as f64).log(BUCKET_RATIO) as usize;
        self.current[bucket.min(BUCKETS - 1)] += 1;
    }

    /// Lets go of what is older than two turns.
    pub(super) fn turn(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.turned_at_ms) >= LATENCY_TURN_MS {
            self.turned_at_ms = now_ms;
            std::mem::swap(&mut self.current, &mut self.previous);
            self.current.fill(0);
        }
    }

    /// The middle of the bucket that holds quantile `q` (0..=1), in milliseconds; 0 before any measurement.
    pub(super) fn quantile_ms(&self, q: f64) -> f64 {
        let counts = || self.current.iter().zip(&self.previous).map(|(a, b)| a + b);
        let rank = (counts().sum::<u64>() as f64 * q).ceil() as u64;
        let mut seen = 0;
        for (bucket, n) in counts().enumerate() {
            seen += n;
            if seen >= rank && seen > 0 {
                return BUCKET_RATIO.powf(bucket as f64 + 0.5) / 1_000.0;
            }
        }
        0.0
    }
}

/// Committed records per second over the last five seconds.
#[derive(Debug, Default)]
pub(super) struct Rate {
    samples: VecDeque<(u64, u64)>,
}

impl Rate {
    /// Notes the running total at `at_ms`.
    pub(super) fn sample(&mut self, at_ms: u64, total: u64) {
        self.samples.push_back((at_ms, total));
        while self.samples.front().is_some_and(|&(at, _)| at_ms.saturating_sub(at) > RATE_SPAN_MS) {
            self.samples.pop_front();
        }
    }

    /// Records per second between the oldest and the newest sample.
    pub(super) fn per_second(&self) -> f64 {
        match (self.samples.front(), self.samples.back()) {
            (Some(&(from, first)), Some(&(to, last))) if to > from => {
                last.saturating_sub(first) as f64 * 1_000.0 / (to - from) as f64
            }
            _ => 0.0,
        }
    }
}

/// For how long an owner has had something to write without a commit.
#[derive(Debug, Default)]
pub(super) struct Stall {
    since_ms: Option<u64>,
}

impl Stall {
    /// Something waits at `now_ms`, or nothing does. Returns the milliseconds since the first such moment.
    pub(super) fn look(&mut self, waiting: bool, now_ms: u64) -> u64 {
        if !waiting {
            self.since_ms = None;
            return 0;
        }
        now_ms.saturating_sub(*self.since_ms.get_or_insert(now_ms))
    }

    /// A commit: what still waits has only just begun to.
    pub(super) fn committed(&mut self) {
        self.since_ms = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_bucket() {
        let mut latency = Latency::default();
        (1..=1_000).for_each(|n| latency.record(n * 100));
        for (q, exact_ms) in [(0.5, 50.0), (0.99, 99.0)] {
            let got = latency.quantile_ms(q);
            assert!((exact_ms / BUCKET_RATIO..=exact_ms * BUCKET_RATIO).contains(&got), "q{q}: {got}");
        }
        latency.turn(LATENCY_TURN_MS);
        assert!(latency.quantile_ms(0.5) > 0.0, "the last turn still counts");
        latency.turn(2 * LATENCY_TURN_MS);
        assert_eq!(latency.quantile_ms(0.5), 0.0, "the one before does not");
        assert_eq!(Latency::default().quantile_ms(0.5), 0.0);
    }

    #[test]
    fn a_stall_lasts_from_the_first_thing_that_waits_to_a_commit() {
        let mut stall = Stall::default();
        assert_eq!(stall.look(false, 1_000), 0);
        assert_eq!(stall.look(true, 2_000), 0);
        assert_eq!(stall.look(true, 5_500), 3_500);
        stall.committed();
        assert_eq!(stall.look(true, 6_000), 0, "a commit is a sign of life, however much waits behind it");
        assert_eq!(stall.look(true, 6_100), 100);
        assert_eq!(stall.look(false, 6_200), 0);
    }

    #[test]
    fn rate_forgets_what_is_older_than_its_span() {
        let mut rate = Rate::default();
        for second in 0..20 {
            rate.sample(second * 1_000, if second < 10 { second * 100 } else { 1_000 + (second - 10) * 7 });
        }
        assert!((rate.per_second() - 7.0).abs() < 1e-9, "{}", rate.per_second());
    }
}
