//! Real captures of market-data feeds, repeats included, replayed on two skewed connections with one kill of the owner
//! in the middle: the topic must hold every line exactly as often as the capture does.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};

use super::{Report, Settings, stage::Stage};
use crate::harness::FeedOptions;

/// About two hundred a second for ten seconds.
const MESSAGES_MIN: usize = 2_000;
/// A replay takes about ten seconds.
const REPLAY_MAX: Duration = Duration::from_secs(120);

/// The captures are fixtures of the merge's own tests.
fn captures() -> Result<Vec<PathBuf>> {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../dedup/tests/feeds"));
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
        .with_context(|| format!("{}", dir.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "tsv"))
        .collect();
    files.sort();
    Ok(files)
}

pub(super) fn run(settings: &Settings) -> Result<Report> {
    let mut total = Report::default();
    for capture in captures()? {
        let report = replay(settings, &capture).with_context(|| format!("{}", capture.display()))?;
        eprintln!("{}: {report:?}", capture.display());
        total.faults += report.faults;
        total.sent += report.sent;
        total.written += report.written;
        total.lost += report.lost;
        total.duplicated += report.duplicated;
        total.reordered += report.reordered;
        total.zombies += report.zombies;
        total.silence_ms.extend(report.silence_ms);
    }
    Ok(total)
}

fn replay(settings: &Settings, capture: &std::path::Path) -> Result<Report> {
    // Before the capture the feed sends unique messages, without which a tiny one has nothing to be aligned by.
    const BRIDGE: usize = 200;
    let pass = BRIDGE + std::fs::read_to_string(capture)?.lines().count();
    // A tiny capture is over before anything could be killed, so it is sent several times.
    let lines = pass * MESSAGES_MIN.div_ceil(pass);
    // Both subscriptions from the first line on, and the whole capture in about ten seconds.
    let more = [
        "--replay",
        &capture.display().to_string(),
        "--count",
        &lines.to_string(),
        "--bridge",
        &BRIDGE.to_string(),
        "--wait-subscribers",
        "2",
    ];
    let more = more.map(str::to_owned).to_vec();
    let feed = FeedOptions { rate: lines as u64 / 10, seed: settings.seed, more, ..FeedOptions::default() };
    let mut stage = Stage::set(settings, feed)?;
    let (owner, epoch) = stage.owner()?;
    stage.fault();
    stage.cluster.kill(&owner)?;
    stage.wait_new_owner(epoch)?;
    let position = stage.cluster.position(&owner)?;
    stage.cluster.start_node(position)?;
    stage.feed.wait_finished(REPLAY_MAX)?;
    stage.close()
}
