//! 5,000 messages a second on two subscriptions, nothing broken: how long from the read of a frame to its commit.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::{
    Report, Settings,
    stage::{CONNECTOR, Stage},
};
use crate::harness::{FeedOptions, wait_for};

const MEASURED: Duration = Duration::from_secs(20);

pub(super) fn run(settings: &Settings) -> Result<Report> {
    let feed = FeedOptions { rate: settings.rate, seed: settings.seed, ..FeedOptions::default() };
    let stage = Stage::set(settings, feed)?;
    let since = Instant::now();
    wait_for("the measurement", MEASURED * 2, || (since.elapsed() >= MEASURED).then_some(()))?;
    let status = stage.cluster.admin.connector(CONNECTOR)?.status.context("a connector without status")?;
    let report = stage.close()?;
    Ok(Report {
        latency_p50_ms: status.latency_p50_ms,
        latency_p99_ms: status.latency_p99_ms,
        records_per_second: status.records_per_second,
        ..report
    })
}
