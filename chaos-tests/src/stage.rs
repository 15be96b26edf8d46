//! What every story begins and ends with: broker, nodes, feed, a redundant connector, a verifier; and the books.

use std::{
    net::{IpAddr, Ipv4Addr},
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    harness::{
        Cluster, ClusterOptions, Feed, FeedOptions, Kafka, KafkaOptions, ReaderBooks, Silence, Verifier,
        network::Network, wait_for,
    },
    invariants::CONVERGENCE_MS_MAX,
    observation::{Fault, Look, Observation, Recovery, SilentLine},
    story::Scale,
};

/// The connector of every story.
pub const CONNECTOR: &str = "prices";
/// Follows the topic's name where connectors share one.
const SHARED: &str = "-shared";
/// Fewer messages a second than this before a fault prove nothing, or than half of what a slower feed sends.
const TRAFFIC_MIN: f64 = 100.0;
/// Runs of missing messages that are printed of a broken stage.
const MISSING_SHOWN_MAX: usize = 10;
/// A silence that begins later after the end of a fault is not its.
const SILENCE_BEGINS_MS_MAX: u64 = 5_000;
const VERDICT_MAX: Duration = Duration::from_secs(120);
/// How long the verifier waits for what is missing.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// The same where a broker is killed: on a busy machine an owner was seen to write again only 23 s later.
const PATIENCE_WITH_BROKER: Duration = Duration::from_secs(45);
const NEWS_WITHIN: Duration = Duration::from_secs(30);

/// What stands on the stage.
#[derive(Debug, Clone)]
pub struct StageOptions {
    pub feed: FeedOptions,
    pub nodes: usize,
    /// What the nodes write to.
    pub kafka: KafkaOptions,
    /// A namespace for each node, so that it can be cut off; needs root.
    pub network: bool,
    /// So many further connectors, `shared-1` and on, that subscribe the same feed.
    pub sharing: usize,
    /// They write to one topic, `Stage::shared_topic`, or each to its own, `Stage::topic_of`.
    pub one_topic: bool,
    /// As the run wants it.
    pub scale: Scale,
    /// Further configuration of the connector.
    pub connector: Vec<(&'static str, String)>,
    /// Environment of every node.
    pub environment: Vec<(String, String)>,
    /// The node with failpoints and seeded bugs.
    pub faulty_node: bool,
    /// A seeded bug of every node.
    pub bug: Option<String>,
}

impl Default for StageOptions {
    fn default() -> Self {
        Self {
            feed: FeedOptions::default(),
            nodes: 3,
            kafka: KafkaOptions::Shared,
            network: false,
            sharing: 0,
            one_topic: true,
            scale: Scale::Quick,
            connector: Vec::new(),
            environment: Vec::new(),
            faulty_node: false,
            bug: None,
        }
    }
}

/// A running cluster under traffic, and the notes of what was done to it.
#[derive(Debug)]
pub struct Stage {
    pub cluster: Cluster,
    pub feed: Feed,
    pub topic: String,
    pub kafka: Kafka,
    pub scale: Scale,
    network: Option<Rc<Network>>,
    /// Notes of the story: what it found wrong, and further figures.
    pub seen: Observation,
    verifier: Verifier,
    last_fault: String,
    traffic_min: f64,
    /// A bug is seeded: what breaks is expected, and its trail of no use.
    broken_on_purpose: bool,
}

impl Stage {
    /// Everything up and redundant, traffic flowing.
    pub fn set(options: &StageOptions) -> Result<Self> {
        static TOPICS: AtomicU64 = AtomicU64::new(0);
        let topic = format!("t{}-{}", TOPICS.fetch_add(1, Ordering::Relaxed), std::process::id());
        let names: Vec<String> = (1..=options.nodes).map(|n| format!("n{n}")).collect();
        let network = options.network.then(|| Network::start(&names)).transpose()?.map(Rc::new);
        let host = IpAddr::V4(network.as_ref().map_or(Ipv4Addr::LOCALHOST, |network| network.gateway()));
        let kafka = Kafka::start(options.kafka, host)?;
        let mut environment = options.environment.clone();
        environment.extend(options.bug.iter().map(|bug| ("TWINFEED_SEEDED_BUG".to_owned(), bug.clone())));
        let cluster = Cluster::start(ClusterOptions {
            nodes: options.nodes,
            bootstrap: kafka.bootstrap().to_owned(),
            binary: if options.faulty_node { "twinfeed-faulty" } else { "twinfeed" },
            environment,
            network: network.clone(),
        })?;
        let feed = Feed::start(cluster.dir(), host, &options.feed)?;
        let mut config = vec![
            ("websocket.url", feed.url("a")),
            ("twinfeed.websocket.secondary.url", feed.url("b")),
            ("kafka.topic", topic.clone()),
            ("websocket.reconnect.interval.ms", "200".to_owned()),
        ];
        config.extend(options.connector.iter().cloned());
        cluster.admin.create(CONNECTOR, &config)?;
        for n in 1..=options.sharing {
            // The later of two values of a key counts.
            let mut config = config.clone();
            let shared = if options.one_topic { shared(&topic) } else { own(&topic, n) };
            config.push(("kafka.topic", shared));
            cluster.admin.create(&sharer(n), &config)?;
        }
        let patience = if matches!(options.kafka, KafkaOptions::Shared) { PATIENCE } else { PATIENCE_WITH_BROKER };
        let verifier = Verifier::start(cluster.dir(), kafka.direct(), &topic, &feed, patience)?;
        let created = Instant::now();
        cluster.wait_redundant(CONNECTOR)?;
        for n in 1..=options.sharing {
            cluster.wait_redundant(&sharer(n))?;
        }
        let mut seen = Observation::default();
        if options.sharing > 0 {
            seen.figures.insert("all_redundant_ms".to_owned(), created.elapsed().as_millis() as f64);
        }
        let (broken_on_purpose, scale) = (options.bug.is_some(), options.scale);
        let traffic_min = options.feed.rate.map_or(TRAFFIC_MIN, |rate| TRAFFIC_MIN.min(rate as f64 / 2.0));
        let last_fault = String::new();
        Ok(Self {
            cluster,
            feed,
            topic,
            kafka,
            scale,
            network,
            seen,
            verifier,
            last_fault,
            traffic_min,
            broken_on_purpose,
        })
    }

