//! Rate, latency and distributions of one writer, for its report. Pure: the writer says when.

use std::collections::VecDeque;

/// Width of a latency bucket: 5 %, so a quantile is off by that much at most.
const BUCKET_RATIO: f64 = 1.05;
/// Covers 1 us to about 20 minutes.
const BUCKETS: usize = 432;
/// Measurements are kept for six to seven turns: what a takeover cost says nothing a minute later.
const LATENCY_TURN_MS: u64 = 10_000;
const LATENCY_TURNS: usize = 6;
/// The rate is taken over this many milliseconds.
const RATE_SPAN_MS: u64 = 5_000;

/// From the read of a frame to its commit, in seconds: the usual transaction takes 3 to 15 ms, a takeover a second.
pub const LATENCY_SECONDS: [f64; 16] =
    [0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Records of a transaction.
pub const BATCH_RECORDS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 500.0, 2_000.0, 10_000.0];

/// Latency quantiles of the last minute, in bounded memory; none while nothing is measured.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    /// The present turn last; each has its buckets, or none if nothing was measured in it.
    turns: VecDeque<Vec<u32>>,
    turned_at_ms: u64,
}

impl Latency {
    /// Adds `times` equal measurements, in microseconds.
    pub(crate) fn record(&mut self, us: u64, times: u32) {
        if self.turns.is_empty() {
            self.turns.push_back(Vec::new());
        }
        let Some(turn) = self.turns.back_mut() else { return };
        if turn.is_empty() {
            turn.resize(BUCKETS, 0);
        }
        let bucket = (us.max(1) as f64).log(BUCKET_RATIO) as usize;
        let count = &mut turn[bucket.min(BUCKETS - 1)];
        *count = count.saturating_add(times);
    }

    /// Lets go of what is older than its turns.
    pub(crate) fn turn(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.turned_at_ms) < LATENCY_TURN_MS {
            return;
        }
        self.turned_at_ms = now_ms;
        self.turns.push_back(Vec::new());
        if self.turns.len() > LATENCY_TURNS + 1 {
            self.turns.pop_front();
        }
    }

    /// The middle of the bucket that holds each quantile (0..=1), in milliseconds; 0 before any measurement.
    pub(crate) fn quantiles_ms<const N: usize>(&self, quantiles: [f64; N]) -> [f64; N] {
        let mut counts = [0_u64; BUCKETS];
        for turn in self.turns.iter().filter(|turn| !turn.is_empty()) {
            counts.iter_mut().zip(turn).for_each(|(sum, count)| *sum += u64::from(*count));
        }
        let all: u64 = counts.iter().sum();
        quantiles.map(|quantile| {
            let rank = (all as f64 * quantile).ceil() as u64;
            let mut seen = 0;
            let bucket = counts.iter().position(|count| {
                seen += count;
                seen >= rank && seen > 0
            });
            bucket.map_or(0.0, |bucket| BUCKET_RATIO.powf(bucket as f64 + 0.5) / 1_000.0)
        })
    }
}

/// A distribution over fixed bounds, as Prometheus has it: not cumulative, the last bucket is what exceeds every bound.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Histogram {
    /// Empty before the first measurement; then one more than there are bounds.
    pub counts: Vec<u64>,
    pub sum: f64,
}

impl Histogram {
    pub(crate) fn observe(&mut self, value: f64, times: u64, bounds: &[f64]) {
        if self.counts.is_empty() {
            self.counts.resize(bounds.len() + 1, 0);
        }
        self.counts[bounds.partition_point(|bound| *bound < value)] += times;
        self.sum += value * times as f64;
    }
}

/// Committed records per second over the last five seconds.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    samples: VecDeque<(u64, u64)>,
}

impl Rate {
    /// Notes the running total at `at_ms`.
    pub(crate) fn sample(&mut self, at_ms: u64, total: u64) {
        self.samples.push_back((at_ms, total));
        while self.samples.front().is_some_and(|&(at, _)| at_ms.saturating_sub(at) > RATE_SPAN_MS) {
            self.samples.pop_front();
        }
    }

    /// Records per second between the oldest and the newest sample.
    pub(crate) fn per_second(&self) -> f64 {
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
pub(crate) struct Stall {
    since_ms: Option<u64>,
}

impl Stall {
    /// Something waits at `now_ms`, or nothing does. Returns the milliseconds since the first such moment.
    pub(crate) fn look(&mut self, waiting: bool, now_ms: u64) -> u64 {
        if !waiting {
            self.since_ms = None;
            return 0;
        }
        now_ms.saturating_sub(*self.since_ms.get_or_insert(now_ms))
    }

    /// A commit: what still waits has only just begun to.
    pub(crate) fn committed(&mut self) {
        self.since_ms = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_bucket_and_of_the_last_minute() {
        let mut latency = Latency::default();
        (1..=1_000).for_each(|n| latency.record(n * 100, 1));
        let near = |got: f64, exact_ms: f64| (exact_ms / BUCKET_RATIO..=exact_ms * BUCKET_RATIO).contains(&got);
        let [p50, p99] = latency.quantiles_ms([0.5, 0.99]);
        assert!(near(p50, 50.0) && near(p99, 99.0), "{p50} {p99}");
        let turns = LATENCY_TURNS as u64;
        (1..=turns).for_each(|turn| latency.turn(turn * LATENCY_TURN_MS));
        assert!(latency.quantiles_ms([0.5])[0] > 0.0, "a minute ago still counts");
        latency.turn((turns + 1) * LATENCY_TURN_MS);
        assert_eq!(latency.quantiles_ms([0.5]), [0.0], "what came before does not");
        assert_eq!(Latency::default().quantiles_ms([0.5]), [0.0]);
    }

    #[test]
    fn a_histogram_counts_each_value_at_the_first_bound_that_holds_it() {
        let mut histogram = Histogram::default();
        for (value, times) in [(1.0, 1), (1.5, 2), (2.0, 1), (9.0, 3)] {
            histogram.observe(value, times, &[1.0, 2.0]);
        }
        assert_eq!((histogram.counts, histogram.sum), (vec![1, 3, 3], 33.0));
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
