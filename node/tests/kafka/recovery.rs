//! A writer against a broker that freezes and dies in the middle of its writes: whatever an error left open, a new
//! producer and the tail decide it, record by record.

use std::{collections::BTreeSet, time::Duration};

use twinfeed_chaos::broker::{ADDRESS_VARIABLE, Broker};
use twinfeed_node::{
    kafka::{Committed, Error, FencedProducer, Options, OutRecord, TailReader, Target, ensure_topic},
    model::ids::ClusterId,
};

use crate::support::{STREAM, creation, new_topic, options, read_committed, records, sequences, unique, wait_and_read};

const BATCH: u64 = 20;
const OWNERS: u32 = 30;
/// A write takes about 3 ms: steps of this size meet every stage of it, the commit included.
const STAGE: Duration = Duration::from_micros(200);

/// What a writer of the pipeline does, reduced to the calls into Kafka.
struct Writer {
    options: Options,
    target: Target,
    producer: FencedProducer,
    acked: Vec<(i32, i64)>,
    unusual: Vec<&'static str>,
}

impl Writer {
    async fn open(options: Options, target: Target) -> Self {
        let producer = open(&options, &target).await;
        Self { options, target, producer, acked: vec![(0, 0)], unusual: Vec::new() }
    }

    /// Brings the outcome of a write to an end: everything in `batch` is in the topic once when it returns.
    async fn finish(&mut self, mut batch: Vec<OutRecord>, mut outcome: Result<Committed, Error>) {
        loop {
            match outcome {
                Ok(committed) => {
                    self.acked = committed.next_offsets;
                    if committed.recycle {
                        self.unusual.push("committed, recycle");
                        self.producer = open(&self.options, &self.target).await;
                    }
                    return;
                }
                Err(error) => {
                    self.unusual.push(match error {
                        Error::Fenced { .. } => "fenced",
                        Error::OutcomeUnknown { .. } => "unknown",
                        Error::Aborted { .. } => "aborted",
                        other => panic!("{other}"),
                    });
                    self.producer = open(&self.options, &self.target).await;
                    let reader = TailReader::warm(&self.options, &self.target).expect("warm");
                    let tail = reader.read(&self.acked).await.expect("tail");
                    let written: BTreeSet<u64> = tail.records.iter().map(|record| record.sequence).collect();
                    batch.retain(|record| !written.contains(&record.sequence));
                    self.acked = tail.next_offsets;
                    if batch.is_empty() {
                        return;
                    }
                }
            }
            outcome = self.producer.write(batch.clone()).await;
        }
    }
}

/// As the worker does it: an unreachable broker is asked again.
async fn open(options: &Options, target: &Target) -> FencedProducer {
    for _ in 0..10 {
        match FencedProducer::warm(options, "writer", target).expect("warm").open().await {
            Ok(producer) => return producer,
            Err(Error::Unreachable { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the broker did not come back");
}

/// The owner vanishes at every stage of a write, the commit included; its successor reads the tail and writes the rest.
#[tokio::test]
async fn no_record_is_lost_or_doubled_by_owners_that_vanish() {
    let target = new_topic("vanish").await;
    let (id, reader) = (unique("writer"), TailReader::warm(&options(), &target).expect("warm"));
    // The first transaction of a broker also makes its state topic, which is no part of a takeover.
    drop(crate::support::open(&id, &target).await);
    let mut acked = vec![(0, 0)];
    let (mut written_by_predecessor, mut takeover_ms_max) = (0, 0.0_f64);
    for owner in 0..OWNERS {
        let batch = records(1, 1 + u64::from(owner) * BATCH, BATCH);
        let warm = FencedProducer::warm(&options(), &id, &target).expect("warm");
        let mut producer = crate::support::open(&id, &target).await;
        let vanished = tokio::time::timeout(STAGE * owner, producer.write(batch.clone())).await;
        drop(producer);
        if let Ok(outcome) = vanished {
            acked = outcome.expect("an undisturbed write").next_offsets;
            continue;
        }
        let began = std::time::Instant::now();
        let mut successor = warm.open().await.expect("takeover");
        let tail = reader.read(&acked).await.expect("tail");
        takeover_ms_max = takeover_ms_max.max(began.elapsed().as_secs_f64() * 1e3);
        assert!(matches!(tail.records.len() as u64, 0 | BATCH), "half a transaction is visible");
        acked = tail.next_offsets;
        if tail.records.is_empty() {
            acked = successor.write(batch).await.expect("the rest").next_offsets;
        } else {
            written_by_predecessor += 1;
        }
    }
    println!(
        "{OWNERS} owners vanished, {written_by_predecessor} after their commit was on its way; \
         takeover and tail at most {takeover_ms_max:.1} ms"
    );
    let all = u64::from(OWNERS) * BATCH;
    assert_eq!(sequences(&read_committed(&target.topic)), (1..=all).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_record_is_lost_or_doubled_while_the_broker_freezes_and_dies() {
    if std::env::var_os(ADDRESS_VARIABLE).is_some() {
        return;
    }
    let mut broker = Broker::start().expect("a broker of its own");
    let options = Options::new(ClusterId("test".to_owned()), broker.bootstrap());
    let target = Target::new("recovery", STREAM);
    ensure_topic(&options, &target.topic, &creation(true)).await.expect("a topic");
    let mut writer = Writer::open(options, target.clone()).await;
    let mut batches = (0..).map(|number| records(1, 1 + number * BATCH, BATCH));
    for frozen_ms in [100, 450, 900] {
        let mut thawed = tokio::task::spawn_blocking(move || {
            broker.pause().expect("pause");
            std::thread::sleep(Duration::from_millis(frozen_ms));
            broker.resume().expect("resume");
            broker
        });
        broker = loop {
            let batch = batches.next().expect("endless");
            let outcome = writer.producer.write(batch.clone()).await;
            writer.finish(batch, outcome).await;
            if thawed.is_finished() {
                break (&mut thawed).await.expect("no panic");
            }
        };
    }
    broker.stop().expect("stop");
    let batch = batches.next().expect("endless");
    let outcome = writer.producer.write(batch.clone()).await;
    assert!(matches!(outcome, Err(Error::Aborted { .. })), "{outcome:?}");
    broker.restart().expect("restart");
    writer.finish(batch, outcome).await;
    println!("not plainly committed: {:?}", writer.unusual);
    let all = batches.next().expect("endless")[0].sequence;
    assert_eq!(sequences(&wait_and_read(broker.bootstrap(), &target.topic)), (1..all).collect::<Vec<_>>());
}
