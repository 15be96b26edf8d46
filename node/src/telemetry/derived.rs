//! The metrics of streams and of the cluster: rendered from the present reports at every scrape, so that a series lives exactly
//! as long as the role it speaks of, and says what status says. Names are API: `tests/metrics.golden` holds them.

use std::{fmt::Error, sync::OnceLock};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};
use twinfeed_writer::{
    BATCH_RECORDS, Histogram, LATENCY_SECONDS,
    frame::EndKind,
    report::{DropReason, FailoverReason, Lines, Role, WriterReport},
};

use super::facts::{Facts, StateLabel};

/// Takeovers: from a warm standby to a human's patience.
const FAILOVER_SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

type Source = Box<dyn Fn() -> Facts + Send + Sync>;

/// Renders what its source says; nothing before it has one.
#[derive(Default)]
pub(super) struct Derived {
    pub(super) source: OnceLock<Source>,
    pub(super) node_name: String,
}

impl std::fmt::Debug for Derived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Derived").finish_non_exhaustive()
    }
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

enum Value<'a> {
    Count(u64),
    Gauge(f64),
    Histogram(&'a Histogram, &'static [f64]),
    /// One observation.
    Once(f64, &'static [f64]),
}

/// Series of one writer, under their labels besides `connector`.
type Series<'a> = Vec<(Labels<'a>, Value<'a>)>;

/// A family of series that writers have.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    of: for<'a> fn(&'a WriterReport) -> Series<'a>,
}

const fn family(
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    of: for<'a> fn(&'a WriterReport) -> Series<'a>,
) -> Family {
    Family { name, help, kind, of }
}

