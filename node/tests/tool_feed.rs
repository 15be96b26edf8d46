//! The tool feed: every subscriber gets every message from its connect on, whatever skew, jitter and shuffling do, and
//! the ledger says exactly what was sent.

mod feed_kit;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use feed_kit::{DEADLINE, Feed, subscription};
use twinfeed_node::{
    model::frame::FeedEvent,
    supervise::Supervisor,
    tools::{
        feed::{Args, Faults, FeedServer, Ledger, Manners},
        pattern::{Pattern, PatternArgs},
    },
};

fn args(rate: f64, count: Option<u64>) -> Args {
    let pattern = PatternArgs { seed: 3, size: 120, repeats: 0.3, hot: 5, bridge: 50, ..PatternArgs::default() };
    Args {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        paths: vec!["a".into(), "b".into()],
        rate,
        pattern,
        count,
        seconds: None,
        skew_ms: 15,
        jitter_ms: 3,
        reorder_ms: 0,
        reorder_path: None,
        backfill: 0,
        wait_subscribers: 2,
        faults: Faults::default(),
    }
}

struct Stage {
    server: FeedServer,
    pattern: Pattern,
    _supervisor: Supervisor,
}

impl Stage {
    async fn new(args: Args) -> Self {
        let supervisor = Supervisor::default();
        let pattern = Pattern::new(args.pattern.clone()).expect("a valid pattern");
        let server = FeedServer::start(args, &supervisor.spawner()).await.expect("a feed");
        Self { server, pattern, _supervisor: supervisor }
    }

    fn subscribe(&self, path: &str) -> Feed {
        Feed::start_with(subscription(&self.server.url(path), &[("websocket.reconnect.interval.ms", "10")]))
    }

    async fn finished(&self) {
        tokio::time::timeout(DEADLINE, self.server.finished()).await.expect("the feed finishes");
    }
}

async fn payloads(feed: &mut Feed, count: usize) -> Vec<Bytes> {
    feed.frames(count).await.into_iter().map(|frame| frame.payload).collect()
}

#[tokio::test]
async fn both_paths_carry_the_whole_sequence_in_order() {
    let stage = Stage::new(args(20_000.0, Some(5_000))).await;
    let (mut a, mut b) = (stage.subscribe("a"), stage.subscribe("b"));
    a.opened().await;
    b.opened().await;
    let expected: Vec<Bytes> = (0..5_000).map(|n| stage.pattern.payload(n)).collect();
    let (from_a, from_b) = tokio::join!(payloads(&mut a, 5_000), payloads(&mut b, 5_000));
    assert_eq!(from_a, expected);
    assert_eq!(from_b, expected);
    stage.finished().await;
    let ledger = stage.server.ledger();
    assert_eq!((ledger.first_n, ledger.last_n, ledger.finished), (Some(0), Some(4_999), true));
    assert_eq!((ledger.covered.as_slice(), ledger.sent()), ([(0, 5_000)].as_slice(), 5_000));
    a.stop().await;
    b.stop().await;
    stage.server.stop().await;
}

#[tokio::test]
async fn shuffled_paths_differ_in_order_and_not_in_content() {
    let mut args = args(20_000.0, Some(2_950));
    args.reorder_ms = 5;
    let stage = Stage::new(args).await;
    let (mut a, mut b) = (stage.subscribe("a"), stage.subscribe("b"));
    a.opened().await;
    b.opened().await;
    let (mut from_a, mut from_b) = tokio::join!(payloads(&mut a, 2_950), payloads(&mut b, 2_950));
    assert_ne!(from_a, from_b);
    let mut expected: Vec<Bytes> = (0..2_950).map(|n| stage.pattern.payload(n)).collect();
    for sequence in [&mut from_a, &mut from_b, &mut expected] {
        sequence.sort();
    }
    assert_eq!((&from_a, &from_b), (&expected, &expected));
}

