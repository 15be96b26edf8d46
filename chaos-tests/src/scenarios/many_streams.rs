//! Nothing is broken, but there are many: a stream for each of many connectors, each with its own topic. How soon all are
//! redundant, how late their messages are, and what the nodes spend on them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rand::rngs::StdRng;

use super::calm::latency;
use crate::{
    harness::{FeedOptions, let_pass, metric, streams, wait_for},
    stage::{Stage, StageOptions},
    story::{Facts, Scale, Story},
};

pub(super) struct ManyStreams;

/// Messages a second of each stream.
const RATE: u64 = 20;
const MEASURED: Duration = Duration::from_secs(20);
const READ_MAX: Duration = Duration::from_secs(60);

/// Connectors beside the one of every story.
fn others(scale: Scale) -> usize {
    scale.pick(7, 99)
}

impl Story for ManyStreams {
    fn facts(&self) -> Facts {
        let facts = Facts::new("many-streams", &[], "nothing is broken: many connectors, each with a topic of its own");
        Facts { faults_per_stage: 1, ..facts }
    }

    fn stage_at(&self, scale: Scale, _seed: u64) -> Result<StageOptions> {
        let sharing = others(scale);
        let feed = FeedOptions { rate: Some(RATE), subscribers: 2 * (sharing + 1), ..FeedOptions::default() };
        Ok(StageOptions { feed, sharing, one_topic: false, ..StageOptions::default() })
    }

    fn fault(&self, stage: &mut Stage, _random: &mut StdRng) -> Result<()> {
        stage.fault("none");
        let (term, before) = (term(stage)?, latency(stage)?);
        let (cpu_seconds, since) = (total(stage, "process_cpu_seconds_total")?, Instant::now());
        let_pass(MEASURED);
        let cores = (total(stage, "process_cpu_seconds_total")? - cpu_seconds) / since.elapsed().as_secs_f64();
        let measured = latency(stage)?.since(&before);
        let figures = [
            ("node_cores", Some(cores)),
            ("latency_p50_ms", measured.quantile_ms(0.5)),
            ("latency_p99_ms", measured.quantile_ms(0.99)),
            ("threads", total(stage, "process_threads").ok()),
        ];
        for (name, figure) in figures {
            stage.seen.figures.extend(figure.map(|figure| (name.to_owned(), figure)));
        }
        let now = self::term(stage)?;
        if now != term {
            stage.found(format!("the term went from {term} to {now} under load"));
        }
        Ok(())
    }

    /// Every topic is read when all is over.
    fn epilogue(&self, stage: &mut Stage) -> Result<()> {
        stage.feed.finish()?;
        stage.feed.wait_finished(READ_MAX)?;
        let sent = stage.feed.ledger()?.sent();
        for n in 1..=others(stage.scale) {
            let topic = stage.topic_of(n);
            let written = || Some(streams(stage.kafka.direct(), &topic).ok()?.values().sum::<u64>());
            let all = wait_for("all records", Duration::from_secs(10), || written().filter(|written| *written == sent));
            if all.is_err() {
                stage.found(format!("{topic} has {:?} records of {sent} messages", written()));
            }
        }
        Ok(())
    }
}

fn term(stage: &Stage) -> Result<u64> {
    let status = stage.cluster.admin.status()?;
    ensure!(!status.leader.is_empty(), "no leader");
    Ok(status.term)
}

/// The sum over all nodes.
fn total(stage: &Stage, name: &str) -> Result<f64> {
    let values = stage.cluster.nodes.iter().map(|node| Ok(metric(&node.http, name)?.iter().sum::<f64>()));
    values.sum()
}
