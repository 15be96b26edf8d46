//! A WebSocket feed in the test's process: one schedule, every connection gets all of it from its connect on, each path
//! with its own delay. A third of the messages repeat an earlier payload.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_tungstenite::tungstenite::{Message, handshake::server};

/// Messages a millisecond.
const PER_MS: u64 = 2;

/// The schedule: message `n` is due `n / PER_MS` milliseconds after the start.
#[derive(Clone)]
pub(crate) struct Feed {
    pub(crate) port: u16,
    start: Instant,
    /// First message that anybody was subscribed for.
    first: Arc<AtomicU64>,
    /// No message from here on.
    end: Arc<AtomicU64>,
    log: Arc<Mutex<()>>,
    finished: Arc<AtomicBool>,
}

pub(crate) fn payload(n: u64) -> Vec<u8> {
    let hash = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    if hash.is_multiple_of(3) {
        format!("{{\"hot\":{}}}", hash % 5).into_bytes()
    } else {
        format!("{{\"n\":{n}}}").into_bytes()
    }
}

impl Feed {
    pub(crate) async fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let feed = Self {
            port: listener.local_addr().expect("bound").port(),
            start: Instant::now(),
            first: Arc::new(AtomicU64::new(u64::MAX)),
            end: Arc::new(AtomicU64::new(u64::MAX)),
            log: Arc::default(),
            finished: Arc::default(),
        };
        let accepting = feed.clone();
        #[expect(clippy::disallowed_methods, reason = "the test's own server")]
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(accepting.clone().connection(stream));
            }
        });
        feed
    }

    fn due(&self, n: u64) -> Instant {
        self.start + Duration::from_micros(n * 1_000 / PER_MS)
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_micros() as u64 * PER_MS / 1_000
    }

    async fn connection(self, stream: TcpStream) {
        let mut path = String::new();
        #[expect(clippy::result_large_err, reason = "the library's signature")]
        let callback = |request: &server::Request, response| {
            request.uri().path().clone_into(&mut path);
            Ok(response)
        };
        let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, callback).await else { return };
        let delay = Duration::from_millis(if path == "/b" { 15 } else { 2 });
        let mut next = {
            let _guard = self.log.lock().expect("not poisoned");
            let next = self.now() + 1;
            self.first.fetch_min(next, Ordering::SeqCst);
            next
        };
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(self.due(next) + delay) => {}
                message = socket.next() => match message { Some(Ok(_)) => continue, _ => return },
            }
            while next < self.end.load(Ordering::SeqCst) && self.due(next) + delay <= Instant::now() {
                let text = String::from_utf8(payload(next)).expect("ASCII");
                if socket.feed(Message::text(text)).await.is_err() {
                    return;
                }
                next += 1;
            }
            if socket.flush().await.is_err() {
                return;
            }
            if next >= self.end.load(Ordering::SeqCst) {
                while let Some(Ok(_)) = socket.next().await {}
                return;
            }
        }
    }

    /// Ends the schedule a little ahead and returns how often each payload was sent.
    pub(crate) fn finish(&self) -> BTreeMap<Vec<u8>, i64> {
        let end = self.now() + 100;
        self.end.store(end, Ordering::SeqCst);
        let mut sent = BTreeMap::new();
        for n in self.first.load(Ordering::SeqCst)..end {
            *sent.entry(payload(n)).or_default() += 1;
        }
        self.finished.store(true, Ordering::SeqCst);
        sent
    }
}
