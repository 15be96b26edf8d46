//! The suite's check of itself: every seeded bug makes some story red. A story that would also pass on a broken node proves
//! nothing by passing on a good one. The nodes are `twinfeed-faulty`, each with the bug; `node/src/faults.rs` explains them.

use std::{fmt, time::Instant};

use anyhow::Result;

use crate::{
    harness,
    run::{self, Settings},
    scenarios,
    story::Scale,
    verdict::Verdict,
};

/// A bug and the stories that should notice it with their numbers of faults, the likeliest first.
const NOTICED_BY: &[(&str, &[(&str, usize)])] = &[
    ("no-fencing", &[("zombie-mid-transaction", 2), ("pause-owner", 2)]),
    ("check-before-init", &[("zombie-before-init", 2)]),
    ("no-alignment", &[("kill-owner-at-points", 1)]),
    ("prefix-acks", &[("kill-owner-interleaved", 3)]),
    ("release-before-commit", &[("kill-owner-at-points", 1)]),
    ("dedup-off", &[("kill-owner", 1)]),
    ("flush-without-fdatasync", &[("power-cut-all", 2), ("power-cut", 2)]),
    ("unknown-commit-is-success", &[("commit-unanswered", 1)]),
    ("self-promotion", &[("kill-owner", 5)]),
];

/// A bug shows when its moment comes, which no seed can promise: so many seeds of its stories before it is unnoticed.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=3;

/// How a bug was noticed, or that it was not. Displayed as lines for people.
#[derive(Debug, Clone)]
pub struct Outcome {
    bug: &'static str,
    /// The story that failed.
    noticed_by: Option<&'static str>,
    /// One line a stage that was played: its verdict and first reason.
    played: Vec<String>,
    took_s: u64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bug, noticed_by, played, took_s } = self;
        let by = noticed_by.map_or("UNNOTICED".to_owned(), |story| format!("noticed by {story}"));
        write!(f, "{bug:<26} {by} {took_s}s")?;
        played.iter().try_for_each(|line| write!(f, "\n        {line}"))
    }
}

/// Names of the seeded bugs, in the order in which they are tried.
pub fn bugs() -> impl Iterator<Item = &'static str> {
    NOTICED_BY.iter().map(|(bug, _)| *bug)
}

/// Plays the stories of each bug that `wanted` picks until one fails, and hands each outcome to `report`; whether all
/// were noticed. `rate` is in messages a second.
///
/// # Errors
/// When the faulty node cannot be built.
pub fn run(rate: u64, wanted: impl Fn(&str) -> bool, mut report: impl FnMut(&Outcome)) -> Result<bool> {
    harness::build_faulty_node()?;
    let mut all_noticed = true;
    for (bug, stories) in NOTICED_BY.iter().filter(|(bug, _)| wanted(bug)) {
        let outcome = try_bug(bug, stories, rate)?;
        all_noticed &= outcome.noticed_by.is_some();
        report(&outcome);
    }
    Ok(all_noticed)
}

fn try_bug(bug: &'static str, stories: &[(&'static str, usize)], rate: u64) -> Result<Outcome> {
    let began = Instant::now();
    let mut outcome = Outcome { bug, noticed_by: None, played: Vec::new(), took_s: 0 };
    for (seed, &(name, runs)) in SEEDS.flat_map(|seed| stories.iter().map(move |story| (seed, story))) {
        let settings = Settings { runs, seed, rate, scale: Scale::Quick, strict: false, bug: Some(bug.to_owned()) };
        let verdict = run::run(scenarios::find(name)?, &settings, |result| {
            // The first line says it; an invalid run's reason goes on for pages.
            let reason = result.reasons.first().and_then(|reason| reason.lines().next()).unwrap_or_default();
            outcome.played.push(format!("{} {name} seed={} {reason}", result.verdict, result.seed));
        });
        if verdict == Verdict::Fail {
            outcome.noticed_by = Some(name);
            break;
        }
    }
    outcome.took_s = began.elapsed().as_secs();
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_stories_and_every_story_exists() {
        for (bug, stories) in NOTICED_BY {
            assert!(!stories.is_empty(), "{bug}");
            assert!(stories.iter().all(|(story, _)| scenarios::find(story).is_ok()), "{bug}: {stories:?}");
        }
    }
}
