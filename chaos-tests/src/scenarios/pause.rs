//! The owner is frozen with SIGSTOP for 15 s, then continued: a zombie. Its standby takes over meanwhile; once awake it
//! must write nothing more, and notice.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{
    Report, Settings,
    stage::{CONNECTOR, Stage},
};
use crate::harness::{FeedOptions, wait_for};

const FROZEN: Duration = Duration::from_secs(15);

pub(super) fn run(settings: &Settings) -> Result<Report> {
    let feed = FeedOptions { rate: settings.rate, seed: settings.seed, ..FeedOptions::default() };
    let mut stage = Stage::set(settings, feed)?;
    for _ in 0..settings.runs {
        let (owner, epoch) = stage.owner()?;
        stage.wait_traffic()?;
        stage.fault();
        let frozen_at = Instant::now();
        stage.cluster.pause(&owner)?;
        stage.wait_new_owner(epoch)?;
        wait_for("the freeze to last", FROZEN * 2, || (frozen_at.elapsed() >= FROZEN).then_some(()))?;
        stage.cluster.resume(&owner)?;
        stage.cluster.wait_settled()?;
        stage.cluster.wait_redundant(CONNECTOR)?;
    }
    stage.close()
}
