//! What one run of a story left behind: the reader's books, the faults and their proofs, the cluster's own events, and
//! how every process ended. Plain data; the invariants judge it and nothing else.

use std::collections::BTreeMap;

use crate::harness::{EventLine, NodeLife, ReaderBooks};

/// A fault that demonstrably happened.
#[derive(Debug, Clone)]
pub struct Fault {
    pub what: String,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The same of its end, for one that lasts.
    pub over_at_ms: u64,
}

/// How long the cluster took from the end of a fault until every stream was redundant under one leader.
#[derive(Debug, Clone)]
pub struct Recovery {
    pub after: String,
    /// None: not within the limit; `why` says what was missing.
    pub took_ms: Option<u64>,
    pub why: String,
}

/// A line that was sent nothing, or less than it should, while the other was sent all, and what the cluster said meanwhile.
#[derive(Debug, Clone)]
pub struct SilentLine {
    pub what: String,
    /// How far the two lines are apart without any fault, milliseconds.
    pub skew_ms: u64,
    /// In order of time.
    pub looks: Vec<Look>,
}

/// What the admin API said of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Since the line fell silent, milliseconds; taken before the question, so that an old answer is not held against it.
    pub after_ms: u64,
    pub redundant: bool,
}

/// Everything an invariant may look at.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    pub books: ReaderBooks,
    pub faults: Vec<Fault>,
    /// Silence of the topic around each fault, milliseconds; 0 when there was none worth listing.
    pub silence_ms: Vec<u64>,
    pub recoveries: Vec<Recovery>,
    /// Times in which the faults cost messages by their nature, from and to, milliseconds since 1970. What is missing there
    /// must be told, not avoided.
    pub excused: Vec<(u64, u64)>,
    pub silent_lines: Vec<SilentLine>,
    pub nodes: Vec<NodeLife>,
    pub events: Vec<EventLine>,
    /// What a story itself found wrong, in words: properties that belong to this story alone.
    pub findings: Vec<String>,
    /// Further figures of the story, by name with unit.
    pub figures: BTreeMap<String, f64>,
}
