//! As many unique messages a second as one dual stream carries, with broker, feed and three nodes on one machine.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::{
    Report, Settings,
    stage::{CONNECTOR, Stage},
};
use crate::harness::{FeedOptions, wait_for};

const MEASURED: Duration = Duration::from_secs(20);

pub(super) fn run(settings: &Settings) -> Result<Report> {
    // Both are there from the first message: what one of them got alone at the start is not what is measured.
    let more = vec!["--wait-subscribers".to_owned(), "2".to_owned()];
    let feed = FeedOptions { rate: settings.rate, seed: settings.seed, repeats: 0.0, more, ..FeedOptions::default() };
    let stage = Stage::set(settings, feed)?;
    let since = Instant::now();
    let mut best: f64 = 0.0;
    wait_for("the measurement", MEASURED * 2, || {
        let status = stage.cluster.admin.connector(CONNECTOR).ok()?.status?;
        best = best.max(status.records_per_second);
        (since.elapsed() >= MEASURED).then_some(())
    })?;
    let status = stage.cluster.admin.connector(CONNECTOR)?.status.context("a connector without status")?;
    let report = stage.close()?;
    Ok(Report {
        records_per_second: best,
        latency_p50_ms: status.latency_p50_ms,
        latency_p99_ms: status.latency_p99_ms,
        ..report
    })
}
