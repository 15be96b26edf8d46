//! Records and batches that are large, and what a topic refuses as it is: known before anything is sent, as far as Kafka
//! tells it, and never endless.

use bytes::Bytes;
use twinfeed_node::kafka::{Error, FencedProducer, Options, OutRecord, Retry, TailReader, Target, ensure_topic};

use crate::support::{
    STREAM, Steady, alter, creation, new_topic, open, options, read_committed, records, sequences, topic_with, unique,
};

fn large(epoch: u64, first: u64, sizes: &[usize]) -> Vec<OutRecord> {
    let payloads = sizes.iter().map(|bytes| Bytes::from(vec![b'x'; *bytes]));
    records(epoch, first, sizes.len() as u64)
        .into_iter()
        .zip(payloads)
        .map(|(record, payload)| OutRecord { payload, ..record })
        .collect()
}

/// A connector's options whose frames may be this large.
fn frames_of(bytes: usize) -> Options {
    Options { message_bytes_max: bytes, ..options() }
}

async fn open_with(options: &Options, id: &str, target: &Target) -> Result<FencedProducer, Error> {
    ensure_topic(options, &target.topic, &creation(false)).await?;
    FencedProducer::warm(options, id, target)?.open().await
}

#[tokio::test]
async fn a_record_too_large_for_the_topic_costs_no_reopening() {
    for (limit, oversize) in [("1048588", 3_000_000), ("20000", 30_000)] {
        let target = topic_with("oversize", &[("max.message.bytes", limit)]).await.expect("a topic");
        let mut producer = open_with(&frames_of(4 << 20), &unique("writer"), &target).await.expect("open");
        let limit: usize = limit.parse().expect("a number");
        let largest = producer.record_bytes_max();
        assert!(largest < limit && largest > limit - 400, "{largest} of {limit}");
        let refused = producer.write(large(3, 1, &[200, 200, oversize])).await.expect_err("too large for the topic");
        assert!(matches!(&refused, Error::Rejected { record: Some((STREAM, 3)), .. }), "{refused}");
        producer.write(large(3, 1, &[200, largest])).await.expect("nothing was begun for the refused batch");
        assert_eq!(sequences(&read_committed(&target.topic)), [1, 2]);
    }
}

#[tokio::test]
async fn a_frame_of_three_megabytes_is_written_and_read_back_where_the_topic_takes_it() {
    let target = topic_with("frames", &[("max.message.bytes", "4200000")]).await.expect("a topic");
    let options = frames_of(4 << 20);
    let mut producer = open_with(&options, &unique("writer"), &target).await.expect("open");
    let written = producer.write(large(1, 1, &[3_000_000, 200, producer.record_bytes_max(), 3_500_000])).await;
    written.expect("each fits");
    let tail = TailReader::warm(&options, &target).expect("warm").read(&[(0, 0)]).await.expect("tail");
    assert_eq!(tail.records.iter().map(|record| record.sequence).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

/// Kafka refuses a batch above the topic's limit though each of its records fits.
#[tokio::test]
async fn many_records_that_fit_a_topic_one_by_one_fit_it_together() {
    let target = new_topic("many").await;
    let mut producer = open_with(&frames_of(4 << 20), &unique("writer"), &target).await.expect("open");
    producer.write(large(1, 1, &[600_000; 12])).await.expect("two of them are more than the topic's 1 MB");
    assert_eq!(read_committed(&target.topic).len(), 12);
    let target = topic_with("narrow", &[("max.message.bytes", "5000")]).await.expect("a topic");
    let mut options = options();
    options.properties.insert("batch.size".to_owned(), "8000000".to_owned());
    let mut producer = open_with(&options, &unique("writer"), &target).await.expect("open");
    producer.write(records(1, 1, 2_000)).await.expect("all of them are 400 kB");
    assert_eq!(sequences(&read_committed(&target.topic)), (1..=2_000).collect::<Vec<_>>());
}

/// The limit was lowered after the opening, or may not be asked for: smaller batches are tried, and no record is blamed for
/// the size of its batch.
#[tokio::test]
async fn a_limit_that_is_not_known_ends_in_smaller_batches_and_costs_no_record() {
    let target = topic_with("lowered", &[("max.message.bytes", "1048588")]).await.expect("a topic");
    let (options, id) = (options(), unique("writer"));
    let mut producer = open_with(&options, &id, &target).await.expect("open");
    alter(&target, "max.message.bytes", "100000").await;
    let mut batch = large(1, 1, &[200; 4_000]);
    batch[1_234].payload = Bytes::from(vec![b'x'; 150_000]);
    let (mut openings, mut left_out) = (0, Vec::new());
    loop {
        match producer.write(batch.clone()).await {
            Ok(_) => break,
            Err(Error::Aborted { .. }) => {}
            Err(Error::Rejected { record: Some((_, sequence)), .. }) => {
                left_out.push(sequence);
                batch.retain(|record| record.sequence != sequence);
            }
            Err(error) => panic!("{error}"),
        }
        openings += 1;
        assert!(openings <= 8, "1 MB halves to 62 kB within five openings");
        // The topic's configuration is not asked for: what was learned by trying has to do.
        producer = FencedProducer::warm(&options, &id, &target).expect("warm").open().await.expect("open");
    }
    assert_eq!(left_out, [1_235]);
    assert_eq!(read_committed(&target.topic).len(), 3_999);
}

#[tokio::test]
async fn a_compacted_topic_is_refused_when_it_is_looked_at() {
    for policy in ["compact", "compact,delete"] {
        let refused = topic_with("compacted", &[("cleanup.policy", policy)]).await.expect_err("it takes no record");
        assert!(
            matches!(&refused, Error::Rejected { what, why, record: None } if what.contains("compacted-")
            && why.contains("cleanup.policy=delete")),
            "{refused}"
        );
        assert_eq!(refused.retry(), Retry::Never);
    }
}

/// Compacted since, or nobody may ask for its configuration.
#[tokio::test]
async fn records_that_a_topic_refuses_for_ever_are_a_refusal_and_no_trouble() {
    for count in [1, 5] {
        let target = new_topic("compacted-later").await;
        let id = unique("writer");
        let mut producer = open(&id, &target).await;
        alter(&target, "cleanup.policy", "compact").await;
        let refused = producer.write(records(1, 1, count)).await.expect_err("no key");
        assert!(
            matches!(&refused, Error::Rejected { record: None, why, .. } if why.contains("compacted")),
            "{refused}"
        );
        assert_eq!(refused.retry(), Retry::Never);
        let again = open_with(&options(), &id, &target).await.expect_err("it can never work");
        assert_eq!(again.retry(), Retry::Never);
    }
}

#[tokio::test]
async fn a_timestamp_that_kafka_refuses_is_trouble_and_no_refusal() {
    for count in [1, 5] {
        let target = new_topic("ahead").await;
        let id = unique("writer");
        let mut producer = open(&id, &target).await;
        let mut batch = records(1, 1, count);
        batch.iter_mut().for_each(|record| record.timestamp_ms = 4_000_000_000_000);
        let refused = producer.write(batch).await.expect_err("a time far ahead");
        assert!(matches!(&refused, Error::InvalidRecords { .. }), "{refused}");
        assert_eq!(refused.retry(), Retry::Backoff);
        Steady::open(&Target::new(&target.topic, STREAM)).await.write(records(1, 1, count)).await;
        assert_eq!(read_committed(&target.topic).len(), count as usize);
    }
}
