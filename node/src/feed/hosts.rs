//! When a host may be dialed: the sessions of this node share one gate per host and port. A server that restarts ends a
//! thousand connections in the same moment, and its limits count whoever dials, not streams: the dials are spaced, and
//! a wait that the host asked one session for (`Retry-After`) holds for all. A single session never notices.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// So many dials go at once after a rest: a node's handful of streams of one host is no storm.
const BURST: u32 = 16;
/// Between two further dials of a host. A hundred TLS handshakes a second are some tenth of a server's core, and a
/// thousand streams are back after ten seconds.
const SPACING: Duration = Duration::from_millis(10);
/// Beyond so many hosts, those that rest are forgotten.
const HOSTS_MAX: usize = 256;

/// The gates of all hosts.
#[derive(Debug, Clone, Default)]
pub struct Hosts(Arc<Mutex<HashMap<String, Gate>>>);

/// Places in the line of one host.
#[derive(Debug, Clone, Copy)]
struct Gate {
    /// When the line would be empty, plus the burst that is already used.
    empty_at: Instant,
    held_until: Instant,
}

impl Gate {
    fn new(now: Instant) -> Self {
        Self { empty_at: now, held_until: now }
    }

    /// Takes a place: when its turn comes.
    fn place(&mut self, now: Instant) -> Instant {
        let burst = SPACING * (BURST - 1);
        let empty_at = self.empty_at.max(now);
        self.empty_at = empty_at + SPACING;
        // `empty_at` is not before `now`; as a duration the difference cannot fall out of the clock's range.
        now + (empty_at - now).saturating_sub(burst)
    }

    /// Nobody goes before `until`; from then on one after the other, without a burst.
    fn hold(&mut self, until: Instant) {
        self.held_until = self.held_until.max(until);
        self.empty_at = self.empty_at.max(until + SPACING * (BURST - 1));
    }
}

impl Hosts {
    /// Waits until `host` may be dialed; `waits` is told how long, if at all. Cancelled, its place stays empty.
    pub(super) async fn turn(&self, host: &str, waits: impl Fn(Duration)) {
        loop {
            let now = Instant::now();
            let at = self.with(host, |gate| gate.place(now));
            if at <= now {
                return;
            }
            waits(at - now);
            sleep_until(at).await;
            // Somebody may have been told to wait meanwhile.
            if self.with(host, |gate| gate.held_until) <= Instant::now() {
                return;
            }
        }
    }

    /// The host asked not to be dialed for so long.
    pub(super) fn hold(&self, host: &str, wait: Duration) {
        let until = Instant::now() + wait;
        self.with(host, |gate| gate.hold(until));
    }

    fn with<T>(&self, host: &str, change: impl FnOnce(&mut Gate) -> T) -> T {
        let now = Instant::now();
        let mut gates = self.0.lock().expect("nothing panics while it holds the gates");
        if gates.len() >= HOSTS_MAX && !gates.contains_key(host) {
            gates.retain(|_, gate| gate.empty_at > now);
        }
        change(gates.entry(host.to_owned()).or_insert_with(|| Gate::new(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When a thousand who come at the same moment get their turn, in milliseconds.
    fn thousand(gate: &mut Gate, now: Instant) -> Vec<u128> {
        (0..1000).map(|_| (gate.place(now) - now).as_millis()).collect()
    }

    #[test]
    fn a_thousand_streams_do_not_dial_one_host_at_once() {
        let now = Instant::now();
        let turns = thousand(&mut Gate::new(now), now);
        assert_eq!(turns.iter().filter(|turn| **turn == 0).count(), 16);
        assert_eq!(turns.iter().filter(|turn| **turn < 250).count(), 40);
        assert_eq!(turns.last(), Some(&9840));
        assert!(turns.is_sorted());
    }

    #[test]
    fn a_single_stream_never_waits() {
        let mut now = Instant::now();
        let mut gate = Gate::new(now);
        for _ in 0..1000 {
            assert_eq!(gate.place(now), now);
            now += SPACING;
        }
    }

    #[test]
    fn a_wait_that_one_was_told_holds_for_all_and_ends_without_a_burst() {
        let now = Instant::now();
        let mut gate = Gate::new(now);
        gate.hold(now + Duration::from_secs(20));
        let turns = thousand(&mut gate, now);
        assert_eq!(turns[..3], [20_000, 20_010, 20_020]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_already_hears_of_a_hold() {
        let (hosts, began) = (Hosts::default(), Instant::now());
        for _ in 0..BURST {
            hosts.turn("a:1", |_| panic!("the burst does not wait")).await;
        }
        let waited = std::sync::Mutex::new(Vec::new());
        let waiting = hosts.turn("a:1", |wait| waited.lock().expect("no panic").push(wait.as_millis()));
        let holding = async { hosts.hold("a:1", Duration::from_secs(7)) };
        tokio::join!(waiting, holding);
        assert!(began.elapsed() >= Duration::from_secs(7));
        assert_eq!(waited.lock().expect("no panic")[0], 10);
        hosts.turn("b:1", |_| panic!("another host is not held")).await;
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_that_rest_are_forgotten() {
        let hosts = Hosts::default();
        for n in 0..10 * HOSTS_MAX {
            hosts.turn(&n.to_string(), |_| {}).await;
            tokio::time::advance(SPACING).await;
        }
        assert!(hosts.0.lock().expect("no panic").len() <= HOSTS_MAX);
    }
}
