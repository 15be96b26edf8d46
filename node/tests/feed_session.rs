//! A feed session and servers that mean well: order, batches, subscriptions, reconnects, backpressure, stopping.

#![allow(clippy::disallowed_methods, reason = "tests spawn their own servers")]

mod feed_kit;

use std::time::{Duration, Instant};

use bytes::Bytes;
use feed_kit::{DEADLINE, Feed, QUICK, listen, subscription, texts};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};
use twinfeed_node::{
    feed::{Ended, SecretSources},
    model::frame::FrameKind,
};

#[tokio::test]
async fn ten_thousand_frames_arrive_in_order_and_in_batches() {
    let server = listen().await;
    let mut feed = Feed::start(&server.url, &[]);
    let (mut socket, _) = server.websocket().await;
    let sending = tokio::spawn(async move {
        for n in 0..10_000 {
            let message = if n % 2 == 0 { Message::text(n.to_string()) } else { Message::binary(n.to_string()) };
            socket.feed(message).await.expect("sent");
        }
        socket.flush().await.expect("sent");
        socket
    });
    assert_ne!(feed.opened().await, 0);
    let frames = feed.frames(10_000).await;
    let expected: Vec<_> = (0..10_000).map(|n: i32| n.to_string()).collect();
    assert_eq!(texts(&frames), expected);
    assert!(frames.iter().zip(0..).all(|(f, n)| (f.kind == FrameKind::Text) == (n % 2 == 0)));
    assert!(frames.iter().all(|f| f.received_at_ns > 1_600_000_000_000_000_000));
    drop(sending.await.expect("sent all"));
    assert_eq!(feed.stop().await, Ended::Stopped);
}

