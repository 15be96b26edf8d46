//! What a writer reports: its state for the coordinator and the admin API, its events, its metrics.
//!
//! Every transition that an operator would ask about later is one event with a stable kind (docs/operations.md).

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime},
};

use tokio::sync::watch;
use twinfeed_dedup::{Notice, Retention};

use super::{
    Payload,
    meter::{Latency, Rate, Stall},
    opening::Warm,
    options::{Emit, Options},
    owner::{Counts, Owner},
    standby::Standby,
};
use crate::{
    clock::{wall_ms, wall_ns},
    kafka::{self, Committed, OutRecord},
    model::{
        event::Event,
        frame::EndKind,
        ids::Epoch,
        report::{Role, SubscriptionReport, WriterReport},
    },
    telemetry::{
        DropReason, FailoverKind, FailoverReason, FeedMetrics, FeedSide, Metrics, ReconnectReason, StateLabel,
        StateMetrics, WriterMetrics,
    },
};

/// A refusal that lasts this long is a failure. librdkafka itself waits 3 s for a topic that it has known.
const REFUSED_MS_MAX: u64 = 3_000;
/// Drops of this long make one event.
const DROPS_SUMMED_MS: u64 = 10_000;

pub(super) struct Progress {
    connector: String,
    node: String,
    emit: Emit,
    all_metrics: Metrics,
    metrics: WriterMetrics,
    /// Of the own subscription; its side follows the role.
    feed: FeedMetrics,
    out: watch::Sender<WriterReport>,
    report: WriterReport,
    latency: Latency,
    rate: Rate,
    stall: Stall,
    state: StateMetrics,
    was_live: bool,
    /// Since when Kafka has refused, without a pause, what only an operator can change.
    refused_since_ms: Option<u64>,
    kafka_failed: Option<String>,
    feed_failed: Option<String>,
    /// Dropped and not yet reported.
    dropped_unsaid: u64,
    dropped_said_at_ms: Option<u64>,
    /// Why a takeover was begun, and when; until it is done.
    takeover: Option<(FailoverReason, Instant)>,
    buffer_bytes_max: usize,
}

