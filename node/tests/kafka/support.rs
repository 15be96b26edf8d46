//! What the tests share: options for the test broker, records, and an independent `read_committed` reader.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
    message::Headers as _,
    producer::{BaseProducer, BaseRecord, Producer as _},
};
use twinfeed_chaos::broker::Broker;
use twinfeed_node::{
    kafka::{
        Committed, Error, FencedProducer, Options, OutRecord, Target, TopicCreation, Topics, ensure_topic,
        record::{HEADER_KEY, Stamp},
    },
    model::ids::ClusterId,
};

/// The stream that tests write, unless they say otherwise.
pub(crate) const STREAM: u64 = 0x5757;

/// A record as any consumer sees it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) payload: Vec<u8>,
    pub(crate) stamp: Option<Stamp>,
}

pub(crate) fn options() -> Options {
    static TOPICS: LazyLock<Topics> = LazyLock::new(Topics::default);
    let options = Options::new(ClusterId("test".to_owned()), Broker::shared().bootstrap());
    Options { topics: TOPICS.clone(), ..options }
}

/// Returns a name that no other test of this run uses, nor an earlier run on the same broker.
pub(crate) fn unique(name: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn creation(create: bool) -> TopicCreation {
    // The records of the tests are of 2023: a broker deletes them half a minute after its start, when it first looks.
    let properties = [("retention.ms".to_owned(), "-1".to_owned())].into();
    TopicCreation { create, partitions: 1, replication_factor: 1, properties }
}

pub(crate) async fn new_topic(name: &str) -> Target {
    let topic = unique(name);
    ensure_topic(&options(), &topic, &creation(true)).await.expect("a topic");
    Target::new(topic, STREAM)
}

/// Returns `count` records of 200 bytes, with sequences from `first`.
pub(crate) fn records(epoch: u64, first: u64, count: u64) -> Vec<OutRecord> {
    (first..first + count)
        .map(|sequence| OutRecord {
            stream: STREAM,
            sub_index: 0,
            epoch,
            sequence,
            fingerprint: u128::from(sequence) << 64 | u128::from(epoch),
            subscription: 7,
            index: sequence + 100,
            received_at_ns: 1_700_000_000_123_456_789,
            timestamp_ms: 1_700_000_000_123,
            payload: Bytes::from(format!("{:0>200}", format!("{epoch}/{sequence}"))),
        })
        .collect()
}

/// The same of another stream.
pub(crate) fn records_of(stream: u64, epoch: u64, first: u64, count: u64) -> Vec<OutRecord> {
    records(epoch, first, count).into_iter().map(|record| OutRecord { stream, ..record }).collect()
}

/// A topic of these properties.
pub(crate) async fn topic_with(name: &str, properties: &[(&str, &str)]) -> Result<Target, Error> {
    let topic = unique(name);
    let mut creation = creation(true);
    creation.properties.extend(properties.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    ensure_topic(&options(), &topic, &creation).await.map(|_| Target::new(topic, STREAM))
}

/// Sets a property of a topic that exists.
pub(crate) async fn alter(target: &Target, key: &str, value: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", Broker::shared().bootstrap()).create().expect("an admin client");
    let change = AlterConfig::new(ResourceSpecifier::Topic(&target.topic)).set(key, value);
    let results = admin.alter_configs([&change], &AdminOptions::new()).await.expect("an answer");
    results.into_iter().for_each(|result| drop(result.expect("altered")));
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let topic = [ResourceSpecifier::Topic(&target.topic)];
        let told = admin.describe_configs(&topic, &AdminOptions::new()).await.expect("an answer").remove(0);
        if told.expect("told").get(key).and_then(|entry| entry.value.as_deref()) == Some(value) {
            return;
        }
        assert!(Instant::now() < deadline, "{key} of {} is not changed", target.topic);
    }
}

/// A transaction of somebody else that is open, with a record.
pub(crate) fn open_transaction_of_another(target: &Target) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", Broker::shared().bootstrap())
        .set("transactional.id", unique("another"))
        .create()
        .expect("a producer");
    let patience = Duration::from_secs(10);
    producer.init_transactions(patience).expect("init");
    producer.begin_transaction().expect("begin");
    let record = BaseRecord::<(), str>::to(&target.topic).payload("another's").partition(target.partition);
    producer.send(record).map_err(|(e, _)| e).expect("send");
    producer.flush(patience).expect("flush");
    producer
}

/// Opens a producer after it has had time to connect, as at a standby.
pub(crate) async fn open(transactional_id: &str, target: &Target) -> FencedProducer {
    FencedProducer::warm(&options(), transactional_id, target).expect("warm").open().await.expect("open")
}

/// A producer that is opened again after a commit that was slow, as a loaded machine may make any of them.
pub(crate) struct Steady {
    pub(crate) id: String,
    target: Target,
    pub(crate) producer: FencedProducer,
}

impl Steady {
    pub(crate) async fn open(target: &Target) -> Self {
        let id = unique("writer");
        let producer = open(&id, target).await;
        Self { id, target: target.clone(), producer }
    }

    pub(crate) async fn write(&mut self, records: Vec<OutRecord>) -> Committed {
        let committed = self.producer.write(records).await.expect("an undisturbed write");
        if committed.recycle {
            self.producer = open(&self.id, &self.target).await;
        }
        committed
    }
}

/// Reads what is committed in partition 0 of the shared broker.
pub(crate) fn read_committed(topic: &str) -> Vec<Seen> {
    wait_and_read(Broker::shared().bootstrap(), topic)
}

/// Reads what is committed in partition 0, once no transaction is open in it.
pub(crate) fn wait_and_read(bootstrap: &str, topic: &str) -> Vec<Seen> {
    wait_for_markers(bootstrap, topic);
    read(bootstrap, topic, "read_committed")
}

/// Waits until no transaction is open in partition 0: one that was given up ends some time after its producer.
pub(crate) fn wait_for_markers(bootstrap: &str, topic: &str) {
    let end = |isolation| {
        let patience = Duration::from_secs(10);
        consumer(bootstrap, isolation).fetch_watermarks(topic, 0, patience).expect("watermarks").1
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while end("read_committed") != end("read_uncommitted") {
        assert!(Instant::now() < deadline, "a transaction stays open in {topic}");
    }
}

/// Reads partition 0 from its start to its end with a consumer that shares no code with the room under test.
pub(crate) fn read(bootstrap: &str, topic: &str, isolation: &str) -> Vec<Seen> {
    let consumer = consumer(bootstrap, isolation);
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, 0, Offset::Beginning).expect("an offset");
    consumer.assign(&from).expect("assign");
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut seen = Vec::new();
    while Instant::now() < deadline {
        match consumer.poll(Duration::from_secs(1)) {
            Some(Ok(message)) => seen.push(Seen {
                timestamp_ms: message.timestamp().to_millis(),
                key: message.key().map(<[u8]>::to_vec),
                payload: message.payload().unwrap_or_default().to_vec(),
                stamp: message.headers().and_then(|headers| {
                    headers.iter().find(|header| header.key == HEADER_KEY)?.value.and_then(Stamp::decode)
                }),
            }),
            Some(Err(KafkaError::PartitionEOF(_))) => return seen,
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
    }
    panic!("the end of {topic} was not reached");
}

fn consumer(bootstrap: &str, isolation: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", unique("check"))
        .set("isolation.level", isolation)
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer")
}

/// Returns the sequences in `seen`, in topic order.
pub(crate) fn sequences(seen: &[Seen]) -> Vec<u64> {
    seen.iter().map(|record| record.stamp.expect("a header").sequence).collect()
}
