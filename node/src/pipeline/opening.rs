//! Becoming the writer of a topic: the takeover sequence (docs/adr/0001), in its exact order.
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

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use twinfeed_dedup::{Fingerprint, RecordId, SubscriptionId, TailRecord};
use twinfeed_writer::{InTopic, Offsets, OpenError, Plan, StreamPlan, TailFrom};

use super::{failure, options::Options};
use crate::{
    faults::{self, Bug, Point},
    kafka,
    model::ids::{Epoch, WriterId},
};

/// Why the assignment could not be confirmed; the text says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfirmError(pub String);

/// Linearizable: is this node still the owner of this writer at this epoch?
pub type Confirm =
    Arc<dyn Fn(WriterId, Epoch) -> Pin<Box<dyn Future<Output = Result<bool, ConfirmError>> + Send>> + Send + Sync>;

/// Records read back when a takeover holds frames that the acked offsets say nothing of: a best effort, as such a standby was
/// not redundant, but it keeps the overlap from being written twice.
const RECENT_RECORDS: usize = 10_000;
/// Bounds a whole opening; what hangs longer is tried again from the start.
const OPENING_TIMEOUT: Duration = Duration::from_secs(30);

/// A producer that may write, and what the writer has to know of it.
pub(super) struct Opened {
    pub(super) producer: kafka::FencedProducer,
    pub(super) facts: twinfeed_writer::Opened,
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

impl Error {
    /// As the writer understands it.
    pub(super) fn into_writers(self) -> OpenError {
        match self {
            Self::NotOwner(_) => OpenError::NotOwner,
            Self::Kafka(error) => OpenError::Kafka(failure::of(&error)),
            other @ (Self::Unconfirmed(_) | Self::TimedOut) => OpenError::Unconfirmed(other.to_string()),
        }
    }
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
pub(super) async fn open(options: Options, plan: Plan, warm: Option<Warm>) -> Result<Opened, Error> {
    tokio::time::timeout(OPENING_TIMEOUT, sequence(&options, plan, warm)).await.map_err(|_| Error::TimedOut)?
}

async fn sequence(options: &Options, plan: Plan, warm: Option<Warm>) -> Result<Opened, Error> {
    let confirm = || (options.confirm)(options.id.clone(), plan.epoch);
    let checked_before = faults::bug(Bug::CheckBeforeInit);
    if (plan.ask_first || checked_before) && !confirm().await.map_err(Error::Unconfirmed)? {
        return Err(Error::NotOwner(plan.epoch));
    }
    let place =
        options.openings.acquire(if plan.ask_first { kafka::Cause::Reopening } else { kafka::Cause::Takeover }).await;
    let Warm { producer, tail } = match warm {
        Some(warm) => warm,
        None => {
            find_topic(options, &plan).await?;
            Warm::connect(&options.kafka, &options.transactional_id, &options.target)?
        }
    };
    faults::pass(Point::OpeningBeforeInit).await;
    let producer = producer.open().await?;
    // Not while the tail is read: that may wait for transactions which only another opening ends.
    drop(place);
    faults::pass(Point::OpeningAfterInit).await;
    let confirmed = if checked_before { Ok(true) } else { confirm().await };
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
    let mut streams = Vec::with_capacity(plan.streams.len());
    for stream in &plan.streams {
        let found = found(&tail, stream, (options, plan.epoch), producer.record_bytes_max()).await?;
        streams.push((stream.stream, found));
    }
    faults::pass(Point::OpeningAfterTail).await;
    Ok(Opened { producer, facts: twinfeed_writer::Opened { streams } })
}

/// What the topic holds of a stream, as far as its plan asks.
async fn found(
    tail: &kafka::TailReader,
    plan: &StreamPlan,
    (options, epoch): (&Options, Epoch),
    payload_bytes_max: usize,
) -> Result<InTopic, kafka::Error> {
    let mut offsets: Offsets = tail.end_offsets().await?.into_iter().collect();
    let read = match Unknown::of(&plan.tail_from, &offsets) {
        Unknown::Nothing => kafka::Tail::default(),
        Unknown::From(from) => tail.read(&from).await?,
        Unknown::Last => tail.read_last(RECENT_RECORDS).await?,
    };
    // Where something can be missing, the time of the last record bounds the gap, however long ago it was. One that holds
    // everything does not ask for it, as it costs a moment of silence.
    let last_received_at_ns = match read.received_at_ns_max {
        0 if !plan.redundant => tail.read_last(1).await?.received_at_ns_max,
        known => known,
    };
    offsets.extend(read.next_offsets);
    if read.truncated || read.epoch_max > epoch.0 {
        let (epoch_max, truncated) = (read.epoch_max, read.truncated);
        tracing::error!(writer = %options.id, %epoch, epoch_max, truncated, "writer.tail_incomplete");
    }
    Ok(InTopic {
        tail: read.records.into_iter().map(|record| tail_record(record, &plan.tail_from)).collect(),
        offsets,
        last_received_at_ms: (last_received_at_ns > 0).then_some(last_received_at_ns / 1_000_000),
        payload_bytes_max,
    })
}

/// Which records of the stream may be among what this node holds. Earlier ones must not be matched: a repeat would be taken for
/// one of them.
#[derive(Debug, PartialEq, Eq)]
enum Unknown {
    Nothing,
    /// Those from these offsets on.
    From(Vec<(i32, i64)>),
    /// The last ones.
    Last,
}

impl Unknown {
    fn of(tail_from: &TailFrom, ends: &Offsets) -> Self {
        let acked = match tail_from {
            TailFrom::End => return Self::Nothing,
            TailFrom::Recent(_) => return Self::Last,
            TailFrom::Offsets(acked) => acked,
        };
        let from: Option<Vec<_>> =
            ends.iter().map(|(partition, end)| Some((*partition, *acked.get(partition)?, *end))).collect();
        let Some(from) = from else { return Self::Last };
        let from: Vec<_> =
            from.into_iter().filter(|(_, start, end)| start < end).map(|(p, start, _)| (p, start)).collect();
        if from.is_empty() { Self::Nothing } else { Self::From(from) }
    }
}

/// Only a first start creates its topic. One that is gone later was deleted by somebody, who should hear of it.
async fn find_topic(options: &Options, plan: &Plan) -> Result<(), kafka::Error> {
    let has_written = |stream: &StreamPlan| match &stream.tail_from {
        TailFrom::Offsets(known) | TailFrom::Recent(known) => !known.is_empty(),
        TailFrom::End => false,
    };
    let written_before = plan.streams.iter().any(has_written);
    let creation =
        kafka::TopicCreation { create: options.creation.create && !written_before, ..options.creation.clone() };
    match kafka::ensure_topic(&options.kafka, &options.target.topic, &creation).await {
        Err(kafka::Error::TopicMissing { topic, .. }) if written_before => {
            Err(kafka::Error::TopicMissing { topic, why: "is gone, though this stream has written to it".to_owned() })
        }
        found => found.map(drop),
    }
}

fn tail_record(record: kafka::TailRecord, tail_from: &TailFrom) -> TailRecord {
    TailRecord {
        id: RecordId { epoch: record.epoch, sequence: record.sequence },
        fingerprint: Fingerprint::from_u128(record.fingerprint),
        subscription: SubscriptionId(record.subscription),
        index: record.index,
        acknowledged: tail_from.is_acknowledged(record.partition, record.offset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_takeover_reads_what_is_unknown_to_it_and_nothing_else() {
        let ends = Offsets::from([(0, 50_000), (1, 7)]);
        let acked = |first, second| Unknown::of(&TailFrom::Offsets(Offsets::from([(0, first), (1, second)])), &ends);
        assert_eq!(acked(49_990, 7), Unknown::From(vec![(0, 49_990)]), "nothing was written to the other since");
        assert_eq!(acked(50_000, 7), Unknown::Nothing);
        let half = TailFrom::Offsets(Offsets::from([(0, 50_000)]));
        assert_eq!(Unknown::of(&half, &ends), Unknown::Last, "nothing is known of the other");
        assert_eq!(Unknown::of(&TailFrom::Recent(Offsets::from([(0, 50_000), (1, 7)])), &ends), Unknown::Last);
        assert_eq!(Unknown::of(&TailFrom::End, &ends), Unknown::Nothing);
    }
}
