//! Two writers of one connector and the channels that stand for their relay.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use tokio::sync::mpsc;
use twinfeed_chaos::broker::Broker;
use twinfeed_node::{
    feed::{DialOptions, Subscription},
    kafka::{self, Target, TopicCreation},
    model::{
        ids::{ClusterId, Epoch, WriterId},
        relay::StandbyMessage,
        spec::ConnectorSpec,
    },
    pipeline::{self, Options, Role, WriterHandle},
    relay_session::{Offer, Session, Weigh, direction},
    supervise::{Spawner, Supervisor, TaskHandle, TaskKind},
};
use twinfeed_writer::{Settings, StreamId};

use crate::feed::Feed;

/// Waits for a condition, at most 30 s.
pub(crate) async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "not {what} within 30 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

struct Twin {
    handle: WriterHandle,
    task: TaskHandle,
}

pub(crate) struct Twins {
    feed: Feed,
    topic: String,
    /// Who the assignment names: the epoch, as a linearizable read would see it.
    epoch: Arc<AtomicU64>,
    owner: Option<Twin>,
    standby: Option<Twin>,
    paths: u64,
    _supervisor: Supervisor,
    spawner: Spawner,
}

impl Twins {
    /// An owner at epoch 1 and its standby.
    pub(crate) async fn start() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let topic = format!("pipeline-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let supervisor = Supervisor::default();
        let mut twins = Self {
            feed: Feed::serve().await,
            topic,
            epoch: Arc::new(AtomicU64::new(1)),
            owner: None,
            standby: None,
            paths: 0,
            spawner: supervisor.spawner(),
            _supervisor: supervisor,
        };
        let owner = twins.twin(Role::Owner { epoch: Epoch(1) });
        twins.owner = Some(owner);
        twins.new_standby(1).await;
        twins
    }

    pub(crate) fn owner(&self) -> &WriterHandle {
        &self.owner.as_ref().expect("an owner").handle
    }

    fn twin(&mut self, role: Role) -> Twin {
        self.paths += 1;
        let path = if self.paths % 2 == 1 { "a" } else { "b" };
        let config = [
            ("websocket.url", format!("ws://127.0.0.1:{}/{path}", self.feed.port)),
            ("kafka.topic", self.topic.clone()),
        ];
        let config = config.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        let (spec, _) = ConnectorSpec::parse("prices", &config).expect("a valid configuration");
        let cluster = ClusterId("test".to_owned());
        let assigned = self.epoch.clone();
        let id = WriterId(self.topic.clone());
        let options = Options {
            transactional_id: id.transactional_id(&cluster),
            id,
            settings: Settings {
                connector: "prices".to_owned(),
                topic: self.topic.clone(),
                stream: StreamId(1),
                since: Epoch(0),
                feeds: 2,
                node: format!("n{}", self.paths),
                revision: 1,
                merge: twinfeed_dedup::Options::default(),
                commit_interval_us: 10_000,
                behind_ms_max: 5_000,
                buffer_bytes_max: 64 << 20,
            },
            feed: Subscription {
                url: spec.feed.primary_url.clone(),
                spec: Arc::new(spec.feed.clone()),
                dial: DialOptions::default(),
            },
            kafka: kafka::Options::new(cluster, Broker::shared().bootstrap()),
            target: Target::new(self.topic.clone(), 1),
            openings: kafka::Openings::default(),
            creation: TopicCreation { create: true, partitions: 1, replication_factor: 1, properties: BTreeMap::new() },
            confirm: Arc::new(move |_, epoch| {
                let holds = assigned.load(Ordering::SeqCst) == epoch.0;
                Box::pin(async move { Ok(holds) })
            }),
            emit: {
                let node = format!("n{}", self.paths);
                Arc::new(move |event| eprintln!("{node} e{} {}: {}", event.epoch, event.kind, event.message))
            },
            spawner: self.spawner.clone(),
        };
        let (handle, life) = pipeline::start(options, role);
        let task = self.spawner.spawn(TaskKind::Tool, "writer", |_| async move {
            life.await;
            Ok(())
        });
        Twin { handle, task }
    }

