//! The verifier end to end against an in-process broker: a feed, a subscriber that writes what it gets, and the books.
//! Transactions and aborts are the business of the chaos tests; here the verdict must be right about what is there.

mod feed_kit;

use std::net::SocketAddr;

use feed_kit::{DEADLINE, Feed};
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    mocking::MockCluster,
    producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer},
};
use twinfeed_node::{
    kafka::record::{HEADER_KEY, MODE_CONTENT, Stamp},
    supervise::Supervisor,
    tools::{
        feed::{self, Faults, FeedServer},
        pattern::PatternArgs,
        verify::{self, Error, Verdict},
    },
};

const COUNT: u64 = 1_500;

struct Topic {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
}

impl Topic {
    fn new() -> Self {
        let cluster = MockCluster::new(1).expect("a broker");
        cluster.create_topic("t", 1, 1).expect("a topic");
        let producer = ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).create();
        Self { cluster, producer: producer.expect("a producer") }
    }

    fn write(&self, index: u64, payload: &[u8]) {
        let stamp = Stamp {
            epoch: 1,
            sequence: index,
            fingerprint: 0,
            subscription: 9,
            // The first frame has number 1.
            index: index + 1,
            received_at_ns: 0,
            cluster: 0,
            stream: 5,
            sub_index: 0,
            accounts_from: index,
            mode: MODE_CONTENT,
        };
        let value = stamp.encode();
        let headers = OwnedHeaders::new().insert(Header { key: HEADER_KEY, value: Some(&value[..]) });
        let record: BaseRecord<'_, (), [u8]> = BaseRecord::to("t").payload(payload).headers(headers);
        self.producer.send(record).map_err(|(error, _)| error).expect("queued");
    }
}

fn feed_args() -> feed::Args {
    feed::Args {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        paths: vec!["a".into()],
        rate: 5_000.0,
        pattern: PatternArgs { seed: 11, size: 100, repeats: 0.4, hot: 4, ..Default::default() },
        count: Some(COUNT),
        seconds: None,
        skew_ms: 0,
        jitter_ms: 0,
        reorder_ms: 0,
        reorder_path: None,
        backfill: 0,
        wait_subscribers: 1,
        faults: Faults::default(),
    }
}

fn verify_args(topic: &Topic, feed: Option<String>) -> verify::Args {
    verify::Args {
        bootstrap: topic.cluster.bootstrap_servers(),
        topic: "t".into(),
        partition: None,
        stream: None,
        feed,
        pattern: feed_args().pattern,
        first: 0,
        last: Some(COUNT - 1),
        follow: true,
        idle_ms: 2_000,
        quiet: true,
        gaps: None,
        settle_ms: 200,
        topic_wait_ms: 5_000,
        json: true,
    }
}

async fn verdict(args: &verify::Args) -> Result<Verdict, Error> {
    tokio::time::timeout(DEADLINE, verify::verify(args, std::future::pending())).await.expect("an end")
}

/// Runs a feed into the topic, each frame as often as `times` says, and verifies while it runs.
async fn run(times: fn(u64) -> usize) -> Verdict {
    let topic = Topic::new();
    let supervisor = Supervisor::default();
    let server = FeedServer::start(feed_args(), &supervisor.spawner()).await.expect("a feed");
    let args = verify_args(&topic, Some(format!("http://{}", server.address())));
    let writing = async {
        let mut subscriber = Feed::start(&server.url("a"), &[]);
        subscriber.opened().await;
        for (n, frame) in (0..COUNT).zip(subscriber.frames(COUNT as usize).await) {
            (0..times(n)).for_each(|_| topic.write(n, &frame.payload));
        }
        topic.producer.flush(DEADLINE).expect("written");
    };
    let (verdict, ()) = tokio::join!(verdict(&args), writing);
    verdict.expect("a verdict")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_complete_topic_holds() {
    let verdict = run(|_| 1).await;
    assert!(verdict.holds(), "{verdict:?}");
    assert_eq!((verdict.sent, verdict.written, verdict.foreign), (COUNT, COUNT, 0));
    assert_eq!(verdict.epochs, [1]);
}

/// Ctrl-C or a stopped container, with the feed at work: the newest messages are on their way, and more keep coming.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_asked_for_while_the_feed_runs_holds() {
    let topic = Topic::new();
    let supervisor = Supervisor::default();
    let endless = feed::Args { count: None, ..feed_args() };
    let server = FeedServer::start(endless, &supervisor.spawner()).await.expect("a feed");
    let args = verify_args(&topic, Some(format!("http://{}", server.address())));
    let stop = tokio::sync::Notify::new();
    let writing = async {
        let mut subscriber = Feed::start(&server.url("a"), &[]);
        subscriber.opened().await;
        let mut written = 0;
        loop {
            for frame in subscriber.frames(1).await {
                topic.write(written, &frame.payload);
                written += 1;
                if written == COUNT {
                    stop.notify_one();
                }
            }
        }
    };
    let verifying = tokio::time::timeout(DEADLINE, verify::verify(&args, stop.notified()));
    let verdict = tokio::select! {
        verdict = verifying => verdict.expect("an end").expect("a verdict"),
        never = writing => never,
    };
    assert!(verdict.holds() && verdict.foreign == 0, "{verdict:?}");
    assert!(verdict.sent >= COUNT && verdict.written >= verdict.sent, "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_and_doubled_records_are_counted() {
    let verdict = run(|n| match n {
        100..=102 => 0,
        700 => 3,
        _ => 1,
    })
    .await;
    assert_eq!((verdict.lost, verdict.duplicated, verdict.holds()), (3, 2, false), "{verdict:?}");
    // The second and third copy carry the stamp of the first.
    assert_eq!(verdict.reordered, 2);
    assert!(!verdict.findings.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finished_topic_is_judged_by_its_pattern_alone() {
    let topic = Topic::new();
    let pattern = twinfeed_node::tools::pattern::Pattern::new(feed_args().pattern).expect("valid");
    (0..COUNT).for_each(|n| topic.write(n, &pattern.payload(n)));
    topic.producer.flush(DEADLINE).expect("written");
    let mut args = verify_args(&topic, None);
    args.follow = false;
    let complete = verdict(&args).await.expect("a verdict");
    assert!(complete.holds() && complete.longest_silence_ms == 0, "{complete:?}");
    args.last = Some(COUNT + 9);
    let short = verdict(&args).await.expect("a verdict");
    assert_eq!((short.sent, short.lost), (COUNT + 10, 10), "{short:?}");
}

#[tokio::test]
async fn says_what_is_missing() {
    let topic = Topic::new();
    let mut args = verify_args(&topic, Some("http://127.0.0.1:1".into()));
    assert!(matches!(verdict(&args).await, Err(Error::Feed { .. })));
    args.feed = None;
    args.topic = "absent".into();
    args.topic_wait_ms = 100;
    assert!(matches!(verdict(&args).await, Err(Error::NoTopic { .. })));
}
