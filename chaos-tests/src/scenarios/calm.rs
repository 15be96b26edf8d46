//! Nothing is broken: how long from the read of a frame to its commit, and how many messages a second one dual stream
//! carries with broker, feed and three nodes on one machine.

use std::time::{Duration, Instant};

use anyhow::Result;
use rand::rngs::StdRng;

use crate::{
    harness::{Distribution, FeedOptions, exposition, wait_for},
    stage::{CONNECTOR, Stage, StageOptions},
    story::{Facts, Story},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Calm {
    /// At the rate asked for, repeats included.
    Latency,
    /// Unique messages only: the most that can be carried is measured with `--rate`.
    Throughput,
}

const MEASURED: Duration = Duration::from_secs(20);
const LATENCY: &str = "twinfeed_end_to_end_latency_seconds";

impl Story for Calm {
    fn facts(&self) -> Facts {
        let facts = match self {
            Self::Latency => Facts::new("latency", &[], "nothing is broken: milliseconds from read to commit"),
            Self::Throughput => Facts::new("throughput", &[], "nothing is broken: unique messages a second"),
        };
        Facts { faults_per_stage: 1, ..facts }
    }

    fn stage(&self, _seed: u64) -> Result<StageOptions> {
        let feed = match self {
            Self::Latency => FeedOptions::default(),
            Self::Throughput => FeedOptions { repeats: 0.0, ..FeedOptions::default() },
        };
        Ok(StageOptions { feed, ..StageOptions::default() })
    }

    fn fault(&self, stage: &mut Stage, _random: &mut StdRng) -> Result<()> {
        stage.fault("none");
        // What the first start cost is not what is asked for.
        let before = latency(stage)?;
        let since = Instant::now();
        let mut best: f64 = 0.0;
        wait_for("the measurement", MEASURED * 2, || {
            let status = stage.cluster.admin.connector(CONNECTOR).ok()?.status?;
            best = best.max(status.records_per_second);
            (since.elapsed() >= MEASURED).then_some(())
        })?;
        let measured = latency(stage)?.since(&before);
        let quantiles = [("latency_p50_ms", 0.5), ("latency_p99_ms", 0.99)];
        let figures = quantiles.into_iter().filter_map(|(name, q)| Some((name, measured.quantile_ms(q)?)));
        let figures = figures.chain([("records_per_second_max", best)]);
        stage.seen.figures.extend(figures.map(|(name, figure)| (name.to_owned(), figure)));
        Ok(())
    }
}

/// From the read of a frame to its commit, of all nodes together, so far.
pub(super) fn latency(stage: &Stage) -> Result<Distribution> {
    let mut distribution = Distribution::default();
    for node in &stage.cluster.nodes {
        distribution.add(&exposition(&node.http)?, LATENCY);
    }
    Ok(distribution)
}
