//! The tail read of a takeover.

use std::time::{Duration, Instant};

use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use twinfeed_chaos::broker::Broker;
use twinfeed_node::{
    kafka::{Error, FencedProducer, Options, Retry, TailReader, Target},
    model::ids::ClusterId,
};

use crate::support::{
    STREAM, Steady, new_topic, open, open_transaction_of_another, options, records, records_of, unique,
    wait_for_markers,
};

#[tokio::test]
async fn ten_thousand_records_come_back_exactly_in_spite_of_markers() {
    let target = new_topic("tail").await;
    let mut writer = Steady::open(&target).await;
    let before = writer.write(records(1, 1, 10)).await;
    for batch in 0..100 {
        writer.write(records(2, 1 + batch * 100, 100)).await;
    }
    wait_for_markers(Broker::shared().bootstrap(), &target.topic);
    let reader = TailReader::warm(&options(), &target).expect("warm");
    let end = reader.end_offsets().await.expect("end offsets");
    assert_eq!(end, [(0, 10_010 + 101)]);
    for round in 0..3 {
        let began = Instant::now();
        let tail = reader.read(&before.next_offsets).await.expect("tail");
        println!("tail of 10,000 records, round {round}: {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
        let read: Vec<u64> = tail.records.iter().map(|record| record.sequence).collect();
        assert_eq!(read, (1..=10_000).collect::<Vec<_>>());
        assert!(tail.records.is_sorted_by_key(|record| record.offset));
        let last = tail.records.last().expect("records");
        let written = &records(2, 10_000, 1)[0];
        assert_eq!((last.fingerprint, last.subscription), (written.fingerprint, written.subscription));
        assert_eq!((last.index, last.epoch, last.partition), (written.index, 2, 0));
        assert_eq!((tail.epoch_max, tail.foreign, tail.other_cluster, tail.truncated), (2, 0, 0, false));
        assert_eq!(tail.next_offsets, end);
    }
    let rest = reader.read(&end).await.expect("an empty tail");
    assert_eq!((rest.records.len(), rest.next_offsets), (0, end));
}

#[tokio::test]
async fn a_tail_read_after_opening_holds_all_that_the_predecessor_committed_and_nothing_else() {
    let target = new_topic("handover").await;
    let mut old = Steady::open(&target).await;
    let warm = FencedProducer::warm(&options(), &old.id, &target).expect("warm");
    let reader = TailReader::warm(&options(), &target).expect("warm");
    for batch in 0..20 {
        old.write(records(1, 1 + batch * 5, 5)).await;
    }
    let _owner = warm.open().await.expect("takeover");
    let tail = reader.read(&[(0, 0)]).await.expect("tail");
    assert_eq!(tail.records.len(), 100);
}

#[tokio::test]
async fn foreign_records_are_skipped_and_counted() {
    let target = new_topic("foreign").await;
    let plain: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", Broker::shared().bootstrap()).create().expect("a producer");
    for _ in 0..3 {
        let record = BaseRecord::<(), str>::to(&target.topic).payload("not ours").partition(0);
        plain.send(record).map_err(|(e, _)| e).expect("send");
    }
    plain.flush(Duration::from_secs(10)).expect("flush");
    let stranger = Options::new(ClusterId("another cluster".to_owned()), Broker::shared().bootstrap());
    let warm = FencedProducer::warm(&stranger, &unique("stranger"), &target).expect("warm");
    warm.open().await.expect("open").write(records(99, 1, 2)).await.expect("write");
    open(&unique("writer"), &target).await.write(records(4, 1, 1)).await.expect("write");
    wait_for_markers(Broker::shared().bootstrap(), &target.topic);
    let tail = TailReader::warm(&options(), &target).expect("warm").read(&[(0, 0)]).await.expect("tail");
    assert_eq!((tail.records.len(), tail.foreign, tail.other_cluster), (1, 3, 2));
    assert_eq!(tail.epoch_max, 4, "another cluster's epochs say nothing about ours");
}

/// A record of another connector in the topic is no record of ours, however equal it is, and costs nothing but its way.
#[tokio::test]
async fn records_of_other_streams_are_skipped_and_counted() {
    let target = new_topic("shared").await;
    let (own, another) = (unique("writer"), unique("writer"));
    let neighbour = Target { stream: 8, ..target.clone() };
    open(&own, &target).await.write(records(4, 1, 10)).await.expect("write");
    let mut later = records_of(8, 90, 1, 200);
    later.iter_mut().for_each(|record| record.received_at_ns += 1);
    open(&another, &neighbour).await.write(later).await.expect("write");
    wait_for_markers(Broker::shared().bootstrap(), &target.topic);
    let mut limited = options();
    limited.tail_records_max = 10;
    let tail = TailReader::warm(&limited, &target).expect("warm").read(&[(0, 0)]).await.expect("tail");
    assert_eq!((tail.records.len(), tail.other_stream, tail.other_cluster, tail.foreign), (10, 200, 0, 0));
    assert_eq!(tail.epoch_max, 4, "each stream has epochs of its own");
    assert_eq!(tail.received_at_ns_max, records(4, 1, 1)[0].received_at_ns);
    let tail = TailReader::warm(&options(), &neighbour).expect("warm").read(&[(0, 0)]).await.expect("tail");
    assert_eq!((tail.records.len(), tail.other_stream, tail.epoch_max), (200, 10, 90));
}

/// A quiet connector beside a busy one: its last record is far back, by offsets.
#[tokio::test]
async fn the_last_records_of_a_stream_are_found_behind_those_of_others() {
    let target = new_topic("quiet").await;
    open(&unique("writer"), &target).await.write(records(4, 1, 10)).await.expect("write");
    let reader = TailReader::warm(&options(), &target).expect("warm");
    let near = reader.read_last(3).await.expect("tail");
    assert_eq!(near.records.iter().map(|record| record.sequence).collect::<Vec<_>>(), [8, 9, 10]);
    let neighbour = Target { stream: 8, ..target.clone() };
    let mut busy = Steady::open(&neighbour).await;
    for first in [1, 15_001] {
        busy.write(records_of(8, 90, first, 15_000)).await;
    }
    for wanted in [1, 5, 10, 11] {
        let tail = reader.read_last(wanted).await.expect("tail");
        let read: Vec<u64> = tail.records.iter().map(|record| record.sequence).collect();
        assert_eq!(read, (1..=10).skip(10_usize.saturating_sub(wanted)).collect::<Vec<_>>());
        assert_eq!((tail.epoch_max, tail.next_offsets), (4, reader.end_offsets().await.expect("end offsets")));
        assert_eq!(tail.other_stream, 30_000);
    }
}

/// Nothing can be read behind an open transaction. With several streams in a partition one is open nearly always.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_predecessor_committed_behind_another_streams_open_transaction_is_read() {
    let target = new_topic("hidden").await;
    let mut old = Steady::open(&target).await;
    let reader = TailReader::warm(&options(), &target).expect("warm");
    assert_eq!(reader.end_offsets().await.expect("end offsets"), [(0, 0)]);
    let other = open_transaction_of_another(&target);
    old.write(records(1, 1, 20)).await;
    drop(old);
    let ended = tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_millis(300));
        other.commit_transaction(Duration::from_secs(10)).expect("commit");
    });
    let end = reader.end_offsets().await.expect("end offsets");
    assert!(end[0].1 > 20, "the end lies before what is committed: {end:?}");
    let tail = reader.read(&[(0, 0)]).await.expect("tail");
    assert_eq!((tail.records.len(), tail.foreign), (20, 1));
    ended.await.expect("ended");
}

