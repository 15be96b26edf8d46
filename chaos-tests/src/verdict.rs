//! The judgement of one run and its line of results.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{invariants::Invariant, observation::Observation, story::Facts};

/// What a run says about the promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verdict {
    Pass,
    /// It says nothing: the fault or the traffic is not proven. Never green.
    Invalid,
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "PASS",
            Self::Invalid => "INVALID",
            Self::Fail => "FAIL",
        })
    }
}

/// One line of results: a stage with its faults.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunResult {
    pub story: String,
    pub rows: Vec<u8>,
    pub seed: u64,
    pub verdict: Verdict,
    /// Broken invariants with their findings, or why the run is invalid.
    pub reasons: Vec<String>,
    pub faults: usize,
    pub sent: u64,
    pub written: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub zombies: u64,
    /// Silence of the topic around each fault, milliseconds.
    pub silence_ms: Vec<u64>,
    pub figures: BTreeMap<String, f64>,
    pub took_s: u64,
    /// The command that repeats it.
    pub repeat: String,
}

impl RunResult {
    /// A run that says nothing, and why.
    pub(crate) fn invalid(facts: &Facts, seed: u64, why: String) -> Self {
        Self { reasons: vec![why], ..Self::of(facts, seed, Verdict::Invalid, &Observation::default()) }
    }

    /// Judges by the story's invariants; the bound on silences only where `strict`.
    pub(crate) fn judge(facts: &Facts, seed: u64, strict: bool, seen: &Observation) -> Self {
        let judged = |invariant: &&Invariant| strict || **invariant != Invariant::BoundedSilence;
        let broken = facts.invariants.iter().filter(judged).filter_map(|invariant| {
            invariant.broken(facts, seen).map(|what| format!("{} {invariant:?}: {what}", invariant.id()))
        });
        let mut reasons: Vec<String> = broken.collect();
        let verdict = if reasons.is_empty() { Verdict::Pass } else { Verdict::Fail };
        if verdict == Verdict::Fail {
            reasons.extend(seen.books.findings.iter().take(5).cloned());
        }
        Self { reasons, ..Self::of(facts, seed, verdict, seen) }
    }

    fn of(facts: &Facts, seed: u64, verdict: Verdict, seen: &Observation) -> Self {
        Self {
            story: facts.name.to_owned(),
            rows: facts.rows.to_vec(),
            seed,
            verdict,
            reasons: Vec::new(),
            faults: seen.faults.len(),
            sent: seen.books.sent,
            written: seen.books.written,
            lost: seen.books.lost,
            duplicated: seen.books.duplicated,
            reordered: seen.books.reordered,
            zombies: seen.books.zombies,
            silence_ms: seen.silence_ms.clone(),
            figures: seen.figures.clone(),
            took_s: 0,
            repeat: String::new(),
        }
    }

    /// The line for people.
    pub fn line(&self) -> String {
        let Silences { p50, p99, max } = Silences::of(&self.silence_ms);
        let mut line = format!(
            "{:<7} {} seed={} faults={} silence_ms p50={p50} p99={p99} max={max} sent={} lost={} duplicated={} {}s",
            self.verdict.to_string(),
            self.story,
            self.seed,
            self.faults,
            self.sent,
            self.lost,
            self.duplicated,
            self.took_s
        );
        for (name, figure) in &self.figures {
            line.push_str(&format!(" {name}={figure:.1}"));
        }
        for reason in &self.reasons {
            line.push_str(&format!("\n        {reason}"));
        }
        if self.verdict != Verdict::Pass {
            line.push_str(&format!("\n        repeat: {}", self.repeat));
        }
        line
    }
}

/// Median, 99th percentile and maximum, milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silences {
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

impl Silences {
    pub fn of(silences: &[u64]) -> Self {
        let mut sorted = silences.to_vec();
        sorted.sort_unstable();
        // Nearest rank: with fewer than a hundred silences, the 99th percentile is the maximum.
        let rank = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).max(1) - 1).copied().unwrap_or(0);
        Self { p50: rank(50), p99: rank(99), max: rank(100) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts = Facts { silence_ms_max: Some(100), ..Facts::new("story", &[1], "a story") };

    #[test]
    fn one_broken_invariant_fails_the_run_and_is_named() {
        let mut seen = Observation::default();
        assert_eq!(RunResult::judge(&FACTS, 1, true, &seen).verdict, Verdict::Pass);
        seen.books.lost = 2;
        let result = RunResult::judge(&FACTS, 1, true, &seen);
        assert_eq!(result.verdict, Verdict::Fail);
        assert!(result.reasons[0].contains("NoLoss"), "{:?}", result.reasons);
    }

    #[test]
    fn silences_count_only_where_the_machine_is_quiet() {
        let seen = Observation { silence_ms: vec![101], ..Observation::default() };
        assert_eq!(RunResult::judge(&FACTS, 1, true, &seen).verdict, Verdict::Fail);
        assert_eq!(RunResult::judge(&FACTS, 1, false, &seen).verdict, Verdict::Pass);
    }

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let hundred: Vec<u64> = (1..=100).rev().collect();
        let Silences { p50, p99, max } = Silences::of(&hundred);
        assert_eq!((p50, p99, max), (50, 99, 100));
        let Silences { p50, p99, max } = Silences::of(&[7]);
        assert_eq!((p50, p99, max), (7, 7, 7));
        assert_eq!(Silences::of(&[]).max, 0);
    }
}
