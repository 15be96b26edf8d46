//! The feed's account of what it sent to whom: the truth that the verifier holds the topic against. Plain data, served
//! as JSON at `/ledger`.

use serde::{Deserialize, Serialize};

use super::super::pattern::PatternArgs;

/// Ended connections that are listed one by one; what older ones covered is kept in `covered`.
const ENDED_LISTED_MAX: usize = 200;

/// What was sent so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    pub pattern: PatternArgs,
    pub messages_per_second: f64,
    /// When message 0 was due, milliseconds since 1970; None before the schedule begins.
    #[serde(default)]
    pub began_at_ms: Option<u64>,
    /// First message that a subscriber was sent; None before any.
    pub first_n: Option<u64>,
    /// Last message that a subscriber was sent.
    pub last_n: Option<u64>,
    /// The schedule is over and every connected subscriber has got all of it.
    pub finished: bool,
    /// Ranges `[from, to)` of messages that at least one subscriber was sent; ascending, apart from each other.
    pub covered: Vec<(u64, u64)>,
    pub connections: Vec<SubscriberEntry>,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriberEntry {
    pub id: u64,
    pub path: String,
    /// Position of its first message. Positions are message numbers except within a shuffled block.
    pub first_n: u64,
    /// Position after its last message so far.
    pub next_n: u64,
    pub connected_at_ms: u64,
    /// Why it ended; None while it is connected.
    pub ended: Option<String>,
}

impl Ledger {
    pub(super) fn new(pattern: PatternArgs, messages_per_second: f64) -> Self {
        let (covered, connections) = (Vec::new(), Vec::new());
        let (began_at_ms, first_n, last_n, finished) = (None, None, None, false);
        Self { pattern, messages_per_second, began_at_ms, first_n, last_n, finished, covered, connections }
    }

    /// Number of messages that at least one subscriber was sent.
    pub fn sent(&self) -> u64 {
        self.covered.iter().map(|(from, to)| to - from).sum()
    }

    pub(super) fn opened(&mut self, entry: SubscriberEntry) {
        self.connections.push(entry);
        let ended = self.connections.iter().filter(|entry| entry.ended.is_some()).count();
        if ended > ENDED_LISTED_MAX
            && let Some(oldest) = self.connections.iter().position(|entry| entry.ended.is_some())
        {
            self.connections.remove(oldest);
        }
    }

    /// A connection has been sent everything before `next_n`.
    pub(super) fn sent_through(&mut self, id: u64, next_n: u64) {
        let Some(entry) = self.connections.iter_mut().find(|entry| entry.id == id) else { return };
        let range = (entry.next_n, next_n);
        entry.next_n = next_n;
        self.cover(range);
    }

    pub(super) fn ended(&mut self, id: u64, why: String) {
        if let Some(entry) = self.connections.iter_mut().find(|entry| entry.id == id) {
            entry.ended = Some(why);
        }
    }

    pub(super) fn live(&self) -> impl Iterator<Item = &SubscriberEntry> {
        self.connections.iter().filter(|entry| entry.ended.is_none())
    }

    fn cover(&mut self, (from, to): (u64, u64)) {
        if from >= to {
            return;
        }
        let before = self.covered.partition_point(|range| range.1 < from);
        let after = self.covered.partition_point(|range| range.0 <= to);
        let merged = self.covered[before..after].iter().fold((from, to), |m, r| (m.0.min(r.0), m.1.max(r.1)));
        self.covered.splice(before..after, [merged]);
        self.first_n = self.covered.first().map(|range| range.0);
        self.last_n = self.covered.last().map(|range| range.1 - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> Ledger {
        let pattern = PatternArgs { seed: 1, size: 1, repeats: 0.0, hot: 1, replay: None, bridge: 0 };
        Ledger::new(pattern, 1.0)
    }

    fn open(ledger: &mut Ledger, id: u64, at: u64) {
        let path = String::from("a");
        ledger.opened(SubscriberEntry { id, path, first_n: at, next_n: at, connected_at_ms: 0, ended: None });
    }

    #[test]
    fn ranges_are_united_and_holes_stay() {
        let mut ledger = ledger();
        open(&mut ledger, 1, 10);
        open(&mut ledger, 2, 15);
        ledger.sent_through(1, 10);
        assert_eq!((ledger.first_n, ledger.sent()), (None, 0));
        ledger.sent_through(1, 20);
        ledger.sent_through(2, 18);
        assert_eq!(ledger.covered, [(10, 20)]);
        ledger.sent_through(2, 30);
        open(&mut ledger, 3, 40);
        ledger.sent_through(3, 41);
        assert_eq!(ledger.covered, [(10, 30), (40, 41)]);
        open(&mut ledger, 4, 30);
        ledger.sent_through(4, 40);
        assert_eq!((ledger.covered.as_slice(), ledger.sent()), ([(10, 41)].as_slice(), 31));
        assert_eq!((ledger.first_n, ledger.last_n), (Some(10), Some(40)));
    }

    #[test]
    fn forgotten_connections_stay_covered() {
        let mut ledger = ledger();
        for id in 0..500 {
            open(&mut ledger, id, id);
            ledger.sent_through(id, id + 1);
            ledger.ended(id, "gone".into());
        }
        assert!(ledger.connections.len() <= ENDED_LISTED_MAX + 1);
        assert_eq!(ledger.covered, [(0, 500)]);
    }
}
