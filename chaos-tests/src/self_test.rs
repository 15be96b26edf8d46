//! The suite's check of itself: every seeded bug makes some story red. A story that would also pass on a broken node proves
//! nothing by passing on a good one. The nodes are `twinfeed-faulty`, each with the bug; `node/src/faults.rs` explains them.

use std::time::Instant;

use anyhow::Result;

use crate::{
    harness,
    run::{self, Settings},
    scenarios,
    verdict::Verdict,
};

/// A bug and the stories that should notice it, the likeliest first.
const NOTICED_BY: &[(&str, &[&str])] = &[
    ("no-fencing", &["zombie-mid-transaction", "pause-owner"]),
    ("check-before-init", &["zombie-before-init"]),
    ("no-alignment", &["kill-owner-at-points"]),
    ("prefix-acks", &["kill-owner-interleaved"]),
    ("release-before-commit", &["kill-owner-at-points"]),
    ("dedup-off", &["kill-owner"]),
    ("self-promotion", &["kill-owner"]),
];

/// How a bug was noticed, or that it was not.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub bug: &'static str,
    /// The story that failed.
    pub noticed_by: Option<&'static str>,
    /// One line a story that ran: its verdict and first reason.
    pub ran: Vec<String>,
    pub took_s: u64,
}

/// Names of the seeded bugs, in the order in which they are tried.
pub fn bugs() -> impl Iterator<Item = &'static str> {
    NOTICED_BY.iter().map(|(bug, _)| *bug)
}

/// Runs the stories of each bug that `wanted` picks until one fails, and hands each outcome to `report`; whether all were
/// noticed.
///
/// # Errors
/// When the faulty node cannot be built.
pub fn run(settings: &Settings, wanted: impl Fn(&str) -> bool, mut report: impl FnMut(&Outcome)) -> Result<bool> {
    harness::build_faulty_node()?;
    let mut all_noticed = true;
    for (bug, stories) in NOTICED_BY.iter().filter(|(bug, _)| wanted(bug)) {
        let outcome = try_bug(bug, stories, settings)?;
        all_noticed &= outcome.noticed_by.is_some();
        report(&outcome);
    }
    Ok(all_noticed)
}

fn try_bug(bug: &'static str, stories: &[&'static str], settings: &Settings) -> Result<Outcome> {
    let began = Instant::now();
    let settings = Settings { bug: Some(bug.to_owned()), strict: false, ..settings.clone() };
    let mut outcome = Outcome { bug, noticed_by: None, ran: Vec::new(), took_s: 0 };
    for name in stories {
        let verdict = run::run(scenarios::find(name)?, &settings, |result| {
            // The first line says it; an invalid run's reason goes on for pages.
            let reason = result.reasons.first().and_then(|reason| reason.lines().next()).unwrap_or_default();
            outcome.ran.push(format!("{} {name} seed={} {reason}", result.verdict, result.seed));
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
            assert!(stories.iter().all(|story| scenarios::find(story).is_ok()), "{bug}: {stories:?}");
        }
    }
}