    /// The topic of the connectors that share one.
    pub fn shared_topic(&self) -> String {
        shared(&self.topic)
    }

    /// The topic of the connector `sharer(n)`, where each has its own.
    pub fn topic_of(&self, n: usize) -> String {
        own(&self.topic, n)
    }

    /// The nodes' own network, where `StageOptions::network` asked for one.
    ///
    /// # Errors
    /// When it did not.
    pub fn network(&self) -> Result<Rc<Network>> {
        self.network.clone().context("this stage has no network of its own: set StageOptions::network")
    }

    /// Traffic flows, so that a fault means something.
    pub fn wait_traffic(&self) -> Result<()> {
        wait_for("traffic before the fault", Duration::from_secs(30), || {
            let connector = self.cluster.admin.connector(CONNECTOR).ok()?;
            (connector.status?.records_per_second > self.traffic_min).then_some(())
        })
        .map_err(|error| self.explain(error))
    }

    /// How far the stream has come, as the leader knows it: grows with every commit and every new owner.
    fn progress(&self) -> Option<(u64, u64)> {
        let status = self.cluster.admin.connector(CONNECTOR).ok()?.status?;
        Some((status.epoch, status.records_committed))
    }

    /// Waits until the stream goes on. What the first news tell may have been done before a fault that has just ended, so
    /// it takes two.
    pub fn wait_going_on(&self) -> Result<()> {
        for _ in 0..2 {
            let before = wait_for("news of the stream", NEWS_WITHIN, || self.progress());
            let before = before.map_err(|error| self.explain(error))?;
            wait_for("the stream to go on", NEWS_WITHIN, || (self.progress()? > before).then_some(()))
                .map_err(|error| self.explain(error))?;
        }
        Ok(())
    }

    /// Notes that a fault begins now.
    pub fn fault(&mut self, what: &str) {
        self.last_fault = what.to_owned();
        let at_ms = wall_ms();
        self.seen.faults.push(Fault { what: what.to_owned(), at_ms, over_at_ms: at_ms });
    }

    /// Notes that the last fault has lasted until now.
    pub fn fault_over(&mut self) {
        if let Some(fault) = self.seen.faults.last_mut() {
            fault.over_at_ms = wall_ms();
        }
    }

    /// Faults noted so far.
    pub fn faults(&self) -> usize {
        self.seen.faults.len()
    }

    /// Notes a property of this story alone that does not hold.
    pub fn found(&mut self, what: String) {
        self.seen.findings.push(what);
    }

    /// Asks whether the stream is redundant, and notes the answer with the line that fell silent at `since`.
    pub fn look(&self, line: &mut SilentLine, since: Instant) {
        let after_ms = since.elapsed().as_millis() as u64;
        if let Ok(connector) = self.cluster.admin.connector(CONNECTOR) {
            line.looks.push(Look { after_ms, redundant: Cluster::says_redundant(&connector) });
        }
    }

    /// Owner, standby and epoch of the redundant stream.
    pub fn roles(&self) -> Result<Roles> {
        let connector = self.cluster.wait_redundant(CONNECTOR)?;
        let status = connector.status.context("a connector without status")?;
        ensure!(!status.owner.is_empty(), "no owner");
        Ok(Roles { owner: status.owner, standby: status.standby, epoch: status.epoch })
    }

    /// Waits for an owner of a later epoch that delivers.
    pub fn wait_new_owner(&self, epoch: u64) -> Result<Roles> {
        wait_for("a new owner that delivers", Duration::from_secs(30), || {
            let status = self.cluster.admin.connector(CONNECTOR).ok()?.status?;
            let running = status.state() == twinfeed_proto::admin::ConnectorState::Running;
            (status.epoch > epoch && running).then_some(Roles {
                owner: status.owner,
                standby: status.standby,
                epoch: status.epoch,
            })
        })
        .map_err(|error| self.explain(error))
    }