    /// The owner is gone as if killed.
    pub(crate) fn drop_owner(&mut self) {
        self.owner.take().expect("an owner").task.cancel();
    }

    /// The standby becomes the owner.
    pub(crate) async fn promote(&mut self, epoch: u64) {
        self.epoch.store(epoch, Ordering::SeqCst);
        let standby = self.standby.take().expect("a standby");
        standby.handle.assume(Role::Owner { epoch: Epoch(epoch) }).await;
        self.owner = Some(standby);
    }

    pub(crate) async fn new_standby(&mut self, epoch: u64) {
        let standby = self.twin(Role::Standby { epoch: Epoch(epoch) });
        self.standby = Some(standby);
        self.relay(epoch);
    }

    /// Owner and standby change places.
    pub(crate) async fn swap(&mut self, epoch: u64) {
        let former = self.owner.take().expect("an owner");
        self.promote(epoch).await;
        former.handle.assume(Role::Standby { epoch: Epoch(epoch) }).await;
        self.standby = Some(former);
        self.relay(epoch);
    }

    /// Offers sessions until both accept one, as the relay does.
    fn relay(&self, epoch: u64) {
        let (owner, standby) = (self.owner().offers(), self.standby.as_ref().expect("a standby").handle.offers());
        self.spawner.spawn(TaskKind::Relay, "relay", move |stop| async move {
            while !stop.is_cancelled() && !owner.is_closed() && !standby.is_closed() {
                session(&owner, &standby, Epoch(epoch)).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        });
    }

    /// Ends the feed; returns what was sent and what a `read_committed` reader finds.
    pub(crate) async fn finish(self, limit: Duration) -> (BTreeMap<Vec<u8>, i64>, BTreeMap<Vec<u8>, i64>) {
        let sent = self.feed.finish();
        let total: i64 = sent.values().sum();
        let (topic, bootstrap) = (self.topic.clone(), Broker::shared().bootstrap().to_owned());
        let written =
            tokio::task::spawn_blocking(move || read(&bootstrap, &topic, total, limit)).await.expect("a reader");
        (sent, written)
    }
}

async fn session(owner: &mpsc::Sender<Offer>, standby: &mpsc::Sender<Offer>, epoch: Epoch) {
    let (to_owner, mut from_standby) = direction();
    let (to_standby, incoming) = direction();
    let offered = Offer::Owner { session: Session { incoming, outgoing: to_owner }, epoch };
    if standby.send(offered).await.is_err() {
        return;
    }
    let Some(StandbyMessage::Hello { incarnation }) = from_standby.recv().await else { return };
    let (forward, incoming) = direction();
    let session = Session { incoming, outgoing: to_standby };
    if owner.send(Offer::Standby { session, epoch, node: 2, incarnation }).await.is_err() {
        return;
    }
    while let Some(message) = from_standby.recv().await {
        let weight = message.weight();
        if forward.send(message, weight).await.is_err() {
            return;
        }
    }
}

/// Reads until `total` records came and half a second nothing more.
fn read(bootstrap: &str, topic: &str, total: i64, limit: Duration) -> BTreeMap<Vec<u8>, i64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "reader")
        .set("isolation.level", "read_committed")
        .create()
        .expect("a consumer");
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(topic, 0, Offset::Beginning).expect("an offset");
    consumer.assign(&partitions).expect("an assignment");
    let deadline = Instant::now() + limit;
    let (mut written, mut count, mut last) = (BTreeMap::new(), 0, Instant::now());
    while Instant::now() < deadline && (count < total || last.elapsed() < Duration::from_millis(500)) {
        if let Some(record) = consumer.poll(Duration::from_millis(50)) {
            let record = record.expect("a record");
            *written.entry(record.payload().unwrap_or_default().to_vec()).or_default() += 1;
            count += 1;
            last = Instant::now();
        }
    }
    written
}
