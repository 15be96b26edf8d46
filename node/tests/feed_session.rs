//! A feed session and servers that mean well: order, batches, subscriptions, reconnects, backpressure, stopping.

#![allow(clippy::disallowed_methods, reason = "tests spawn their own servers")]

mod feed_kit;

use std::time::{Duration, Instant};

use bytes::Bytes;
use feed_kit::{DEADLINE, Feed, QUICK, listen, subscription, texts};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};
use twinfeed_node::{
    feed::SecretSources,
    model::frame::{EndKind, FeedEvent, FrameKind},
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
    feed.stop().await;
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
    let mut feed = Feed::start_with(subscription);
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
    let ((), farewell) = tokio::join!(feed.stop(), socket.next());
    assert!(matches!(farewell, Some(Ok(Message::Close(Some(close)))) if close.code == CloseCode::Normal));
}

#[tokio::test]
async fn a_dropped_handle_or_inbox_ends_the_session() {
    let server = listen().await;
    let feed = Feed::start(&server.url, &[]);
    drop(feed.handle);
    Feed::ended(feed.running).await;

    let server = listen().await;
    let mut feed = Feed::start(&server.url, &QUICK);
    let (mut socket, _) = server.websocket().await;
    feed.opened().await;
    drop(feed.events);
    socket.send(Message::text("for nobody")).await.expect("sent");
    Feed::ended(feed.running).await;
}

/// Sends messages of `bytes` until nothing takes them any more, which is how full all buffers between are. Returns how
/// many were sent, the last one perhaps in part: it leaves the server's buffer as soon as there is room.
async fn fill(socket: &mut WebSocketStream<TcpStream>, bytes: usize) -> usize {
    let (mut sent, payload) = (0, "x".repeat(bytes - 6));
    // The wait is longer than ping interval and pong timeout of the tests: not reading must not look like a dead peer.
    while let Ok(result) =
        tokio::time::timeout(Duration::from_millis(500), socket.send(Message::text(format!("{sent:06}{payload}"))))
            .await
    {
        result.expect("the session holds the connection although it does not read");
        sent += 1;
        assert!(sent < 10_000, "the session reads on although its inbox is full");
    }
    sent + 1
}

#[tokio::test]
async fn a_full_inbox_stops_the_reading_and_loses_nothing() {
    let server = listen().await;
    let pairs = [
        ("twinfeed.websocket.ping.interval.ms", "20"),
        ("twinfeed.websocket.pong.timeout.ms", "200"),
        ("twinfeed.websocket.message.bytes.max", "65536"),
    ];
    let mut feed = Feed::start(&server.url, &pairs);
    let (mut socket, _) = server.websocket().await;
    feed.opened().await;
    let sent = fill(&mut socket, 60_000).await;
    let waiting = feed.events.bytes();
    assert!((512 * 1024..=1024 * 1024).contains(&waiting), "{waiting} bytes wait in an inbox of 1 MiB");
    let sending = tokio::spawn(async move {
        socket.flush().await.expect("flushed");
        socket
    });
    let frames = feed.frames(sent).await;
    for (n, frame) in frames.iter().enumerate() {
        assert_eq!(&frame.payload[..6], format!("{n:06}").as_bytes());
    }
    assert_eq!(feed.events.bytes(), 0);
    drop(sending.await.expect("no panic"));
    feed.stop().await;
}

#[tokio::test]
async fn no_more_frames_wait_than_the_key_says() {
    for size in [1, 100] {
        let server = listen().await;
        let size_text = size.to_string();
        let mut feed = Feed::start(&server.url, &[("websocket.message.queue.size", size_text.as_str())]);
        let (mut socket, _) = server.websocket().await;
        feed.opened().await;
        let sent = fill(&mut socket, 9_000).await;
        let mut waiting = 0;
        while let Some(FeedEvent::Frames { frames, .. }) = feed.events.try_recv() {
            waiting += frames.len();
        }
        assert!((size / 2..=size).contains(&waiting), "{waiting} frames wait in a queue of {size}");
        let (_, frames) = tokio::join!(socket.flush(), feed.frames(sent - waiting));
        assert_eq!(frames.len(), sent - waiting);
        feed.stop().await;
    }
}

#[tokio::test]
async fn a_refused_connection_is_retried_and_gives_up_when_told_to() {
    let server = listen().await;
    let url = server.url.clone();
    drop(server);
    let mut pairs = QUICK.to_vec();
    pairs.push(("websocket.reconnect.max.attempts", "3"));
    let mut feed = Feed::start(&url, &pairs);
    for n in 1..=2 {
        let (reason, attempt, _) = feed.connect_failed().await;
        assert!(reason.starts_with("cannot connect to 127.0.0.1: "), "{reason}");
        assert_eq!(attempt, n);
    }
    let reason = feed.gave_up().await;
    assert!(reason.starts_with("cannot connect to 127.0.0.1: "), "{reason}");
    assert!(reason.ends_with("gave up after 3 attempts"), "{reason}");
}

