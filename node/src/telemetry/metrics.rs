//! The handles through which rooms count. `Metrics` is made once by `node.rs` and cloned cheaply; per connector it
//! hands out structs whose counters are looked up once, so the data path touches only atomics.
//! A connector's series live until `forget`; unlabelled ones live as long as the process.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
        info::Info,
    },
    registry::Registry,
};

use super::{
    exposition::{self, Exposition},
    families::{
        FeedFamilies, NodeFamilies, OfCall, OfConnector, OfFailover, OfFeed, OfFeedReason, OfOwner, OfPath, OfPeer,
        OfState, OfTask, OfTopic, Seconds, WriterFamilies,
    },
    labels::{DropReason, FailoverKind, FailoverReason, FeedSide, ReconnectReason, StateLabel},
    process::Process,
};

/// Counters of one subscription, for the node that holds its socket.
#[derive(Debug, Clone)]
pub struct FeedMetrics {
    pub received: Counter,
    pub received_bytes: Counter,
    pub connect_duration: Histogram,
    dropped: [Counter; DropReason::ALL.len()],
    reconnects: [Counter; ReconnectReason::ALL.len()],
    connected: Gauge,
    connected_since: Seconds,
    last_message: Seconds,
}

impl FeedMetrics {
    /// Counts frames that will never be written.
    pub fn dropped(&self, reason: DropReason, frames: u64) {
        self.dropped[reason as usize].inc_by(frames);
    }

    /// Counts received frames with their payload bytes; `at_ns` is the wall clock of the last one.
    pub fn received(&self, frames: u64, bytes: u64, at_ns: u64) {
        self.received.inc_by(frames);
        self.received_bytes.inc_by(bytes);
        self.last_message.set(at_ns as f64 / 1e9);
    }

    /// The subscription is up since `at`.
    pub fn connected(&self, at: SystemTime) {
        self.connected.set(1);
        self.connected_since.set(unix_seconds(at));
    }

    /// The subscription ended, or an attempt failed.
    pub fn disconnected(&self, reason: ReconnectReason) {
        self.connected.set(0);
        self.reconnects[reason as usize].inc();
    }
}

/// Counters of one writer's connector, for its owner and its standby.
#[derive(Debug, Clone)]
pub struct WriterMetrics {
    pub feeds_configured: Gauge,
    pub accepted: Counter,
    pub acked: Counter,
    pub unacked_records: Gauge,
    pub queue_messages: Gauge,
    pub queue_capacity_messages: Gauge,
    pub queue_bytes: Gauge,
    pub window_entries: Gauge,
    pub retained_frames: Gauge,
    pub retained_bytes: Gauge,
    pub aligned: Gauge,
    pub at_risk: Gauge,
    pub gap_events: Counter,
    pub gap_messages: Counter,
    pub end_to_end_latency: Histogram,
    pub batch_messages: Histogram,
    pub commit_duration: Histogram,
    /// 1 at the owner.
    pub owner: Gauge,
    pub epoch: Gauge,
    pub fenced: Counter,
    deduplicated: [Counter; 2],
    failovers: [[Counter; FailoverReason::ALL.len()]; FailoverKind::ALL.len()],
    failover_duration: Histogram,
}

impl WriterMetrics {
    /// Counts frames of `side` that were copies.
    pub fn deduplicated(&self, side: FeedSide, frames: u64) {
        self.deduplicated[side as usize].inc_by(frames);
    }

    /// Counts a takeover that took `duration` from the assignment to the first delivery.
    pub fn failover(&self, kind: FailoverKind, reason: FailoverReason, duration: Duration) {
        self.failovers[kind as usize][reason as usize].inc();
        self.failover_duration.observe(duration.as_secs_f64());
    }
}

/// The state of one connector, as a set of 0/1 series.
#[derive(Debug, Clone)]
pub struct StateMetrics([Gauge; StateLabel::ALL.len()]);

impl StateMetrics {
    /// Sets the present state.
    pub fn set(&self, state: StateLabel) {
        for (gauge, label) in self.0.iter().zip(StateLabel::ALL) {
            gauge.set(i64::from(label == state));
        }
    }
}

