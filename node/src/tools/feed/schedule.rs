//! Which messages a path has sent at a moment. Pure: time is an argument. All paths share one schedule; a path is late
//! by its skew, trembles by its jitter, and may shuffle neighbours; what a path leaves out is its `Line`'s affair.

use std::time::Duration;

use super::{super::pattern::mix, pauses::Pauses};

/// The shape of one path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Schedule {
    pub(super) messages_per_second: f64,
    /// How late the path is.
    pub(super) skew: Duration,
    /// Upper limit of a further delay that changes every few milliseconds.
    pub(super) jitter: Duration,
    /// Messages within so many neighbours come in any order; 1 keeps the order.
    pub(super) block: u64,
    /// Tells this path's randomness from another's.
    pub(super) seed: u64,
}

/// How long one value of the jitter holds, in milliseconds.
const JITTER_HOLDS_MS: u128 = 5;

impl Schedule {
    /// Number of messages of the common schedule after `elapsed`, skew and jitter aside.
    pub(super) fn common(&self, elapsed: Duration, end: Option<u64>, pauses: &Pauses) -> u64 {
        let due = (pauses.active(elapsed).as_secs_f64() * self.messages_per_second) as u64;
        end.map_or(due, |end| due.min(end))
    }

    /// Number of messages this path may have sent after `elapsed`; whole blocks only, so that one can be shuffled.
    pub(super) fn due(&self, elapsed: Duration, end: Option<u64>, pauses: &Pauses) -> u64 {
        let step = (elapsed.as_millis() / JITTER_HOLDS_MS) as u64;
        let share = (mix(self.seed ^ mix(step)) >> 11) as f64 / (1_u64 << 53) as f64;
        let late = self.skew + self.jitter.mul_f64(share);
        let due = self.common(elapsed.saturating_sub(late), end, pauses);
        if Some(due) == end { due } else { due - due % self.block }
    }

    /// The message at a position of this path; `end` is the number of messages there will ever be.
    pub(super) fn message(&self, position: u64, end: Option<u64>) -> u64 {
        if self.block <= 1 {
            return position;
        }
        let first = position - position % self.block;
        let length = end.map_or(self.block, |end| self.block.min(end - first));
        first + permuted(position - first, length, self.seed ^ mix(first))
    }

    /// When to look again: the next message's time, but not sooner than a timer can tell.
    pub(super) fn pause(&self) -> Duration {
        Duration::from_secs_f64((1.0 / self.messages_per_second).clamp(0.001, 0.05))
    }
}

/// The number at `position` of a random order of `0..length`, computed without the others: a Feistel network over the next
/// even number of bits, walked until it comes back into the range. A mere stride would do for a shuffle, but two strides are
/// often the same order shifted, which no two connections ever are.
fn permuted(position: u64, length: u64, seed: u64) -> u64 {
    let half = (64 - (length - 1).leading_zeros()).div_ceil(2).max(1);
    let mask = (1 << half) - 1;
    let mut number = position;
    loop {
        let (mut left, mut right) = (number >> half, number & mask);
        for round in 1..=4 {
            (left, right) = (right, left ^ (mix(seed ^ mix(right ^ (round << 32))) & mask));
        }
        number = left << half | right;
        if number < length {
            return number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(block: u64) -> Schedule {
        let (skew, jitter) = (Duration::from_millis(20), Duration::from_millis(3));
        Schedule { messages_per_second: 1000.0, skew, jitter, block, seed: 3 }
    }

    #[test]
    fn a_path_is_late_by_skew_and_at_most_jitter_and_ends_complete() {
        let path = schedule(1);
        for ms in 0..2_000 {
            let due = path.due(Duration::from_millis(ms), Some(1_500), &Pauses::default());
            assert!(due <= ms.saturating_sub(20).min(1_500), "{due} at {ms}");
            assert!(due >= ms.saturating_sub(24).min(1_500), "{due} at {ms}");
        }
    }

    #[test]
    fn a_late_path_goes_on_in_a_pause_until_it_has_what_the_others_had() {
        let path = Schedule { jitter: Duration::ZERO, ..schedule(1) };
        let mut pauses = Pauses::default();
        assert!(pauses.begin(Duration::from_millis(100)));
        let due = |pauses: &Pauses, ms| path.due(Duration::from_millis(ms), None, pauses);
        assert_eq!([110, 130, 500].map(|ms| due(&pauses, ms)), [90, 100, 100]);
        assert!(pauses.end(Duration::from_millis(500)));
        assert_eq!([510, 530].map(|ms| due(&pauses, ms)), [100, 110]);
    }

    #[test]
    fn shuffled_blocks_hold_every_message_once() {
        for (block, end) in [(1, None), (2, None), (7, None), (30, None), (7, Some(95)), (64, Some(95))] {
            let path = schedule(block);
            let all = end.unwrap_or(block * 5);
            let mut sent: Vec<u64> = (0..all).map(|position| path.message(position, end)).collect();
            assert!(sent.iter().zip(0..).all(|(n, position)| n / block == position / block));
            assert!(block == 2 || sent.is_sorted() == (block == 1), "block {block}");
            sent.sort_unstable();
            assert!(sent.into_iter().eq(0..all), "block {block}");
        }
    }

    #[test]
    fn only_whole_blocks_are_due_except_at_the_end() {
        let path = schedule(10);
        let due = |ms, end| path.due(Duration::from_millis(ms), end, &Pauses::default());
        assert!((0..200).all(|ms| due(ms, None).is_multiple_of(10)));
        assert_eq!(due(9_000, Some(95)), 95);
    }
}
