//! Several connectors write the same feed, heartbeats of equal bytes included, into one topic, as many do. Owners are killed
//! and paused; each takeover must know its own stream's records from those of the others: per stream nothing is lost and
//! nothing doubled.

use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::{Rng as _, rngs::StdRng};

use crate::{
    harness::{FeedOptions, Verifier, let_pass, streams, wait_for},
    stage::{Roles, Stage, StageOptions, sharer},
    story::{Facts, Scale, Story},
};

pub(super) struct SharedTopic;

/// Every stream is written by each connector, so the machine carries a multiple of it.
const RATE: u64 = 500;
const FROZEN_MS: std::ops::Range<u64> = 2_000..6_000;
const TAKEOVER_MAX: Duration = Duration::from_secs(30);
const READ_MAX: Duration = Duration::from_secs(60);

/// Connectors that share the topic.
fn sharers(scale: Scale) -> usize {
    scale.pick(2, 10)
}

impl Story for SharedTopic {
    fn facts(&self) -> Facts {
        let tells = "connectors share a topic and a feed; kill -9 of one's owner, SIGSTOP of another's";
        Facts::new("shared-topic", &[42], tells)
    }

    fn stage_at(&self, scale: Scale, _seed: u64) -> Result<StageOptions> {
        let sharing = sharers(scale);
        let feed = FeedOptions {
            rate: Some(RATE),
            subscribers: 2 * (sharing + 1),
            // One payload makes up a third of the messages.
            more: vec!["--hot".to_owned(), "1".to_owned()],
            ..FeedOptions::default()
        };
        Ok(StageOptions { feed, sharing, ..StageOptions::default() })
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        let first = stage.faults() / 2 % sharers(stage.scale) + 1;
        let (one, other) = (sharer(first), sharer(first % sharers(stage.scale) + 1));
        let roles = roles_of(stage, &one)?;
        stage.fault(&format!("kill {}, owner of {one}", roles.owner));
        stage.cluster.kill(&roles.owner)?;
        wait_new_owner(stage, &one, &roles)?;
        stage.wait_down(&roles.owner)?;
        stage.cluster.start_node(&roles.owner)?;
        wait_all(stage)?;

        let roles = roles_of(stage, &other)?;
        let frozen = Duration::from_millis(random.random_range(FROZEN_MS));
        stage.fault(&format!("pause {}, owner of {other}, for {} ms", roles.owner, frozen.as_millis()));
        stage.cluster.pause(&roles.owner)?;
        let_pass(frozen);
        stage.cluster.resume(&roles.owner)?;
        stage.fault_over();
        stage.wait_going_on()?;
        wait_all(stage)
    }

    /// The shared topic is read when all is over: whose the records are, and what each stream lacks.
    fn epilogue(&self, stage: &mut Stage) -> Result<()> {
        stage.feed.finish()?;
        stage.feed.wait_finished(READ_MAX)?;
        let (topic, sent) = (stage.shared_topic(), stage.feed.ledger()?.sent());
        let wanted = sharers(stage.scale) as u64 * sent;
        let total = || streams(stage.kafka.direct(), &topic).map(|counts| counts.values().sum::<u64>());
        // Less is a loss; the verifier says of what.
        let _ = wait_for("all records", Duration::from_secs(10), || (total().ok()? >= wanted).then_some(()));
        let counts = streams(stage.kafka.direct(), &topic)?;
        let written: u64 = counts.values().sum();
        stage.seen.figures.insert("shared_records".to_owned(), written as f64);
        if written != wanted {
            let connectors = sharers(stage.scale);
            stage.found(format!(
                "{connectors} connectors wrote {written} records of {sent} messages: {wanted} are right"
            ));
        }
        if let Some(nameless) = counts.get(&None) {
            stage.found(format!("{nameless} records of a shared topic do not say of which stream they are"));
        }
        let named: Vec<_> = counts.keys().flatten().copied().collect();
        if named.len() != sharers(stage.scale) && !counts.contains_key(&None) {
            stage.found(format!("{} connectors wrote {} streams", sharers(stage.scale), named.len()));
        }
        for stream in named {
            let dir = stage.cluster.dir();
            let verifier = Verifier::start_stream(dir, stage.kafka.direct(), &topic, &stage.feed, stream)?;
            let books = verifier.verdict(READ_MAX)?;
            stage.seen.books = std::mem::take(&mut stage.seen.books).and(books);
        }
        Ok(())
    }
}

fn roles_of(stage: &Stage, connector: &str) -> Result<Roles> {
    let status = stage.cluster.wait_redundant(connector)?.status.context("a connector without status")?;
    Ok(Roles { owner: status.owner, standby: status.standby, epoch: status.epoch })
}

fn wait_new_owner(stage: &Stage, connector: &str, before: &Roles) -> Result<()> {
    wait_for("a new owner", TAKEOVER_MAX, || {
        let status = stage.cluster.admin.connector(connector).ok()?.status?;
        (status.epoch > before.epoch && status.owner != before.owner).then_some(())
    })
}

fn wait_all(stage: &Stage) -> Result<()> {
    (1..=sharers(stage.scale)).try_for_each(|n| stage.cluster.wait_redundant(&sharer(n)).map(drop))
}
