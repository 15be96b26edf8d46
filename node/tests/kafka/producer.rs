//! Commits, fencing and takeover.

use std::{collections::BTreeSet, time::Instant};

use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use twinfeed_chaos::broker::Broker;
use twinfeed_node::kafka::{Error, FencedProducer, Options, Retry, Target};

use crate::support::{STREAM, Steady, new_topic, open, options, read, read_committed, records, sequences, unique};

#[tokio::test]
async fn a_commit_is_visible_with_headers_timestamp_and_order() {
    let target = new_topic("commit").await;
    let mut writer = Steady::open(&target).await;
    let first = writer.write(records(5, 1, 50)).await;
    let second = writer.write(records(5, 51, 1)).await;
    assert_eq!((first.records, first.next_offsets.as_slice()), (50, &[(0, 50)][..]));
    // One commit marker in between.
    assert_eq!(second.next_offsets, [(0, 52)]);

    let seen = read_committed(&target.topic);
    assert_eq!(sequences(&seen), (1..=51).collect::<Vec<_>>());
    for (record, written) in seen.iter().zip(records(5, 1, 51)) {
        let stamp = record.stamp.expect("a header");
        assert_eq!((stamp.epoch, stamp.fingerprint), (5, written.fingerprint));
        assert_eq!((stamp.subscription, stamp.index), (7, written.index));
        assert_eq!(stamp.received_at_ns, written.received_at_ns);
        assert_eq!(record.timestamp_ms, Some(1_700_000_000_123));
        assert_eq!(record.key, None);
        assert_eq!(record.payload, written.payload);
    }
}

#[tokio::test]
async fn nothing_to_write_is_no_transaction() {
    let target = new_topic("empty").await;
    let mut producer = open(&unique("writer"), &target).await;
    assert_eq!(producer.write(Vec::new()).await.expect("an empty write").next_offsets, []);
    assert_eq!(producer.write(records(1, 1, 1)).await.expect("a write").next_offsets, [(0, 1)]);
}

#[tokio::test]
async fn takeover_of_an_idle_producer_fences_the_zombie_for_good() {
    let target = new_topic("idle").await;
    let mut zombie = Steady::open(&target).await;
    let warm = FencedProducer::warm(&options(), &zombie.id, &target).expect("warm");
    for first in (1..=191).step_by(10) {
        zombie.write(records(1, first, 10)).await;
    }
    let mut zombie = zombie.producer;

    let began = Instant::now();
    let mut owner = warm.open().await.expect("takeover");
    println!("takeover of an idle producer, pre-connected: {:.1} ms", began.elapsed().as_secs_f64() * 1e3);

    owner.write(records(2, 1, 10)).await.expect("write of the new owner");
    let refused = zombie.write(records(1, 201, 10)).await.expect_err("a zombie wrote");
    assert!(matches!(refused, Error::Fenced { .. }), "{refused}");
    assert_eq!(refused.retry(), Retry::Fenced);
    let closed = zombie.write(records(1, 211, 1)).await.expect_err("a fenced producer opened itself again");
    assert!(matches!(closed, Error::Closed), "{closed}");

    owner.write(records(2, 11, 1)).await.expect("the owner is undisturbed");
    let epochs: Vec<u64> = read_committed(&target.topic).iter().map(|r| r.stamp.expect("a header").epoch).collect();
    assert_eq!(epochs, [vec![1; 200], vec![2; 11]].concat());
}

/// A predecessor that died within a transaction: its records are in the log, without a commit.
fn leave_a_transaction_open(id: &str, target: &Target) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", Broker::shared().bootstrap())
        .set("transactional.id", id)
        .set("transaction.timeout.ms", "60000")
        .create()
        .expect("a producer");
    let patience = std::time::Duration::from_secs(10);
    producer.init_transactions(patience).expect("init");
    producer.begin_transaction().expect("begin");
    for _ in 0..10 {
        let record = BaseRecord::<(), str>::to(&target.topic).payload("open").partition(target.partition);
        producer.send(record).map_err(|(e, _)| e).expect("send");
    }
    producer.flush(patience).expect("flush");
    producer
}

