//! The listener of the tool feed: subscribers by path, the ledger, and the end of the schedule. One task accepts, one
//! task serves each connection; what they share is here.

use std::{
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
    ledger::{Ledger, Refusal, SubscriberEntry},
    line::{Admission, Line, Obeyed, Order, Withheld},
    request::{Request, answer, refuse, upgrade},
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
    /// By position of their path.
    lines: Mutex<Vec<Line>>,
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
            lines: Mutex::new(args.paths.iter().map(|path| Line::new(&args.faults.on(path))).collect()),
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

    /// Whether a path takes a subscriber now. Asked again once one listens to orders, so that none slips through.
    pub(super) fn admission(&self, path: usize) -> Admission {
        self.lines().get(path).map_or(Admission::Down, |line| line.admission(Instant::now()))
    }

    /// What a path does not send now.
    pub(super) fn withheld(&self, path: usize) -> Withheld {
        self.lines().get(path).map(|line| line.withheld).unwrap_or_default()
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what a POST to `<verb>/<path>` or `<verb>/<path>/<number>` asks for; false if there is no such thing.
    fn obey(&self, order: &str) -> bool {
        let mut parts = order.splitn(3, '/');
        let (Some(verb), Some(name), number) = (parts.next(), parts.next(), parts.next()) else { return false };
        let Some(path) = self.args.paths.iter().position(|path| path == name) else { return false };
        let Ok(number) = number.map(str::parse).transpose() else { return false };
        match self.lines()[path].obey(verb, number, Instant::now()) {
            Obeyed::Unknown => return false,
            Obeyed::Done => {}
            Obeyed::Tell(order) => {
                // Nobody listens: then nobody has to be told.
                let _ = self.orders.send((path, order));
            }
        }
        true
    }

    /// Begins or ends a pause of the whole feed; false if that is how it is already.
    fn pause(&self, begins: bool) -> bool {
        let Some(elapsed) = self.started.borrow().map(|started| started.elapsed()) else { return false };
        let mut ledger = self.ledger();
        if begins { ledger.pauses.begin(elapsed) } else { ledger.pauses.end(elapsed) }
    }

    /// The position that a path has come to by its schedule.
    pub(super) fn due(&self, schedule: &Schedule) -> u64 {
        let Some(elapsed) = self.started.borrow().map(|started| started.elapsed()) else { return 0 };
        schedule.due(elapsed, self.end(), &self.ledger().pauses)
    }

    /// Notes a subscriber; the schedule begins with the last one that is waited for. Returns its id.
    pub(super) fn opened(&self, path: &str, first_n: u64, connected_at_ms: u64) -> u64 {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut ledger = self.ledger();
        let path = path.to_owned();
        ledger.opened(SubscriberEntry { id, path, first_n, next_n: first_n, sent: 0, connected_at_ms, ended: None });
        if ledger.live().count() >= self.args.wait_subscribers {
            self.begin(&mut ledger);
        }
        id
    }

    /// The position at which a subscriber of `schedule` joins now.
    pub(super) fn position(&self, schedule: &Schedule) -> u64 {
        let due = self.due(schedule);
        if self.args.backfill == 0 {
            return due;
        }
        // Whole blocks only, as everything that is due.
        let first = due.saturating_sub(self.args.backfill);
        first - first % schedule.block
    }

    pub(super) fn sent(&self, id: u64, next_n: u64, numbers: Vec<u64>) {
        self.ledger().book(id, next_n, numbers);
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
        let elapsed = self.started.borrow().map_or(Duration::ZERO, |started| started.elapsed());
        let due = self.schedule(0).common(elapsed, self.end(), &self.ledger().pauses);
        self.end.send_replace(Some(due));
        // A feed that nobody waited for long enough to begin ends all the same.
        self.begin(&mut self.ledger());
        self.check_finished();
    }

    fn check_finished(&self) {
        let (Some(end), Some(started)) = (self.end(), *self.started.borrow()) else { return };
        let mut ledger = self.ledger();
        let over = self.schedule(0).common(started.elapsed(), None, &ledger.pauses) >= end;
        // A subscriber that hangs on purpose will never get there; it is not waited for.
        let hangs = |entry: &SubscriberEntry| self.args.faults.on(&entry.path).hang_after_ms.is_some();
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
        match (request.method.as_str(), request.websocket_key.clone(), path) {
            ("GET", Some(key), Some(path)) => self.welcome(stream, path, &key, request.rest).await,
            ("GET", None, _) if name == "ledger" => {
                self.check_finished();
                let body = serde_json::to_string(&*self.ledger()).map_err(std::io::Error::other)?;
                answer(&mut stream, "200 OK", &body).await
            }
            ("POST", None, _) if name == "finish" => {
                self.finish();
                answer(&mut stream, "200 OK", "{}").await
            }
            ("POST", None, _) if name == "pause" || name == "resume" => {
                let done = self.pause(name == "pause");
                answer(&mut stream, if done { "200 OK" } else { "409 Conflict" }, "{}").await
            }
            ("POST", None, _) if self.obey(&name) => answer(&mut stream, "200 OK", "{}").await,
            _ => {
                let paths = self.args.paths.join(", ");
                let body = format!(
                    "{{\"message\":\"paths are {paths} (websocket) and ledger; orders (POST) are finish, pause and \
                     resume, and, with a path, close, reset, mute, down, up, speak, silence, drip, lack, refuse: see \
                     twinfeed feed --help\"}}"
                );
                answer(&mut stream, "404 Not Found", &body).await
            }
        }
    }

    async fn welcome(
        self: &Arc<Self>,
        mut stream: TcpStream,
        path: usize,
        key: &str,
        rest: Vec<u8>,
    ) -> std::io::Result<()> {
        match self.admission(path) {
            Admission::Down => {
                answer(&mut stream, "503 Service Unavailable", "{\"message\":\"the path is down\"}").await
            }
            Admission::Refused(retry_after_s) => {
                let path = self.args.paths[path].clone();
                self.ledger().refused(Refusal { path, at_ms: wall_ms(), retry_after_s });
                refuse(&mut stream, retry_after_s).await
            }
            Admission::Welcome => {
                upgrade(&mut stream, key).await?;
                Subscriber::new(Arc::clone(self), path).run(stream, rest).await;
                Ok(())
            }
        }
    }
}
