//! When to connect again: full jitter below a doubling, capped limit, and at once after a connection that had worked.
//! Pure: randomness and durations are arguments. Used by `session`.

use std::time::Duration;

/// A reconnect after a working connection waits less than this, in milliseconds: enough to spread many sessions of one
/// server, short against any backoff.
pub(super) const QUICK_MS_MAX: u64 = 250;
/// A connection that lived so long had worked: the count of failures begins anew.
pub(super) const STABLE: Duration = Duration::from_secs(10);

/// Consecutive failures of one session.
#[derive(Debug, Clone)]
pub(super) struct Backoff {
    interval_ms: u64,
    limit_ms: u64,
    failures: u32,
    /// A quick reconnect was granted and no stable connection came of it.
    quick_used: bool,
}

impl Backoff {
    /// `interval_ms` is the limit of the first wait, `limit_ms` of every wait.
    pub(super) fn new(interval_ms: u64, limit_ms: u64) -> Self {
        Self { interval_ms: interval_ms.max(1), limit_ms: limit_ms.max(1), failures: 0, quick_used: false }
    }

    /// Failed attempts and short-lived connections since the last stable one.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// An established connection ended after `lived`. Returns the wait; `random` is uniform in 0..1.
    ///
    /// The first end is answered at once: most are restarts of a server that is back by then, and until the twin is
    /// back a second fault loses data. A server that accepts and closes in a loop gets the backoff from the second on.
    pub(super) fn ended(&mut self, lived: Duration, random: f64) -> Duration {
        if lived >= STABLE {
            self.failures = 0;
            self.quick_used = false;
        }
        if !self.quick_used {
            self.quick_used = true;
            return Duration::from_millis((QUICK_MS_MAX as f64 * random) as u64);
        }
        self.failed(random)
    }

    /// An attempt failed, or a connection was too short to count. Returns the wait; `random` is uniform in 0..1.
    pub(super) fn failed(&mut self, random: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        // The shift is bounded so that an outage of hours cannot overflow into no wait at all.
        let doubled = self.interval_ms.saturating_mul(1 << (self.failures - 1).min(30));
        Duration::from_millis((doubled.min(self.limit_ms) as f64 * random) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_cap_and_never_overflows() {
        let mut backoff = Backoff::new(1000, 60_000);
        let waits: Vec<_> = (0..8).map(|_| backoff.failed(1.0).as_millis()).collect();
        assert_eq!(waits, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        for _ in 0..100_000 {
            assert_eq!(backoff.failed(1.0).as_millis(), 60_000);
        }
        assert_eq!(Backoff::new(u64::MAX, u64::MAX).failed(0.0), Duration::ZERO);
    }

    #[test]
    fn jitter_is_full() {
        assert_eq!(Backoff::new(1000, 60_000).failed(0.0), Duration::ZERO);
        assert_eq!(Backoff::new(1000, 60_000).failed(0.5).as_millis(), 500);
    }

    #[test]
    fn the_first_end_is_answered_at_once_and_a_closing_loop_backs_off() {
        let mut backoff = Backoff::new(5000, 60_000);
        let short = Duration::from_millis(5);
        assert!(backoff.ended(short, 1.0).as_millis() <= u128::from(QUICK_MS_MAX));
        assert_eq!(backoff.ended(short, 1.0).as_millis(), 5000);
        assert_eq!(backoff.ended(short, 1.0).as_millis(), 10_000);
        assert_eq!(backoff.failures(), 2);
    }

    #[test]
    fn a_stable_connection_forgives() {
        let mut backoff = Backoff::new(5000, 60_000);
        backoff.failed(1.0);
        backoff.ended(Duration::ZERO, 1.0);
        assert!(backoff.ended(STABLE, 1.0).as_millis() <= u128::from(QUICK_MS_MAX));
        assert_eq!(backoff.failures(), 0);
    }
}
