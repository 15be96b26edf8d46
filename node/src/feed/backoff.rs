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
    attempts: u32,
    /// Waits since the last stable connection.
    waits: u32,
    /// A quick reconnect was granted and no stable connection came of it.
    quick_used: bool,
}

/// What became of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) lived: Duration,
    /// A message came; keep-alives are none.
    pub(super) brought: bool,
}

impl Backoff {
    /// `interval_ms` is the limit of the first wait, `limit_ms` of every wait.
    pub(super) fn new(interval_ms: u64, limit_ms: u64) -> Self {
        let (interval_ms, limit_ms) = (interval_ms.max(1), limit_ms.max(1));
        Self { interval_ms, limit_ms, attempts: 0, waits: 0, quick_used: false }
    }

    /// Attempts in a row that were worth nothing: no connection, one that brought no message however long it lived, or
    /// one that ended too soon after another.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// An established connection ended by itself. Returns the wait; `random` is uniform in 0..1.
    ///
    /// The first end is answered at once: most are restarts of a server that is back by then, and until the twin is
    /// back a second fault loses data. A server that accepts and closes in a loop gets the backoff from the second on.
    pub(super) fn ended(&mut self, life: Life, random: f64) -> Duration {
        self.closed(life);
        if !life.brought || (self.quick_used && life.lived < STABLE) {
            self.attempts = self.attempts.saturating_add(1);
        }
        if !self.quick_used {
            self.quick_used = true;
            return Duration::from_millis((QUICK_MS_MAX as f64 * random) as u64);
        }
        self.wait(random)
    }

    /// A connection ended for whatever reason: a stable one forgives the waits, and the attempts if it brought something.
    /// A feed may be quiet for hours, so its server's closes must not slow it down; but they are worth nothing.
    pub(super) fn closed(&mut self, life: Life) {
        if life.lived >= STABLE {
            (self.waits, self.quick_used) = (0, false);
            if life.brought {
                self.attempts = 0;
            }
        }
    }

    /// An attempt failed. Returns the wait; `random` is uniform in 0..1.
    pub(super) fn failed(&mut self, random: f64) -> Duration {
        self.attempts = self.attempts.saturating_add(1);
        self.wait(random)
    }

    fn wait(&mut self, random: f64) -> Duration {
        // The shift is bounded so that an outage of hours cannot overflow into no wait at all.
        let doubled = self.interval_ms.saturating_mul(1 << self.waits.min(30));
        self.waits = self.waits.saturating_add(1);
        Duration::from_millis((doubled.min(self.limit_ms) as f64 * random) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Life = Life { lived: Duration::from_millis(5), brought: true };
    const LONG: Life = Life { lived: STABLE, brought: true };
    const LONG_AND_EMPTY: Life = Life { lived: STABLE, brought: false };

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
        assert!(backoff.ended(SHORT, 1.0).as_millis() <= u128::from(QUICK_MS_MAX));
        assert_eq!(backoff.ended(SHORT, 1.0).as_millis(), 5000);
        assert_eq!(backoff.ended(SHORT, 1.0).as_millis(), 10_000);
        assert_eq!(backoff.attempts(), 2);
    }

    #[test]
    fn a_stable_connection_that_brought_something_forgives() {
        let mut backoff = Backoff::new(5000, 60_000);
        backoff.failed(1.0);
        backoff.ended(SHORT, 1.0);
        assert!(backoff.ended(LONG, 1.0).as_millis() <= u128::from(QUICK_MS_MAX));
        assert_eq!(backoff.attempts(), 0);
        backoff.failed(1.0);
        backoff.closed(LONG);
        assert_eq!(backoff.attempts(), 0);
    }

    #[test]
    fn a_connection_that_brought_nothing_is_an_attempt_however_long_it_lived() {
        let mut backoff = Backoff::new(5000, 60_000);
        for n in 1..=3 {
            // A quiet feed is not kept waiting for it.
            assert!(backoff.ended(LONG_AND_EMPTY, 1.0).as_millis() <= u128::from(QUICK_MS_MAX));
            assert_eq!(backoff.attempts(), n);
        }
        let mut backoff = Backoff::new(5000, 60_000);
        for n in 1..=3 {
            backoff.ended(Life { brought: false, ..SHORT }, 1.0);
            assert_eq!(backoff.attempts(), n, "the quick one counts too");
        }
    }
}