const FAMILIES: &[Family] = &[
    family("feeds_configured", "Subscriptions the connector wants: 2 when dual", MetricType::Gauge, |report| {
        one(Value::Gauge(f64::from(report.tally.feeds)))
    }),
    family("messages_received", "Frames read from the subscription", MetricType::Counter, |report| {
        vec![(feed(report), Value::Count(report.tally.received))]
    }),
    family("received_bytes", "Payload bytes read from the subscription", MetricType::Counter, |report| {
        vec![(feed(report), Value::Count(report.tally.received_bytes))]
    }),
    family("messages_dropped", "Frames that will never be written, by reason", MetricType::Counter, |report| {
        DropReason::ALL.map(|why| (reason(report, dropped(why)), count(&report.tally.dropped, why as usize))).into()
    }),
    family("feed_connected", "1 while the subscription is connected", MetricType::Gauge, |report| {
        vec![(feed(report), flag(report.subscription.connected))]
    }),
    family(
        "feed_last_message_timestamp_seconds",
        "Unix time of the last frame; absent before the first",
        MetricType::Gauge,
        |report| {
            let at = Some(last_message_seconds(report)).filter(|at| *at > 0.0);
            at.map(|at| (feed(report), Value::Gauge(at))).into_iter().collect()
        },
    ),
    family(
        "feed_connected_since_timestamp_seconds",
        "Unix time of the last successful connect; absent while there is no connection",
        MetricType::Gauge,
        |report| {
            let since_ms = Some(report.subscription.connected_since_ms).filter(|_| report.subscription.connected);
            since_ms.map(|ms| (feed(report), Value::Gauge(ms as f64 / 1e3))).into_iter().collect()
        },
    ),
    family(
        "feed_reconnects",
        "Connections that ended or could not be made, by reason",
        MetricType::Counter,
        |report| {
            let series = |why| (reason(report, ended(why)), count(&report.tally.reconnects, why as usize));
            EndKind::ALL.map(series).into()
        },
    ),
    family("messages_accepted", "Frames that became a message: the first copy to arrive", MetricType::Counter, |r| {
        owner(r, || one(Value::Count(r.tally.accepted)))
    }),
    family("messages_deduplicated", "Frames recognised as the other feed's copy", MetricType::Counter, |report| {
        let [primary, secondary] = report.tally.deduplicated;
        let series = [("primary", primary), ("secondary", secondary)];
        owner(report, || series.map(|(feed, copies)| (vec![("feed", feed)], Value::Count(copies))).into())
    }),
    family("records_acked", "Records in committed transactions", MetricType::Counter, |report| {
        owner(report, || vec![(vec![("topic", &*report.tally.topic)], Value::Count(report.records_committed))])
    }),
    family("unacked_records", "Messages accepted and not yet committed", MetricType::Gauge, |report| {
        owner(report, || one(Value::Gauge(report.unacked_records as f64)))
    }),
    family("queue_messages", "Messages waiting for a transaction", MetricType::Gauge, |report| {
        owner(report, || one(Value::Gauge(report.tally.ready_records as f64)))
    }),
    family("queue_capacity_messages", "Messages of the present size that fill the buffer", MetricType::Gauge, |r| {
        owner(r, || one(Value::Gauge(capacity(r) as f64)))
    }),
    family("queue_bytes", "Bytes held for messages that are not committed", MetricType::Gauge, |report| {
        owner(report, || one(Value::Gauge(report.tally.held_bytes as f64)))
    }),
    family("dedup_window_entries", "Remembered records in the window", MetricType::Gauge, |report| {
        owner(report, || one(Value::Gauge(report.tally.merge.entries as f64)))
    }),
    family("retained_frames", "Frames kept until Kafka has them", MetricType::Gauge, |report| {
        standby(report, || one(Value::Gauge(report.retained_frames as f64)))
    }),
    family("retained_bytes", "Bytes held for frames that are kept until Kafka has them", MetricType::Gauge, |report| {
        standby(report, || one(Value::Gauge(report.tally.held_bytes as f64)))
    }),
    family("aligned", "1 while the standby's subscription is matched to the owner's", MetricType::Gauge, |report| {
        owner(report, || dual(report, || one(flag(report.aligned))))
    }),
    family("at_risk", "1 while a dual stream would lose data by a single fault", MetricType::Gauge, |report| {
        owner(report, || dual(report, || one(flag(!report.covered && !report.lines.idle))))
    }),
    family(
        "idle",
        "1 while both lines of a dual stream are up and neither has delivered",
        MetricType::Gauge,
        |report| owner(report, || dual(report, || one(flag(report.lines.idle)))),
    ),
    family(
        "line_behind_seconds",
        "For how long the line has lacked what the other has delivered; 0 while it keeps up",
        MetricType::Gauge,
        |report| {
            let Lines { own_behind_ms, standby_behind_ms, .. } = report.lines;
            let seconds = [own_behind_ms, standby_behind_ms].map(|ms| ms as f64 / 1e3);
            owner(report, || dual(report, || lines(seconds)))
        },
    ),
    family(
        "feed_alone_ratio",
        "Part of the messages of the last minute that only this line has delivered",
        MetricType::Gauge,
        |report| {
            let alone = [report.lines.own_alone, report.lines.standby_alone].map(|alone| report.lines.part(alone));
            owner(report, || dual(report, || lines(alone)))
        },
    ),
    family("gap_events", "Possible losses reported", MetricType::Counter, |report| {
        one(Value::Count(report.tally.gap_events))
    }),
    family(
        "gap_messages",
        "Messages known to be missing; what cannot be counted is not in it",
        MetricType::Counter,
        |report| one(Value::Count(report.tally.gap_messages)),
    ),
    family(
        "last_gap_timestamp_seconds",
        "Unix time of the last possible loss that this node reported; absent without one",
        MetricType::Gauge,
        |report| {
            let at_ms = Some(report.tally.last_gap_at_ms).filter(|at_ms| *at_ms > 0);
            at_ms.map(|at_ms| (Vec::new(), Value::Gauge(at_ms as f64 / 1e3))).into_iter().collect()
        },
    ),
    family(
        "end_to_end_latency_seconds",
        "From the read of the first copy to its committed transaction",
        MetricType::Histogram,
        |report| owner(report, || one(Value::Histogram(&report.tally.latency, &LATENCY_SECONDS))),
    ),
    family("produce_batch_messages", "Records per transaction", MetricType::Histogram, |report| {
        owner(report, || one(Value::Histogram(&report.tally.batch_records, &BATCH_RECORDS)))
    }),
    family("commit_duration_seconds", "From begin to the committed transaction", MetricType::Histogram, |report| {
        owner(report, || one(Value::Histogram(&report.tally.commit, &LATENCY_SECONDS)))
    }),
    family("producer_epoch", "Epoch of the assignment the producer writes under", MetricType::Gauge, |report| {
        owner(report, || one(Value::Gauge(report.epoch.0 as f64)))
    }),
    family("producer_fenced", "Times Kafka refused this producer for a newer one", MetricType::Counter, |report| {
        one(Value::Count(report.tally.fenced))
    }),
    family("failovers", "The takeover that made this node the owner, and why", MetricType::Counter, |report| {
        let takeover = report.tally.takeover.iter().filter(|_| report.role == Role::Owner);
        takeover.map(|takeover| (vec![("reason", moved(takeover.reason))], Value::Count(1))).collect()
    }),
    family(
        "failover_duration_seconds",
        "From applying the assignment to the first delivery",
        MetricType::Histogram,
        |report| {
            let takeover = report.tally.takeover.iter().filter(|_| report.role == Role::Owner);
            takeover.map(|takeover| (Vec::new(), Value::Once(takeover.seconds, &FAILOVER_SECONDS))).collect()
        },
    ),
];

