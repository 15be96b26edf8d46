//! What every story begins and ends with: broker, three nodes, feed, a redundant connector, a verifier; and the books.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};

use super::{Report, Settings};
use crate::{
    broker::Broker,
    harness::{Cluster, Feed, FeedOptions, Silence, Verdict, Verifier, wait_for},
};

pub(super) const CONNECTOR: &str = "prices";
/// Fewer messages a second than this before a fault prove nothing.
const TRAFFIC_MIN: f64 = 100.0;
/// A silence that begins later after a fault is not its.
const SILENCE_BEGINS_MS_MAX: u64 = 5_000;
const VERDICT_MAX: Duration = Duration::from_secs(120);

pub(super) struct Stage {
    pub(super) cluster: Cluster,
    pub(super) feed: Feed,
    verifier: Verifier,
    faults_at_ms: Vec<u64>,
}

impl Stage {
    /// Everything up and redundant, traffic flowing.
    pub(super) fn set(settings: &Settings, options: FeedOptions) -> Result<Self> {
        static TOPICS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let topic = format!("t{}", TOPICS.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let topic = format!("{topic}-{}-{}", settings.seed, std::process::id());
        let bootstrap = Broker::shared().bootstrap();
        let cluster = Cluster::start(3, bootstrap)?;
        let feed = Feed::start(cluster.dir(), &options)?;
        cluster.admin.create(
            CONNECTOR,
            &[
                ("websocket.url", feed.url("a")),
                ("twinfeed.websocket.secondary.url", feed.url("b")),
                ("kafka.topic", topic.clone()),
                ("websocket.reconnect.interval.ms", "200".to_owned()),
            ],
        )?;
        let verifier = Verifier::start(cluster.dir(), bootstrap, &topic, &feed)?;
        cluster.wait_redundant(CONNECTOR)?;
        let stage = Self { cluster, feed, verifier, faults_at_ms: Vec::new() };
        stage.wait_traffic()?;
        Ok(stage)
    }

    /// Traffic flows, so that a fault means something.
    pub(super) fn wait_traffic(&self) -> Result<()> {
        wait_for("traffic before the fault", Duration::from_secs(30), || {
            let connector = self.cluster.admin.connector(CONNECTOR).ok()?;
            (connector.status?.records_per_second > TRAFFIC_MIN).then_some(())
        })
        .map_err(|error| self.cluster.explain(error))
    }

    /// Notes that a fault begins now.
    pub(super) fn fault(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        self.faults_at_ms.push(now);
    }

    /// Owner and epoch as the leader knows them.
    pub(super) fn owner(&self) -> Result<(String, u64)> {
        let connector = self.cluster.wait_redundant(CONNECTOR)?;
        let status = connector.status.context("a connector without status")?;
        ensure!(!status.owner.is_empty(), "no owner");
        Ok((status.owner, status.epoch))
    }

    /// Waits for an owner of a later epoch that delivers.
    pub(super) fn wait_new_owner(&self, epoch: u64) -> Result<(String, u64)> {
        wait_for("a new owner that delivers", Duration::from_secs(30), || {
            let status = self.cluster.admin.connector(CONNECTOR).ok()?.status?;
            let running = status.state() == twinfeed_proto::admin::ConnectorState::Running;
            (status.epoch > epoch && running).then_some((status.owner, status.epoch))
        })
        .map_err(|error| self.cluster.explain(error))
    }

    /// Waits until the living elected a leader that knows of the dead.
    pub(super) fn wait_down(&self, name: &str) -> Result<()> {
        wait_for("the others to notice", Duration::from_secs(30), || {
            let status = self.cluster.admin.status().ok()?;
            let down = status.members.iter().any(|m| m.name == name && !m.up);
            (down && !status.leader.is_empty() && status.leader != name).then_some(())
        })
        .map_err(|error| self.cluster.explain(error))
    }

    /// Ends the feed, waits for the last record, and closes the books.
    pub(super) fn close(self) -> Result<Report> {
        self.feed.finish()?;
        let Self { cluster, feed, verifier, faults_at_ms } = self;
        let verdict = verifier.verdict(VERDICT_MAX).map_err(|error| cluster.explain(error))?;
        drop(feed);
        let report = books(&verdict, &faults_at_ms);
        if !report.holds() {
            let events = cluster.admin.events().unwrap_or_default();
            eprintln!("the promise was broken: {verdict:?}\nevents:\n{}", events.join("\n"));
        }
        Ok(report)
    }
}

fn books(verdict: &Verdict, faults_at_ms: &[u64]) -> Report {
    // A silence belongs to the last fault before its end; faults without one that is long enough to be listed had none.
    let silence_around = |n: usize| {
        let fault = faults_at_ms[n];
        let until = faults_at_ms.get(n + 1).copied().unwrap_or(u64::MAX);
        let ends =
            |s: &&Silence| (fault..until).contains(&(s.from_ms + s.ms)) && s.from_ms < fault + SILENCE_BEGINS_MS_MAX;
        verdict.silences.iter().filter(ends).map(|s| s.ms).max().unwrap_or(0)
    };
    Report {
        faults: faults_at_ms.len(),
        sent: verdict.sent,
        written: verdict.written,
        lost: verdict.lost,
        duplicated: verdict.duplicated,
        reordered: verdict.reordered,
        zombies: verdict.zombies,
        silence_ms: (0..faults_at_ms.len()).map(silence_around).collect(),
        ..Report::default()
    }
}
