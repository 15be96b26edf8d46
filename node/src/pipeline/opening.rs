//! Becoming the writer of a topic: the takeover sequence of DESIGN §6, in its exact order.
//!
//! 1. `init_transactions`: from here on every earlier producer of this `transactional.id` is fenced, and its open
//!    transaction is either committed or aborted with its markers written. (A marker that Kafka has forgotten leaves records
//!    open that the tail does not show; the first write undoes them before it commits: `kafka::markers`.)
//! 2. Only then the linearizable check that the assignment still holds. Kafka fences by "last init wins", not by
//!    "highest epoch wins". Suppose an old owner N1 (epoch 1) could commit after N2 (epoch 2 > 1) had: then N1's init
//!    came after N2's init, hence after epoch 2 was committed in Raft, and N1's check, which comes after N1's init, sees
//!    epoch 2 and fails. With the check before the init this argument breaks.
//! 3. Only then the tail of the topic, `read_committed`: after step 1 nobody else can add to it, so it is complete.
//!
//! A pause between 2 and the first produce is harmless: whoever became the owner meanwhile did its own step 1.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use twinfeed_dedup::{Fingerprint, RecordId, SubscriptionId, TailRecord};

use crate::{
    faults::{self, Bug, Point},
    kafka,
    model::ids::{Epoch, WriterId},
};

/// Kafka partition -> offset after the last record known.
pub(super) type Offsets = BTreeMap<i32, i64>;

/// Why the assignment could not be confirmed; the text says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfirmError(pub String);

/// Linearizable: is this node still the owner of this writer at this epoch?
pub type Confirm =
    Arc<dyn Fn(WriterId, Epoch) -> Pin<Box<dyn Future<Output = Result<bool, ConfirmError>> + Send>> + Send + Sync>;

/// Records read back when a takeover has no acked offsets to start from: a best effort, as such a standby was never
/// redundant, but it keeps most of the overlap from being written twice.
const RECENT_RECORDS: i64 = 10_000;
/// Offsets looked back at where no record matters but the time of the last one: commit markers take offsets, and so do
/// the records of the transaction that died with its owner, up to 10,000.
const LAST_OFFSETS: i64 = 20_000;

/// Bounds a whole opening; what hangs longer is tried again from the start.
const OPENING_TIMEOUT: Duration = Duration::from_secs(30);

/// Where the tail begins.
#[derive(Debug, Clone)]
pub(super) enum TailFrom {
    /// Nothing that this node holds can be in the topic.
    End,
    /// From these acked offsets; partitions not named are read from their last records.
    Offsets(Offsets),
    /// Nothing was acked: the last records.
    Recent,
}

/// A producer that may write, and what is in the topic already.
pub(super) struct Opened {
    pub(super) producer: kafka::FencedProducer,
    pub(super) tail: Vec<TailRecord>,
    pub(super) offsets: Offsets,
    /// When the last message that is in the topic was read off the wire; None when there is none.
    pub(super) last_received_at_ms: Option<u64>,
}

