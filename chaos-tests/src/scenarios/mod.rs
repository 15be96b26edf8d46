//! Stories on a real broker: one file a story, told in its doc comment. Each returns a `Report`; who runs it decides how
//! often. The test suite runs each a few times, `chaos NAME --runs N` as often as one likes.

mod captures;
mod kill;
mod latency;
mod pause;
mod planned;
mod stage;
mod throughput;

use serde::Serialize;

pub use kill::Victim;

/// What to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    Kill(Victim),
    PauseOwner,
    PlannedMove,
    Captures,
    Latency,
    Throughput,
}

/// All scenarios by name.
pub const ALL: &[(&str, Scenario)] = &[
    ("kill-owner", Scenario::Kill(Victim::Owner)),
    ("kill-standby", Scenario::Kill(Victim::Standby)),
    ("kill-leader", Scenario::Kill(Victim::Leader)),
    ("kill-owner-and-leader", Scenario::Kill(Victim::OwnerAndLeader)),
    ("pause-owner", Scenario::PauseOwner),
    ("planned-move", Scenario::PlannedMove),
    ("captures", Scenario::Captures),
    ("latency", Scenario::Latency),
    ("throughput", Scenario::Throughput),
];

/// How to run it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Faults in a row.
    pub runs: usize,
    pub seed: u64,
    /// Messages a second of the numbered feed.
    pub rate: u64,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Default)]
pub struct Report {
    pub scenario: String,
    pub seed: u64,
    pub faults: usize,
    pub sent: u64,
    pub written: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub zombies: u64,
    /// Silence of the topic around each fault, milliseconds.
    pub silence_ms: Vec<u64>,
    pub silence_p50_ms: u64,
    pub silence_max_ms: u64,
    /// Median and 99th percentile from read to commit, and records a second, where the story is about them.
    pub latency_p50_ms: f64,
    pub latency_p99_ms: f64,
    pub records_per_second: f64,
}

impl Report {
    /// Whether the promise held: nothing lost, doubled, reordered, or written by a zombie.
    pub fn holds(&self) -> bool {
        self.lost + self.duplicated + self.reordered + self.zombies == 0 && self.sent > 0
    }
}

/// Runs a scenario.
///
/// # Errors
/// When it could not be carried out: then it says nothing about the promise.
pub fn run(name: &str, settings: &Settings) -> anyhow::Result<Report> {
    let scenario = ALL
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, scenario)| *scenario)
        .ok_or_else(|| anyhow::anyhow!("no scenario `{name}`; known: {}", names().join(", ")))?;
    let mut report = match scenario {
        Scenario::Kill(victim) => kill::run(victim, settings),
        Scenario::PauseOwner => pause::run(settings),
        Scenario::PlannedMove => planned::run(settings),
        Scenario::Captures => captures::run(settings),
        Scenario::Latency => latency::run(settings),
        Scenario::Throughput => throughput::run(settings),
    }?;
    report.scenario = name.to_owned();
    report.seed = settings.seed;
    report.silence_max_ms = report.silence_ms.iter().copied().max().unwrap_or(0);
    let mut sorted = report.silence_ms.clone();
    sorted.sort_unstable();
    report.silence_p50_ms = sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0);
    Ok(report)
}

/// The names of all scenarios.
pub fn names() -> Vec<&'static str> {
    ALL.iter().map(|(name, _)| *name).collect()
}
