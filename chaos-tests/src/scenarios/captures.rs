//! Real captures of market-data feeds, repeats included, replayed on two skewed connections with one kill of the owner
//! in the middle: the topic must hold every line exactly as often as the capture does. The seed picks the capture.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;

use crate::{
    harness::FeedOptions,
    stage::{Stage, StageOptions},
    story::{Facts, Story},
};

pub(super) struct Captures;

/// About two hundred a second for ten seconds.
const MESSAGES_MIN: usize = 2_000;
/// A replay takes about ten seconds.
const REPLAY_MAX: Duration = Duration::from_secs(120);
/// Before each pass of the capture the feed sends unique messages, without which a tiny one has nothing to be aligned by.
const BRIDGE: usize = 200;

/// The captures are fixtures of the merge's own tests.
fn capture(seed: u64) -> Result<PathBuf> {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../dedup/tests/feeds"));
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
        .with_context(|| format!("{}", dir.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "tsv"))
        .collect();
    files.sort();
    ensure!(!files.is_empty(), "no captures in {}", dir.display());
    Ok(files.swap_remove(seed as usize % files.len()))
}

impl Story for Captures {
    fn facts(&self) -> Facts {
        Facts {
            faults_per_stage: 1,
            ..Facts::new(
                "captures",
                &[1, 29],
                "a real capture on two skewed connections, the owner killed in the middle",
            )
        }
    }

    fn stage(&self, seed: u64) -> Result<StageOptions> {
        let capture = capture(seed)?;
        let pass = BRIDGE + std::fs::read_to_string(&capture)?.lines().count();
        // A tiny capture is over before anything could be killed, so it is sent several times.
        let lines = pass * MESSAGES_MIN.div_ceil(pass);
        let (capture, count, bridge) = (capture.display().to_string(), lines.to_string(), BRIDGE.to_string());
        let more = ["--replay", &capture, "--count", &count, "--bridge", &bridge].map(str::to_owned).to_vec();
        // The whole capture in about ten seconds.
        let feed = FeedOptions { rate: Some(lines as u64 / 10), more, ..FeedOptions::default() };
        Ok(StageOptions { feed, ..StageOptions::default() })
    }

    fn fault(&self, stage: &mut Stage, _random: &mut StdRng) -> Result<()> {
        let roles = stage.roles()?;
        stage.fault(&format!("kill {}", roles.owner));
        stage.cluster.kill(&roles.owner)?;
        stage.wait_new_owner(roles.epoch)?;
        stage.cluster.start_node(&roles.owner)
    }

    fn epilogue(&self, stage: &mut Stage) -> Result<()> {
        stage.feed.wait_finished(REPLAY_MAX)
    }
}