    /// Waits until the living elected a leader that knows of the dead.
    pub fn wait_down(&self, name: &str) -> Result<()> {
        wait_for("the others to notice", Duration::from_secs(30), || {
            let status = self.cluster.admin.status().ok()?;
            let down = status.members.iter().any(|m| m.name == name && !m.up);
            (down && !status.leader.is_empty() && status.leader != name).then_some(())
        })
        .map_err(|error| self.explain(error))
    }

    /// Moves the stream to this node, make before break.
    pub fn move_to(&self, node: &str) -> Result<()> {
        self.cluster.admin.failover(CONNECTOR, node).map_err(|error| self.explain(error))?;
        self.cluster.wait_redundant(CONNECTOR).map(drop)
    }

    /// Waits until one leader knows all running nodes and the stream is redundant, and notes how long that took.
    pub fn converge(&mut self) -> bool {
        let since = Instant::now();
        let limit = Duration::from_millis(CONVERGENCE_MS_MAX);
        let settled = wait_for("one leader, all nodes, a redundant stream", limit, || {
            self.cluster.is_settled().then_some(())?;
            self.cluster.is_redundant(CONNECTOR)
        });
        self.cluster.look_at_nodes();
        let why = settled.as_ref().err().map(|error| format!("{:#}", self.cluster.explain_briefly(error)));
        let took_ms = settled.is_ok().then(|| since.elapsed().as_millis() as u64);
        let after = self.last_fault.clone();
        self.seen.recoveries.push(Recovery { after, took_ms, why: why.unwrap_or_default() });
        took_ms.is_some()
    }

    /// Adds what the cluster says of itself to an error.
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        self.cluster.explain(error)
    }

    /// Ends the feed, waits for the last record, and closes the books.
    pub fn close(self) -> Result<Observation> {
        self.feed.finish()?;
        // Broker and network live to the end of this function: the verifier reads, the nodes tell.
        let Self { mut cluster, feed, verifier, mut seen, kafka: _kafka, network: _network, broken_on_purpose, .. } =
            self;
        let books = verifier.verdict(VERDICT_MAX).map_err(|error| cluster.explain(error))?;
        // What a story has read of other topics counts as well.
        seen.books = books.and(seen.books);
        drop(feed);
        seen.events = cluster.admin.events().unwrap_or_default();
        cluster.look_at_nodes();
        seen.nodes = cluster.lives();
        seen.silence_ms = silences(&seen.books, &seen.faults);
        let broken = seen.books.lost + seen.books.duplicated + seen.books.reordered + seen.books.zombies > 0;
        let unsettled = seen.recoveries.iter().any(|r| r.took_ms.is_none());
        if (broken || unsettled) && !broken_on_purpose {
            seen.events.iter().for_each(|event| eprintln!("{event}"));
            seen.books.missing.iter().take(MISSING_SHOWN_MAX).for_each(|missing| eprintln!("{missing}"));
            cluster.keep();
        }
        Ok(seen)
    }
}

fn shared(topic: &str) -> String {
    format!("{topic}{SHARED}")
}

fn own(topic: &str, n: usize) -> String {
    format!("{topic}-{n}")
}

/// Name of a connector that shares its topic, from 1.
pub fn sharer(n: usize) -> String {
    format!("shared-{n}")
}

/// Who does what for the stream.
#[derive(Debug, Clone)]
pub struct Roles {
    pub owner: String,
    pub standby: String,
    pub epoch: u64,
}

/// A silence belongs to the last fault before its end; faults without one that is long enough to be listed had none.
fn silences(books: &ReaderBooks, faults: &[Fault]) -> Vec<u64> {
    let around = |n: usize| {
        let (fault, over) = (faults[n].at_ms, faults[n].over_at_ms);
        let until = faults.get(n + 1).map_or(u64::MAX, |next| next.at_ms);
        let its =
            |s: &&Silence| (fault..until).contains(&(s.from_ms + s.ms)) && s.from_ms < over + SILENCE_BEGINS_MS_MAX;
        books.silences.iter().filter(its).map(|s| s.ms).max().unwrap_or(0)
    };
    (0..faults.len()).map(around).collect()
}

pub(crate) fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_belongs_to_the_last_fault_before_its_end() {
        let fault = |at_ms| Fault { what: "kill".to_owned(), at_ms, over_at_ms: at_ms };
        let silence = |from_ms, ms| Silence { from_ms, ms };
        let silent = vec![silence(990, 60), silence(1_500, 40), silence(9_000, 500), silence(100, 30)];
        let books = ReaderBooks { silences: silent, ..ReaderBooks::default() };
        assert_eq!(silences(&books, &[fault(1_000), fault(2_000)]), [60, 0]);
    }
}
