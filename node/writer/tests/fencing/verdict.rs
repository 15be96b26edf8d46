//! The verdict on a run: the promises, checked on the committed log by somebody who only knows what the feed sent.
//!
//! Each stream is judged as if it were alone in the topic, by the records that carry its identity. I1 no loss, I2 no repeat, I3
//! order and I8 honest ack (looked at during the run, in the world) are judged where the system itself reported nothing of that
//! stream: its reports say that messages may be missing and a few doubled, and where lines deliver in order and repeat little, no
//! more than a few may be. I4 single writer and the last stable offset are judged always.

use std::collections::HashMap;

use twinfeed_dedup::{Fingerprint, RecordId, SubscriptionId, TailRecord};

use super::broker::{Broker, Stamped};
use super::feed::Message;
use super::journal::Journal;
use super::plan::Plan;
use super::stream::Stream;
use super::writer::identity;

/// A few, as the reports say: an overlap that is too short, or holds too little that is unique, to be placed.
const DOUBLED_FEW: i64 = 24;
/// With more repeats than this, overlaps of some length hold too little that is unique.
const REPEATS_FEW: f64 = 0.3;

#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<String>,
    /// The system reported a possible loss of one stream at least: I1 was not judged there, and of I2 at most that it is a few.
    pub(crate) is_reported: bool,
    pub(crate) is_rough: bool,
    pub(crate) streams: u64,
    /// Of these that left their writer and came again, or came in rough weather.
    pub(crate) restless: u64,
    /// With a line that ended for good.
    pub(crate) given_up: u64,
    pub(crate) records: u64,
    pub(crate) faults: u32,
    pub(crate) takeovers: u32,
    pub(crate) recoveries: u32,
    pub(crate) fenced: u32,
}

pub(crate) fn judge(
    plan: &Plan,
    broker: &Broker,
    (journals, streams): (&[Journal], &[Stream]),
    faults: u32,
) -> Verdict {
    let topic: Vec<Stamped> = broker.committed_from(0).copied().collect();
    let mut verdict = Verdict { is_rough: plan.rough, faults, ..Verdict::default() };
    for (number, (journal, stream)) in journals.iter().zip(streams).enumerate() {
        let own = topic.iter().filter(|stamped| stamped.stream == identity(number)).map(|stamped| stamped.record);
        let is_untellable = !stream.is_read_to_end && (journal.has_given_up || plan.rough);
        // A feed that is over before both lines of a late stream have spoken leaves what one alone has to wait for more.
        let is_restless = plan.is_restless(number) || !plan.is_there_first(number) && journal.aligned.is_empty();
        let is_reported = !journal.reports.is_empty() || is_untellable || is_restless;
        let own: Vec<TailRecord> = own.collect();
        // One that comes while faults fall may be handed on before it was written once: none of its lines has a place then.
        let is_plain =
            plan.reorder_ms == 0.0 && plan.feed.repeats <= REPEATS_FEW && !(plan.rough && plan.is_restless(number));
        let told = judge_stream(&own, (journal, stream), (is_reported, is_plain));
        verdict.is_reported |= is_reported && !is_restless;
        verdict.restless += u64::from(is_restless);
        verdict.violations.extend(told.into_iter().map(|told| format!("stream {number}: {told}")));
        verdict.streams += 1;
        verdict.given_up += u64::from(journal.has_given_up);
        verdict.takeovers += journal.takeovers;
        verdict.recoveries += journal.recoveries;
        verdict.fenced += journal.fenced;
    }
    verdict.records = topic.len() as u64;
    if topic.iter().any(|stamped| stamped.stream == 0) {
        verdict.violations.push("a record without a stream is committed".to_owned());
    }
    // Whose marker was forgotten is closed by its producer's next transaction, which need not come: no harm, as long as nothing
    // is to be read behind it.
    let is_stuck = broker.stable_offset() != broker.end_offset();
    if is_stuck && (!broker.has_forgotten() || broker.hides_committed()) {
        verdict.violations.push(format!("LSO: stuck at {} of {}", broker.stable_offset(), broker.end_offset()));
    }
    verdict
}

fn judge_stream(
    topic: &[TailRecord],
    (journal, stream): (&Journal, &Stream),
    (is_reported, is_plain): (bool, bool),
) -> Vec<String> {
    let mut violations = journal.violations.clone();
    let (lost, doubled) = balance(topic, &stream.feed, if is_reported { 0 } else { stream.covered_from_us });
    if !is_reported {
        violations.extend(lost);
        order(topic, &mut violations);
    }
    let few = match (is_reported, is_plain) {
        (false, _) => 0,
        (true, true) => DOUBLED_FEW,
        (true, false) => i64::MAX,
    };
    if doubled > few {
        violations.push(format!("I2: {doubled} messages too many"));
    }
    single_writer(topic, &mut violations);
    if let (count, Some(first)) = journal.released_early
        && !is_reported
    {
        violations.push(format!("I8: {count} frames released before their commit, first {first:?}"));
    }
    violations
}

/// I1 and I2: every payload is in the topic as often as the feed sent it.
fn balance(topic: &[TailRecord], feed: &[Message], covered_from_us: u64) -> (Option<String>, i64) {
    let mut balance: HashMap<Fingerprint, i64> = HashMap::new();
    for message in feed.iter().filter(|message| message.sent_us >= covered_from_us) {
        *balance.entry(message.fingerprint).or_default() += 1;
    }
    for record in topic {
        *balance.entry(record.fingerprint).or_default() -= 1;
    }
    let lost: i64 = balance.values().filter(|rest| **rest > 0).sum();
    let doubled: i64 = balance.values().filter(|rest| **rest < 0).sum();
    let lost = (lost > 0).then(|| {
        let is_lost = |message: &&Message| balance.get(&message.fingerprint).is_some_and(|rest| *rest > 0);
        let sent_us = feed.iter().find(is_lost).map_or(0, |message| message.sent_us);
        format!("I1: {lost} messages lost, the first sent about {} ms", sent_us / 1_000)
    });
    (lost, -doubled)
}

/// I4: epochs never decrease along the log, and each is dense from 1.
fn single_writer(topic: &[TailRecord], violations: &mut Vec<String>) {
    let mut last = RecordId { epoch: 0, sequence: 0 };
    for record in topic {
        let RecordId { epoch, sequence } = record.id;
        let is_next = epoch == last.epoch && sequence == last.sequence + 1;
        let is_first = epoch > last.epoch && sequence == 1;
        if !is_next && !is_first {
            violations.push(format!("I4: {:?} follows {last:?}", record.id));
            return;
        }
        last = record.id;
    }
}

/// I3: the records of a subscription are in the order of its frames, each frame at most once.
fn order(topic: &[TailRecord], violations: &mut Vec<String>) {
    let mut last: HashMap<SubscriptionId, u64> = HashMap::new();
    for TailRecord { subscription, index, .. } in topic {
        let before = last.insert(*subscription, *index).unwrap_or(0);
        if *index <= before {
            violations.push(format!("I3: frame {index} of {subscription:?} follows {before}"));
            return;
        }
    }
}
