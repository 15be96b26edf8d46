//! The feed's account of who was sent what, as it serves it: the fields that stories look at.

use serde::Deserialize;

/// What was sent so far.
#[derive(Debug, Clone, Deserialize)]
pub struct Ledger {
    pub finished: bool,
    /// Ranges `[from, to)` of messages that at least one subscriber was sent.
    pub covered: Vec<(u64, u64)>,
    pub connections: Vec<Connection>,
    #[serde(default)]
    pub refusals: Vec<Refusal>,
}

/// One connection of a path; the latest two hundred that ended are listed, and all that have not.
#[derive(Debug, Clone, Deserialize)]
pub struct Connection {
    pub path: String,
    /// Milliseconds since 1970.
    pub connected_at_ms: u64,
    /// Messages of the feed that it was sent.
    pub sent: u64,
    /// How far its path had come, withheld messages included.
    pub next_n: u64,
    pub ended: Option<String>,
}

/// An attempt that was answered with 429.
#[derive(Debug, Clone, Deserialize)]
pub struct Refusal {
    pub path: String,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    pub retry_after_s: u64,
}

impl Ledger {
    /// Messages that at least one subscriber was sent.
    pub fn sent(&self) -> u64 {
        self.covered.iter().map(|(from, to)| to - from).sum()
    }

    /// Connections of a path, in the order in which they came.
    pub fn of<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Connection> {
        self.connections.iter().filter(move |connection| connection.path == path)
    }

    /// Messages that the connections of a path were sent.
    pub fn sent_on(&self, path: &str) -> u64 {
        self.of(path).map(|connection| connection.sent).sum()
    }

    /// Connections of a path that have not ended.
    pub fn live(&self, path: &str) -> usize {
        self.of(path).filter(|connection| connection.ended.is_none()).count()
    }

    /// Every time somebody wanted a path, milliseconds since 1970, ascending; with the seconds to wait where it was refused.
    pub fn attempts(&self, path: &str) -> Vec<(u64, Option<u64>)> {
        let refused = self.refusals.iter().filter(|refusal| refusal.path == path);
        let refused = refused.map(|refusal| (refusal.at_ms, Some(refusal.retry_after_s)));
        let mut all: Vec<_> = self.of(path).map(|welcome| (welcome.connected_at_ms, None)).chain(refused).collect();
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_those_of_the_path_in_order() {
        let text = r#"{"finished":false,"covered":[[0,5],[7,9]],"pattern":{},"connections":[
            {"id":1,"path":"a","connected_at_ms":10,"sent":3,"next_n":5,"ended":"gone"},
            {"id":2,"path":"b","connected_at_ms":11,"sent":5,"next_n":9,"ended":null},
            {"id":3,"path":"a","connected_at_ms":90,"sent":4,"next_n":9,"ended":null}],
            "refusals":[{"path":"a","at_ms":50,"retry_after_s":4}]}"#;
        let ledger: Ledger = serde_json::from_str(text).unwrap();
        assert_eq!(ledger.attempts("a"), [(10, None), (50, Some(4)), (90, None)]);
        assert_eq!((ledger.sent(), ledger.sent_on("a"), ledger.live("a")), (7, 7, 1));
    }
}