impl Progress {
    pub(super) fn new(options: &Options) -> Self {
        let report = WriterReport { revision: options.revision, ..WriterReport::default() };
        let metrics = options.metrics.writer(&options.connector, &options.target.topic);
        metrics.feeds_configured.set(i64::from(options.feeds));
        metrics.queue_capacity_messages.set(capacity(0, 0, options.buffer_bytes_max));
        Self {
            connector: options.connector.clone(),
            node: options.node.clone(),
            emit: options.emit.clone(),
            metrics,
            feed: options.metrics.feed(&options.connector, FeedSide::Secondary),
            all_metrics: options.metrics.clone(),
            out: watch::Sender::new(report.clone()),
            report,
            latency: Latency::default(),
            rate: Rate::default(),
            stall: Stall::default(),
            state: options.metrics.state(&options.connector),
            was_live: false,
            refused_since_ms: None,
            kafka_failed: None,
            feed_failed: None,
            dropped_unsaid: 0,
            dropped_said_at_ms: None,
            takeover: None,
            buffer_bytes_max: options.buffer_bytes_max,
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<WriterReport> {
        self.out.subscribe()
    }

    fn event(&self, kind: &str, message: String, attributes: &[(&str, String)]) {
        (self.emit)(Event {
            at_ms: wall_ms(),
            kind: kind.to_owned(),
            node: self.node.clone(),
            connector: self.connector.clone(),
            epoch: self.report.epoch.0,
            message,
            attributes: attributes.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect::<BTreeMap<_, _>>(),
        });
    }

    // --- roles -------------------------------------------------------------------------------------------------

    pub(super) fn role(&mut self, (role, epoch): (Role, Epoch)) {
        if (self.report.role, self.report.epoch) != (role, epoch) {
            self.report = WriterReport {
                role,
                epoch,
                revision: self.report.revision,
                subscription: self.report.subscription.clone(),
                retained_frames: self.report.retained_frames,
                // Counts, rate and latency are of one tenure: a standby's frames are no owner's.
                ..WriterReport::default()
            };
            self.rate = Rate::default();
            self.latency = Latency::default();
            self.stall = Stall::default();
            self.refused_since_ms = None;
            self.kafka_failed = None;
            self.feed = self.all_metrics.feed(&self.connector, side(role));
            self.metrics.owner.set(i64::from(role == Role::Owner));
            self.metrics.epoch.set(epoch.0 as i64);
            self.out.send_replace(self.report.clone());
        }
    }

    pub(super) fn takeover_started(&mut self, epoch: Epoch, redundant: bool, reason: FailoverReason) {
        self.takeover = Some((reason, Instant::now()));
        self.report.epoch = epoch;
        let message = if redundant {
            "taking over; everything the former owner had is here or in the topic".to_owned()
        } else {
            "taking over before the subscriptions were aligned: messages around this moment may be lost or doubled"
                .to_owned()
        };
        self.event("takeover.started", message, &[("redundant", redundant.to_string())]);
    }

    /// Messages between these two may be missing: read off the wire by the former owner, and by this node. Where they
    /// overlap and could not be matched, messages of the overlap.
    pub(super) fn gap(&mut self, last_ms: u64, first_ms: u64) {
        let (last_ms, first_ms) = (last_ms.min(first_ms), last_ms.max(first_ms));
        self.metrics.gap_events.inc();
        self.event(
            "gap",
            format!(
                "the stream was taken up without redundancy: messages between {last_ms} and {first_ms} (ms since 1970) \
                 may be missing, a few around them doubled"
            ),
            &[("from_ms", last_ms.to_string()), ("to_ms", first_ms.to_string())],
        );
    }

    pub(super) fn live(&mut self, epoch: Epoch, tail_records: usize, replayed: usize) {
        self.report.delivering = true;
        self.report.trouble = None;
        self.refused_since_ms = None;
        self.kafka_failed = None;
        if let Some((reason, since)) = self.takeover.take() {
            self.metrics.failover(FailoverKind::Node, reason, since.elapsed());
        }
        self.out.send_replace(self.report.clone());
        let kind = if self.was_live { "writer.recovered" } else { "writer.live" };
        self.was_live = true;
        self.event(
            kind,
            format!("producer open at epoch {epoch}; {tail_records} records read back, {replayed} frames to write"),
            &[("tail_records", tail_records.to_string()), ("replayed", replayed.to_string())],
        );
    }

    pub(super) fn fenced(&mut self, epoch: Epoch) {
        self.report.delivering = false;
        self.metrics.fenced.inc();
        self.event("fenced", format!("epoch {epoch} is not this node's any more; nothing more is written"), &[]);
    }

    pub(super) fn write_failed(&mut self, epoch: Epoch, error: &kafka::Error, now_ms: u64) {
        self.report.delivering = false;
        self.cannot_write(error, now_ms);
        self.event("writer.interrupted", format!("epoch {epoch}: {error}; the producer is opened anew"), &[]);
    }

    pub(super) fn timestamps_refused(&mut self) {
        let text = "Kafka refuses the time at which messages were read: a clock is wrong, of a node or of Kafka's; records \
                    get a timestamp that it takes, their header keeps what the node's clock said";
        self.event("timestamps.refused", text.to_owned(), &[]);
    }

    /// A record that Kafka will never take is left out, so that one message cannot stop a stream.
    pub(super) fn rejected(&mut self, record: &OutRecord, why: &kafka::Error) {
        self.metrics.gap_events.inc();
        self.metrics.gap_messages.inc();
        self.feed.dropped(DropReason::Oversize, 1);
        self.event(
            "record.rejected",
            format!("record {} of {} bytes is left out: {why}", record.sequence, record.payload.len()),
            &[("sequence", record.sequence.to_string()), ("bytes", record.payload.len().to_string())],
        );
    }

    /// A write or an opening failed. What Kafka goes on refusing (a deleted topic, a right taken away) is a failure for
    /// an operator; a moment of it is not, as a broker that has just started may not know a topic yet.
    pub(super) fn cannot_write(&mut self, error: &kafka::Error, now_ms: u64) {
        self.trouble(error);
        if error.retry() != kafka::Retry::Never {
            self.refused_since_ms = None;
            return;
        }
        let since_ms = *self.refused_since_ms.get_or_insert(now_ms);
        if self.kafka_failed.is_none() && now_ms.saturating_sub(since_ms) >= REFUSED_MS_MAX {
            let text = error.to_string();
            tracing::error!(connector = %self.connector, error = %text, "writer.failed");
            self.event("writer.failed", format!("{text}; what the feed sends is kept up to the buffer's limit"), &[]);
            self.kafka_failed = Some(text);
        }
    }

    /// Whether only an operator can help.
    pub(super) fn has_failed(&self) -> bool {
        self.kafka_failed.is_some()
    }

    /// Present trouble that may pass. The same again with other figures is no news.
    pub(super) fn trouble(&mut self, error: &dyn std::error::Error) {
        let text = error.to_string();
        if !self.report.trouble.as_ref().is_some_and(|known| same_but_for_figures(known, &text)) {
            tracing::warn!(connector = %self.connector, error = %text, "writer.trouble");
            self.event("writer.trouble", text.clone(), &[]);
        }
        self.report.trouble = Some(text);
    }

    // --- subscriptions -----------------------------------------------------------------------------------------

    pub(super) fn subscription_opened(&mut self, subscription: u64) {
        self.feed.connected(SystemTime::now());
        self.feed_failed = None;
        self.event("subscription.opened", format!("subscription {subscription:016x} is connected"), &[]);
    }

    pub(super) fn subscription_lost(&mut self, kind: EndKind, reason: &str) {
        self.feed.disconnected(reconnect_reason(kind));
        self.event("subscription.lost", format!("the feed connection ended: {reason}"), &[]);
    }

    /// The session is over: without a restart nothing comes any more.
    pub(super) fn gave_up(&mut self, reason: &str) {
        self.feed_failed = Some(format!("the subscription gave up: {reason}"));
        self.event("subscription.gave_up", reason.to_owned(), &[]);
    }

    pub(super) fn connect_failed(&mut self, kind: EndKind, reason: &str, attempt: u32, retry_in_ms: u64) {
        self.feed.disconnected(reconnect_reason(kind));
        // The first and every tenth: a feed that is down for an hour must not flood the log.
        if attempt == 1 || attempt.is_multiple_of(10) {
            self.event("subscription.refused", format!("attempt {attempt}: {reason}; next in {retry_in_ms} ms"), &[]);
        }
    }

    pub(super) fn standby_connected(&mut self, new: bool) {
        if new {
            self.event("standby.joined", "a standby relays its subscription".to_owned(), &[]);
        }
    }

    /// A relay session is gone. One that never stood is no event: an owner that is still opening refuses a few.
    pub(super) fn relay_ended(&mut self, stood: bool) {
        if stood {
            self.event("relay.broken", "the relay between owner and standby ended; it is reopened".to_owned(), &[]);
        }
    }

    pub(super) fn overflow(&mut self, dropped: u64) {
        self.metrics.gap_messages.inc_by(dropped);
        self.feed.dropped(DropReason::QueueFull, dropped);
        self.dropped_unsaid += dropped;
    }

    /// A full buffer drops with every frame: the first drop is reported at once, what follows as a sum.
    fn say_dropped(&mut self, now_ms: u64) {
        let rested = self.dropped_said_at_ms.is_none_or(|at| now_ms.saturating_sub(at) >= DROPS_SUMMED_MS);
        if self.dropped_unsaid == 0 || !rested {
            return;
        }
        let dropped = std::mem::take(&mut self.dropped_unsaid);
        self.dropped_said_at_ms = Some(now_ms);
        self.metrics.gap_events.inc();
        self.event(
            "gap",
            format!("the buffer limit was reached: the {dropped} oldest waiting messages were dropped"),
            &[("dropped", dropped.to_string())],
        );
    }

    pub(super) fn notice(&mut self, notice: &Notice, now_ms: u64) {
        let present_ms = wall_ms();
        let wall = |at_ms: u64| present_ms.saturating_sub(now_ms.saturating_sub(at_ms));
        let (kind, message) = describe(notice, wall);
        let mut attributes = Vec::new();
        if let Notice::AlignedByFiat { last_before_ms: Some(before), first_after_ms, .. } = notice {
            self.metrics.gap_events.inc();
            attributes = vec![("from_ms", wall(*before).to_string()), ("to_ms", wall(*first_after_ms).to_string())];
        }
        self.event(kind, message, &attributes);
    }

    // --- counts ------------------------------------------------------------------------------------------------

    pub(super) fn received(&mut self, frames: usize, bytes: usize) {
        self.report.frames_received += frames as u64;
        self.feed.received(frames as u64, bytes as u64, wall_ns());
    }

    pub(super) fn merged(&mut self, counts: Counts) {
        self.merged_on(FeedSide::Primary, counts);
    }

    fn merged_on(&mut self, side: FeedSide, counts: Counts) {
        self.report.frames_deduplicated += counts.duplicate;
        self.metrics.accepted.inc_by(counts.fresh);
        self.metrics.deduplicated(side, counts.duplicate);
    }

    pub(super) fn merged_relayed(&mut self, counts: Counts) {
        self.report.frames_received += counts.fresh + counts.duplicate;
        self.merged_on(FeedSide::Secondary, counts);
    }

    /// Latency ends with the answered commit; what is known from the tail alone has no such moment, and counts until now.
    pub(super) fn committed(&mut self, records: &[OutRecord], committed: Option<&Committed>) {
        let settled_ns = committed.map_or(0, |committed| committed.settled.as_nanos() as u64);
        let now_ns = wall_ns().saturating_sub(settled_ns);
        for record in records {
            let us = now_ns.saturating_sub(record.received_at_ns) / 1_000;
            self.latency.record(us);
            self.metrics.end_to_end_latency.observe(us as f64 / 1e6);
        }
        self.stall.committed();
        self.report.records_committed += records.len() as u64;
        self.metrics.acked.inc_by(records.len() as u64);
        self.metrics.batch_messages.observe(records.len() as f64);
        if let Some(committed) = committed {
            self.metrics.commit_duration.observe(committed.took.as_secs_f64());
        }
    }

    // --- state -------------------------------------------------------------------------------------------------

    pub(super) fn owning(&mut self, owner: &Owner, producer_open: bool, held_bytes: usize, now_ms: u64) {
        let status = owner.merge.status();
        self.report.standby = owner.connected_standby();
        let redundant = status.redundant && self.report.standby.is_some();
        if redundant != self.report.redundant {
            if redundant {
                self.event(
                    "redundant",
                    "both subscriptions aligned and committed: any single fault is survived".to_owned(),
                    &[],
                );
            } else {
                self.event(
                    "at_risk",
                    "a second fault would lose data until the standby is aligned again".to_owned(),
                    &[],
                );
            }
        }
        self.report.delivering = producer_open;
        self.report.aligned = status.standby_aligned;
        self.report.redundant = redundant;
        self.report.unacked_records = (status.ready_records + status.in_flight_records) as u64;
        self.report.retained_frames = status.joining_frames as u64;
        self.stalled(self.report.unacked_records > 0, now_ms);
        let metrics = &self.metrics;
        metrics.aligned.set(i64::from(status.standby_aligned));
        metrics.at_risk.set(i64::from(!redundant));
        metrics.unacked_records.set(self.report.unacked_records as i64);
        metrics.window_entries.set(status.entries as i64);
        metrics.queue_messages.set(status.ready_records as i64);
        metrics.queue_bytes.set(held_bytes as i64);
        metrics.queue_capacity_messages.set(capacity(status.ready_records, held_bytes, self.buffer_bytes_max));
    }

    /// What has failed for good is for an operator: another node would meet the same.
    fn stalled(&mut self, waiting: bool, now_ms: u64) {
        self.report.stalled_ms = self.stall.look(waiting && self.report.failed.is_none(), now_ms);
    }

    pub(super) fn standing(&mut self, standby: &Standby, held_bytes: usize, now_ms: u64) {
        self.report.kafka_reached_ms = standby.reach.reached_ms(now_ms);
        self.report.kafka_connected = standby.warm.as_ref().is_some_and(Warm::is_connected);
        self.report.redundant = standby.retention.is_redundant();
        self.report.retained_frames = standby.retention.retained_frames() as u64;
        self.metrics.retained_frames.set(self.report.retained_frames as i64);
        self.metrics.retained_bytes.set(held_bytes as i64);
    }

    pub(super) fn opening(&mut self, retention: &Retention<Payload>, now_ms: u64) {
        self.report.delivering = false;
        self.report.retained_frames = retention.retained_frames() as u64;
        self.stalled(self.report.retained_frames > 0, now_ms);
    }

    pub(super) fn publish(&mut self, now_ms: u64, feed: &SubscriptionReport) {
        self.say_dropped(now_ms);
        self.report.failed = self.kafka_failed.clone().or_else(|| self.feed_failed.clone());
        self.rate.sample(now_ms, self.report.records_committed);
        self.report.records_per_second = self.rate.per_second();
        self.latency.turn(now_ms);
        self.report.latency_p50_ms = self.latency.quantile_ms(0.5);
        self.report.latency_p99_ms = self.latency.quantile_ms(0.99);
        self.report.subscription.clone_from(feed);
        if self.report.role == Role::Owner {
            self.state.set(if self.report.failed.is_some() {
                StateLabel::Failed
            } else if self.report.delivering {
                StateLabel::Running
            } else {
                StateLabel::Starting
            });
        }
        self.out.send_if_modified(|out| {
            let changed = *out != self.report;
            if changed {
                out.clone_from(&self.report);
            }
            changed
        });
    }
}

/// The buffer's limit is in bytes: as many messages as fill it, if all are as large as those that wait now.
fn capacity(messages: usize, bytes: usize, bytes_max: usize) -> i64 {
    const USUAL_BYTES: usize = 512;
    let each = bytes.checked_div(messages).unwrap_or(USUAL_BYTES).max(1);
    i64::try_from(bytes_max / each).unwrap_or(i64::MAX)
}

/// Error texts carry durations and counts, which differ with every attempt.
fn same_but_for_figures(a: &str, b: &str) -> bool {
    let without =
        |text: &str| text.split(|c: char| c.is_ascii_digit()).filter(|s| !s.is_empty()).collect::<Vec<_>>().join("#");
    without(a) == without(b)
}

fn side(role: Role) -> FeedSide {
    match role {
        Role::Owner => FeedSide::Primary,
        Role::Standby => FeedSide::Secondary,
    }
}

/// An event's kind and text; `wall` turns the merge's times into milliseconds since 1970.
fn describe(notice: &Notice, wall: impl Fn(u64) -> u64) -> (&'static str, String) {
    match notice {
        Notice::Aligned { subscription, after_frames } => (
            "aligned",
            format!("subscription {:016x} matched position by position after {after_frames} frames", subscription.0),
        ),
        Notice::AlignedByFiat { subscription, last_before_ms: None, .. } => {
            ("subscription.accepted", format!("subscription {:016x} is the first of this owner", subscription.0))
        }
        Notice::AlignedByFiat { subscription, last_before_ms: Some(before), first_after_ms } => (
            "gap",
            format!(
                "subscription {:016x} has nothing to be matched with: messages between {} and {} (ms since 1970) may be \
                 missing, a few around them doubled",
                subscription.0,
                wall(*before),
                wall(*first_after_ms)
            ),
        ),
        Notice::AlignmentLost { subscription } => {
            ("alignment.lost", format!("subscription {:016x} fell too far behind; it is aligned anew", subscription.0))
        }
        Notice::FeedsDiffer { subscription, unmatched, messages } => (
            "feeds.differ",
            format!(
                "subscription {:016x} lacks {unmatched} of the last {messages} messages: do both URLs carry the same \
                 stream, without conflation?",
                subscription.0
            ),
        ),
        other => ("merge.notice", format!("{other:?}")),
    }
}

const fn reconnect_reason(kind: EndKind) -> ReconnectReason {
    match kind {
        EndKind::Connect => ReconnectReason::Connect,
        EndKind::Handshake => ReconnectReason::Handshake,
        EndKind::Closed => ReconnectReason::Closed,
        EndKind::Idle => ReconnectReason::Idle,
        EndKind::Protocol => ReconnectReason::Protocol,
        EndKind::Oversize => ReconnectReason::Oversize,
        EndKind::Restart => ReconnectReason::Restart,
    }
}

#[cfg(test)]
mod tests {
    use super::{capacity, same_but_for_figures};

    #[test]
    fn a_queue_is_full_when_its_bytes_are() {
        assert_eq!(capacity(0, 0, 512_000), 1_000);
        assert_eq!(capacity(50, 12_800, 25_600), 100, "half of the bytes, half of the messages");
        assert_eq!(capacity(50, 25_600, 25_600), 50);
    }

    #[test]
    fn errors_that_differ_in_figures_only_are_the_same() {
        assert!(same_but_for_figures("no answer within 9999 ms", "no answer within 10001 ms"));
        assert!(!same_but_for_figures("no answer within 9999 ms", "topic t1 is gone"));
        assert!(!same_but_for_figures("2 of 3 failed", "2 of 3 timed out"));
    }
}