#[tokio::test]
async fn takeover_of_an_open_transaction_hides_its_records() {
    let target = new_topic("open").await;
    let mut took_ms = Vec::new();
    for round in 1..=5_u64 {
        let id = unique("writer");
        let warm = FencedProducer::warm(&options(), &id, &target).expect("warm");
        let zombie = leave_a_transaction_open(&id, &target);
        let began = Instant::now();
        let mut owner = warm.open().await.expect("takeover");
        took_ms.push(began.elapsed().as_secs_f64() * 1e3);
        owner.write(records(round, 1, 10)).await.expect("write of the new owner");
        assert!(zombie.commit_transaction(std::time::Duration::from_secs(10)).is_err(), "a zombie committed");
        owner.write(records(round, 11, 1)).await.expect("the owner is undisturbed");
    }
    println!("takeover of an open transaction, pre-connected, ms: {took_ms:.1?}");
    assert_eq!(read_committed(&target.topic).iter().filter(|r| r.payload == b"open").count(), 0);
    let raw = read(Broker::shared().bootstrap(), &target.topic, "read_uncommitted");
    assert_eq!(raw.iter().filter(|r| r.payload == b"open").count(), 50, "the open records never reached the broker");
    assert_eq!(read_committed(&target.topic).len(), 5 * 11);
}

#[tokio::test]
async fn the_last_opener_wins_whatever_its_epoch() {
    let target = new_topic("last").await;
    let id = unique("writer");
    let mut high = open(&id, &target).await;
    let mut low = open(&id, &target).await;
    low.write(records(1, 1, 1)).await.expect("fencing looks at who opened last");
    assert!(matches!(high.write(records(9, 1, 1)).await, Err(Error::Fenced { .. })));
}

#[tokio::test]
async fn a_missing_topic_is_named_when_the_producer_is_opened() {
    let target = Target::new(unique("never-created"), STREAM);
    let warm = FencedProducer::warm(&options(), &unique("writer"), &target).expect("warm");
    let missing = warm.open().await.expect_err("no such topic");
    assert!(matches!(&missing, Error::TopicMissing { topic, .. } if *topic == target.topic), "{missing}");
}

#[tokio::test]
async fn an_unreachable_broker_is_an_error_within_its_deadline() {
    let mut options = Options::new(options().cluster, "127.0.0.1:1");
    options.open_ms_max = 700;
    let warm = FencedProducer::warm(&options, &unique("writer"), &Target::new("any", STREAM)).expect("warm");
    let waited = tokio::time::timeout(std::time::Duration::from_secs(10), warm.open()).await.expect("a bounded wait");
    let unreachable = waited.expect_err("nobody listens on port 1");
    assert!(matches!(&unreachable, Error::Unreachable { .. }), "{unreachable}");
    assert_eq!(unreachable.retry(), Retry::Backoff);
}

#[tokio::test]
async fn a_write_given_up_half_way_ends_the_producer() {
    let target = new_topic("cancelled").await;
    let mut producer = open(&unique("writer"), &target).await;
    {
        let write = producer.write(records(1, 1, 1000));
        tokio::pin!(write);
        // Polled once, so that the write has begun, then dropped.
        let polled = tokio::time::timeout(std::time::Duration::ZERO, &mut write).await;
        assert!(polled.is_err(), "1,000 records were committed within one poll");
    }
    let closed = producer.write(records(1, 1001, 1)).await.expect_err("an outcome was forgotten");
    assert!(matches!(closed, Error::Closed), "{closed}");
}

#[tokio::test]
async fn every_sequence_is_written_once_over_many_small_transactions() {
    let target = new_topic("dense").await;
    let mut writer = Steady::open(&target).await;
    for first in (1..=301).step_by(3) {
        writer.write(records(1, first, 3)).await;
    }
    let seen = sequences(&read_committed(&target.topic));
    assert_eq!(seen.len(), seen.iter().collect::<BTreeSet<_>>().len());
    assert_eq!(seen, (1..=303).collect::<Vec<_>>());
}