#[tokio::test]
async fn a_transaction_that_does_not_end_fails_the_tail_instead_of_hiding_its_end() {
    let target = new_topic("hanging").await;
    let other = open_transaction_of_another(&target);
    let mut impatient = options();
    impatient.read_ms_max = 2_000;
    let reader = TailReader::warm(&impatient, &target).expect("warm");
    let unknown = reader.read(&[(0, 0)]).await.expect_err("the end is not known");
    assert!(matches!(&unknown, Error::OutcomeUnknown { why } if why.contains("find-hanging")), "{unknown}");
    assert_eq!(unknown.retry(), Retry::Now);
    let asked = reader.ask_end_offsets().expect("asked").await.expect("answered");
    assert_eq!(asked.expect("it says at once how far reading goes"), [(0, 0)]);
    drop(other);
}

#[tokio::test]
async fn offsets_that_the_topic_does_not_have_are_flagged() {
    let target = new_topic("anew").await;
    open(&unique("writer"), &target).await.write(records(1, 1, 5)).await.expect("write");
    wait_for_markers(Broker::shared().bootstrap(), &target.topic);
    let reader = TailReader::warm(&options(), &target).expect("warm");
    let tail = reader.read(&[(0, 1_000_000)]).await.expect("tail");
    assert!(tail.truncated);
    assert_eq!(tail.records.len(), 5);
}

#[tokio::test]
async fn a_tail_longer_than_the_limit_is_refused() {
    let target = new_topic("long").await;
    open(&unique("writer"), &target).await.write(records(1, 1, 101)).await.expect("write");
    wait_for_markers(Broker::shared().bootstrap(), &target.topic);
    let mut limited = options();
    limited.tail_records_max = 100;
    let reader = TailReader::warm(&limited, &target).expect("warm");
    assert!(matches!(reader.read(&[(0, 0)]).await, Err(Error::Rejected { .. })));
}

#[tokio::test]
async fn an_unreachable_broker_is_an_error_within_its_deadline() {
    let mut options = Options::new(options().cluster, "127.0.0.1:1");
    options.read_ms_max = 700;
    let reader = TailReader::warm(&options, &Target::new("any", STREAM)).expect("warm");
    let waited = tokio::time::timeout(Duration::from_secs(10), reader.read(&[(0, 0)])).await.expect("a bounded wait");
    assert!(matches!(waited, Err(Error::Unreachable { .. })), "{waited:?}");
}