/// The Raft position of this node.
#[derive(Debug, Clone)]
pub struct RaftMetrics {
    pub has_leader: Gauge,
    pub is_leader: Gauge,
    pub term: Gauge,
    pub voters: Gauge,
    pub leader_changes: Counter,
    pub last_log_index: Gauge,
    pub applied_index: Gauge,
    pub snapshot_last_index: Gauge,
    pub proposals_failed: Counter,
    pub fsync_duration: Histogram,
}

/// All metrics of the process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Registry,
    process: Registry,
    feed: FeedFamilies,
    writer: WriterFamilies,
    node: NodeFamilies,
    node_name: String,
    /// Per connector: what takes its series away again.
    removals: Mutex<HashMap<String, Vec<Removal>>>,
}

type Removal = Box<dyn Fn() + Send + Sync>;

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Metrics of the node named `node_name`, whose build is `version`.
    pub fn new(node_name: &str, version: &str) -> Self {
        let mut registry = Registry::with_prefix("twinfeed");
        let build = Info::new([("version".to_owned(), version.to_owned())]);
        registry.register("build", "The running build", build);
        let mut process = Registry::with_prefix("process");
        process.register_collector(Box::new(Process::started_now()));
        let feed = FeedFamilies::register(&mut registry);
        let writer = WriterFamilies::register(&mut registry);
        let node = NodeFamilies::register(&mut registry);
        let inner = Inner {
            registry,
            process,
            feed,
            writer,
            node,
            node_name: node_name.to_owned(),
            removals: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Handles of one subscription.
    pub fn feed(&self, connector: &str, side: FeedSide) -> FeedMetrics {
        let of = Series { metrics: self, connector };
        let families = &self.inner.feed;
        let label = || OfFeed { connector: connector.to_owned(), feed: side.as_str() };
        let reason = |reason| OfFeedReason { connector: connector.to_owned(), feed: side.as_str(), reason };
        FeedMetrics {
            received: of.series(&families.received, label()),
            received_bytes: of.series(&families.received_bytes, label()),
            connect_duration: of.series(&families.connect_duration, label()),
            dropped: DropReason::ALL.map(|why| of.series(&families.dropped, reason(why.as_str()))),
            reconnects: ReconnectReason::ALL.map(|why| of.series(&families.reconnects, reason(why.as_str()))),
            connected: of.series(&families.connected, label()),
            connected_since: of.series(&families.connected_since, label()),
            last_message: of.series(&families.last_message, label()),
        }
    }

    /// Handles of one connector's writer.
    pub fn writer(&self, connector: &str, topic: &str) -> WriterMetrics {
        let of = Series { metrics: self, connector };
        let families = &self.inner.writer;
        let label = || OfConnector { connector: connector.to_owned() };
        let feed = |side: FeedSide| OfFeed { connector: connector.to_owned(), feed: side.as_str() };
        let failover = |kind: FailoverKind, reason: FailoverReason| OfFailover {
            connector: connector.to_owned(),
            kind: kind.as_str(),
            reason: reason.as_str(),
        };
        WriterMetrics {
            feeds_configured: of.series(&families.feeds_configured, label()),
            accepted: of.series(&families.accepted, label()),
            acked: of.series(&families.acked, OfTopic { connector: connector.to_owned(), topic: topic.to_owned() }),
            unacked_records: of.series(&families.unacked, label()),
            queue_messages: of.series(&families.queue_messages, label()),
            queue_capacity_messages: of.series(&families.queue_capacity, label()),
            queue_bytes: of.series(&families.queue_bytes, label()),
            window_entries: of.series(&families.window_entries, label()),
            retained_frames: of.series(&families.retained_frames, label()),
            retained_bytes: of.series(&families.retained_bytes, label()),
            aligned: of.series(&families.aligned, label()),
            at_risk: of.series(&families.at_risk, label()),
            gap_events: of.series(&families.gap_events, label()),
            gap_messages: of.series(&families.gap_messages, label()),
            end_to_end_latency: of.series(&families.end_to_end_latency, label()),
            batch_messages: of.series(&families.batch_messages, label()),
            commit_duration: of.series(&families.commit_duration, label()),
            owner: of.series(
                &families.owner,
                OfOwner { connector: connector.to_owned(), node: self.inner.node_name.clone() },
            ),
            epoch: of.series(&families.epoch, label()),
            fenced: of.series(&families.fenced, label()),
            deduplicated: [FeedSide::Primary, FeedSide::Secondary]
                .map(|side| of.series(&families.deduplicated, feed(side))),
            failovers: FailoverKind::ALL
                .map(|kind| FailoverReason::ALL.map(|reason| of.series(&families.failovers, failover(kind, reason)))),
            failover_duration: of.series(&families.failover_duration, label()),
        }
    }

    /// The state set of one connector.
    pub fn state(&self, connector: &str) -> StateMetrics {
        let of = Series { metrics: self, connector };
        StateMetrics(StateLabel::ALL.map(|state| {
            of.series(&self.inner.writer.state, OfState { connector: connector.to_owned(), state: state.as_str() })
        }))
    }

    /// Takes away every series of `connector`, so that a node without a role for it stops reporting old values.
    /// Handles taken before keep working, unseen; take new ones for the next role.
    pub fn forget(&self, connector: &str) {
        let removals = self.removals().remove(connector).unwrap_or_default();
        removals.iter().for_each(|remove| remove());
    }

    /// The Raft position of this node.
    pub fn raft(&self) -> RaftMetrics {
        self.inner.node.raft.clone()
    }

    /// Leader only: how long ago each peer answered; peers not named are taken away.
    pub fn peers_last_contact(&self, peers: impl IntoIterator<Item = (String, Duration)>) {
        let family = &self.inner.node.peer_last_contact;
        family.clear();
        for (peer, ago) in peers {
            family.get_or_create(&OfPeer { peer }).set(ago.as_secs_f64());
        }
    }

    /// Counts an answered admin call. `method` must come from the service definition, `code` from gRPC's list.
    pub fn grpc_handled(&self, method: &str, code: &'static str) {
        self.inner.node.grpc_handled.get_or_create(&OfCall { method: method.to_owned(), code }).inc();
    }

    /// Counts an answered HTTP request. `path` is the route, never what the client sent.
    pub fn http_handled(&self, path: &'static str, code: u16) {
        self.inner.node.http_requests.get_or_create(&OfPath { path, code }).inc();
    }

    /// Counts an ended task.
    pub fn task_ended(&self, kind: &'static str, outcome: &'static str) {
        self.inner.node.tasks_ended.get_or_create(&OfTask { kind, outcome }).inc();
    }

    /// Everything, as text in the asked format.
    pub fn render(&self, exposition: Exposition) -> String {
        let mut text = String::with_capacity(64 * 1024);
        let written = text::encode_registry(&mut text, &self.inner.registry)
            .and_then(|()| text::encode_registry(&mut text, &self.inner.process))
            .and_then(|()| text::encode_eof(&mut text));
        written.expect("writing to a String cannot fail");
        exposition::finish(text, exposition)
    }

    fn removals(&self) -> std::sync::MutexGuard<'_, HashMap<String, Vec<Removal>>> {
        self.inner.removals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes series of one connector and remembers how to take them away.
struct Series<'a> {
    metrics: &'a Metrics,
    connector: &'a str,
}

impl Series<'_> {
    fn series<L, M, C>(&self, family: &Family<L, M, C>, labels: L) -> M
    where
        L: EncodeLabelSet + Clone + Eq + Hash + Send + Sync + 'static,
        M: Clone + Send + Sync + 'static,
        C: MetricConstructor<M> + Clone + Send + Sync + 'static,
    {
        if family.get(&labels).is_none() {
            let (family, labels) = (family.clone(), labels.clone());
            let remove = Box::new(move || {
                family.remove(&labels);
            });
            self.metrics.removals().entry(self.connector.to_owned()).or_default().push(remove);
        }
        family.get_or_create_owned(&labels)
    }
}

fn unix_seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
#[path = "metrics_test.rs"]
mod tests;
