//! A feed session and servers that are broken or hostile. Each attack must end with a reason that names it, and the
//! session must serve the next connection as if nothing had happened.

#![allow(clippy::disallowed_methods, reason = "tests spawn their own servers")]

mod feed_kit;

use std::time::Duration;

use feed_kit::{DEADLINE, Feed, GOOD_ANSWER, Listening, QUICK, listen, request_head, subscription, texts};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
};
use twinfeed_node::{
    feed::{AddressPolicy, SecretSources},
    model::frame::FeedEvent,
};

const SHORT_UPGRADE: [(&str, &str); 1] = [("twinfeed.websocket.upgrade.timeout.ms", "150")];
const SMALL_MESSAGES: [(&str, &str); 1] = [("twinfeed.websocket.message.bytes.max", "1024")];

/// Runs an attack and returns what the session says about it. A stream returned by the attack stays open meanwhile.
async fn hostile<F>(pairs: &[(&str, &str)], attack: F) -> String
where
    F: AsyncFnOnce(&Listening) -> Option<TcpStream>,
{
    let server = listen().await;
    let mut all = QUICK.to_vec();
    all.extend_from_slice(pairs);
    let mut feed = Feed::start(&server.url, &all);
    let held = tokio::time::timeout(DEADLINE, attack(&server)).await.expect("the session ends the attack in time");
    let reason = loop {
        match feed.event().await {
            FeedEvent::Closed { reason, .. } | FeedEvent::ConnectFailed { reason, .. } => break reason,
            FeedEvent::Opened { .. } | FeedEvent::Frames { .. } => {}
            FeedEvent::GaveUp { reason } => panic!("gave up: {reason}"),
        }
    };
    drop(held);
    let mut tcp = server.raw().await;
    while !matches!(feed.event().await, FeedEvent::Opened { .. }) {}
    tcp.write_all(b"\x81\x02ok").await.expect("written");
    assert_eq!(texts(&feed.frames(1).await), ["ok"]);
    feed.stop().await;
    reason
}

#[tokio::test]
async fn a_server_that_hangs_in_the_upgrade_is_left() {
    let reason = hostile(&SHORT_UPGRADE, async |server| Some(server.tcp().await)).await;
    assert!(reason.starts_with("the websocket upgrade took longer than 150 ms"), "{reason}");
}

#[tokio::test]
async fn a_connect_that_nobody_answers_is_left() {
    let full = TcpSocket::new_v4().expect("a socket");
    full.bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
    let full = full.listen(1).expect("a listener that accepts nothing");
    let address = full.local_addr().expect("an address");
    // Its queue is full once a connect hangs.
    let mut waiting = Vec::new();
    while let Ok(connected) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        waiting.push(connected.expect("connected"));
    }
    let pairs = [QUICK[0], QUICK[1], ("websocket.connection.timeout.ms", "150")];
    let mut feed = Feed::start(&format!("ws://{address}/"), &pairs);
    let (reason, ..) = feed.connect_failed().await;
    assert!(reason.contains("longer than 150 ms; see websocket.connection.timeout.ms"), "{reason}");
    feed.stop().await;
}

#[tokio::test]
async fn a_server_that_answers_the_upgrade_byte_by_byte_is_left() {
    let reason = hostile(&SHORT_UPGRADE, async |server| {
        let mut tcp = server.tcp().await;
        request_head(&mut tcp).await;
        for byte in b"HTTP/1.1 101 Switching Protocols\r\nX-Padding: ".iter().chain(std::iter::repeat(&b'x')) {
            if tcp.write_all(&[*byte]).await.is_err() {
                break;
            }
            // The pace of the attack, not a synchronisation.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        None
    })
    .await;
    assert!(reason.contains("took longer than 150 ms"), "{reason}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let reason = hostile(&[], async |server| {
        let mut tcp = server.tcp().await;
        request_head(&mut tcp).await;
        let answer = "HTTP/1.1 302 Found\r\nLocation: ws://169.254.169.254/canary\r\nContent-Length: 0\r\n\r\n";
        tcp.write_all(answer.as_bytes()).await.expect("written");
        Some(tcp)
    })
    .await;
    assert!(reason.starts_with("the server answered 302 (redirects are never followed"), "{reason}");
    assert!(!reason.contains("canary"));
}