#[tokio::test]
async fn a_later_subscriber_joins_where_the_schedule_is_and_a_finish_ends_it_for_all() {
    let mut args = args(2_000.0, None);
    args.wait_subscribers = 1;
    let stage = Stage::new(args).await;
    let mut a = stage.subscribe("a");
    a.opened().await;
    let first = payloads(&mut a, 500).await;
    let mut b = stage.subscribe("b");
    b.opened().await;
    payloads(&mut b, 100).await;
    let entry = stage.server.ledger().connections[1].clone();
    assert!(entry.path == "b" && entry.first_n > 400, "{entry:?}");
    // The same over HTTP, as the chaos tests end a feed.
    let answer = http(stage.server.address(), "POST /finish").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    stage.finished().await;
    let ledger = stage.server.ledger();
    assert_eq!(ledger.covered, [(0, ledger.last_n.expect("messages were sent") + 1)]);
    assert!(ledger.connections.iter().all(|entry| entry.next_n == ledger.sent()), "{ledger:?}");
    let rest = payloads(&mut a, ledger.sent() as usize - first.len()).await;
    let all: Vec<Bytes> = (0..ledger.sent()).map(|n| stage.pattern.payload(n)).collect();
    assert_eq!([first, rest].concat(), all);
}

#[tokio::test]
async fn closes_and_drops_reach_the_chosen_path_only() {
    let mut args = args(5_000.0, Some(5_000));
    args.faults.close_every_ms = Some(150);
    args.faults.fault_path = Some("b".into());
    let stage = Stage::new(args).await;
    let (mut a, mut b) = (stage.subscribe("a"), stage.subscribe("b"));
    a.opened().await;
    b.opened().await;
    let closed = async {
        loop {
            if let FeedEvent::Closed { reason, .. } = b.event().await {
                return reason;
            }
        }
    };
    let (from_a, reason) = tokio::join!(payloads(&mut a, 5_000), closed);
    assert_eq!(from_a.len(), 5_000);
    assert_eq!(reason, "the server closed the connection: 1001 the feed restarts");
    let ended: BTreeSet<_> =
        stage.server.ledger().connections.into_iter().filter(|e| e.ended.is_some()).map(|e| e.path).collect();
    assert_eq!(ended, BTreeSet::from(["b".to_owned()]));
}

#[tokio::test]
async fn orders_take_a_path_down_and_up_and_reset_it() {
    let mut args = args(500.0, None);
    args.wait_subscribers = 1;
    let stage = Stage::new(args).await;
    let address = stage.server.address();
    let mut b = stage.subscribe("b");
    b.opened().await;
    payloads(&mut b, 50).await;
    for order in ["POST /close/nothing", "POST /explode/b", "GET /down/b", "POST /close/a"] {
        let answer = http(address, order).await;
        assert_eq!(answer.starts_with("HTTP/1.1 200"), order == "POST /close/a", "{order}: {answer}");
    }
    http(address, "POST /down/b").await;
    let refused = loop {
        if let FeedEvent::ConnectFailed { reason, .. } = b.event().await {
            break reason;
        }
    };
    assert!(refused.contains("503"), "{refused}");
    http(address, "POST /up/b").await;
    while !matches!(b.event().await, FeedEvent::Opened { .. }) {}
    http(address, "POST /reset/b").await;
    while !matches!(b.event().await, FeedEvent::Closed { .. }) {}
    let ended: Vec<_> = stage.server.ledger().connections.into_iter().filter_map(|entry| entry.ended).collect();
    assert_eq!(ended, ["fault: closed", "fault: reset"]);
}

#[tokio::test]
async fn a_silent_line_is_credited_with_nothing_and_speaks_again() {
    let mut args = args(2_000.0, None);
    args.pattern.channels = 3;
    let stage = Stage::new(args).await;
    let (address, pattern) = (stage.server.address(), &stage.pattern);
    let (mut a, mut b) = (stage.subscribe("a"), stage.subscribe("b"));
    a.opened().await;
    b.opened().await;
    payloads(&mut a, 50).await;
    let n_of = |payload: &Bytes| pattern.recognise(payload);
    // One channel of three: what comes is of the other two, and the ledger has it from the other line.
    assert!(http(address, "POST /silence/a/1").await.starts_with("HTTP/1.1 200"));
    until(|| stage.server.ledger().connections[0].sent + 20 < stage.server.ledger().connections[1].sent).await;
    let speaking: Vec<Bytes> = drained(&mut a).await;
    let latest = &speaking[speaking.len() - 100..];
    assert!(latest.iter().all(|payload| !payload.windows(12).any(|part| part == b"\"channel\":1,")), "{latest:?}");
    // All of it, on both lines: nothing is sent, so nothing is owed.
    for order in ["POST /silence/a", "POST /silence/b"] {
        assert!(http(address, order).await.starts_with("HTTP/1.1 200"), "{order}");
    }
    let quiet = stage.server.ledger();
    let positions = |ledger: &Ledger| ledger.connections.iter().map(|entry| entry.next_n).max();
    until(|| positions(&stage.server.ledger()) > positions(&quiet).map(|n| n + 500)).await;
    let later = stage.server.ledger();
    assert!(later.sent() <= quiet.sent() + 100, "{} {}", later.sent(), quiet.sent());
    for order in ["POST /speak/a", "POST /speak/b"] {
        assert!(http(address, order).await.starts_with("HTTP/1.1 200"), "{order}");
    }
    drained(&mut a).await;
    let spoken = payloads(&mut a, 10).await;
    assert!(spoken.iter().all(|payload| n_of(payload).is_some()));
    assert!(stage.server.ledger().covered.len() >= 2, "a hole where nobody was sent anything");
}

