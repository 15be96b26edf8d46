//! Metrics and probes on a listener of their own, so that they answer while the admin API is busy: /metrics, /livez
//! (also /healthz) and /readyz. `node.rs` serves it and passes the checks in; the rooms set them.
//! It answers from memory only: a probe never waits for Raft, Kafka or a feed, and no secret is within its reach.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Query, Request, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
    serve::Listener,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::telemetry::{Exposition, Metrics};

/// Longest life of a connection. A scraper opens a new one; a client that sends nothing cannot keep a place for ever.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);

/// Named checks of one probe. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Checks {
    states: Arc<Mutex<BTreeMap<&'static str, Result<(), String>>>>,
}

/// Sets one check of a probe.
#[derive(Debug, Clone)]
pub struct Check {
    checks: Checks,
    name: &'static str,
}

impl Checks {
    /// Adds a check that fails until it is passed for the first time.
    pub fn add(&self, name: &'static str) -> Check {
        let check = Check { checks: self.clone(), name };
        check.fail("not ready yet");
        check
    }

    fn states(&self) -> BTreeMap<&'static str, Result<(), String>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, name: &'static str, state: Result<(), String>) {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).insert(name, state);
    }
}

impl Check {
    /// The check passes from now on.
    pub fn pass(&self) {
        self.checks.set(self.name, Ok(()));
    }

    /// The check fails from now on; `why` is shown to whoever asks, so it holds no secrets.
    pub fn fail(&self, why: impl Into<String>) {
        self.checks.set(self.name, Err(why.into()));
    }
}

/// What the listener serves.
#[derive(Debug, Clone)]
pub struct Options {
    pub metrics: Metrics,
    /// Must not depend on quorum, Kafka or feeds: an outage of those must not restart every node.
    pub live: Checks,
    /// May this node take work and answer for the cluster.
    pub ready: Checks,
    /// Most connections at a time; further ones wait.
    pub connections_max: usize,
}

/// Serves until `stop` fires; open requests are answered first.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(listener: TcpListener, options: Options, stop: CancellationToken) -> io::Result<()> {
    let listener = Limited { listener, places: Arc::new(Semaphore::new(options.connections_max)) };
    let router = Router::new().fallback(answer).with_state(options);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn answer(
    State(options): State<Options>,
    Query(query): Query<Vec<(String, String)>>,
    request: Request<Body>,
) -> Response {
    let (route, response) = route(&options, &query, &request);
    options.metrics.http_handled(route, response.status().as_u16());
    response
}

/// One table instead of a router: the counted route is a constant, never what a client sent.
fn route(options: &Options, query: &[(String, String)], request: &Request<Body>) -> (&'static str, Response) {
    let path = request.uri().path();
    let route = ["/metrics", "/livez", "/healthz", "/readyz", "/"].into_iter().find(|route| *route == path);
    let Some(route) = route else {
        return ("other", (StatusCode::NOT_FOUND, "no such page; see /\n").into_response());
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let allowed = [(header::ALLOW, "GET, HEAD")];
        return (route, (StatusCode::METHOD_NOT_ALLOWED, allowed, "only GET and HEAD\n").into_response());
    }
    let response = match route {
        "/metrics" => metrics(options, request),
        "/readyz" => probe(&options.ready, query),
        "/" => "/metrics\n/livez\n/readyz\n".into_response(),
        _ => probe(&options.live, query),
    };
    (route, response)
}

fn metrics(options: &Options, request: &Request<Body>) -> Response {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let exposition = Exposition::negotiate(accept);
    ([(header::CONTENT_TYPE, exposition.content_type())], options.metrics.render(exposition)).into_response()
}

/// `?verbose` lists all checks, `?exclude=NAME` leaves one out. What fails is always listed.
fn probe(checks: &Checks, query: &[(String, String)]) -> Response {
    let has = |name: &str| query.iter().any(|(key, _)| key == name);
    let excluded = |check: &str| query.iter().any(|(key, value)| key == "exclude" && value == check);
    let mut lines = String::new();
    let mut passed = true;
    for (name, state) in checks.states().iter().filter(|(name, _)| !excluded(name)) {
        match state {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(why) => lines.push_str(&format!("[-]{name} failed: {why}\n")),
        }
        passed &= state.is_ok();
    }
    match (passed, has("verbose")) {
        (true, false) => "ok\n".into_response(),
        (true, true) => format!("{lines}ok\n").into_response(),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, format!("{lines}failed\n")).into_response(),
    }
}

/// Accepts as long as there is a free place.
struct Limited {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = self.places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        (Connection { stream, end: Box::pin(sleep(CONNECTION_LIFE)), _place: place }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that holds a place and ends by itself.
struct Connection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
