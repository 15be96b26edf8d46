//! The metric families: names, help texts, buckets. Names are API: `tests/metrics.golden` holds them, alert rules and
//! dashboards use them, so a name is added and never changed. Only `metrics.rs` hands series out.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry},
};

/// A gauge of seconds.
pub(super) type Seconds = Gauge<f64, AtomicU64>;

/// From the read of a frame to its commit: the usual transaction takes 3 to 15 ms, a takeover a second.
const LATENCY_SECONDS: [f64; 16] =
    [0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Takeovers and connects: from a warm standby to a human's patience.
const DURATION_SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];
const BATCH_MESSAGES: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 500.0, 2_000.0, 10_000.0];
const FSYNC_SECONDS: [f64; 11] = [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.5, 2.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfConnector {
    pub(super) connector: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfFeed {
    pub(super) connector: String,
    pub(super) feed: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfFeedReason {
    pub(super) connector: String,
    pub(super) feed: &'static str,
    pub(super) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfTopic {
    pub(super) connector: String,
    pub(super) topic: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfOwner {
    pub(super) connector: String,
    pub(super) node: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfState {
    pub(super) connector: String,
    pub(super) state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfFailover {
    pub(super) connector: String,
    pub(super) kind: &'static str,
    pub(super) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfPeer {
    pub(super) peer: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfCall {
    pub(super) method: String,
    pub(super) code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfPath {
    pub(super) path: &'static str,
    pub(super) code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfTask {
    pub(super) kind: &'static str,
    pub(super) outcome: &'static str,
}

/// Per subscription, written by the node that holds the socket.
#[derive(Debug)]
pub(super) struct FeedFamilies {
    pub(super) received: Family<OfFeed, Counter>,
    pub(super) received_bytes: Family<OfFeed, Counter>,
    pub(super) dropped: Family<OfFeedReason, Counter>,
    pub(super) connected: Family<OfFeed, Gauge>,
    pub(super) last_message: Family<OfFeed, Seconds>,
    pub(super) connected_since: Family<OfFeed, Seconds>,
    pub(super) reconnects: Family<OfFeedReason, Counter>,
    pub(super) connect_duration: Family<OfFeed, Histogram>,
}

/// Per connector, written by the owner; `retained_*` by the standby as well.
#[derive(Debug)]
pub(super) struct WriterFamilies {
    pub(super) feeds_configured: Family<OfConnector, Gauge>,
    pub(super) accepted: Family<OfConnector, Counter>,
    pub(super) deduplicated: Family<OfFeed, Counter>,
    pub(super) acked: Family<OfTopic, Counter>,
    pub(super) unacked: Family<OfConnector, Gauge>,
    pub(super) queue_messages: Family<OfConnector, Gauge>,
    pub(super) queue_capacity: Family<OfConnector, Gauge>,
    pub(super) queue_bytes: Family<OfConnector, Gauge>,
    pub(super) window_entries: Family<OfConnector, Gauge>,
    pub(super) retained_frames: Family<OfConnector, Gauge>,
    pub(super) retained_bytes: Family<OfConnector, Gauge>,
    pub(super) aligned: Family<OfConnector, Gauge>,
    pub(super) at_risk: Family<OfConnector, Gauge>,
    pub(super) gap_events: Family<OfConnector, Counter>,
    pub(super) gap_messages: Family<OfConnector, Counter>,
    pub(super) end_to_end_latency: Family<OfConnector, Histogram>,
    pub(super) batch_messages: Family<OfConnector, Histogram>,
    pub(super) commit_duration: Family<OfConnector, Histogram>,
    pub(super) owner: Family<OfOwner, Gauge>,
    pub(super) epoch: Family<OfConnector, Gauge>,
    pub(super) fenced: Family<OfConnector, Counter>,
    pub(super) failovers: Family<OfFailover, Counter>,
    pub(super) failover_duration: Family<OfConnector, Histogram>,
    pub(super) state: Family<OfState, Gauge>,
}

/// The node itself: cluster state, servers, tasks.
#[derive(Debug)]
pub(super) struct NodeFamilies {
    pub(super) raft: super::metrics::RaftMetrics,
    pub(super) peer_last_contact: Family<OfPeer, Seconds>,
    pub(super) grpc_handled: Family<OfCall, Counter>,
    pub(super) http_requests: Family<OfPath, Counter>,
    pub(super) tasks_ended: Family<OfTask, Counter>,
}

impl FeedFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            received: add(registry, "messages_received", "Frames read from the subscription"),
            received_bytes: add(registry, "received_bytes", "Payload bytes read from the subscription"),
            dropped: add(registry, "messages_dropped", "Frames that will never be written, by reason"),
            connected: add(registry, "feed_connected", "1 while the subscription is connected"),
            last_message: add(registry, "feed_last_message_timestamp_seconds", "Unix time of the last frame"),
            connected_since: add(
                registry,
                "feed_connected_since_timestamp_seconds",
                "Unix time of the last successful connect",
            ),
            reconnects: add(registry, "feed_reconnects", "Connections that ended or could not be made, by reason"),
            connect_duration: histogram(
                registry,
                "feed_connect_duration_seconds",
                "From the dial to the last subscription message sent",
                || Histogram::new(DURATION_SECONDS),
            ),
        }
    }
}

impl WriterFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            feeds_configured: add(registry, "feeds_configured", "Subscriptions the connector wants: 2 when dual"),
            accepted: add(registry, "messages_accepted", "Frames that became a message: the first copy to arrive"),
            deduplicated: add(registry, "messages_deduplicated", "Frames recognised as the other feed's copy"),
            acked: add(registry, "records_acked", "Records in committed transactions"),
            unacked: add(registry, "unacked_records", "Messages accepted and not yet committed"),
            queue_messages: add(registry, "queue_messages", "Frames waiting in the owner's inbox"),
            queue_capacity: add(
                registry,
                "queue_capacity_messages",
                "Messages of the present size that fill the buffer",
            ),
            queue_bytes: add(registry, "queue_bytes", "Payload bytes waiting for a commit at the owner"),
            window_entries: add(registry, "dedup_window_entries", "Remembered records in the window"),
            retained_frames: add(registry, "retained_frames", "Frames kept until Kafka has them"),
            retained_bytes: add(registry, "retained_bytes", "Payload bytes kept until Kafka has them"),
            aligned: add(registry, "aligned", "1 while the standby's subscription is matched to the owner's"),
            at_risk: add(registry, "at_risk", "1 while a second fault would lose data"),
            gap_events: add(registry, "gap_events", "Possible losses reported"),
            gap_messages: add(
                registry,
                "gap_messages",
                "Messages known to be missing; what cannot be counted is not in it",
            ),
            end_to_end_latency: histogram(
                registry,
                "end_to_end_latency_seconds",
                "From the read of the first copy to its committed transaction",
                || Histogram::new(LATENCY_SECONDS),
            ),
            batch_messages: histogram(registry, "produce_batch_messages", "Records per transaction", || {
                Histogram::new(BATCH_MESSAGES)
            }),
            commit_duration: histogram(
                registry,
                "commit_duration_seconds",
                "From begin to the committed transaction",
                || Histogram::new(LATENCY_SECONDS),
            ),
            owner: add(registry, "stream_owner", "1 at the node that holds the producer"),
            epoch: add(registry, "producer_epoch", "Epoch of the assignment the producer writes under"),
            fenced: add(registry, "producer_fenced", "Times Kafka refused this producer for a newer one"),
            failovers: add(registry, "failovers", "Takeovers by this node, by what moved and why"),
            failover_duration: histogram(
                registry,
                "failover_duration_seconds",
                "From applying the assignment to the first delivery",
                || Histogram::new(DURATION_SECONDS),
            ),
            state: add(registry, "connector_state", "1 for the connector's present state, 0 for all others"),
        }
    }
}

impl NodeFamilies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let raft_registry = registry.sub_registry_with_prefix("raft");
        let raft = super::metrics::RaftMetrics {
            has_leader: add(raft_registry, "has_leader", "1 while this node knows a leader"),
            is_leader: add(raft_registry, "is_leader", "1 at the leader"),
            term: add(raft_registry, "term", "Raft term"),
            voters: add(raft_registry, "voters", "Voters of the present membership"),
            leader_changes: add(raft_registry, "leader_changes", "Leader changes this node saw"),
            last_log_index: add(raft_registry, "last_log_index", "Index of the last log entry"),
            applied_index: add(raft_registry, "applied_index", "Index of the last applied entry"),
            snapshot_last_index: add(raft_registry, "snapshot_last_index", "Last log index inside the snapshot"),
            proposals_failed: add(raft_registry, "proposals_failed", "Commands without a definite outcome"),
            fsync_duration: {
                let fsync = Histogram::new(FSYNC_SECONDS);
                raft_registry.register("fsync_duration_seconds", "One durable write of the log", fsync.clone());
                fsync
            },
        };
        let peer_last_contact =
            add(raft_registry, "peer_last_contact_seconds", "Leader only: seconds since the peer answered");
        Self {
            raft,
            peer_last_contact,
            grpc_handled: add(registry, "grpc_server_handled", "Admin calls answered, by method and status code"),
            http_requests: add(registry, "http_requests", "HTTP requests answered, by path and status code"),
            tasks_ended: add(registry, "tasks_ended", "Supervised tasks that ended, by kind and outcome"),
        }
    }
}

fn add<M: Metric + Default + Clone>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn histogram<L>(registry: &mut Registry, name: &str, help: &str, new: fn() -> Histogram) -> Family<L, Histogram>
where
    L: EncodeLabelSet + Clone + std::hash::Hash + Eq + std::fmt::Debug + Send + Sync + 'static,
{
    let family = Family::new_with_constructor(new);
    registry.register(name, help, family.clone());
    family
}
