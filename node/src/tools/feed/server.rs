//! The listener of the tool feed: subscribers by path, the ledger, and the end of the schedule. One task accepts, one
//! task serves each connection; what they share is here.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{broadcast, watch},
    time::{Instant, timeout},
};
use tracing::debug;

use super::{
    Args, Error,
    ledger::{Ledger, SubscriberEntry},
    request::{Request, answer, upgrade},
    schedule::Schedule,
    subscriber::Subscriber,
};
use crate::{
    clock::wall_ms,
    supervise::{Spawner, TaskHandle, TaskKind},
    tools::pattern::Pattern,
};

/// How long a peer may take for its request.
const REQUEST_MAX: Duration = Duration::from_secs(5);

/// Between an accept that failed and the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Orders that a busy connection may fall behind; it then misses some, as a slow peer does.
const ORDERS_MAX: usize = 16;

/// What a connection is told to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Close politely: everything sent has arrived.
    Close,
    Reset,
}

/// A running feed. Dropping it leaves it running; `stop` ends it, and so does its supervisor.
#[derive(Debug)]
pub struct FeedServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: TaskHandle,
}

/// What the listener and its subscribers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) args: Args,
    pub(super) pattern: Pattern,
    ledger: Mutex<Ledger>,
    /// When message 0 was due; None until enough subscribers are connected.
    started: watch::Sender<Option<Instant>>,
    /// Number of messages after which the schedule is over.
    end: watch::Sender<Option<u64>>,
    finished: watch::Sender<bool>,
    stopped: watch::Sender<bool>,
    /// Orders by position of their path.
    orders: broadcast::Sender<(usize, Order)>,
    /// Positions of the paths that accept nobody.
    down: Mutex<BTreeSet<usize>>,
    next_id: AtomicU64,
}

impl FeedServer {
    /// Listens and serves.
    ///
    /// # Errors
    /// Bad arguments, an unusable capture, or an address that cannot be listened on.
    pub async fn start(args: Args, spawner: &Spawner) -> Result<Self, Error> {
        let pattern = super::pattern(&args)?;
        let bind = |source| Error::Bind { address: args.listen, source };
        let listener = TcpListener::bind(args.listen).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let shared = Arc::new(Shared {
            ledger: Mutex::new(Ledger::new(pattern.args().clone(), args.rate)),
            end: watch::Sender::new(args.end()),
            started: watch::Sender::new(None),
            finished: watch::Sender::new(false),
            stopped: watch::Sender::new(false),
            orders: broadcast::Sender::new(ORDERS_MAX),
            down: Mutex::default(),
            next_id: AtomicU64::new(1),
            pattern,
            args,
        });
        let (accepted, spawner_of_connections) = (Arc::clone(&shared), spawner.clone());
        let accepting = spawner.spawn(TaskKind::Tool, "feed-listener", |_| async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    // Out of descriptors, or the peer was gone before it was accepted: neither ends the feed.
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                let shared = Arc::clone(&accepted);
                spawner_of_connections.spawn(TaskKind::Tool, "feed-connection", |_| async move {
                    if let Err(error) = shared.serve(stream).await {
                        debug!(%error, "connection to the feed ended");
                    }
                    Ok(())
                });
            }
        });
        Ok(Self { address, shared, accepting })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("ws://{}/{path}", self.address)
    }

    /// A copy of the ledger as it is now.
    pub fn ledger(&self) -> Ledger {
        self.shared.ledger().clone()
    }

    /// Ends the schedule: what is due now is the last message.
    pub fn finish(&self) {
        self.shared.finish();
    }

    /// Waits until the schedule is over and all connected subscribers have got everything.
    pub async fn finished(&self) {
        let mut finished = self.shared.finished.subscribe();
        let _ = finished.wait_for(|finished| *finished).await;
    }

    /// Stops listening and drops all connections.
    pub async fn stop(self) {
        self.shared.stopped.send_replace(true);
        self.accepting.stop().await;
    }
}

