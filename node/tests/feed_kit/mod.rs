//! The kit of the feed tests: a session under test, and a listener that can play any server. Conditions with a deadline,
//! no sleeps: an event that does not come fails the test.
#![allow(dead_code, reason = "each test binary uses its part of the kit")]
#![allow(clippy::disallowed_methods, reason = "tests spawn the session under test themselves")]
#![allow(clippy::result_large_err, reason = "the type of tungstenite's callback")]

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::handshake::{derive_accept_key, server},
};
use twinfeed_node::{
    feed::{DialOptions, Session, SessionHandle, Subscription, inbox},
    model::{
        connector::Config,
        frame::{FeedEvent, Frame},
        spec::ConnectorSpec,
    },
    queue::Receiver,
};

/// Nothing here takes that long; a test that waits for it has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Retries quickly, so that a test sees the next attempt.
pub(crate) const QUICK: [(&str, &str); 2] =
    [("websocket.reconnect.interval.ms", "1"), ("websocket.reconnect.backoff.max.ms", "20")];

pub(crate) const GOOD_ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: ACCEPT\r\n\r\n";

pub(crate) struct Feed {
    pub(crate) events: Receiver<FeedEvent>,
    pub(crate) handle: SessionHandle,
    pub(crate) running: JoinHandle<()>,
}

pub(crate) fn subscription(url: &str, pairs: &[(&str, &str)]) -> Subscription {
    let mut config: Config = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    config.insert("websocket.url".into(), url.into());
    config.insert("kafka.topic".into(), "t".into());
    let (spec, _) = ConnectorSpec::parse("c", &config).expect("a valid configuration");
    Subscription { url: spec.feed.primary_url.clone(), spec: Arc::new(spec.feed), dial: DialOptions::default() }
}

impl Feed {
    pub(crate) fn start(url: &str, pairs: &[(&str, &str)]) -> Self {
        Self::start_with(subscription(url, pairs))
    }

    pub(crate) fn start_with(subscription: Subscription) -> Self {
        let (out, events) = inbox(&subscription.spec);
        let (session, handle) = Session::new(subscription, out);
        Self { events, handle, running: tokio::spawn(session.run()) }
    }

    pub(crate) async fn event(&mut self) -> FeedEvent {
        let event = tokio::time::timeout(DEADLINE, self.events.recv()).await;
        event.expect("an event within the deadline").expect("a running session")
    }

    pub(crate) async fn opened(&mut self) -> u64 {
        match self.event().await {
            FeedEvent::Opened { subscription, .. } => subscription,
            other => panic!("expected Opened, got {other:?}"),
        }
    }

    pub(crate) async fn frames(&mut self, count: usize) -> Vec<Frame> {
        let mut all = Vec::new();
        while all.len() < count {
            match self.event().await {
                FeedEvent::Frames { frames, .. } => {
                    assert!(!frames.is_empty() && frames.len() <= 256);
                    all.extend(frames);
                }
                other => panic!("expected frames, got {other:?}"),
            }
        }
        all
    }

    pub(crate) async fn closed(&mut self) -> String {
        match self.event().await {
            FeedEvent::Closed { reason, .. } => reason,
            other => panic!("expected Closed, got {other:?}"),
        }
    }

    pub(crate) async fn connect_failed(&mut self) -> (String, u32, u64) {
        match self.event().await {
            FeedEvent::ConnectFailed { reason, attempt, retry_in_ms, .. } => (reason, attempt, retry_in_ms),
            other => panic!("expected ConnectFailed, got {other:?}"),
        }
    }

    /// The last event, and that it is the last.
    pub(crate) async fn gave_up(mut self) -> String {
        let FeedEvent::GaveUp { reason } = self.event().await else { panic!("expected GaveUp") };
        assert!(self.events.recv().await.is_none(), "nothing follows");
        assert_eq!(self.handle.status().borrow().gave_up.as_deref(), Some(reason.as_str()));
        Self::ended(self.running).await;
        reason
    }

    pub(crate) async fn ended(running: JoinHandle<()>) {
        tokio::time::timeout(DEADLINE, running).await.expect("ends within the deadline").expect("no panic");
    }

    pub(crate) async fn stop(self) {
        tokio::time::timeout(DEADLINE, self.handle.stop()).await.expect("stops within the deadline");
        self.running.await.expect("no panic");
    }
}

pub(crate) struct Listening {
    pub(crate) listener: TcpListener,
    pub(crate) url: String,
}

pub(crate) async fn listen() -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("ws://{}/feed", listener.local_addr().expect("an address"));
    Listening { listener, url }
}

impl Listening {
    pub(crate) async fn tcp(&self) -> TcpStream {
        let accepted = tokio::time::timeout(DEADLINE, self.listener.accept()).await;
        accepted.expect("a connection within the deadline").expect("accepted").0
    }

    pub(crate) async fn websocket(&self) -> (WebSocketStream<TcpStream>, server::Request) {
        let mut seen = None;
        let tcp = self.tcp().await;
        let note = |request: &server::Request, response: server::Response| {
            seen = Some(request.clone());
            Ok(response)
        };
        let socket = accept_hdr_async(tcp, note).await.expect("an upgrade");
        (socket, seen.expect("the callback ran"))
    }

    /// Upgrades by hand, for servers that send bytes no library would.
    pub(crate) async fn raw(&self) -> TcpStream {
        self.answering(GOOD_ANSWER).await.0
    }

    /// Answers the upgrade with `answer`, in which `ACCEPT` stands for the right key; also returns the request.
    pub(crate) async fn answering(&self, answer: impl AsRef<[u8]>) -> (TcpStream, String) {
        let mut tcp = self.tcp().await;
        let head = request_head(&mut tcp).await;
        let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
        let accept = derive_accept_key(key.trim().as_bytes());
        let mut answer = answer.as_ref().to_vec();
        if let Some(at) = answer.windows(6).position(|window| window == b"ACCEPT") {
            answer.splice(at..at + 6, accept.into_bytes());
        }
        tcp.write_all(&answer).await.expect("written");
        (tcp, head)
    }
}

pub(crate) async fn request_head(tcp: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.expect("a request"));
    }
    String::from_utf8(head).expect("ascii")
}

pub(crate) fn texts(frames: &[Frame]) -> Vec<&str> {
    frames.iter().map(|frame| std::str::from_utf8(&frame.payload).expect("utf-8")).collect()
}