#[tokio::test]
async fn garbage_instead_of_http_is_an_error() {
    let reason = hostile(&[], async |server| {
        let mut tcp = server.tcp().await;
        request_head(&mut tcp).await;
        tcp.write_all(&[0xff; 4096]).await.expect("written");
        Some(tcp)
    })
    .await;
    assert!(reason.starts_with("the server broke the websocket protocol"), "{reason}");
}

#[tokio::test]
async fn garbage_instead_of_frames_is_an_error() {
    let reason = hostile(&[], async |server| {
        let mut tcp = server.raw().await;
        tcp.write_all(&[0xff; 4096]).await.expect("written");
        Some(tcp)
    })
    .await;
    assert!(reason.starts_with("the server broke the websocket protocol"), "{reason}");
}

#[tokio::test]
async fn a_giant_frame_is_refused_by_its_header() {
    let reason = hostile(&[], async |server| {
        let mut tcp = server.raw().await;
        tcp.write_all(&[0x82, 127, 0, 0, 0, 0, 4, 0, 0, 0]).await.expect("written");
        Some(tcp)
    })
    .await;
    let expected = "67108864 bytes or more exceeds twinfeed.websocket.message.bytes.max (4194304)";
    assert!(reason.contains(expected), "{reason}");
}

#[tokio::test]
async fn a_message_that_grows_by_fragments_is_refused_at_the_limit() {
    let reason = hostile(&SMALL_MESSAGES, async |server| {
        let mut tcp = server.raw().await;
        let mut fragment = vec![0x00, 100];
        fragment.extend([b'x'; 100]);
        let mut first = fragment.clone();
        first[0] = 0x01;
        tcp.write_all(&first).await.expect("written");
        while tcp.write_all(&fragment).await.is_ok() {}
        None
    })
    .await;
    assert!(reason.contains("exceeds twinfeed.websocket.message.bytes.max (1024)"), "{reason}");
}

#[tokio::test]
async fn endless_empty_fragments_end_the_connection() {
    let reason = hostile(&SMALL_MESSAGES, async |server| {
        let mut tcp = server.raw().await;
        tcp.write_all(&[0x01, 0x00]).await.expect("written");
        let fragments = [0x00; 64 * 1024];
        while tcp.write_all(&fragments).await.is_ok() {}
        None
    })
    .await;
    assert!(reason.contains("without completing a message"), "{reason}");
}

#[tokio::test]
async fn a_flood_of_pings_ends_the_connection() {
    let reason = hostile(&SMALL_MESSAGES, async |server| {
        let (mut answers, mut flood) = server.raw().await.into_split();
        let draining = tokio::spawn(async move { tokio::io::copy(&mut answers, &mut tokio::io::sink()).await });
        let pings: Vec<u8> = [0x89, 0x00].repeat(8 * 1024);
        while flood.write_all(&pings).await.is_ok() {}
        draining.abort();
        None
    })
    .await;
    assert!(reason.contains("without completing a message"), "{reason}");
}

#[tokio::test]
async fn text_that_is_not_utf8_is_an_error() {
    let reason = hostile(&[], async |server| {
        let mut tcp = server.raw().await;
        tcp.write_all(&[0x81, 0x02, 0xc3, 0x28]).await.expect("written");
        Some(tcp)
    })
    .await;
    assert!(reason.contains("not utf-8"), "{reason}");
}

#[tokio::test]
async fn a_peer_that_goes_silent_is_found_by_its_missing_pong() {
    let pairs = [("twinfeed.websocket.ping.interval.ms", "20"), ("twinfeed.websocket.pong.timeout.ms", "100")];
    let reason = hostile(&pairs, async |server| Some(server.raw().await)).await;
    assert!(reason.starts_with("neither a message nor a pong within 100 ms of a ping"), "{reason}");
}

#[tokio::test]
async fn a_link_local_address_is_refused_without_a_dial() {
    // The second is the first in decimal notation.
    for url in ["ws://169.254.169.254/latest/meta-data", "ws://2852039166/"] {
        let mut feed = Feed::start(url, &QUICK);
        let (reason, ..) = feed.connect_failed().await;
        assert!(reason.starts_with("refused to connect to ") && reason.contains("a link-local address"), "{reason}");
        feed.stop().await;
    }
}