#[tokio::test]
async fn without_reconnect_the_first_end_is_final() {
    for brings in [false, true] {
        let server = listen().await;
        let mut feed = Feed::start(&server.url, &[("websocket.reconnect.enabled", "false")]);
        let (mut socket, _) = server.websocket().await;
        feed.opened().await;
        if brings {
            socket.send(Message::text("one")).await.expect("sent");
            feed.frames(1).await;
        }
        socket.close(None).await.expect("closed");
        feed.closed().await;
        let reason = feed.gave_up().await;
        assert!(reason.ends_with("websocket.reconnect.enabled is false"), "{reason}");
    }
}

#[tokio::test]
async fn without_reconnect_the_first_refusal_is_final() {
    let server = listen().await;
    let (url, pairs) = (server.url.clone(), [("websocket.reconnect.enabled", "false")]);
    drop(server);
    let reason = Feed::start(&url, &pairs).gave_up().await;
    assert!(reason.ends_with("websocket.reconnect.enabled is false"), "{reason}");
}

#[tokio::test]
async fn connections_that_bring_no_message_use_up_the_attempts() {
    let keep_alives = [Message::text(""), Message::binary(""), Message::text(" \n"), Message::Ping(Bytes::new())];
    let server = listen().await;
    let mut pairs = QUICK.to_vec();
    pairs.push(("websocket.reconnect.max.attempts", "3"));
    let mut feed = Feed::start(&server.url, &pairs);
    for _ in 0..3 {
        let (mut socket, _) = server.websocket().await;
        feed.opened().await;
        for message in &keep_alives {
            socket.send(message.clone()).await.expect("sent");
        }
        socket.close(None).await.expect("closed");
        assert_eq!(feed.closed().await, "the server closed the connection without a code");
    }
    let reason = feed.gave_up().await;
    assert_eq!(reason, "the server closed the connection without a code; gave up after 3 attempts");
}

#[tokio::test]
async fn the_attempts_are_used_up_after_a_connection_that_worked_too() {
    let server = listen().await;
    let mut pairs = QUICK.to_vec();
    pairs.push(("websocket.reconnect.max.attempts", "2"));
    let mut feed = Feed::start(&server.url, &pairs);
    let (mut socket, _) = server.websocket().await;
    feed.opened().await;
    socket.send(Message::text("one")).await.expect("sent");
    feed.frames(1).await;
    drop((server, socket));
    feed.closed().await;
    assert_eq!(feed.connect_failed().await.1, 1);
    let reason = feed.gave_up().await;
    assert!(reason.ends_with("gave up after 2 attempts"), "{reason}");
}

#[tokio::test]
async fn a_connection_is_made_anew_when_asked_to() {
    let server = listen().await;
    // With a backoff the test would miss its deadline, with a counted attempt the session would give up.
    let pairs = [("websocket.reconnect.interval.ms", "3600000"), ("websocket.reconnect.max.attempts", "1")];
    let mut feed = Feed::start(&server.url, &pairs);
    // Nothing is there to be ended yet: it must not end what comes of the dial either.
    feed.handle.reconnect("too early");
    let (mut socket, _) = server.websocket().await;
    let first = feed.opened().await;
    feed.handle.reconnect("behind its twin");
    match feed.event().await {
        FeedEvent::Closed { subscription, kind, reason } => {
            assert_eq!((subscription, kind, reason.as_str()), (first, EndKind::Restart, "behind its twin"));
        }
        other => panic!("expected Closed, got {other:?}"),
    }
    assert!(matches!(socket.next().await, Some(Ok(Message::Close(Some(_))))), "the server hears of it");
    // While the next one is being made, a request does nothing.
    feed.handle.reconnect("once more");
    let (mut socket, _) = server.websocket().await;
    assert_ne!(feed.opened().await, first);
    socket.send(Message::text("new")).await.expect("sent");
    assert_eq!(texts(&feed.frames(1).await), ["new"]);
    assert_eq!(feed.handle.status().borrow().reconnects, 1);
    feed.stop().await;
}