impl Collector for Derived {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let facts = self.source.get().map(|source| source()).unwrap_or_default();
        for Family { name, help, kind, of } in FAMILIES {
            let mut metric = encoder.encode_descriptor(name, help, None, *kind)?;
            for report in &facts.writers {
                for (more, value) in of(report) {
                    let mut labels = vec![("connector", &*report.tally.connector)];
                    labels.extend(more);
                    sample(metric.encode_family(&labels)?, &value)?;
                }
            }
        }
        let help = "1 at the node that holds the producer";
        let mut metric = encoder.encode_descriptor("stream_owner", help, None, MetricType::Gauge)?;
        for report in facts.writers.iter().filter(|report| report.role == Role::Owner) {
            let labels = vec![("connector", &*report.tally.connector), ("node", self.node_name.as_str())];
            sample(metric.encode_family(&labels)?, &Value::Gauge(1.0))?;
        }
        cluster(&mut encoder, &facts)
    }
}

fn cluster(encoder: &mut DescriptorEncoder<'_>, facts: &Facts) -> Result<(), Error> {
    let help = "Leader only: 1 for the connector's present state, 0 for all others";
    let mut metric = encoder.encode_descriptor("connector_state", help, None, MetricType::Gauge)?;
    for (connector, present) in &facts.states {
        for state in StateLabel::ALL {
            let labels = vec![("connector", connector.as_str()), ("state", state.as_str())];
            sample(metric.encode_family(&labels)?, &flag(state == *present))?;
        }
    }
    let raft = &facts.raft;
    for (name, help, value) in [
        ("raft_has_leader", "1 while this node knows a leader", f64::from(u8::from(raft.has_leader))),
        ("raft_is_leader", "1 at the leader", f64::from(u8::from(raft.is_leader))),
        ("raft_term", "Raft term", raft.term as f64),
        ("raft_voters", "Voters of the present membership", raft.voters as f64),
        ("raft_last_log_index", "Index of the last log entry", raft.last_log_index as f64),
        ("raft_applied_index", "Index of the last applied entry", raft.applied_index as f64),
    ] {
        sample(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?, &Value::Gauge(value))?;
    }
    let (name, help) = ("raft_peer_last_contact_seconds", "Leader only: seconds since the peer was heard");
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (peer, seconds) in &facts.peers {
        sample(metric.encode_family(&vec![("peer", peer.as_str())])?, &Value::Gauge(*seconds))?;
    }
    Ok(())
}

