//! What the scenes change: three nodes, a broker that can be frozen, a feed, and connectors under a watch.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use anyhow::{Context as _, Result};
use twinfeed_chaos::harness::{
    Cluster, ClusterOptions, Feed, FeedOptions, Kafka, KafkaOptions, let_pass, metric, wait_for,
};
use twinfeed_proto::admin::{ConnectorState, ConnectorStatus};

use super::{stranger, watch::Watch};

pub(super) const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// One that a machine's moment of weakness cannot make a backlog of a hundred a second of.
const RATE: u64 = 120;
/// The smallest buffer is full within seconds.
const SIZE_BYTES: u64 = 2_500;
/// Two lines for each connector of the feed, and what subscribes but one.
const PATHS: &str = "a,b,c,d,e";
const STEP_MAX: Duration = Duration::from_secs(40);
/// Dozens of commits, one of which tells an owner that it is none.
const NOTICED: Duration = Duration::from_millis(400);
/// Smallest buffer that can be configured.
pub(super) const BUFFER_BYTES_MIN: &str = "1048576";

/// A connector of its name, with its lines.
pub(super) const PRICES: &str = "prices";
pub(super) const NARROW: &str = "narrow";
pub(super) const QUIET: &str = "quiet";
pub(super) const LONE: &str = "lone";

#[derive(Debug)]
pub(super) struct House {
    pub(super) cluster: Cluster,
    pub(super) kafka: Kafka,
    pub(super) feed: Feed,
    /// Has never said anything.
    quiet: Feed,
    /// What a scene started; it ends with the scene.
    pub(super) more: Vec<Feed>,
    pub(super) watch: Watch,
    topics: u32,
}

impl House {
    pub(super) fn open() -> Result<Self> {
        let kafka = Kafka::start(KafkaOptions::Own { proxied: false }, HOST)?;
        let cluster = Cluster::start(ClusterOptions {
            nodes: 3,
            bootstrap: kafka.bootstrap().to_owned(),
            binary: "twinfeed",
            environment: Vec::new(),
            network: None,
        })?;
        let options = |rate, more: &[&str]| FeedOptions {
            rate: Some(rate),
            size_bytes: SIZE_BYTES,
            more: more.iter().map(|&word| word.to_owned()).collect(),
            ..FeedOptions::default()
        };
        let feed = Feed::start(cluster.dir(), HOST, &options(RATE, &["--paths", PATHS]))?;
        let quiet = Feed::start(cluster.dir(), HOST, &options(10, &["--silent"]))?;
        let nodes: Vec<_> = cluster.nodes.iter().map(|node| (node.name.clone(), node.http.clone())).collect();
        let watch = Watch::start(&nodes);
        Ok(Self { cluster, kafka, feed, quiet, more: Vec::new(), watch, topics: 0 })
    }

    /// All connectors anew, as if nothing had ever happened to them, and well.
    pub(super) fn refresh(&mut self) -> Result<()> {
        self.more.clear();
        for name in [PRICES, NARROW, QUIET, LONE] {
            // There may be none.
            let _ = self.cluster.admin.delete(name);
        }
        self.topics += 1;
        self.create(PRICES, [self.feed.url("a"), self.feed.url("b")], &[])?;
        self.create(
            NARROW,
            [self.feed.url("c"), self.feed.url("d")],
            &[("twinfeed.buffer.bytes.max", BUFFER_BYTES_MIN)],
        )?;
        self.create(QUIET, [self.quiet.url("a"), self.quiet.url("b")], &[])?;
        self.create(LONE, [self.feed.url("e"), self.feed.url("e")], &[("twinfeed.redundancy", "single")])?;
        self.well()
    }

    pub(super) fn create(&self, name: &str, lines: [String; 2], more: &[(&str, &str)]) -> Result<()> {
        let [first, second] = lines;
        let mut config = vec![
            ("websocket.url", first),
            ("twinfeed.websocket.secondary.url", second),
            ("kafka.topic", format!("{name}-{}", self.topics)),
            ("websocket.reconnect.interval.ms", "200".to_owned()),
            ("websocket.reconnect.backoff.max.ms", "1000".to_owned()),
        ];
        config.extend(more.iter().map(|(key, value)| (*key, (*value).to_owned())));
        self.cluster.admin.create(name, &config)
    }

