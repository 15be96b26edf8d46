//! A feed session and servers that are broken or hostile. Each attack must end with a reason that names it, and the
//! session must serve the next connection as if nothing had happened.

#![allow(clippy::disallowed_methods, reason = "tests spawn their own servers")]

mod feed_kit;

use std::time::Duration;

use feed_kit::{Feed, Listening, QUICK, listen, request_head, subscription, texts};
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
    let held = attack(&server).await;
    let reason = loop {
        match feed.event().await {
            FeedEvent::Closed { reason, .. } | FeedEvent::ConnectFailed { reason, .. } => break reason,
            FeedEvent::Opened { .. } | FeedEvent::Frames { .. } => {}
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
    assert!(reason.contains("took longer than 150 ms") || reason.contains("too fragmented"), "{reason}");
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
    let mut feed = Feed::start_with(public_only, 64);
    let (reason, ..) = feed.connect_failed().await;
    assert!(reason.contains("a private or loopback address"), "{reason}");
    feed.stop().await;
}

#[tokio::test]
async fn a_path_that_a_reference_makes_unusable_is_not_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("key"), "can ary").expect("written");
    let url = format!("ws://127.0.0.1:1/${{file:{}/key}}", dir.path().display());
    let mut broken = subscription(&url, &QUICK);
    broken.dial.secrets = SecretSources { file_root: dir.path().into(), ..SecretSources::default() };
    let mut feed = Feed::start_with(broken, 64);
    let (reason, ..) = feed.connect_failed().await;
    assert!(reason.contains("is no URL once its references are resolved") && !reason.contains("can ary"), "{reason}");
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