#[tokio::test]
async fn a_muted_connection_is_cured_by_the_next() {
    let mut args = args(1_000.0, None);
    args.wait_subscribers = 1;
    let stage = Stage::new(args).await;
    let address = stage.server.address();
    let mut a = stage.subscribe("a");
    a.opened().await;
    payloads(&mut a, 20).await;
    http(address, "POST /mute/a").await;
    let entry = |id: usize| stage.server.ledger().connections.get(id).cloned();
    let sent = || entry(0).map(|entry| (entry.sent, entry.next_n)).expect("a connection");
    until(|| sent().0 + 200 < sent().1).await;
    http(address, "POST /close/a").await;
    until(|| entry(1).is_some_and(|entry| entry.sent > 50)).await;
}

#[tokio::test]
async fn each_connection_says_for_itself_what_it_is_told_to() {
    let mut args = args(1.0, None);
    (args.paths, args.wait_subscribers) = (vec!["a".into()], 9);
    args.faults.manners = Manners {
        greet_after_ms: Some(0),
        answer: true,
        heartbeat_every_ms: Some(5),
        keep_alive_every_ms: Some(7),
        await_subscription: false,
    };
    let stage = Stage::new(args).await;
    let mut one = stage.subscribe("a");
    one.opened().await;
    let said = payloads(&mut one, 20).await;
    let text = |payload: &Bytes| String::from_utf8_lossy(payload).into_owned();
    assert_eq!(text(&said[0]), r#"{"own":"greeting","connection":1,"number":1,"seed":3}"#);
    let is_beat = |payload: &Bytes| text(payload).contains("heartbeat\",\"connection\":1,");
    assert!(said[1..].iter().all(is_beat), "{said:?}");
    let mut status = one.handle.status();
    let kept_alive = status.wait_for(|status| status.keep_alives > 3);
    tokio::time::timeout(DEADLINE, kept_alive).await.expect("in time").expect("running");
}

#[tokio::test]
async fn a_subscription_is_answered_and_opens_the_feed_unless_it_comes_before_the_greeting() {
    for greet_after_ms in [None, Some(60_000)] {
        let mut args = args(500.0, None);
        args.wait_subscribers = 1;
        args.faults.manners = Manners { greet_after_ms, answer: true, await_subscription: true, ..Manners::default() };
        let stage = Stage::new(args).await;
        let options = [("websocket.subscription.message", "subscribe")];
        let mut a = Feed::start_with(subscription(&stage.server.url("a"), &options));
        a.opened().await;
        let entry = || stage.server.ledger().connections[0].clone();
        if greet_after_ms.is_none() {
            let said = payloads(&mut a, 20).await;
            assert_eq!(said[0], r#"{"own":"answer","connection":1,"number":1,"seed":3}"#);
            assert!(said[1..].iter().all(|payload| stage.pattern.recognise(payload).is_some()), "{said:?}");
        } else {
            until(|| entry().next_n > 100).await;
            assert_eq!((entry().sent, drained(&mut a).await.len()), (0, 0));
        }
    }
}

#[tokio::test]
async fn marked_lines_carry_the_same_messages_in_other_bytes() {
    let mut args = args(5_000.0, Some(500));
    (args.pattern.mark_connections, args.pattern.repeats) = (true, 0.0);
    (args.faults.lack, args.faults.fault_path) = (Some(50), Some("b".into()));
    let stage = Stage::new(args).await;
    let (mut a, mut b) = (stage.subscribe("a"), stage.subscribe("b"));
    a.opened().await;
    b.opened().await;
    stage.finished().await;
    let (of_a, of_b) = (drained(&mut a).await, drained(&mut b).await);
    let marked = |of: &[Bytes], mark| of.iter().all(|payload| stage.pattern.connection(payload) == Some(mark));
    assert!(marked(&of_a, 1) && marked(&of_b, 2));
    let ledger = stage.server.ledger();
    assert_eq!((of_a.len(), ledger.sent(), ledger.connections[0].sent), (500, 500, 500));
    assert!((470..500).contains(&of_b.len()), "{}", of_b.len());
    assert_eq!(ledger.connections[1].sent, of_b.len() as u64);
}

#[tokio::test]
async fn a_pause_stops_the_schedule_for_all() {
    let stage = Stage::new(args(2_000.0, None)).await;
    let address = stage.server.address();
    assert!(http(address, "POST /pause").await.starts_with("HTTP/1.1 409"), "nothing has begun");
    let (mut a, mut b) = (stage.subscribe("a"), stage.subscribe("b"));
    a.opened().await;
    b.opened().await;
    payloads(&mut b, 100).await;
    assert!(http(address, "POST /pause").await.starts_with("HTTP/1.1 200"));
    assert!(http(address, "POST /pause").await.starts_with("HTTP/1.1 409"));
    // What nobody reads is not sent for ever.
    drained(&mut a).await;
    drained(&mut b).await;
    let both = || stage.server.ledger().connections.iter().map(|entry| entry.next_n).collect::<Vec<_>>();
    until(|| both().windows(2).all(|pair| pair[0] == pair[1])).await;
    assert_eq!(stage.server.ledger().sent(), both()[0]);
    assert!(http(address, "POST /resume").await.starts_with("HTTP/1.1 200"));
    let before = both()[0];
    until(|| both()[0] > before + 100).await;
    let ledger = stage.server.ledger();
    assert_eq!(ledger.covered.len(), 1, "a pause leaves no hole");
    assert!(ledger.timetable().is_some_and(|table| table.pauses == ledger.pauses), "{ledger:?}");
}

#[tokio::test]
async fn a_refusal_says_when_to_come_again_and_is_noted() {
    let mut args = args(500.0, None);
    args.wait_subscribers = 1;
    let stage = Stage::new(args).await;
    let address = stage.server.address();
    assert!(http(address, "POST /refuse/a/30").await.starts_with("HTTP/1.1 200"));
    let upgrade = "GET /a HTTP/1.1\r\nsec-websocket-key: x";
    let answer = http(address, upgrade).await;
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("\r\nRetry-After: 30\r\n"), "{answer}");
    let refusals = stage.server.ledger().refusals;
    assert_eq!(refusals.iter().map(|r| (r.path.as_str(), r.retry_after_s)).collect::<Vec<_>>(), [("a", 30)]);
    stage.subscribe("b").opened().await;
}

#[tokio::test]
async fn a_connection_that_is_sent_nothing_is_closed() {
    let mut args = args(500.0, None);
    (args.faults.silent, args.faults.close_idle_ms) = (true, Some(30));
    args.wait_subscribers = 1;
    let stage = Stage::new(args).await;
    let mut a = stage.subscribe("a");
    a.opened().await;
    while !matches!(a.event().await, FeedEvent::Closed { .. }) {}
    until(|| stage.server.ledger().connections[0].ended.as_deref() == Some("fault: closed")).await;
    assert_eq!(stage.server.ledger().sent(), 0);
}

/// Everything that has come so far.
async fn drained(feed: &mut Feed) -> Vec<Bytes> {
    let mut all = Vec::new();
    while let Ok(mut one) = tokio::time::timeout(Duration::from_millis(100), payloads(feed, 1)).await {
        all.append(&mut one);
        if all.len() > 20_000 {
            break;
        }
    }
    all
}

async fn until(condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waited).await.expect("within the deadline");
}