/// Why the writer may not write now.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the assignment has moved on: epoch {0} is not this node's any more")]
    NotOwner(Epoch),
    #[error("the assignment could not be confirmed: {0}")]
    Unconfirmed(#[source] ConfirmError),
    #[error(transparent)]
    Kafka(#[from] kafka::Error),
    #[error("opening the producer took longer than {} s; it is tried again", OPENING_TIMEOUT.as_secs())]
    TimedOut,
}

/// Everything an opening needs.
pub(super) struct Plan {
    pub(super) writer: WriterId,
    pub(super) epoch: Epoch,
    pub(super) kafka: kafka::Options,
    pub(super) transactional_id: String,
    pub(super) target: kafka::Target,
    pub(super) creation: kafka::TopicCreation,
    pub(super) tail_from: TailFrom,
    /// Nothing can be missing, so nobody asks when the last record was read.
    pub(super) redundant: bool,
    pub(super) confirm: Confirm,
    /// Pre-connected by the standby, if there was time.
    pub(super) warm: Option<Warm>,
    /// Ask for the assignment before the init as well. Not for safety (only the check after the init gives that) but
    /// for peace: a zombie that wakes up would otherwise fence the rightful owner once, by its init alone.
    pub(super) ask_first: bool,
}

/// Pre-connected clients of a standby: nothing initialised, nobody fenced.
pub(super) struct Warm {
    pub(super) producer: kafka::Warm,
    pub(super) tail: kafka::TailReader,
}

impl Warm {
    /// Connects in the background; an unreachable Kafka shows when the producer is opened.
    pub(super) fn connect(
        kafka: &kafka::Options,
        transactional_id: &str,
        target: &kafka::Target,
    ) -> Result<Self, kafka::Error> {
        let producer = kafka::FencedProducer::warm(kafka, transactional_id, target)?;
        let tail = kafka::TailReader::warm(kafka, target)?;
        Ok(Self { producer, tail })
    }

    /// Whether the producer reached Kafka when it was last tried.
    pub(super) fn is_connected(&self) -> bool {
        self.producer.is_connected()
    }
}

/// Runs the takeover sequence.
pub(super) async fn open(plan: Plan) -> Result<Opened, Error> {
    tokio::time::timeout(OPENING_TIMEOUT, sequence(plan)).await.map_err(|_| Error::TimedOut)?
}

async fn sequence(plan: Plan) -> Result<Opened, Error> {
    let checked_before = faults::bug(Bug::CheckBeforeInit);
    if (plan.ask_first || checked_before)
        && !(plan.confirm)(plan.writer.clone(), plan.epoch).await.map_err(Error::Unconfirmed)?
    {
        return Err(Error::NotOwner(plan.epoch));
    }
    let Warm { producer, tail } = match plan.warm {
        Some(warm) => warm,
        None => {
            find_topic(&plan).await?;
            Warm::connect(&plan.kafka, &plan.transactional_id, &plan.target)?
        }
    };
    faults::pass(Point::OpeningBeforeInit).await;
    let producer = producer.open().await?;
    faults::pass(Point::OpeningAfterInit).await;
    let confirmed = if checked_before { Ok(true) } else { (plan.confirm)(plan.writer, plan.epoch).await };
    match confirmed {
        Ok(true) => {}
        Ok(false) => {
            producer.close();
            return Err(Error::NotOwner(plan.epoch));
        }
        Err(error) => {
            producer.close();
            return Err(Error::Unconfirmed(error));
        }
    }
    faults::pass(Point::OpeningAfterCheck).await;
    let mut offsets: Offsets = tail.end_offsets().await?.into_iter().collect();
    let Reads { unknown_from, from } = Reads::plan(&plan.tail_from, plan.redundant, &offsets);
    if from.is_empty() {
        return Ok(Opened { producer, tail: Vec::new(), offsets, last_received_at_ms: None });
    }
    let read = tail.read(&from).await?;
    offsets.extend(read.next_offsets);
    if read.truncated || read.epoch_max > plan.epoch.0 {
        tracing::error!(
            writer = %plan.transactional_id, epoch = %plan.epoch, epoch_max = read.epoch_max,
            truncated = read.truncated, "writer.tail_incomplete"
        );
    }
    faults::pass(Point::OpeningAfterTail).await;
    let last_received_at_ms = (read.received_at_ns_max > 0).then_some(read.received_at_ns_max / 1_000_000);
    // Earlier ones must not be matched: a repeat would be taken for one of them.
    let is_unknown = |record: &kafka::TailRecord| unknown_from.get(&record.partition) <= Some(&record.offset);
    let tail = read.records.into_iter().filter(is_unknown).map(tail_record).collect();
    Ok(Opened { producer, tail, offsets, last_received_at_ms })
}

/// What is read of a topic.
#[derive(Debug, PartialEq, Eq)]
struct Reads {
    /// Per partition, from where on records may be among what this node holds.
    unknown_from: Offsets,
    /// Per partition with something to read, where reading begins.
    from: Vec<(i32, i64)>,
}

impl Reads {
    /// Where something can be missing, the time of the last record bounds the gap, however long ago it was: one that holds
    /// everything does not ask for it, as it costs a moment of silence.
    fn plan(tail_from: &TailFrom, redundant: bool, ends: &Offsets) -> Self {
        let recent = |end: i64| (end - RECENT_RECORDS).max(0);
        let first = |partition: i32, end: i64| match tail_from {
            TailFrom::End => end,
            TailFrom::Recent => recent(end),
            TailFrom::Offsets(acked) => acked.get(&partition).copied().unwrap_or(recent(end)),
        };
        let unknown_from: Offsets = ends.iter().map(|(&partition, &end)| (partition, first(partition, end))).collect();
        let begin = |start: i64, end: i64| if redundant { start } else { start.min((end - LAST_OFFSETS).max(0)) };
        let from = unknown_from.iter().map(|(&partition, &start)| (partition, begin(start, ends[&partition])));
        let from = from.filter(|(partition, start)| ends.get(partition) > Some(start)).collect();
        Self { unknown_from, from }
    }
}

/// Only a first start creates its topic. One that is gone later was deleted by somebody, who should hear of it.
async fn find_topic(plan: &Plan) -> Result<(), kafka::Error> {
    let written_before = matches!(&plan.tail_from, TailFrom::Offsets(known) if !known.is_empty());
    let creation = kafka::TopicCreation { create: plan.creation.create && !written_before, ..plan.creation.clone() };
    match kafka::ensure_topic(&plan.kafka, &plan.target.topic, &creation).await {
        Err(kafka::Error::TopicMissing { topic, .. }) if written_before => {
            Err(kafka::Error::TopicMissing { topic, why: "is gone, though this stream has written to it".to_owned() })
        }
        found => found.map(drop),
    }
}

fn tail_record(record: kafka::TailRecord) -> TailRecord {
    TailRecord {
        id: RecordId { epoch: record.epoch, sequence: record.sequence },
        fingerprint: Fingerprint::from_u128(record.fingerprint),
        subscription: SubscriptionId(record.subscription),
        index: record.index,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_takeover_reads_what_is_unknown_and_one_that_may_lack_something_the_last_record_as_well() {
        let ends = Offsets::from([(0, 50_000), (1, 7)]);
        let acked = |first, second| TailFrom::Offsets(Offsets::from([(0, first), (1, second)]));
        let plan = |tail_from, redundant| Reads::plan(&tail_from, redundant, &ends);
        assert_eq!(plan(acked(49_990, 7), true).from, [(0, 49_990)], "nothing was written to the other since");
        assert_eq!(plan(acked(50_000, 7), true).from, []);
        let lacking = plan(acked(50_000, 7), false);
        assert_eq!(lacking.from, [(0, 30_000), (1, 0)], "when was the last record read?");
        assert_eq!(lacking.unknown_from, ends, "and none of them is matched");
        assert_eq!(plan(acked(20_000, 7), false).from, [(0, 20_000), (1, 0)]);
        assert_eq!(plan(TailFrom::Recent, true).unknown_from, Offsets::from([(0, 40_000), (1, 0)]));
        let first_start = plan(TailFrom::End, false);
        assert_eq!((first_start.unknown_from, first_start.from), (ends.clone(), vec![(0, 30_000), (1, 0)]));
    }
}
