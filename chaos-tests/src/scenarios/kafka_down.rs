//! Kafka is gone for all nodes, killed or frozen, for longer than a transaction lives (10 s): both nodes go on reading and
//! keep what they read. Nobody is moved, as no other node could do better; nothing is lost or doubled; everything waiting
//! is written within 30 s after Kafka's return, and the cluster has not filled its event log meanwhile.
//! `TWINFEED_OUTAGE_S` sets the length, such as 60 for the full row.

use std::time::{Duration, Instant};

use anyhow::Result;
use rand::{Rng as _, rngs::StdRng};
use twinfeed_proto::admin::ConnectorState;

use crate::{
    broker::Broker,
    harness::{KafkaOptions, let_pass, wait_for},
    stage::{CONNECTOR, Stage, StageOptions},
    story::{Facts, Story},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KafkaDown {
    Killed,
    Frozen,
}

const OUTAGE_MS: std::ops::RangeInclusive<u64> = 11_000..=15_000;
const DRAINED_MAX: Duration = Duration::from_secs(30);
/// Events of one outage: interrupted, in trouble, recovered, and the comings and goings of the pair.
const EVENTS_MAX: usize = 25;
/// A quarter of a second of the feed: what is always on its way.
const WAITING_MAX: u64 = 1_250;

impl Story for KafkaDown {
    fn facts(&self) -> Facts {
        let facts = match self {
            Self::Killed => Facts::new("kafka-killed", &[22], "kill -9 of the only broker, back after 11 to 15 s"),
            Self::Frozen => Facts::new("kafka-frozen", &[22], "SIGSTOP of the only broker for 11 to 15 s"),
        };
        Facts { faults_per_stage: 3, ..facts }
    }

    fn stage(&self, _seed: u64) -> Result<StageOptions> {
        Ok(StageOptions { kafka: KafkaOptions::Own { proxied: false }, ..StageOptions::default() })
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        let outage = outage(random);
        let before = stage.roles()?;
        let events_before = stage.cluster.admin.events()?.len();
        stage.fault(&format!("Kafka {self:?} for {} ms", outage.as_millis()));
        self.take_away(stage.kafka.one()?, outage)?;
        let back_at = Instant::now();
        let drained = wait_for("everything that waited to be written", DRAINED_MAX * 2, || {
            let status = stage.cluster.admin.connector(CONNECTOR).ok()?.status?;
            let running = status.state() == ConnectorState::Running;
            (running && status.unacked_records < WAITING_MAX && status.records_per_second > 0.0).then_some(status)
        })?;
        let took = back_at.elapsed();
        let worst = stage.seen.figures.entry("drained_ms_max".to_owned()).or_default();
        *worst = worst.max(took.as_millis() as f64);
        if took > DRAINED_MAX {
            stage.found(format!("what waited was written only {took:?} after Kafka's return"));
        }
        if drained.owner != before.owner {
            stage.found(format!("the stream moved from {} to {} while Kafka was down", before.owner, drained.owner));
        }
        let events = stage.cluster.admin.events()?;
        let new = events.get(events_before..).unwrap_or_default();
        if new.len() > EVENTS_MAX {
            stage.found(format!("{} events in one outage, more than {EVENTS_MAX}", new.len()));
        }
        if let Some(gap) = new.iter().find(|event| event.kind == "gap") {
            stage.found(format!("a gap although the buffer was large enough: {gap}"));
        }
        Ok(())
    }
}

impl KafkaDown {
    /// Returns when Kafka answers again.
    fn take_away(self, broker: &mut Broker, outage: Duration) -> Result<()> {
        match self {
            Self::Killed => broker.stop()?,
            Self::Frozen => broker.pause()?,
        }
        let_pass(outage);
        match self {
            Self::Killed => broker.restart()?,
            Self::Frozen => broker.resume()?,
        }
        Ok(())
    }
}

fn outage(random: &mut StdRng) -> Duration {
    let asked = std::env::var("TWINFEED_OUTAGE_S").ok().and_then(|seconds| seconds.parse().ok());
    let drawn = Duration::from_millis(random.random_range(OUTAGE_MS));
    asked.map_or(drawn, Duration::from_secs)
}