#[tokio::test]
async fn a_backfill_begins_with_the_latest_messages() {
    let mut args = args(20_000.0, Some(500));
    (args.wait_subscribers, args.backfill, args.jitter_ms) = (1, 100, 0);
    let stage = Stage::new(args).await;
    let mut a = stage.subscribe("a");
    a.opened().await;
    let all = payloads(&mut a, 500).await;
    stage.finished().await;
    let mut later = stage.subscribe("a");
    later.opened().await;
    assert!(payloads(&mut later, 100).await == all[400..]);
}

#[tokio::test]
async fn every_capture_is_replayed_line_by_line() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dedup/tests/feeds");
    let capture: PathBuf = dir.join("bitmex.tsv");
    let mut args = args(20_000.0, Some(2_120 + 100));
    args.pattern.replay = Some(capture.clone());
    args.wait_subscribers = 1;
    let stage = Stage::new(args).await;
    let mut a = stage.subscribe("a");
    a.opened().await;
    let sent = payloads(&mut a, 2_220).await;
    let text = std::fs::read_to_string(capture).expect("the capture");
    let lines: Vec<&str> = text.lines().map(|line| line.split_once('\t').expect("a tab").1).collect();
    assert_eq!(lines.len(), 2_120);
    assert!(sent[50..2_170].iter().zip(&lines).all(|(sent, line)| sent == line));
    assert!(sent[..50].iter().chain(&sent[2_170..]).all(|bridge| bridge.starts_with(b"{\"n\":")));
}

