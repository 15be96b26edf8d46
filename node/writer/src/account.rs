//! What a writer tells of itself: its report, and one event for every transition that an operator would ask about later.
//!
//! Events have stable kinds (docs/operations.md). Metrics, status and pages are derived from the report; nothing else is.

use std::collections::BTreeMap;

use twinfeed_dedup::{MergeStatus, Notice, Retention};

use crate::{
    Epoch,
    differences::Differences,
    event::Event,
    frame::EndKind,
    meter::{BATCH_RECORDS, LATENCY_SECONDS, Latency, Rate, Stall},
    owner::{Counts, Owner},
    payload::Payload,
    port::{Committed, Failure, Now, Remedy},
    record::OutRecord,
    report::{DropReason, FailoverReason, Lines, Role, SubscriptionReport, Takeover, Tally, WriterReport},
    settings::Settings,
    standby::Standby,
    words::{describe, same_but_for_figures, subscription},
};

/// A refusal that lasts this long is a failure. librdkafka itself waits 3 s for a topic that it has known.
const REFUSED_MS_MAX: u64 = 3_000;
/// Drops of this long make one event.
const SUMMED_MS: u64 = 10_000;

#[derive(Debug)]
pub(crate) struct Account {
    connector: String,
    node: String,
    report: WriterReport,
    events: Vec<Event>,
    latency: Latency,
    rate: Rate,
    stall: Stall,
    was_live: bool,
    /// Since when Kafka has refused, without a pause, what only an operator can change.
    refused_since_ms: Option<u64>,
    kafka_failed: Option<String>,
    feed_failed: Option<String>,
    dropped: Summed,
    oversize: Summed,
    /// Why a takeover was begun, and when; until it is done.
    takeover: Option<(FailoverReason, u64)>,
    /// How every tenure's counts begin.
    untouched: Tally,
}

/// What happens with every message for as long as it lasts: the first time is told at once, what follows as a sum.
#[derive(Debug, Default)]
struct Summed {
    untold: u64,
    told_at_ms: Option<u64>,
    /// When the first and the last of the untold messages were read, milliseconds since 1970.
    read_ms: Option<(u64, u64)>,
}

impl Summed {
    fn add(&mut self, received_at_ns: u64) {
        let at_ms = received_at_ns / 1_000_000;
        let (from_ms, to_ms) = self.read_ms.unwrap_or((at_ms, at_ms));
        self.read_ms = Some((from_ms.min(at_ms), to_ms.max(at_ms)));
        self.untold += 1;
    }

    /// How many, and between which moments they were read, if it is time to tell.
    fn due(&mut self, now_ms: u64) -> Option<(u64, u64, u64)> {
        let rested = self.told_at_ms.is_none_or(|at_ms| now_ms.saturating_sub(at_ms) >= SUMMED_MS);
        let (from_ms, to_ms) = self.read_ms.filter(|_| rested)?;
        self.told_at_ms = Some(now_ms);
        self.read_ms = None;
        Some((std::mem::take(&mut self.untold), from_ms, to_ms))
    }
}

impl Account {
    pub(crate) fn new(settings: &Settings) -> Self {
        let tally = Tally {
            connector: settings.connector.as_str().into(),
            topic: settings.topic.as_str().into(),
            feeds: settings.feeds,
            held_bytes_max: settings.buffer_bytes_max as u64,
            ..Tally::default()
        };
        Self {
            connector: settings.connector.clone(),
            node: settings.node.clone(),
            report: WriterReport { revision: settings.revision, tally: tally.clone(), ..WriterReport::default() },
            untouched: tally,
            events: Vec::new(),
            latency: Latency::default(),
            rate: Rate::default(),
            stall: Stall::default(),
            was_live: false,
            refused_since_ms: None,
            kafka_failed: None,
            feed_failed: None,
            dropped: Summed::default(),
            oversize: Summed::default(),
            takeover: None,
        }
    }

    pub(crate) fn report(&self) -> &WriterReport {
        &self.report
    }

