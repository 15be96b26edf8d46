//! Markers: a write is done when they are there, and a transaction whose marker Kafka has forgotten is closed by the next
//! owner, before it can be committed with the next owner's records (docs/adr/0007).

use std::time::{Duration, Instant};

use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use twinfeed_chaos::{
    broker::{BrokerCluster, ClusterOptions},
    harness::wait_for,
};
use twinfeed_node::{
    kafka::{Error, FencedProducer, Options, Tail, TailReader, Target, TopicCreation, ensure_topic},
    model::ids::ClusterId,
};

use crate::support::{STREAM, Steady, new_topic, options, read, records, sequences, wait_and_read};

const ATTEMPTS_MAX: u32 = 20;
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_write_returns_when_its_records_can_be_read() {
    let target = new_topic("visible").await;
    let mut writer = Steady::open(&target).await;
    let reader = TailReader::warm(&options(), &target).expect("warm");
    for batch in 0..100 {
        let written = writer.write(records(1, 1 + batch * 5, 5)).await;
        let end = reader.end_offsets().await.expect("end offsets");
        assert!(end[0].1 >= written.next_offsets[0].1, "batch {batch}: written to {written:?}, readable to {end:?}");
    }
}

/// The partition's only broker dies between the decision of a commit, which another broker takes, and the marker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_forgotten_marker_left_open_is_not_committed_by_the_next_owner() {
    let mut brokers = BrokerCluster::start(&ClusterOptions::default()).expect("brokers");
    let options = Options::new(ClusterId("test".to_owned()), brokers.bootstrap());
    let (target, leader) = topic_away_from_the_coordinator(&brokers, &options).await;

    let predecessor = predecessor(&brokers);
    predecessor.init_transactions(PATIENCE).expect("init");
    predecessor.begin_transaction().expect("begin");
    for number in 0..20 {
        let payload = format!("forgotten {number}");
        let record = BaseRecord::<(), str>::to(&target.topic).partition(0).payload(&payload);
        predecessor.send(record).map_err(|(error, _)| error).expect("send");
    }
    predecessor.flush(PATIENCE).expect("delivered");
    brokers.pause(leader).expect("pause");
    predecessor.commit_transaction(PATIENCE).expect("the coordinator answers before the marker is written");
    brokers.kill(leader);
    // An init is answered when the transaction before it is complete.
    let next = self::predecessor(&brokers);
    next.init_transactions(PATIENCE).expect("Kafka waits for the marker now: docs/adr/0007 is obsolete");
    brokers.restart(leader).expect("restart");
    let led_again = || (brokers.leader_of(&target.topic) == Some(leader)).then_some(());
    wait_for("the partition to be led again", PATIENCE, led_again).expect("a leader");

    // Each of the brokers learns by itself that the partition is led again; until then an opening fails and is tried anew.
    let deadline = Instant::now() + PATIENCE;
    let (mut owner, tail) = loop {
        match open(&options, &target).await {
            Err(Error::Unreachable { .. }) if Instant::now() < deadline => {}
            opened => break opened.expect("an opening"),
        }
    };
    assert_eq!(tail.foreign, 0, "the tail ends before what is open");
    let written = owner.write(records(2, 1, 20)).await.expect("a write");
    assert!(written.next_offsets[0].1 > 41, "20 forgotten, 1 given up, a marker, 20 written: {written:?}");
    owner.write(records(2, 21, 5)).await.expect("another write");
    let seen = wait_and_read(brokers.bootstrap(), &target.topic);
    assert_eq!(sequences(&seen), (1..=25).collect::<Vec<_>>());
    let all = read(brokers.bootstrap(), &target.topic, "read_uncommitted");
    assert_eq!(all.len(), 46, "the forgotten ones are there, aborted");
}

/// What a takeover does: a producer, and then the tail.
async fn open(options: &Options, target: &Target) -> Result<(FencedProducer, Tail), Error> {
    let owner = FencedProducer::warm(options, "writer", target)?.open().await?;
    let tail = TailReader::warm(options, target)?.read(&[(0, 0)]).await?;
    Ok((owner, tail))
}

fn predecessor(brokers: &BrokerCluster) -> BaseProducer {
    ClientConfig::new()
        .set("bootstrap.servers", brokers.bootstrap())
        .set("transactional.id", "writer")
        .create()
        .expect("a producer")
}

/// A topic of one replica, on a broker that does not coordinate transactions.
async fn topic_away_from_the_coordinator(brokers: &BrokerCluster, options: &Options) -> (Target, usize) {
    let creation = TopicCreation { create: true, partitions: 1, replication_factor: 1, properties: [].into() };
    let first = Target::new("forgotten-0", STREAM);
    ensure_topic(options, &first.topic, &creation).await.expect("a topic");
    // The first init makes the topic of the coordinators.
    drop(FencedProducer::warm(options, "first", &first).expect("warm").open().await.expect("open"));
    let coordinator = brokers.transaction_coordinator().expect("a coordinator");
    for attempt in 1..ATTEMPTS_MAX {
        let target = Target::new(format!("forgotten-{attempt}"), STREAM);
        ensure_topic(options, &target.topic, &creation).await.expect("a topic");
        if let Some(leader) = brokers.leader_of(&target.topic).filter(|leader| *leader != coordinator) {
            return (target, leader);
        }
    }
    panic!("{ATTEMPTS_MAX} topics, all led by the coordinator");
}