#[tokio::test]
async fn anything_else_gets_an_answer() {
    let stage = Stage::new(args(1.0, None)).await;
    let address = stage.server.address();
    assert!(http(address, "GET /nothing").await.starts_with("HTTP/1.1 404"));
    let ledger = http(address, "GET /ledger").await;
    let body = ledger.split_once("\r\n\r\n").expect("a body").1;
    let ledger: twinfeed_node::tools::feed::Ledger = serde_json::from_str(body).expect("the ledger");
    assert_eq!((ledger.first_n, ledger.finished, ledger.pattern.seed), (None, false, 3));
}

async fn http(address: SocketAddr, request: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
    stream.write_all(format!("{request} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    answer
}

#[derive(clap::Parser)]
enum Cli {
    Feed(Args),
    Verify(twinfeed_node::tools::verify::Args),
}

#[test]
fn the_command_lines_of_feed_and_verify_are_understood() {
    use clap::Parser;
    let parse = |line: &str| Cli::try_parse_from(format!("twinfeed {line}").split_whitespace());
    let feed = "feed --listen 127.0.0.1:0 --paths x,y --rate 5000 --size 200 --repeats 0.3 --hot 20 --seed 2 --count 9 \
                --skew-ms 20 --jitter-ms 3 --reorder-ms 5 --close-every-ms 100 --fault-path y --wait-subscribers 2";
    let Ok(Cli::Feed(args)) = parse(feed) else { panic!("feed") };
    assert_eq!((args.paths, args.count, args.pattern.seed), (vec!["x".into(), "y".into()], Some(9), 2));
    let Ok(Cli::Feed(args)) = parse("feed") else { panic!("defaults") };
    assert_eq!(args.paths, ["a", "b"]);
    assert!(parse("feed --count 1 --seconds 1").is_err());
    let Ok(Cli::Verify(args)) = parse("verify --topic t --feed http://127.0.0.1:1 --follow --json") else { panic!() };
    assert!(args.follow && args.json && args.feed.is_some());
    assert!(parse("verify --topic t --seed 3 --first 1 --last 9").is_ok());
    assert!(parse("verify --topic t").is_err(), "neither a feed nor a range");
    assert!(parse("verify --topic t --feed http://x --last 9").is_err());
}

/// Prints what a core carries; asserts only that everything arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throughput_of_two_subscriptions() {
    let mut args = args(60_000.0, Some(120_000));
    args.pattern.size = 200;
    let stage = Stage::new(args).await;
    let (mut a, mut b) = (stage.subscribe("a"), stage.subscribe("b"));
    a.opened().await;
    b.opened().await;
    let (began, cpu) = (Instant::now(), cpu_time());
    let (from_a, from_b) = tokio::join!(a.frames(120_000), b.frames(120_000));
    let (wall, cpu) = (began.elapsed(), cpu_time() - cpu);
    assert_eq!((from_a.len(), from_b.len()), (120_000, 120_000));
    println!("240000 frames of 200 B in {wall:?}; server and two sessions used {cpu:?} of CPU");
}

fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    // utime and stime, in ticks of 10 ms.
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 10)
}