    pub(crate) fn take_events(&mut self) -> impl Iterator<Item = Event> + '_ {
        self.events.drain(..)
    }

    fn event(&mut self, kind: &str, message: String, attributes: &[(&str, String)], now: Now) {
        self.events.push(Event {
            at_ms: now.wall_ms(),
            kind: kind.to_owned(),
            node: self.node.clone(),
            connector: self.connector.clone(),
            epoch: self.report.epoch.0,
            message,
            attributes: attributes.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect::<BTreeMap<_, _>>(),
        });
    }

    // --- roles -----------------------------------------------------------------------------------------------------

    /// Counts, rate and latency are of one tenure: a standby's frames are no owner's.
    pub(crate) fn role(&mut self, (role, epoch): (Role, Epoch)) {
        if (self.report.role, self.report.epoch) != (role, epoch) {
            self.report = WriterReport {
                role,
                epoch,
                revision: self.report.revision,
                subscription: self.report.subscription.clone(),
                retained_frames: self.report.retained_frames,
                tally: self.lasting(),
                ..WriterReport::default()
            };
            self.rate = Rate::default();
            self.latency = Latency::default();
            self.stall = Stall::default();
            self.refused_since_ms = None;
            self.kafka_failed = None;
        }
        self.settle_failure();
    }

    /// What is of the stream at this node, whatever its role: a gap is mostly reported where a tenure begins, and one that ends with
    /// it would be seen by no scrape.
    fn lasting(&self) -> Tally {
        let Tally { gap_events, gap_messages, last_gap_at_ms, fenced, .. } = self.report.tally;
        Tally { gap_events, gap_messages, last_gap_at_ms, fenced, ..self.untouched.clone() }
    }

    pub(crate) fn takeover_started(&mut self, epoch: Epoch, redundant: bool, reason: FailoverReason, now: Now) {
        self.takeover = Some((reason, now.us));
        self.report.epoch = epoch;
        let message = if redundant {
            "taking over; everything the former owner had is here or in the topic".to_owned()
        } else {
            "taking over before the subscriptions were aligned: messages around this moment may be lost or doubled"
                .to_owned()
        };
        self.event("takeover.started", message, &[("redundant", redundant.to_string())], now);
    }

    /// Messages between these two may be missing: read off the wire by the former owner, and by this node. Where they
    /// overlap and could not be matched, messages of the overlap.
    pub(crate) fn gap(&mut self, last_ms: u64, first_ms: u64, now: Now) {
        let (from_ms, to_ms) = (last_ms.min(first_ms), last_ms.max(first_ms));
        self.count_gap(now);
        let text = format!(
            "the stream was taken up without redundancy: messages between {from_ms} and {to_ms} (ms since 1970) may be \
             missing, a few around them doubled"
        );
        self.event("gap", text, &bounds(from_ms, to_ms), now);
    }

    fn count_gap(&mut self, now: Now) {
        self.report.tally.gap_events += 1;
        self.report.tally.last_gap_at_ms = now.wall_ms();
    }

    pub(crate) fn live(&mut self, epoch: Epoch, (tail_records, replayed): (usize, usize), now: Now) {
        self.report.delivering = true;
        self.report.trouble = None;
        self.refused_since_ms = None;
        self.kafka_failed = None;
        self.settle_failure();
        if let Some((reason, since_us)) = self.takeover.take() {
            let seconds = now.us.saturating_sub(since_us) as f64 / 1e6;
            self.report.tally.takeover = Some(Takeover { reason, seconds });
        }
        let kind = if self.was_live { "writer.recovered" } else { "writer.live" };
        self.was_live = true;
        let text =
            format!("producer open at epoch {epoch}; {tail_records} records read back, {replayed} frames to write");
        let attributes = [("tail_records", tail_records.to_string()), ("replayed", replayed.to_string())];
        self.event(kind, text, &attributes, now);
    }

    pub(crate) fn fenced(&mut self, epoch: Epoch, now: Now) {
        self.report.delivering = false;
        self.event("fenced", format!("epoch {epoch} is not this node's any more; nothing more is written"), &[], now);
    }

    pub(crate) fn write_failed(&mut self, epoch: Epoch, failure: &Failure, now: Now) {
        self.report.delivering = false;
        self.report.tally.fenced += u64::from(failure.remedy == Remedy::Fenced);
        self.cannot_write(failure, now);
        let text = format!("epoch {epoch}: {}; the producer is opened anew", failure.text);
        self.event("writer.interrupted", text, &[], now);
    }

    pub(crate) fn timestamps_refused(&mut self, now: Now) {
        let text = "Kafka refuses the time at which messages were read: a clock is wrong, of a node or of Kafka's; records \
                    get a timestamp that it takes, their header keeps what the node's clock said";
        self.event("timestamps.refused", text.to_owned(), &[], now);
    }

    /// A record that Kafka will never take is left out, so that one message cannot stop a stream.
    pub(crate) fn left_out(&mut self, record: &OutRecord) {
        self.report.tally.gap_messages += 1;
        self.report.tally.dropped[DropReason::Oversize as usize] += 1;
        self.oversize.add(record.received_at_ns);
    }

    /// A write or an opening failed. What Kafka goes on refusing (a deleted topic, a right taken away) is a failure for
    /// an operator; a moment of it is not, as a broker that has just started may not know a topic yet.
    pub(crate) fn cannot_write(&mut self, failure: &Failure, now: Now) {
        self.trouble(&failure.text, now);
        if failure.remedy != Remedy::Operator {
            self.refused_since_ms = None;
            return;
        }
        let since_ms = *self.refused_since_ms.get_or_insert(now.ms());
        if self.kafka_failed.is_none() && now.ms().saturating_sub(since_ms) >= REFUSED_MS_MAX {
            let text = format!("{}; what the feed sends is kept up to the buffer's limit", failure.text);
            self.event("writer.failed", text, &[], now);
            self.kafka_failed = Some(failure.text.clone());
            self.settle_failure();
        }
    }

    fn settle_failure(&mut self) {
        self.report.failed = self.kafka_failed.clone().or_else(|| self.feed_failed.clone());
    }

    /// Present trouble that may pass. The same again with other figures is no news.
    pub(crate) fn trouble(&mut self, text: &str, now: Now) {
        if !self.report.trouble.as_ref().is_some_and(|known| same_but_for_figures(known, text)) {
            self.event("writer.trouble", text.to_owned(), &[], now);
        }
        self.report.trouble = Some(text.to_owned());
    }

    // --- subscriptions ---------------------------------------------------------------------------------------------

    pub(crate) fn subscription_opened(&mut self, subscription: u64, now: Now) {
        self.feed_failed = None;
        self.settle_failure();
        self.event("subscription.opened", format!("subscription {subscription:016x} is connected"), &[], now);
    }

    pub(crate) fn subscription_lost(&mut self, kind: EndKind, reason: &str, now: Now) {
        self.report.tally.reconnects[kind as usize] += 1;
        self.event("subscription.lost", format!("the feed connection ended: {reason}"), &[], now);
    }

    pub(crate) fn connect_failed(&mut self, kind: EndKind, (reason, attempt): (&str, u32), retry_in_ms: u64, now: Now) {
        self.report.tally.reconnects[kind as usize] += 1;
        // The first and every tenth: a feed that is down for an hour must not flood the log.
        if attempt == 1 || attempt.is_multiple_of(10) {
            let text = format!("attempt {attempt}: {reason}; next in {retry_in_ms} ms");
            self.event("subscription.refused", text, &[], now);
        }
    }

    /// The session is over: the connector has failed, whatever its twin does.
    pub(crate) fn gave_up(&mut self, reason: &str, now: Now) {
        self.event("subscription.gave_up", reason.to_owned(), &[], now);
        self.feed_failed = Some(format!("the subscription gave up: {reason}"));
        self.settle_failure();
    }

    pub(crate) fn standby_joined(&mut self, now: Now) {
        self.event("standby.joined", "a standby relays its subscription".to_owned(), &[], now);
    }

    /// A relay session is gone. One that never stood is no event: an owner that is still opening refuses a few.
    pub(crate) fn relay_ended(&mut self, stood: bool, now: Now) {
        if stood {
            let text = "the relay between owner and standby ended; it is reopened".to_owned();
            self.event("relay.broken", text, &[], now);
        }
    }

    /// A frame or record was dropped because the buffer is full.
    pub(crate) fn overflow(&mut self, received_at_ns: u64) {
        self.report.tally.gap_messages += 1;
        self.report.tally.dropped[DropReason::BufferFull as usize] += 1;
        self.dropped.add(received_at_ns);
    }

    fn say_sums(&mut self, now: Now) {
        if let Some((dropped, from_ms, to_ms)) = self.dropped.due(now.ms()) {
            self.count_gap(now);
            let text = format!(
                "the buffer limit was reached: {dropped} waiting messages were dropped, the oldest first, read between \
                 {from_ms} and {to_ms} (ms since 1970)"
            );
            let [from, to] = bounds(from_ms, to_ms);
            self.event("gap", text, &[("dropped", dropped.to_string()), from, to], now);
        }
        if let Some((records, from_ms, to_ms)) = self.oversize.due(now.ms()) {
            self.count_gap(now);
            let text = format!(
                "{records} messages read between {from_ms} and {to_ms} (ms since 1970) are larger than Kafka takes and \
                 were left out: raise max.message.bytes of the topic, or lower twinfeed.websocket.message.bytes.max"
            );
            let [from, to] = bounds(from_ms, to_ms);
            self.event("record.rejected", text, &[("records", records.to_string()), from, to], now);
        }
    }

    pub(crate) fn notice(&mut self, notice: &Notice, now: Now) {
        let wall = |at_ms: u64| now.wall_ms().saturating_sub(now.ms().saturating_sub(at_ms));
        let (kind, message) = describe(notice, wall);
        let mut attributes: Vec<(&str, String)> =
            subscription(notice).map(|id| ("subscription", format!("{:016x}", id.0))).into_iter().collect();
        let hole = match notice {
            Notice::AlignedByFiat { last_before_ms: Some(before), first_after_ms, .. } => {
                Some((*before, *first_after_ms))
            }
            Notice::Unproven { from_ms, to_ms, .. } => Some((*from_ms, *to_ms)),
            _ => None,
        };
        if let Some((from_ms, to_ms)) = hole {
            self.count_gap(now);
            let (from, to) = (wall(from_ms), wall(to_ms));
            attributes.extend(bounds(from.min(to), from.max(to)));
        }
        self.event(kind, message, &attributes, now);
    }

    // --- counts ----------------------------------------------------------------------------------------------------

    /// When a message was read off an own connection last, in milliseconds since 1970.
    pub(crate) fn last_received_at_ms(&self) -> Option<u64> {
        Some(self.report.tally.last_received_at_ns / 1_000_000).filter(|at_ms| *at_ms > 0)
    }

    pub(crate) fn received(&mut self, frames: usize, bytes: usize, now: Now) {
        self.report.frames_received += frames as u64;
        let tally = &mut self.report.tally;
        tally.received += frames as u64;
        tally.received_bytes += bytes as u64;
        tally.last_received_at_ns = now.wall_ns;
    }

    pub(crate) fn merged(&mut self, counts: Counts) {
        self.merged_on(0, counts);
    }

    pub(crate) fn merged_relayed(&mut self, counts: Counts) {
        self.report.frames_received += counts.fresh + counts.duplicate;
        self.merged_on(1, counts);
    }

    fn merged_on(&mut self, side: usize, counts: Counts) {
        self.report.frames_deduplicated += counts.duplicate;
        self.report.tally.accepted += counts.fresh;
        self.report.tally.deduplicated[side] += counts.duplicate;
    }

    /// Latency ends with the answered commit; what is known from the tail alone has no such moment, and counts until now.
    pub(crate) fn committed(&mut self, records: &[OutRecord], committed: Option<&Committed>, now: Now) {
        let settled_ns = committed.map_or(0, |committed| committed.settled_us * 1_000);
        let done_ns = now.wall_ns.saturating_sub(settled_ns);
        // Frames of one read share their moment, so a run of records is one measurement.
        for run in records.chunk_by(|a, b| a.received_at_ns == b.received_at_ns) {
            let us = done_ns.saturating_sub(run[0].received_at_ns) / 1_000;
            self.latency.record(us, run.len() as u32);
            self.report.tally.latency.observe(us as f64 / 1e6, run.len() as u64, &LATENCY_SECONDS);
        }
        self.stall.committed();
        self.report.records_committed += records.len() as u64;
        self.report.tally.batch_records.observe(records.len() as f64, 1, &BATCH_RECORDS);
        if let Some(committed) = committed {
            self.report.tally.commit.observe(committed.took_us as f64 / 1e6, 1, &LATENCY_SECONDS);
        }
    }

    // --- state -----------------------------------------------------------------------------------------------------

    pub(crate) fn owning(&mut self, owner: &Owner, producing: bool, now: Now) {
        let status = owner.merge.status();
        self.report.standby = owner.connected_standby();
        self.report.lines = lines(&status, now);
        let redundant = status.redundant && self.report.standby.is_some();
        let covered = redundant && !status.at_risk;
        if covered != self.report.covered {
            let (kind, text) = if covered {
                (
                    "redundant",
                    "both subscriptions aligned and committed: a fault of either loses nothing that both deliver"
                        .to_owned(),
                )
            } else {
                ("at_risk", self.risk(&status))
            };
            self.event(kind, text, &[], now);
        }
        self.report.delivering = producing;
        self.report.aligned = status.standby_aligned;
        (self.report.redundant, self.report.covered) = (redundant, covered);
        self.report.unacked_records = (status.ready_records + status.in_flight_records) as u64;
        self.report.retained_frames = status.joining_frames as u64;
        self.stalled(self.report.unacked_records > 0, now);
        let held = owner.merge.bytes();
        self.report.tally.held_bytes = (held.ready + held.in_flight + held.joining) as u64;
        self.report.tally.ready_records = status.ready_records as u64;
        self.report.tally.merge = status;
    }

    /// What differs is kept in the report; its messages never are in events, as those are logged.
    pub(crate) fn differing(&mut self, differences: &mut Differences, now: Now) {
        self.report.comparison = differences.comparison().cloned();
        if let Some(news) = differences.news(self.report.lines.unmatched_ms, now.ms()) {
            let pointers = (!news.pointers.is_empty()).then(|| ("pointers", news.pointers.join(" ")));
            let attributes: Vec<_> = pointers.into_iter().collect();
            let text = format!("{}; samples: wsctl connector compare {}", news.advice, self.connector);
            self.event("lines.differ_at", text, &attributes, now);
        }
    }

    fn risk(&self, status: &MergeStatus) -> String {
        let lacks = match (status.own_behind_since_ms, status.standby_behind_since_ms) {
            (Some(_), _) => "the owner's line lacks what the standby's delivers",
            (None, Some(_)) => "the standby's line lacks what the owner's delivers",
            (None, None) if !status.own_aligned => "the owner's line is down or not matched yet",
            (None, None) if self.report.standby.is_none() => "no standby relays its line",
            (None, None) => "the standby's line is down or not matched yet",
        };
        format!("{lacks}: a fault of the other would lose data until both keep up again")
    }

    /// What has failed for good is for an operator: another node would meet the same.
    fn stalled(&mut self, waiting: bool, now: Now) {
        self.report.stalled_ms = self.stall.look(waiting && self.report.failed.is_none(), now.ms());
    }

    pub(crate) fn standing(&mut self, standby: &Standby, now: Now) {
        self.report.kafka_reached_ms = standby.reach.reached_ms(now.ms());
        self.report.redundant = standby.retention.is_redundant();
        self.retained(&standby.retention);
    }

    pub(crate) fn opening(&mut self, retention: &Retention<Payload>, now: Now) {
        self.report.delivering = false;
        self.retained(retention);
        self.stalled(self.report.retained_frames > 0, now);
    }

    fn retained(&mut self, retention: &Retention<Payload>) {
        self.report.retained_frames = retention.retained_frames() as u64;
        self.report.tally.held_bytes = retention.bytes() as u64;
    }

    /// Some twenty times a second, after the phase has been looked at.
    pub(crate) fn look(&mut self, subscription: &SubscriptionReport, kafka_connected: bool, now: Now) {
        self.say_sums(now);
        self.rate.sample(now.ms(), self.report.records_committed);
        self.report.records_per_second = self.rate.per_second();
        self.latency.turn(now.ms());
        [self.report.latency_p50_ms, self.report.latency_p99_ms] = self.latency.quantiles_ms([0.5, 0.99]);
        self.report.subscription.clone_from(subscription);
        self.report.kafka_connected = self.report.role == Role::Standby && kafka_connected;
    }
}

fn lines(status: &MergeStatus, now: Now) -> Lines {
    let since = |since_ms: Option<u64>| since_ms.map_or(0, |since_ms| now.ms().saturating_sub(since_ms).max(1));
    let delivers = |since_ms: Option<u64>, frames: u64| since_ms.filter(|_| frames > 0);
    let joining = [
        delivers(status.own_joining_since_ms, status.own_frames),
        delivers(status.standby_joining_since_ms, status.standby_frames),
    ];
    Lines {
        idle: status.idle,
        own_behind_ms: since(status.own_behind_since_ms),
        standby_behind_ms: since(status.standby_behind_since_ms),
        own_alone: status.own_alone.messages,
        standby_alone: status.standby_alone.messages,
        of: status.own_alone.of.max(status.standby_alone.of),
        unmatched_ms: since(joining.into_iter().flatten().min()),
        skew_ms: status.skew_ms,
    }
}

fn bounds(from_ms: u64, to_ms: u64) -> [(&'static str, String); 2] {
    [("from_ms", from_ms.to_string()), ("to_ms", to_ms.to_string())]
}