#[tokio::test]
async fn every_connection_carries_headers_and_subscription_and_a_new_id() {
    let server = listen().await;
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("token"), "t0p\n").expect("written");
    let token = format!("${{file:{}/token}}", dir.path().display());
    let mut pairs = QUICK.to_vec();
    pairs.extend([
        ("websocket.headers", "X-A: one,Authorization: overridden"),
        ("twinfeed.websocket.headers", r#"{"Cookie":"a=b; c=d,e","X-Many":["1","2"]}"#),
        ("websocket.auth.token", token.as_str()),
        ("websocket.subscription.message", r#"{"op":"subscribe"}"#),
        ("twinfeed.websocket.subscription.messages", r#"["second",{"third":3}]"#),
    ]);
    let mut subscription = subscription(&format!("{}?q=1", server.url), &pairs);
    subscription.dial.secrets = SecretSources { file_root: dir.path().into(), ..SecretSources::default() };
    let mut feed = Feed::start_with(subscription, 64);
    let mut ids = Vec::new();
    for _ in 0..3 {
        let (mut socket, request) = server.websocket().await;
        assert_eq!(request.uri(), "/feed?q=1");
        assert_eq!(request.headers()["x-a"], "one");
        assert_eq!(request.headers()["cookie"], "a=b; c=d,e");
        assert_eq!(request.headers().get_all("x-many").iter().collect::<Vec<_>>(), ["1", "2"]);
        let tokens: Vec<_> = request.headers().get_all("authorization").iter().collect();
        assert_eq!(tokens, ["Bearer t0p"]);
        for expected in [r#"{"op":"subscribe"}"#, "second", r#"{"third":3}"#] {
            assert_eq!(socket.next().await.expect("a message").expect("read"), Message::text(expected));
        }
        ids.push(feed.opened().await);
        drop(socket);
        feed.closed().await;
    }
    ids.dedup();
    assert_eq!(ids.len(), 3, "a reconnect is a new subscription");
    assert_eq!(feed.handle.status().borrow().reconnects, 3);
    feed.stop().await;
}

#[tokio::test]
async fn a_close_is_answered_and_followed_by_a_reconnect_without_backoff() {
    let server = listen().await;
    // With the backoff of this configuration the test would miss its deadline.
    let mut feed = Feed::start(&server.url, &[("websocket.reconnect.interval.ms", "3600000")]);
    let (mut socket, _) = server.websocket().await;
    feed.opened().await;
    socket.feed(Message::text("last")).await.expect("sent");
    let away = CloseFrame { code: CloseCode::Away, reason: "bye\n\u{1b}[31m".into() };
    socket.send(Message::Close(Some(away))).await.expect("sent");
    assert_eq!(texts(&feed.frames(1).await), ["last"]);
    assert_eq!(feed.closed().await, "the server closed the connection: 1001 bye\\n\\u{1b}[31m");
    assert!(matches!(socket.next().await, Some(Ok(Message::Close(Some(answer)))) if answer.code == CloseCode::Away));
    let (_socket, _) = server.websocket().await;
    feed.opened().await;
    feed.stop().await;
}

#[tokio::test]
async fn a_reset_is_a_close_with_a_reason() {
    let server = listen().await;
    let mut feed = Feed::start(&server.url, &QUICK);
    let tcp = server.raw().await;
    feed.opened().await;
    tcp.set_zero_linger().expect("a socket option");
    drop(tcp);
    assert!(feed.closed().await.starts_with("connection lost: "));
    let _held = server.raw().await;
    feed.opened().await;
    feed.stop().await;
}

#[tokio::test]
async fn pings_are_answered() {
    let server = listen().await;
    let mut feed = Feed::start(&server.url, &[]);
    let (mut socket, _) = server.websocket().await;
    feed.opened().await;
    socket.send(Message::Ping(Bytes::from_static(b"abc"))).await.expect("sent");
    // The session's own first ping may come before the answer.
    let answered = async {
        loop {
            match socket.next().await.expect("open").expect("read") {
                Message::Pong(payload) => return payload,
                Message::Ping(_) => {}
                other => panic!("expected a pong, got {other:?}"),
            }
        }
    };
    assert_eq!(tokio::time::timeout(DEADLINE, answered).await.expect("in time"), "abc");
    feed.stop().await;
}

#[tokio::test]
async fn a_stopped_session_says_goodbye() {
    let server = listen().await;
    let mut feed = Feed::start(&server.url, &[]);
    let (mut socket, _) = server.websocket().await;
    feed.opened().await;
    let (ended, farewell) = tokio::join!(feed.stop(), socket.next());
    assert_eq!(ended, Ended::Stopped);
    assert!(matches!(farewell, Some(Ok(Message::Close(Some(close)))) if close.code == CloseCode::Normal));
}

#[tokio::test]
async fn a_dropped_handle_or_inbox_ends_the_session() {
    let server = listen().await;
    let feed = Feed::start(&server.url, &[]);
    drop(feed.handle);
    assert_eq!(Feed::ended(feed.running).await, Ended::Stopped);

    let server = listen().await;
    let mut feed = Feed::start(&server.url, &QUICK);
    let (mut socket, _) = server.websocket().await;
    feed.opened().await;
    drop(feed.events);
    socket.send(Message::text("for nobody")).await.expect("sent");
    assert_eq!(Feed::ended(feed.running).await, Ended::Stopped);
}

#[tokio::test]
async fn a_full_inbox_stops_the_reading_and_loses_nothing() {
    let server = listen().await;
    let pairs = [("twinfeed.websocket.ping.interval.ms", "20"), ("twinfeed.websocket.pong.timeout.ms", "200")];
    let mut feed = Feed::start_with(subscription(&server.url, &pairs), 1);
    let (mut socket, _) = server.websocket().await;
    feed.opened().await;
    let payload = "x".repeat(60_000);
    let mut sent = 0;
    // Once the server cannot write any more, the socket is not read: all buffers between are full, whatever their
    // size. The wait is longer than ping interval and pong timeout: not reading must not look like a dead peer.
    while let Ok(result) =
        tokio::time::timeout(Duration::from_millis(500), socket.send(Message::text(format!("{sent:06}{payload}"))))
            .await
    {
        result.expect("the session holds the connection although it does not read");
        sent += 1;
        assert!(sent < 10_000, "the session reads on although its inbox is full");
    }
    // The interrupted message is in the server's buffer and leaves as soon as there is room.
    let sending = tokio::spawn(async move {
        socket.flush().await.expect("flushed");
        socket
    });
    let frames = feed.frames(sent + 1).await;
    for (n, frame) in frames.iter().enumerate() {
        assert_eq!(&frame.payload[..6], format!("{n:06}").as_bytes());
    }
    drop(sending.await.expect("no panic"));
    feed.stop().await;
}

#[tokio::test]
async fn a_refused_connection_is_retried_and_gives_up_when_told_to() {
    let server = listen().await;
    let url = server.url.clone();
    drop(server);
    let mut pairs = QUICK.to_vec();
    pairs.push(("websocket.reconnect.max.attempts", "3"));
    let mut feed = Feed::start(&url, &pairs);
    for n in 1..=3 {
        let (reason, attempt, retry_in_ms) = feed.connect_failed().await;
        assert!(reason.starts_with("cannot connect to 127.0.0.1: "), "{reason}");
        assert_eq!((attempt, retry_in_ms == u64::MAX), (n, n == 3));
    }
    let Ended::GaveUp { reason } = Feed::ended(feed.running).await else { panic!("must give up") };
    assert!(reason.ends_with("gave up after 3 attempts"), "{reason}");
}

#[tokio::test]
async fn without_reconnect_the_first_end_is_final() {
    let server = listen().await;
    let mut feed = Feed::start(&server.url, &[("websocket.reconnect.enabled", "false")]);
    drop(server.raw().await);
    feed.opened().await;
    feed.closed().await;
    assert!(matches!(Feed::ended(feed.running).await, Ended::GaveUp { .. }));
}

#[tokio::test]
async fn stops_promptly_in_the_middle_of_a_dial_and_of_a_wait() {
    let server = listen().await;
    let feed = Feed::start(&server.url, &[]);
    // Accepted and then silent: the session hangs in the upgrade, whose limit is 10 s.
    let _tcp = server.tcp().await;
    let began = Instant::now();
    assert_eq!(feed.stop().await, Ended::Stopped);

    let url = server.url.clone();
    drop(server);
    let hour = "3600000";
    let pairs = [("websocket.reconnect.interval.ms", hour), ("websocket.reconnect.backoff.max.ms", hour)];
    let mut feed = Feed::start(&url, &pairs);
    feed.connect_failed().await;
    assert_eq!(feed.stop().await, Ended::Stopped);
    assert!(began.elapsed() < Duration::from_secs(9), "the limits of the dial were waited for");
}

#[tokio::test]
async fn pongs_keep_a_quiet_feed_open_and_the_idle_limit_ends_it() {
    let pairs = [
        ("twinfeed.websocket.ping.interval.ms", "20"),
        ("twinfeed.websocket.pong.timeout.ms", "150"),
        ("twinfeed.websocket.idle.timeout.ms", "600"),
    ];
    let server = listen().await;
    let mut feed = Feed::start(&server.url, &pairs);
    let (mut socket, _) = server.websocket().await;
    feed.opened().await;
    // Reading is what answers pings.
    let answering = tokio::spawn(async move { while socket.next().await.is_some_and(|read| read.is_ok()) {} });
    assert_eq!(feed.closed().await, "no message for 600 ms (twinfeed.websocket.idle.timeout.ms)");
    feed.stop().await;
    answering.await.expect("no panic");
}
