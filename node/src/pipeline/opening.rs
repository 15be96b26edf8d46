//! Becoming the writer of a topic: the takeover sequence of DESIGN §6, in its exact order.
//!
//! 1. `init_transactions`: from here on every earlier producer of this `transactional.id` is fenced, and its open
//!    transaction is either committed or aborted with its markers written.
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
        let tail = kafka::TailReader::warm(kafka, &target.topic)?;
        Ok(Self { producer, tail })
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
    let back = |end: i64, by: i64| (end - by).max(0);
    let recent = |end: i64| back(end, RECENT_RECORDS);
    let from: Vec<(i32, i64)> = match &plan.tail_from {
        TailFrom::End => offsets.iter().map(|(&p, &end)| (p, back(end, LAST_OFFSETS))).collect(),
        TailFrom::Recent => offsets.iter().map(|(&p, &end)| (p, recent(end))).collect(),
        TailFrom::Offsets(acked) => {
            offsets.iter().map(|(&p, &end)| (p, acked.get(&p).copied().unwrap_or(recent(end)))).collect()
        }
    };
    let from: Vec<(i32, i64)> = from.into_iter().filter(|(p, start)| offsets.get(p) > Some(start)).collect();
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
    let records = match &plan.tail_from {
        // Nothing of them can be among what this node holds.
        TailFrom::End => Vec::new(),
        TailFrom::Recent | TailFrom::Offsets(_) => read.records,
    };
    let tail = records.into_iter().map(tail_record).collect();
    Ok(Opened { producer, tail, offsets, last_received_at_ms })
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