#[tokio::test]
async fn stops_promptly_in_the_middle_of_a_dial_and_of_a_wait() {
    let server = listen().await;
    let feed = Feed::start(&server.url, &[]);
    // Accepted and then silent: the session hangs in the upgrade, whose limit is 10 s.
    let _tcp = server.tcp().await;
    let began = Instant::now();
    feed.stop().await;

    let url = server.url.clone();
    drop(server);
    let hour = "3600000";
    let pairs = [("websocket.reconnect.interval.ms", hour), ("websocket.reconnect.backoff.max.ms", hour)];
    let mut feed = Feed::start(&url, &pairs);
    feed.connect_failed().await;
    feed.stop().await;
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

#[tokio::test]
async fn the_status_says_when_a_message_last_came() {
    let server = listen().await;
    let mut feed = Feed::start(&server.url, &[]);
    let (mut socket, _) = server.websocket().await;
    feed.opened().await;
    let mut status = feed.handle.status();
    assert_eq!(status.borrow().last_message_ms, 0);
    socket.send(Message::text("")).await.expect("sent");
    socket.send(Message::text("one")).await.expect("sent");
    let frames = feed.frames(1).await;
    let seen = status.wait_for(|status| status.last_message_ms > 0);
    let seen = tokio::time::timeout(DEADLINE, seen).await.expect("in time").expect("running").clone();
    assert_eq!(seen.last_message_ms, frames[0].received_at_ns / 1_000_000);
    assert_eq!((texts(&frames), seen.keep_alives), (vec!["one"], 1));
    feed.stop().await;
}

#[tokio::test]
async fn a_server_that_says_when_to_come_again_is_left_alone_by_all() {
    for (status, headers, seconds) in [
        (429, "Retry-After: 7", 7),
        (503, "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\nDate: Sun, 06 Nov 1994 08:49:07 GMT", 30),
        (418, "retry-after: 100000", 600),
    ] {
        let server = listen().await;
        let first = subscription(&server.url, &QUICK);
        let second = first.clone();
        let mut feed = Feed::start_with(first);
        server.answering(format!("HTTP/1.1 {status} No\r\n{headers}\r\nContent-Length: 4\r\n\r\nslow")).await;
        let (reason, attempt, retry_in_ms) = feed.connect_failed().await;
        assert!(reason.contains(&format!("answered {status}")) && reason.contains("it asks to wait "), "{reason}");
        assert!(reason.ends_with("it says: slow"), "{reason}");
        assert_eq!((attempt, retry_in_ms), (1, seconds * 1000));
        // Another stream of the same host and node waits with it and says so.
        let other = Feed::start_with(second);
        let mut status = other.handle.status();
        let waits = status.wait_for(|status| status.last_error.starts_with("waits "));
        tokio::time::timeout(DEADLINE, waits).await.expect("in time").expect("running");
        other.stop().await;
        feed.stop().await;
    }
}

#[tokio::test]
async fn a_refusal_without_a_wait_is_answered_by_the_backoff() {
    let server = listen().await;
    let mut feed = Feed::start(&server.url, &QUICK);
    for header in ["X: y", "Retry-After: soon", "Retry-After: 0"] {
        server.answering(format!("HTTP/1.1 429 No\r\n{header}\r\nContent-Length: 0\r\n\r\n")).await;
        let (_, _, retry_in_ms) = feed.connect_failed().await;
        assert!(retry_in_ms <= 20, "{retry_in_ms}");
    }
    feed.stop().await;
}

#[tokio::test]
async fn a_name_and_a_path_of_any_script_are_dialed() {
    let server = listen().await;
    let url = server.url.replace("127.0.0.1", "ｌｏｃａｌｈｏｓｔ").replace("/feed", "/€ a|b?q={\"x\"}");
    let mut feed = Feed::start(&url, &QUICK);
    let (_tcp, head) = server.answering(feed_kit::GOOD_ANSWER).await;
    assert!(head.starts_with("GET /%E2%82%AC%20a%7Cb?q=%7B%22x%22%7D HTTP/1.1\r\nHost: localhost:"), "{head}");
    feed.opened().await;
    feed.stop().await;
}

#[tokio::test]
async fn the_request_names_its_sender() {
    let agent = format!("User-Agent: twinfeed/{}", env!("CARGO_PKG_VERSION"));
    for (headers, expected) in [("X-A: b", agent.as_str()), ("user-agent: mine/1", "user-agent: mine/1")] {
        let server = listen().await;
        let feed = Feed::start(&server.url, &[("websocket.headers", headers)]);
        let (_tcp, head) = server.answering(feed_kit::GOOD_ANSWER).await;
        let agents: Vec<_> = head.lines().filter(|line| line.to_lowercase().starts_with("user-agent")).collect();
        assert_eq!(agents, [expected]);
        feed.stop().await;
    }
}

#[tokio::test]
async fn a_subprotocol_that_was_asked_for_may_be_chosen_or_not() {
    for chosen in ["", "\r\nSec-WebSocket-Protocol: v1.json"] {
        let server = listen().await;
        let mut feed = Feed::start(&server.url, &[("websocket.headers", "Sec-WebSocket-Protocol: v1.json")]);
        let answer = feed_kit::GOOD_ANSWER.replace("\r\n\r\n", &format!("{chosen}\r\n\r\n"));
        let _held = server.answering(answer).await;
        feed.opened().await;
        feed.stop().await;
    }
}
