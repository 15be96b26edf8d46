//! The feed's account of what it sent to whom: the truth that the verifier holds the topic against. Plain data, served
//! as JSON at `/ledger`.

use serde::{Deserialize, Serialize};

use super::{
    super::pattern::PatternArgs,
    pauses::{Pauses, Timetable},
};

/// Ended connections that are listed one by one; what older ones covered is kept in `covered`.
const ENDED_LISTED_MAX: usize = 200;
/// Refused attempts that are listed, the latest.
const REFUSALS_LISTED_MAX: usize = 200;

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
    /// Ranges `[from, to)` of messages that at least one subscriber was sent; ascending, apart from each other. What a line
    /// withheld is in them only if another line sent it.
    pub covered: Vec<(u64, u64)>,
    pub connections: Vec<SubscriberEntry>,
    /// When the whole feed was quiet.
    #[serde(default)]
    pub pauses: Pauses,
    #[serde(default)]
    pub refusals: Vec<Refusal>,
}

/// Somebody who was told to come again later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub path: String,
    pub at_ms: u64,
    /// As it was told.
    pub retry_after_s: u64,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriberEntry {
    pub id: u64,
    pub path: String,
    /// Position of its first message. Positions are message numbers except within a shuffled block.
    pub first_n: u64,
    /// Position after its last message so far, withheld ones included.
    pub next_n: u64,
    /// Messages of the feed that it was sent; none of its own.
    #[serde(default)]
    pub sent: u64,
    pub connected_at_ms: u64,
    /// Why it ended; None while it is connected.
    pub ended: Option<String>,
}

impl Ledger {
    pub(super) fn new(pattern: PatternArgs, messages_per_second: f64) -> Self {
        Self {
            pattern,
            messages_per_second,
            began_at_ms: None,
            first_n: None,
            last_n: None,
            finished: false,
            covered: Vec::new(),
            connections: Vec::new(),
            pauses: Pauses::default(),
            refusals: Vec::new(),
        }
    }

    /// When each message was due; None before the schedule begins.
    pub fn timetable(&self) -> Option<Timetable> {
        let Self { messages_per_second, pauses, .. } = self.clone();
        Some(Timetable { began_at_ms: self.began_at_ms?, messages_per_second, pauses })
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

    /// A connection has come to `next_n` and has been sent these messages on its way, in any order.
    pub(super) fn book(&mut self, id: u64, next_n: u64, mut numbers: Vec<u64>) {
        let Some(entry) = self.connections.iter_mut().find(|entry| entry.id == id) else { return };
        entry.next_n = next_n;
        entry.sent += numbers.len() as u64;
        numbers.sort_unstable();
        numbers.chunk_by(|one, next| one + 1 == *next).for_each(|run| self.cover((run[0], run[run.len() - 1] + 1)));
    }

    pub(super) fn refused(&mut self, refusal: Refusal) {
        if self.refusals.len() == REFUSALS_LISTED_MAX {
            self.refusals.remove(0);
        }
        self.refusals.push(refusal);
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
        Ledger::new(PatternArgs::default(), 1.0)
    }

    fn open(ledger: &mut Ledger, id: u64, at: u64) {
        let path = String::from("a");
        ledger.opened(SubscriberEntry { id, path, first_n: at, next_n: at, sent: 0, connected_at_ms: 0, ended: None });
    }

    fn sent_through(ledger: &mut Ledger, id: u64, next_n: u64) {
        let from = ledger.connections.iter().find(|entry| entry.id == id).expect("opened").next_n;
        ledger.book(id, next_n, (from..next_n).rev().collect());
    }

    #[test]
    fn ranges_are_united_and_holes_stay() {
        let mut ledger = ledger();
        open(&mut ledger, 1, 10);
        open(&mut ledger, 2, 15);
        sent_through(&mut ledger, 1, 10);
        assert_eq!((ledger.first_n, ledger.sent()), (None, 0));
        sent_through(&mut ledger, 1, 20);
        sent_through(&mut ledger, 2, 18);
        assert_eq!(ledger.covered, [(10, 20)]);
        sent_through(&mut ledger, 2, 30);
        open(&mut ledger, 3, 40);
        sent_through(&mut ledger, 3, 41);
        assert_eq!(ledger.covered, [(10, 30), (40, 41)]);
        open(&mut ledger, 4, 30);
        sent_through(&mut ledger, 4, 40);
        assert_eq!((ledger.covered.as_slice(), ledger.sent()), ([(10, 41)].as_slice(), 31));
        assert_eq!((ledger.first_n, ledger.last_n), (Some(10), Some(40)));
    }

    #[test]
    fn what_a_line_withheld_counts_once_another_has_sent_it() {
        let mut ledger = ledger();
        open(&mut ledger, 1, 0);
        open(&mut ledger, 2, 0);
        ledger.book(1, 6, vec![5, 0, 1, 3]);
        assert_eq!((ledger.covered.as_slice(), ledger.connections[0].sent), ([(0, 2), (3, 4), (5, 6)].as_slice(), 4));
        ledger.book(1, 9, Vec::new());
        assert_eq!((ledger.connections[0].next_n, ledger.sent()), (9, 4));
        sent_through(&mut ledger, 2, 5);
        assert_eq!(ledger.covered, [(0, 6)]);
    }

    #[test]
    fn the_latest_refusals_are_listed() {
        let mut ledger = ledger();
        for at_ms in 0..500 {
            ledger.refused(Refusal { path: String::from("a"), at_ms, retry_after_s: 1 });
        }
        assert_eq!((ledger.refusals.len(), ledger.refusals[0].at_ms), (200, 300));
    }

    #[test]
    fn forgotten_connections_stay_covered() {
        let mut ledger = ledger();
        for id in 0..500 {
            open(&mut ledger, id, id);
            sent_through(&mut ledger, id, id + 1);
            ledger.ended(id, "gone".into());
        }
        assert!(ledger.connections.len() <= ENDED_LISTED_MAX + 1);
        assert_eq!(ledger.covered, [(0, 500)]);
    }
}
