//! The verdict on a run: the promises, checked on the committed log by somebody who only knows what the feed sent.
//!
//! I1 no loss, I2 no repeat, I3 order and I8 honest ack (looked at during the run, in the world) are judged where the system itself
//! reported nothing: its reports say that messages may be missing and a few doubled. I4 single writer and the last stable offset
//! are judged always.

use std::collections::HashMap;

use twinfeed_dedup::{Fingerprint, RecordId, SubscriptionId, TailRecord};

use super::broker::Broker;
use super::feed::Message;
use super::journal::Journal;
use super::plan::Plan;

#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<String>,
    /// The system reported a possible loss, so I1 and I2 were not judged.
    pub(crate) is_reported: bool,
    pub(crate) is_rough: bool,
    pub(crate) records: u64,
    pub(crate) faults: u32,
    pub(crate) takeovers: u32,
    pub(crate) recoveries: u32,
    pub(crate) fenced: u32,
}

pub(crate) fn judge(
    plan: &Plan,
    broker: &Broker,
    journal: &Journal,
    feed: &[Message],
    covered_from_us: u64,
) -> Verdict {
    let topic: Vec<TailRecord> = broker.committed_from(0).copied().collect();
    let is_reported = !journal.reports.is_empty();
    let mut violations = journal.violations.clone();
    if !is_reported {
        balance(&topic, feed, covered_from_us, &mut violations);
        order(&topic, &mut violations);
    }
    single_writer(&topic, &mut violations);
    if let (count, Some(first)) = journal.released_early
        && !is_reported
    {
        violations.push(format!("I8: {count} frames released before their commit, first {first:?}"));
    }
    // Whose marker was forgotten is closed by its producer's next transaction, which need not come: no harm, as long as nothing
    // is to be read behind it.
    let is_stuck = broker.stable_offset() != broker.end_offset();
    if is_stuck && (!broker.has_forgotten() || broker.hides_committed()) {
        violations.push(format!("LSO: stuck at {} of {}", broker.stable_offset(), broker.end_offset()));
    }
    Verdict {
        violations,
        is_reported,
        is_rough: plan.rough,
        records: topic.len() as u64,
        faults: journal.faults,
        takeovers: journal.takeovers,
        recoveries: journal.recoveries,
        fenced: journal.fenced,
    }
}

/// I1 and I2: every payload is in the topic as often as the feed sent it.
fn balance(topic: &[TailRecord], feed: &[Message], covered_from_us: u64, violations: &mut Vec<String>) {
    let mut balance: HashMap<Fingerprint, i64> = HashMap::new();
    for message in feed.iter().filter(|message| message.sent_us >= covered_from_us) {
        *balance.entry(message.fingerprint).or_default() += 1;
    }
    for record in topic {
        *balance.entry(record.fingerprint).or_default() -= 1;
    }
    let lost: i64 = balance.values().filter(|rest| **rest > 0).sum();
    let doubled: i64 = balance.values().filter(|rest| **rest < 0).sum();
    if lost > 0 {
        violations.push(format!("I1: {lost} messages lost"));
    }
    if doubled < 0 {
        violations.push(format!("I2: {} messages too many", -doubled));
    }
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
