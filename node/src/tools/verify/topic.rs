//! Reads a topic from its beginning as any consumer would: read_committed, no group, independent of the node's own
//! client settings. Broker restarts are part of what it watches: errors that pass are waited out.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{Consumer as _, StreamConsumer},
    error::KafkaError,
    message::{BorrowedMessage, Headers as _},
};
use tokio::time::{Instant, sleep, timeout};

use super::{Error, order::Provenance};
use crate::kafka::record::{HEADER_KEY, Stamp};

/// How long a step of the metadata lookup may block.
const METADATA_STEP: Duration = Duration::from_millis(500);

/// A reader of all partitions of a topic, or of one.
pub(super) struct TopicReader {
    consumer: Arc<StreamConsumer>,
    partitions: BTreeSet<i32>,
    /// Partitions read up to what was their end at that moment.
    at_end: BTreeSet<i32>,
}

impl TopicReader {
    /// Waits for the topic to exist, then reads it from its beginning.
    pub(super) async fn open(bootstrap: &str, topic: &str, only: Option<i32>, wait: Duration) -> Result<Self, Error> {
        let consumer: StreamConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "twinfeed-verify")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true")
            .set("allow.auto.create.topics", "false")
            // Arrival times are measured: nothing may wait to be gathered, and a lost broker is retried quickly.
            .set("fetch.wait.max.ms", "10")
            .set("fetch.error.backoff.ms", "10")
            .set("reconnect.backoff.max.ms", "200")
            .create()?;
        let consumer = Arc::new(consumer);
        let deadline = Instant::now() + wait;
        let partitions = loop {
            let partitions = partitions(&consumer, topic).await;
            if !partitions.is_empty() {
                break partitions;
            }
            if Instant::now() >= deadline {
                return Err(Error::NoTopic { topic: topic.to_owned(), bootstrap: bootstrap.to_owned() });
            }
            sleep(Duration::from_millis(50)).await;
        };
        let partitions: BTreeSet<i32> = partitions.into_iter().filter(|p| only.is_none_or(|o| o == *p)).collect();
        let mut assignment = TopicPartitionList::new();
        for partition in &partitions {
            assignment.add_partition_offset(topic, *partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        Ok(Self { consumer, partitions, at_end: BTreeSet::new() })
    }

    /// The next record; None if there is none within `wait`.
    pub(super) async fn next(&mut self, wait: Duration) -> Option<BorrowedMessage<'_>> {
        match timeout(wait, self.consumer.recv()).await {
            Ok(Ok(message)) => {
                self.at_end.remove(&message.partition());
                Some(message)
            }
            Ok(Err(KafkaError::PartitionEOF(partition))) => {
                self.at_end.insert(partition);
                None
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "waiting for the broker");
                None
            }
            Err(_) => None,
        }
    }

    /// Everything that was in the topic a moment ago has been read.
    pub(super) fn is_at_end(&self) -> bool {
        self.at_end.len() == self.partitions.len()
    }
}

async fn partitions(consumer: &Arc<StreamConsumer>, topic: &str) -> BTreeSet<i32> {
    // Asking for all topics never creates one, whatever the broker's settings. The call blocks its thread.
    let consumer = Arc::clone(consumer);
    let fetched = tokio::task::spawn_blocking(move || consumer.fetch_metadata(None, METADATA_STEP)).await;
    let Ok(Ok(metadata)) = fetched else { return BTreeSet::new() };
    let found = metadata.topics().iter().find(|known| known.name() == topic && known.error().is_none());
    found.map(|found| found.partitions().iter().map(|partition| partition.id()).collect()).unwrap_or_default()
}

/// Where a record came from. The one place that knows how records are stamped.
pub(super) fn provenance(message: &BorrowedMessage<'_>) -> Option<Provenance> {
    let stamped = message.headers()?.iter().find(|header| header.key == HEADER_KEY)?;
    let Stamp { stream, epoch, sequence, accounts_from, sub_index, subscription, index, .. } =
        Stamp::decode(stamped.value?)?;
    Some(Provenance { stream, epoch, sequence, accounts_from, sub_index, subscription, index })
}
