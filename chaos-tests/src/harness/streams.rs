//! Which streams wrote a topic, by the records' own stamps, read as any consumer would. The one place that knows where the
//! stamp has the stream; what a stream lacks is the verifier's to say.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Result;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::{BorrowedMessage, Headers as _},
};

/// Header of every record, see docs/records.md.
const HEADER_KEY: &str = "tf";
/// The first version of the header that names the stream, and where in it.
const STREAM_SINCE_VERSION: u8 = 2;
const STREAM_AT: std::ops::Range<usize> = 61..69;
const READ_MAX: Duration = Duration::from_secs(60);

/// A connector's identity in its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(u64);

impl StreamId {
    /// Reads it from a header; None where the record does not say whose it is.
    fn of_stamp(stamp: &[u8]) -> Option<Self> {
        let named = stamp.first().is_some_and(|version| *version >= STREAM_SINCE_VERSION).then_some(stamp)?;
        Some(Self(u64::from_be_bytes(named.get(STREAM_AT)?.try_into().ok()?)))
    }

    fn of(message: &BorrowedMessage<'_>) -> Option<Self> {
        let stamped = message.headers()?.iter().find(|header| header.key == HEADER_KEY)?;
        Self::of_stamp(stamped.value?)
    }

    /// As `twinfeed verify --stream` wants it.
    pub fn argument(self) -> String {
        format!("{:016x}", self.0)
    }
}

/// Committed records of partition 0 by their stream; None counts those that name none.
pub fn streams(bootstrap: &str, topic: &str) -> Result<BTreeMap<Option<StreamId>, u64>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "twinfeed-chaos-streams")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Beginning)?;
    consumer.assign(&assignment)?;
    let (mut counts, until) = (BTreeMap::new(), Instant::now() + READ_MAX);
    while Instant::now() < until {
        match consumer.poll(Duration::from_millis(500)) {
            Some(Ok(message)) => *counts.entry(StreamId::of(&message)).or_insert(0) += 1,
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(counts),
            // A broker that is busy is asked again.
            Some(Err(_)) | None => {}
        }
    }
    anyhow::bail!("{topic} could not be read to its end within {READ_MAX:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_read_where_the_version_has_one() {
        let mut stamp = vec![0; 82];
        stamp[61..69].copy_from_slice(&0x0102_0304_0506_0708_u64.to_be_bytes());
        stamp[0] = 1;
        assert_eq!(StreamId::of_stamp(&stamp[..61]), None);
        assert_eq!(StreamId::of_stamp(&stamp), None);
        stamp[0] = 2;
        assert_eq!(StreamId::of_stamp(&stamp).map(StreamId::argument).as_deref(), Some("0102030405060708"));
        assert_eq!(StreamId::of_stamp(&stamp[..65]), None);
    }
}