#[tokio::test]
async fn a_private_address_is_refused_where_the_node_allows_public_ones_only() {
    let server = listen().await;
    let mut public_only = subscription(&server.url, &QUICK);
    public_only.dial.addresses = AddressPolicy::PublicOnly;
    let mut feed = Feed::start_with(public_only);
    let (reason, ..) = feed.connect_failed().await;
    assert!(reason.contains("a private or loopback address"), "{reason}");
    feed.stop().await;
}

#[tokio::test]
async fn a_path_that_a_reference_makes_unusable_is_not_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("key"), "can\u{7}ary").expect("written");
    let url = format!("ws://127.0.0.1:1/${{file:{}/key}}", dir.path().display());
    let mut broken = subscription(&url, &QUICK);
    broken.dial.secrets = SecretSources { file_root: dir.path().into(), ..SecretSources::default() };
    let mut feed = Feed::start_with(broken);
    let (reason, ..) = feed.connect_failed().await;
    assert!(reason.contains("is no URL once its references are resolved") && !reason.contains("ary"), "{reason}");
    feed.stop().await;
}

#[tokio::test]
async fn no_secret_appears_in_any_event_or_status() {
    let server = listen().await;
    let url = server.url.replace("ws://", "ws://user:canary@") + "?token=canary";
    let mut pairs = QUICK.to_vec();
    pairs.extend([("websocket.auth.token", "canary"), ("websocket.headers", "X-Key: canary")]);
    let mut feed = Feed::start(&url, &pairs);
    let mut tcp = server.tcp().await;
    request_head(&mut tcp).await;
    tcp.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 6\r\n\r\ncanary").await.expect("written");
    let (reason, ..) = feed.connect_failed().await;
    assert!(reason.contains("401 (check websocket.auth.token"), "{reason}");
    drop((server, tcp));
    let (other, ..) = feed.connect_failed().await;
    let shown = format!("{reason} {other} {:?}", *feed.handle.status().borrow());
    assert!(!shown.contains("canary"), "{shown}");
    feed.stop().await;
}

#[tokio::test]
async fn a_burst_of_honest_frames_is_no_flood() {
    for (max, size) in [("1024", 400), ("1024", 126), ("2048", 400), ("2048", 2048)] {
        let server = listen().await;
        let pairs = [("twinfeed.websocket.message.bytes.max", max), ("websocket.message.queue.size", "300")];
        let mut feed = Feed::start(&server.url, &pairs);
        let mut tcp = server.raw().await;
        feed.opened().await;
        let mut frame = vec![0x82, 126];
        frame.extend(u16::try_from(size).expect("fits").to_be_bytes());
        frame.extend(vec![b'x'; size]);
        let sending = tokio::spawn(async move {
            tcp.write_all(&frame.repeat(3000)).await.expect("written");
            tcp
        });
        // The inbox is full before it is looked at, and a backlog waits in the socket.
        while feed.events.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(feed.frames(3000).await.len(), 3000);
        drop(sending.await.expect("sent all"));
        feed.stop().await;
    }
}

#[tokio::test]
async fn endless_empty_messages_end_the_connection() {
    let reason = hostile(&SMALL_MESSAGES, async |server| {
        let mut tcp = server.raw().await;
        let empty = [0x81, 0x00, 0x82, 0x00].repeat(16 * 1024);
        while tcp.write_all(&empty).await.is_ok() {}
        None
    })
    .await;
    assert!(reason.contains("without completing a message"), "{reason}");
}