    /// Waits until everything is as it should be.
    pub(super) fn well(&self) -> Result<()> {
        self.cluster.wait_settled()?;
        for name in [PRICES, NARROW] {
            self.cluster.wait_redundant(name)?;
        }
        for name in [QUIET, LONE] {
            self.reaches(name, |status| status.state() == ConnectorState::Running)?;
        }
        self.reaches(QUIET, |status| status.subscriptions.iter().filter(|line| line.connected).count() == 2)
    }

    pub(super) fn status(&self, name: &str) -> Result<ConnectorStatus> {
        self.cluster.admin.connector(name)?.status.context("a connector without status")
    }

    pub(super) fn reaches(&self, name: &str, is_it: impl Fn(&ConnectorStatus) -> bool) -> Result<()> {
        let mut last = None;
        wait_for(name, STEP_MAX, || {
            last = self.status(name).ok();
            last.as_ref().filter(|status| is_it(status)).map(drop)
        })
        .with_context(|| format!("{last:?}"))
    }

    /// The path of the line that the owner, or the standby, of `prices` has.
    pub(super) fn path(&self, of_owner: bool) -> Result<String> {
        let status = self.status(PRICES)?;
        let node = if of_owner { &status.owner } else { &status.standby };
        let its = status.subscriptions.iter().find(|line| &line.node == node).context("no subscription")?;
        its.url.rsplit('/').next().map(str::to_owned).context("no path")
    }

    /// What runs but once is moved off a node, so that the end of the node is nothing to it.
    pub(super) fn spare(&self, node: &str) -> Result<()> {
        if self.status(LONE)?.owner == node {
            let other = self.cluster.nodes.iter().find(|other| other.name != node).context("another node")?;
            self.cluster.admin.failover(LONE, &other.name)?;
        }
        Ok(())
    }

    /// Moves `prices` to a node.
    pub(super) fn move_to(&self, node: &str) -> Result<()> {
        if self.status(PRICES)?.owner != node {
            self.cluster.admin.failover(PRICES, node)?;
            self.cluster.wait_redundant(PRICES)?;
        }
        Ok(())
    }

    /// A stranger takes a connector's place at Kafka, and its owner has been refused and has taken it back. Kafka does not call it
    /// a refusal when it comes in the middle of a commit, so it may take more than one.
    pub(super) fn fence(&self, name: &str) -> Result<()> {
        let id = format!("twinfeed.{}.{name}", self.cluster.admin.status()?.cluster_id);
        let before = self.fenced()?;
        wait_for("a producer to be refused", STEP_MAX, || {
            stranger::take(self.kafka.bootstrap(), &id).ok()?;
            let_pass(NOTICED);
            self.fenced().ok().filter(|&now| now > before).map(drop)
        })?;
        self.well()
    }

    /// How often Kafka has refused the producer of any connector.
    fn fenced(&self) -> Result<f64> {
        let nodes = self.cluster.nodes.iter();
        nodes.map(|node| Ok(metric(&node.http, "twinfeed_producer_fenced_total")?.iter().sum::<f64>())).sum()
    }

    /// kill -9, and the others have noticed.
    pub(super) fn kill(&mut self, node: &str) -> Result<()> {
        let epoch = self.status(PRICES)?.epoch;
        let owned = self.status(PRICES)?.owner == node;
        self.cluster.kill(node)?;
        wait_for("the others to notice", STEP_MAX, || {
            let status = self.cluster.admin.status().ok()?;
            status.members.iter().any(|member| member.name == node && !member.up).then_some(())
        })?;
        if owned { self.reaches(PRICES, |status| status.epoch > epoch) } else { Ok(()) }
    }

    /// Starts again what was killed.
    pub(super) fn revive(&mut self) -> Result<()> {
        let down: Vec<String> = self.down();
        down.iter().try_for_each(|node| self.cluster.start_node(node))?;
        self.cluster.wait_settled()
    }

    fn down(&self) -> Vec<String> {
        let nodes = self.cluster.nodes.iter().map(|node| node.name.clone());
        nodes.filter(|node| self.cluster.pid(node).is_err()).collect()
    }

    pub(super) fn seconds(&self, seconds: u64) {
        let_pass(Duration::from_secs(seconds));
    }
}
