//! The owner is moved with `failover`, back and forth, under traffic: make before break, hardly a silence.

use anyhow::Result;

use super::{
    Report, Settings,
    stage::{CONNECTOR, Stage},
};
use crate::harness::FeedOptions;

pub(super) fn run(settings: &Settings) -> Result<Report> {
    let feed = FeedOptions { rate: settings.rate, seed: settings.seed, ..FeedOptions::default() };
    let mut stage = Stage::set(settings, feed)?;
    for _ in 0..settings.runs {
        stage.wait_traffic()?;
        stage.cluster.wait_redundant(CONNECTOR)?;
        stage.fault();
        stage.cluster.admin.failover(CONNECTOR, "").map_err(|error| stage.cluster.explain(error))?;
        stage.cluster.wait_redundant(CONNECTOR)?;
    }
    stage.close()
}