#[tokio::test]
async fn a_server_that_takes_no_bytes_keeps_neither_the_feed_nor_a_stop_waiting() {
    let server = listen().await;
    let pairs = [
        ("twinfeed.websocket.ping.interval.ms", "20"),
        ("twinfeed.websocket.pong.timeout.ms", "3600000"),
        // So many pings are no flood for it.
        ("twinfeed.websocket.message.bytes.max", "67108864"),
    ];
    let mut feed = Feed::start(&server.url, &pairs);
    let mut tcp = server.raw().await;
    feed.opened().await;
    // The answers to these fill every buffer between.
    let mut ping = vec![0x89, 125];
    ping.extend([b'p'; 125]);
    let pings = ping.repeat(128 * 1024);
    let written = tokio::time::timeout(DEADLINE, tcp.write_all(&pings)).await;
    written.expect("the session reads on").expect("written");
    for n in 0..50 {
        tcp.write_all(b"\x81\x02ok").await.expect("written");
        assert_eq!(texts(&feed.frames(1).await), ["ok"], "message {n}");
        // The pace of the server: the session's own pings come due meanwhile.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    feed.stop().await;
}

#[tokio::test]
async fn a_server_that_takes_no_bytes_is_left() {
    let pairs = [
        ("twinfeed.websocket.ping.interval.ms", "20"),
        ("twinfeed.websocket.pong.timeout.ms", "300"),
        ("twinfeed.websocket.message.bytes.max", "67108864"),
    ];
    let reason = hostile(&pairs, async |server| {
        let mut tcp = server.raw().await;
        let mut ping = vec![0x89, 125];
        ping.extend([b'p'; 125]);
        // Its messages go on, so only its deafness is left to tell.
        let mut some = ping.repeat(1000);
        some.extend(b"\x81\x02ok");
        for _ in 0..128 {
            let _ = tcp.write_all(&some).await;
        }
        while tcp.write_all(b"\x81\x02ok").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        None
    })
    .await;
    assert_eq!(reason, "the server took no byte for 300 ms");
}

#[tokio::test]
async fn header_lists_of_an_answer_are_lists() {
    for answer in [
        "HTTP/1.1 101 Switching Protocols\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
         Sec-WebSocket-Accept: ACCEPT\r\n\r\n",
        "HTTP/1.1 101 ok\r\nCONNECTION: keep-alive\r\nconnection: uPGRADE\r\nupgrade: h2c, websocket\r\n\
         sec-websocket-accept: ACCEPT\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Accept: ACCEPT\r\n\r\n",
    ] {
        let server = listen().await;
        let mut feed = Feed::start(&server.url, &QUICK);
        let _held = server.answering(answer).await;
        let event = feed.event().await;
        assert!(matches!(event, FeedEvent::Opened { .. }), "{answer}: {event:?}");
        feed.stop().await;
    }
}

#[tokio::test]
async fn bytes_behind_the_answer_are_the_first_message() {
    let server = listen().await;
    let mut feed = Feed::start(&server.url, &QUICK);
    let _held = server.answering([GOOD_ANSWER.as_bytes(), b"\x01\x01a\x80\x01b"].concat()).await;
    feed.opened().await;
    assert_eq!(texts(&feed.frames(1).await), ["ab"]);
    feed.stop().await;
}

/// What is said of a server that answers so.
async fn said_of(answer: &str) -> String {
    let answer = answer.to_owned();
    hostile(&[], async |server| Some(server.answering(&answer).await.0)).await
}

#[tokio::test]
async fn an_extension_that_was_not_offered_is_named_at_the_handshake() {
    let answer = GOOD_ANSWER.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate; x=1\r\n\r\n");
    let reason = said_of(&answer).await;
    let expected = "the server insists on the extension permessage-deflate, which was not offered; turn it off there";
    assert!(reason.starts_with(expected), "{reason}");
}

#[tokio::test]
async fn a_frame_with_a_reserved_bit_is_named_as_compression() {
    for first in [0xc1_u8, 0xa2, 0x91] {
        let reason = hostile(&[], async |server| {
            let mut tcp = server.raw().await;
            tcp.write_all(&[first, 0x01, b'x']).await.expect("written");
            Some(tcp)
        })
        .await;
        assert!(reason.contains("permessage-deflate") && reason.contains("turn compression off"), "{reason}");
    }
}

#[tokio::test]
async fn a_wrong_key_and_an_unwanted_subprotocol_are_refused() {
    let reason = said_of(&GOOD_ANSWER.replace("ACCEPT", "bm90IHRoZSBrZXk=")).await;
    assert!(reason.starts_with("the server's Sec-WebSocket-Accept is not the answer"), "{reason}");
    let reason = said_of(&GOOD_ANSWER.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: v9\r\n\r\n")).await;
    assert!(reason.starts_with("the server chose the subprotocol v9"), "{reason}");
}

#[tokio::test]
async fn an_answer_without_end_is_refused_at_its_limit() {
    let reason = hostile(&[], async |server| {
        let mut tcp = server.tcp().await;
        request_head(&mut tcp).await;
        let padding = format!("HTTP/1.1 101 ok\r\nX-Padding: {}", "x".repeat(64 * 1024));
        let _ = tcp.write_all(padding.as_bytes()).await;
        Some(tcp)
    })
    .await;
    assert_eq!(reason, "the server's answer to the upgrade is longer than 16384 bytes");
}

#[tokio::test]
async fn a_refusal_is_shown_with_what_it_says() {
    for (answer, expected) in [
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 22\r\n\r\n{\"error\":\n \"no agent\"}",
            r#"the server answered 403 (check websocket.auth.token and websocket.headers); it says: {"error": "no agent"}"#,
        ),
        (
            "HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbad\r\n5\r\n path\r\n0\r\n\r\n",
            "the server answered 400 instead of 101; it says: bad path",
        ),
        ("HTTP/1.1 500 Oops\r\n\r\nno end", "the server answered 500 instead of 101; it says: no end"),
        ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "the server answered 502 instead of 101"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n", "the server answered 200 instead of 101"),
    ] {
        assert_eq!(said_of(answer).await, expected);
    }
}

#[tokio::test]
async fn close_codes_are_shown_as_they_came() {
    for (payload, shown) in [
        (&b"\x13\x89token expired"[..], ": 5001 token expired"),
        (b"\x03\xe7", ": 999"),
        (b"\x03\xec", ": 1004"),
        (b"\x03\xedx", ": 1005 x"),
        (b"\x03\xeereset", ": 1006 reset"),
        (b"\x03\xf7", ": 1015"),
        (b"\x00\x00zero", ": 0 zero"),
        (b"\xff\xffmost", ": 65535 most"),
        (b"\x0f\xa1bye\n", ": 4001 bye\\n"),
        (b"\x0f\xa1\xffx", ": 4001 \u{fffd}x"),
        (b"", " without a code"),
    ] {
        let reason = hostile(&[], async |server| {
            let mut tcp = server.raw().await;
            let length = u8::try_from(payload.len()).expect("short");
            tcp.write_all(&[&[0x81, 0x01, b'x', 0x88, length], payload].concat()).await.expect("written");
            Some(tcp)
        })
        .await;
        assert_eq!(reason, format!("the server closed the connection{shown}"));
    }
}

#[tokio::test]
async fn a_secret_in_the_reason_of_a_close_is_hidden() {
    let reason = hostile(&[("websocket.auth.token", "canary")], async |server| {
        let mut tcp = server.raw().await;
        tcp.write_all(b"\x88\x0e\x0f\xa1bad canary!!").await.expect("written");
        Some(tcp)
    })
    .await;
    assert_eq!(reason, "the server closed the connection: 4001 bad [hidden]!!");
}

#[tokio::test]
async fn keep_alives_are_neither_records_nor_life_of_the_feed() {
    let reason = hostile(&[("twinfeed.websocket.idle.timeout.ms", "400")], async |server| {
        let mut tcp = server.raw().await;
        // Text, binary, in fragments, white space.
        while tcp.write_all(b"\x81\x00\x82\x00\x01\x00\x80\x00\x81\x02\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    })
    .await;
    assert_eq!(reason, "no message for 400 ms (twinfeed.websocket.idle.timeout.ms)");
}

#[tokio::test]
async fn keep_alives_prove_that_the_peer_lives() {
    let server = listen().await;
    let pairs = [("twinfeed.websocket.ping.interval.ms", "20"), ("twinfeed.websocket.pong.timeout.ms", "150")];
    let mut feed = Feed::start(&server.url, &pairs);
    let mut tcp = server.raw().await;
    feed.opened().await;
    // Longer than a pong may take, which never comes.
    for _ in 0..20 {
        tcp.write_all(b"\x81\x00").await.expect("the connection is kept");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tcp.write_all(b"\x81\x02ok").await.expect("written");
    assert_eq!(texts(&feed.frames(1).await), ["ok"]);
    feed.stop().await;
}