impl Shared {
    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        // A poisoned ledger is still a ledger: entries are whole at every moment.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn end(&self) -> Option<u64> {
        *self.end.borrow()
    }

    pub(super) fn schedule(&self, path: usize) -> Schedule {
        self.args.schedule(path)
    }

    /// Waits for message 0 to be due.
    pub(super) async fn started(&self) -> Instant {
        let mut started = self.started.subscribe();
        loop {
            if let Some(at) = *started.borrow_and_update() {
                return at;
            }
            // The sender lives in self, so a change is all that can happen.
            let _ = started.changed().await;
        }
    }

    pub(super) async fn stopped(&self) {
        let mut stopped = self.stopped.subscribe();
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }

    /// The next order for a path; none ever when the feed is gone.
    pub(super) async fn order(orders: &mut broadcast::Receiver<(usize, Order)>, path: usize) -> Order {
        loop {
            match orders.recv().await {
                Ok((ordered, order)) if ordered == path => return order,
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    pub(super) fn orders(&self) -> broadcast::Receiver<(usize, Order)> {
        self.orders.subscribe()
    }

    /// Whether a path accepts nobody. Asked again once a subscriber listens to orders, so that none slips through.
    pub(super) fn is_down(&self, path: usize) -> bool {
        self.down().contains(&path)
    }

    fn down(&self) -> std::sync::MutexGuard<'_, BTreeSet<usize>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what a POST to `<verb>/<path>` asks for; false if there is no such verb or path.
    fn obey(&self, order: &str) -> bool {
        let Some((verb, name)) = order.split_once('/') else { return false };
        let Some(path) = self.args.paths.iter().position(|path| path == name) else { return false };
        let order = match verb {
            "close" => Some(Order::Close),
            "reset" => Some(Order::Reset),
            "down" => {
                self.down().insert(path);
                Some(Order::Close)
            }
            "up" => {
                self.down().remove(&path);
                None
            }
            _ => return false,
        };
        // Nobody listens: then nobody has to be sent away.
        order.map(|order| self.orders.send((path, order)));
        true
    }

    /// Notes a subscriber; the schedule begins with the last one that is waited for. Returns its id.
    pub(super) fn opened(&self, path: &str, first_n: u64, connected_at_ms: u64) -> u64 {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut ledger = self.ledger();
        let path = path.to_owned();
        ledger.opened(SubscriberEntry { id, path, first_n, next_n: first_n, connected_at_ms, ended: None });
        if ledger.live().count() >= self.args.wait_subscribers {
            self.begin(&mut ledger);
        }
        id
    }

    /// The position at which a subscriber of `schedule` joins now.
    pub(super) fn position(&self, schedule: &Schedule) -> u64 {
        let due = self.started.borrow().map_or(0, |started| schedule.due(started.elapsed(), self.end()));
        if self.args.backfill == 0 {
            return due;
        }
        // Whole blocks only, as everything that is due.
        let first = due.saturating_sub(self.args.backfill);
        first - first % schedule.block
    }

    pub(super) fn sent_through(&self, id: u64, next_n: u64) {
        self.ledger().sent_through(id, next_n);
        self.check_finished();
    }

    pub(super) fn ended(&self, id: u64, why: &str) {
        self.ledger().ended(id, why.to_owned());
        self.check_finished();
    }

    fn begin(&self, ledger: &mut Ledger) {
        self.started.send_if_modified(|started| {
            let first = started.is_none();
            if first {
                *started = Some(Instant::now());
                ledger.began_at_ms = Some(wall_ms());
            }
            first
        });
    }

    fn finish(&self) {
        let due = self.started.borrow().map_or(0, |started| self.schedule(0).common(started.elapsed(), self.end()));
        self.end.send_replace(Some(due));
        // A feed that nobody waited for long enough to begin ends all the same.
        self.begin(&mut self.ledger());
        self.check_finished();
    }

    fn check_finished(&self) {
        let (Some(end), Some(started)) = (self.end(), *self.started.borrow()) else { return };
        let mut ledger = self.ledger();
        let over = self.schedule(0).common(started.elapsed(), None) >= end;
        // A subscriber that hangs on purpose will never get there; it is not waited for.
        let hangs = |entry: &SubscriberEntry| {
            let here = self.args.faults.fault_path.as_ref().is_none_or(|path| *path == entry.path);
            here && self.args.faults.hang_after_ms.is_some()
        };
        if over && ledger.live().all(|entry| entry.next_n >= end || hangs(entry)) {
            ledger.finished = true;
            self.finished.send_replace(true);
        }
    }

    async fn serve(self: &Arc<Self>, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let Ok(request) = timeout(REQUEST_MAX, Request::read(&mut stream)).await else { return Ok(()) };
        let Some(request) = request? else { return Ok(()) };
        let name = request.path.trim_start_matches('/').to_owned();
        let path = self.args.paths.iter().position(|path| *path == name);
        match (request.method.as_str(), request.websocket_key, path) {
            ("GET", Some(_), Some(path)) if self.is_down(path) => {
                answer(&mut stream, "503 Service Unavailable", "{\"message\":\"the path is down\"}").await
            }
            ("GET", Some(key), Some(path)) => {
                upgrade(&mut stream, &key).await?;
                Subscriber::new(Arc::clone(self), path).run(stream, request.rest).await;
                Ok(())
            }
            ("GET", None, _) if name == "ledger" => {
                self.check_finished();
                let body = serde_json::to_string(&*self.ledger()).map_err(std::io::Error::other)?;
                answer(&mut stream, "200 OK", &body).await
            }
            ("POST", None, _) if name == "finish" => {
                self.finish();
                answer(&mut stream, "200 OK", "{}").await
            }
            ("POST", None, _) if self.obey(&name) => answer(&mut stream, "200 OK", "{}").await,
            _ => {
                let paths = self.args.paths.join(", ");
                let body = format!(
                    "{{\"message\":\"paths are {paths} (websocket), ledger, and finish (POST); POST \
                     close/, reset/, down/ or up/ and a path\"}}"
                );
                answer(&mut stream, "404 Not Found", &body).await
            }
        }
    }
}