fn sample(mut metric: MetricEncoder<'_>, value: &Value<'_>) -> Result<(), Error> {
    match value {
        Value::Count(count) => metric.encode_counter::<NoLabelSet, _, u64>(count, None),
        Value::Gauge(gauge) => metric.encode_gauge(gauge),
        Value::Histogram(histogram, bounds) => {
            let counts = histogram.counts.iter().copied().chain(std::iter::repeat(0));
            let buckets: Vec<(f64, u64)> = bounds.iter().copied().chain([f64::INFINITY]).zip(counts).collect();
            metric.encode_histogram::<NoLabelSet>(histogram.sum, histogram.counts.iter().sum(), &buckets, None)
        }
        Value::Once(seen, bounds) => {
            let place = bounds.partition_point(|bound| bound < seen);
            let bounds = bounds.iter().copied().chain([f64::INFINITY]).enumerate();
            let buckets: Vec<(f64, u64)> = bounds.map(|(at, bound)| (bound, u64::from(at == place))).collect();
            metric.encode_histogram::<NoLabelSet>(*seen, 1, &buckets, None)
        }
    }
}

fn one(value: Value<'_>) -> Series<'_> {
    vec![(Vec::new(), value)]
}

fn owner<'a>(report: &WriterReport, series: impl FnOnce() -> Series<'a>) -> Series<'a> {
    if report.role == Role::Owner { series() } else { Vec::new() }
}

fn standby<'a>(report: &WriterReport, series: impl FnOnce() -> Series<'a>) -> Series<'a> {
    if report.role == Role::Standby { series() } else { Vec::new() }
}

/// A single stream was never meant to survive a fault, and says nothing about it.
fn dual<'a>(report: &WriterReport, series: impl FnOnce() -> Series<'a>) -> Series<'a> {
    if report.tally.feeds > 1 { series() } else { Vec::new() }
}

/// What the owner says of its own line and of the standby's.
fn lines(values: [f64; 2]) -> Series<'static> {
    let [primary, secondary] = values.map(Value::Gauge);
    vec![(vec![("feed", "primary")], primary), (vec![("feed", "secondary")], secondary)]
}

/// A change of roles does not make a silent feed a new one: what came before counts until the tenure has a message of its own.
/// Never the later of the two: a clock that was set back would leave the feed in the future.
fn last_message_seconds(report: &WriterReport) -> f64 {
    match report.tally.last_received_at_ns {
        0 => report.subscription.last_message_ms as f64 / 1e3,
        ns => ns as f64 / 1e9,
    }
}

fn flag(is: bool) -> Value<'static> {
    Value::Gauge(f64::from(u8::from(is)))
}

fn count(counts: &[u64], index: usize) -> Value<'static> {
    Value::Count(counts[index])
}

fn feed(report: &WriterReport) -> Labels<'static> {
    let feed = match report.role {
        Role::Owner => "primary",
        Role::Standby => "secondary",
    };
    vec![("feed", feed)]
}

fn reason(report: &WriterReport, reason: &'static str) -> Labels<'static> {
    let mut labels = feed(report);
    labels.push(("reason", reason));
    labels
}

const fn dropped(why: DropReason) -> &'static str {
    match why {
        DropReason::BufferFull => "buffer_full",
        DropReason::Oversize => "oversize",
    }
}

const fn ended(why: EndKind) -> &'static str {
    match why {
        EndKind::Connect => "connect",
        EndKind::Handshake => "handshake",
        EndKind::Closed => "closed",
        EndKind::Idle => "idle",
        EndKind::Protocol => "protocol",
        EndKind::Oversize => "oversize",
        EndKind::Restart => "restart",
    }
}

const fn moved(why: FailoverReason) -> &'static str {
    match why {
        FailoverReason::OwnerDead => "owner_dead",
        FailoverReason::CannotDeliver => "cannot_deliver",
        FailoverReason::Requested => "requested",
    }
}

/// The buffer's limit is in bytes: as many messages as fill it, if all are as large as those that wait now.
fn capacity(report: &WriterReport) -> u64 {
    const USUAL_BYTES: u64 = 512;
    let tally = &report.tally;
    let each = tally.held_bytes.checked_div(report.unacked_records).unwrap_or(USUAL_BYTES).max(1);
    tally.held_bytes_max / each
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_full_when_its_bytes_are() {
        let mut report = WriterReport::default();
        report.tally.held_bytes_max = 512_000;
        assert_eq!(capacity(&report), 1_000);
        (report.tally.held_bytes_max, report.tally.held_bytes, report.unacked_records) = (25_600, 12_800, 50);
        assert_eq!(capacity(&report), 100, "half of the bytes, half of the messages");
    }
}
