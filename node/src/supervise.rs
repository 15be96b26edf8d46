//! The only file that may call `tokio::spawn`. Every task has a kind, and the kind says what happens when the task
//! fails and when the node stops; a task that ends is logged and counted once, as an exit, an error or a panic.
//! Rooms get a cheap `Spawner`; `node.rs` owns the `Supervisor`, waits for `fatal()` and calls `stop()`.
//! It never restarts anything by itself: who started a task knows whether a new one is still wanted.

use std::{
    any::Any,
    collections::BTreeMap,
    error::Error,
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Why a task ended early: any error, so that `?` works inside tasks.
pub type TaskError = Box<dyn Error + Send + Sync>;

/// Told of every ended task; used to count them.
pub type Observer = Box<dyn Fn(&Ended) + Send + Sync>;

/// What a task is for. Exhaustive on purpose: a new kind must decide how it fails and how it stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaskKind {
    /// The admin gRPC listener.
    AdminServer,
    /// Leader only: from the cluster's view to assignments.
    Coordinator,
    /// From cluster state to running roles.
    Worker,
    /// One WebSocket subscription with its reconnects.
    FeedSession,
    /// One writer: inbox to Kafka.
    Writer,
    /// One relay stream between a standby and an owner.
    Relay,
    /// Reports of this node to the leader.
    Presence,
    /// The leader's end of one node's reports.
    PresenceStream,
    /// One question to a node whether it lives.
    Probe,
    /// Keeps readiness and the metrics of Raft true.
    Readiness,
    /// Writes events that must outlive the process to disk.
    EventJournal,
    /// Bootstrap, join, and changes of the own address.
    Membership,
    /// Part of a tool such as `twinfeed feed`; never in a node.
    Tool,
    /// The gRPC listener for the other nodes.
    InternalServer,
    /// Metrics and probes: the last to go, so that a stopping node can be watched.
    HttpServer,
}

/// What the node does when a task of a kind ends with an error, panics, or ends unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The node cannot work without it: `Supervisor::fatal` fires.
    StopNode,
    /// Its parent sees it through the handle.
    Report,
}

/// What happens to a task of a kind once it was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCancel {
    /// It may finish what is in flight for this long, in milliseconds, and is dropped then.
    Drain { drain_ms_max: u64 },
    /// It is dropped at its next await point.
    Abort,
}

impl TaskKind {
    /// Every kind, in the order in which `Supervisor::stop` ends them.
    pub const STOP_ORDER: [Self; 15] = [
        Self::AdminServer,
        Self::Coordinator,
        Self::Worker,
        Self::FeedSession,
        Self::Writer,
        Self::Relay,
        Self::Presence,
        Self::PresenceStream,
        Self::Probe,
        Self::Readiness,
        Self::Membership,
        // After all that has something to say.
        Self::EventJournal,
        Self::Tool,
        Self::InternalServer,
        Self::HttpServer,
    ];

    /// What an error of this kind means for the node.
    pub const fn on_error(self) -> OnError {
        match self {
            Self::AdminServer
            | Self::Coordinator
            | Self::Worker
            | Self::Presence
            | Self::InternalServer
            | Self::HttpServer => OnError::StopNode,
            Self::FeedSession
            | Self::Writer
            | Self::Relay
            | Self::PresenceStream
            | Self::Probe
            | Self::Readiness
            | Self::EventJournal
            | Self::Membership
            | Self::Tool => OnError::Report,
        }
    }

    /// How a task of this kind ends when it is told to.
    pub const fn on_cancel(self) -> OnCancel {
        match self {
            // The worker drains its writers, and a writer its batch: one commit takes at most message.timeout.ms.
            Self::Worker => OnCancel::Drain { drain_ms_max: 12_000 },
            Self::Writer => OnCancel::Drain { drain_ms_max: 10_000 },
            Self::AdminServer | Self::FeedSession | Self::Relay | Self::InternalServer | Self::HttpServer => {
                OnCancel::Drain { drain_ms_max: 2_000 }
            }
            // One write and one fdatasync.
            Self::EventJournal => OnCancel::Drain { drain_ms_max: 2_000 },
            Self::Coordinator
            | Self::Presence
            | Self::PresenceStream
            | Self::Probe
            | Self::Readiness
            | Self::Membership
            | Self::Tool => OnCancel::Abort,
        }
    }

    /// The kind as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AdminServer => "admin_server",
            Self::Coordinator => "coordinator",
            Self::Worker => "worker",
            Self::FeedSession => "feed_session",
            Self::Writer => "writer",
            Self::Relay => "relay",
            Self::Presence => "presence",
            Self::PresenceStream => "presence_stream",
            Self::Probe => "probe",
            Self::Readiness => "readiness",
            Self::EventJournal => "event_journal",
            Self::Membership => "membership",
            Self::Tool => "tool",
            Self::InternalServer => "internal_server",
            Self::HttpServer => "http_server",
        }
    }
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It returned `Ok`.
    Exit,
    /// It returned an error; the text is the whole chain of sources.
    Error(String),
    /// It panicked; the text is the panic's message.
    Panic(String),
    /// It was told to stop and dropped: at once, or because its drain time was over.
    Aborted,
}

impl Outcome {
    /// The outcome as a metric label.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Error(_) => "error",
            Self::Panic(_) => "panic",
            Self::Aborted => "aborted",
        }
    }
}

/// A task that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub kind: TaskKind,
    pub name: String,
    pub outcome: Outcome,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`: ", self.kind.as_str(), self.name)?;
        match &self.outcome {
            Outcome::Error(why) => write!(f, "error: {why}"),
            Outcome::Panic(why) => write!(f, "panic: {why}"),
            Outcome::Exit => f.write_str("exit"),
            Outcome::Aborted => f.write_str("aborted"),
        }
    }
}

/// What `Supervisor::stop` saw, in order.
#[derive(Debug, Default)]
pub struct StopReport {
    /// Tasks that ended during the stop, oldest first.
    pub ended: Vec<Ended>,
    /// Tasks that still ran when the grace time was over; the process must not wait for them.
    pub left: Vec<(TaskKind, String)>,
}

/// Owns all tasks of a process. When it is dropped, every task is told to stop.
#[derive(Debug)]
pub struct Supervisor {
    shared: Arc<Shared>,
}

/// Starts tasks for a room. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Spawner {
    shared: Arc<Shared>,
}

/// Stops a task, or waits for its end. Dropping the handle leaves the task running.
#[derive(Debug, Clone)]
pub struct TaskHandle {
    stop: CancellationToken,
    outcome: watch::Receiver<Option<Outcome>>,
}

struct Shared {
    /// One per kind, indexed by the kind's number: the children of a stop.
    stops: [CancellationToken; TaskKind::STOP_ORDER.len()],
    trackers: [TaskTracker; TaskKind::STOP_ORDER.len()],
    running: Mutex<BTreeMap<u64, (TaskKind, String)>>,
    next_id: AtomicU64,
    stopping: AtomicBool,
    ended_while_stopping: Mutex<Vec<Ended>>,
    fatal: watch::Sender<Option<Ended>>,
    observer: Observer,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("running", &self.running).finish_non_exhaustive()
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new(Box::new(|_| {}))
    }
}

impl Supervisor {
    /// A supervisor that tells `observer` of every ended task.
    pub fn new(observer: Observer) -> Self {
        Self {
            shared: Arc::new(Shared {
                stops: std::array::from_fn(|_| CancellationToken::new()),
                trackers: std::array::from_fn(|_| TaskTracker::new()),
                running: Mutex::default(),
                next_id: AtomicU64::new(0),
                stopping: AtomicBool::new(false),
                ended_while_stopping: Mutex::default(),
                fatal: watch::Sender::new(None),
                observer,
            }),
        }
    }

    /// A handle to start tasks with.
    pub fn spawner(&self) -> Spawner {
        Spawner { shared: self.shared.clone() }
    }

    /// Waits for the first task that the node cannot work without to fail.
    ///
    /// # Cancel safety
    /// Nothing is lost: a later call returns the same task.
    pub async fn fatal(&self) -> Ended {
        let mut fatal = self.shared.fatal.subscribe();
        let first = fatal.wait_for(Option::is_some).await.expect("the sender lives in self");
        first.clone().expect("waited for Some")
    }

    /// Ends all tasks, kind after kind in `TaskKind::STOP_ORDER`; each kind has its drain time, all together `grace`.
    pub async fn stop(self, grace: Duration) -> StopReport {
        let deadline = Instant::now() + grace;
        self.shared.stopping.store(true, Ordering::SeqCst);
        for kind in TaskKind::STOP_ORDER {
            let slot = kind as usize;
            self.shared.stops[slot].cancel();
            self.shared.trackers[slot].close();
            if timeout_at(deadline, self.shared.trackers[slot].wait()).await.is_err() {
                break;
            }
        }
        // Out of time: the rest is told to stop as well, and what still runs is named.
        self.shared.stops.iter().for_each(CancellationToken::cancel);
        StopReport {
            ended: std::mem::take(&mut *lock(&self.shared.ended_while_stopping)),
            left: lock(&self.shared.running).values().cloned().collect(),
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.stops.iter().for_each(CancellationToken::cancel);
    }
}

impl Spawner {
    /// Starts a task. `work` gets the token that tells it to stop; a task started after the stop of its kind gets a
    /// token that already fired.
    pub fn spawn<W, F>(&self, kind: TaskKind, name: impl Into<String>, work: W) -> TaskHandle
    where
        W: FnOnce(CancellationToken) -> F,
        F: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        let stop = self.shared.stops[kind as usize].child_token();
        let (outcome, outcome_seen) = watch::channel(None);
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let name = name.into();
        lock(&self.shared.running).insert(id, (kind, name.clone()));
        let end = End { shared: self.shared.clone(), id, stop: stop.clone(), outcome };
        let work = supervised(kind, stop.clone(), work(stop.clone()));
        #[expect(clippy::disallowed_methods, reason = "the one place where tasks are born")]
        self.shared.trackers[kind as usize].spawn(async move {
            let outcome = work.await;
            end.report(Ended { kind, name, outcome });
        });
        TaskHandle { stop, outcome: outcome_seen }
    }
}

/// Runs `work` under the stop policy of its kind and says how it ended.
async fn supervised<F>(kind: TaskKind, stop: CancellationToken, work: F) -> Outcome
where
    F: Future<Output = Result<(), TaskError>>,
{
    let overdue = async {
        stop.cancelled().await;
        match kind.on_cancel() {
            OnCancel::Abort => {}
            OnCancel::Drain { drain_ms_max } => sleep(Duration::from_millis(drain_ms_max)).await,
        }
    };
    tokio::select! {
        // The work first: what is finished counts as finished, even when the stop came in the same instant.
        biased;
        result = AssertUnwindSafe(work).catch_unwind() => match result {
            Ok(Ok(())) => Outcome::Exit,
            Ok(Err(error)) => Outcome::Error(chain(error.as_ref())),
            Err(panic) => Outcome::Panic(panic_text(panic.as_ref())),
        },
        () = overdue => Outcome::Aborted,
    }
}

/// The end of one task; reported by itself as aborted when the runtime drops the task.
struct End {
    shared: Arc<Shared>,
    id: u64,
    stop: CancellationToken,
    outcome: watch::Sender<Option<Outcome>>,
}

impl End {
    fn report(self, ended: Ended) {
        let asked = self.stop.is_cancelled();
        log_end(&ended, asked);
        (self.shared.observer)(&ended);
        if self.shared.stopping.load(Ordering::SeqCst) {
            lock(&self.shared.ended_while_stopping).push(ended.clone());
        }
        let failed = match ended.outcome {
            Outcome::Error(_) | Outcome::Panic(_) => true,
            // A server that just returns is as gone as one that failed.
            Outcome::Exit => !asked,
            Outcome::Aborted => false,
        };
        if failed && ended.kind.on_error() == OnError::StopNode {
            self.shared.fatal.send_if_modified(|first| {
                let new = first.is_none();
                first.get_or_insert(ended.clone());
                new
            });
        }
        self.outcome.send_replace(Some(ended.outcome));
    }
}

impl Drop for End {
    fn drop(&mut self) {
        lock(&self.shared.running).remove(&self.id);
        self.outcome.send_if_modified(|outcome| {
            let dropped = outcome.is_none();
            outcome.get_or_insert(Outcome::Aborted);
            dropped
        });
    }
}

impl TaskHandle {
    /// Tells the task to stop and returns at once.
    pub fn cancel(&self) {
        self.stop.cancel();
    }

    /// Tells the task to stop and waits for its end, at most for the drain time of its kind.
    pub async fn stop(self) -> Outcome {
        self.stop.cancel();
        self.ended().await
    }

    /// Waits for the end of the task.
    ///
    /// # Cancel safety
    /// Nothing is lost: a later call returns the same outcome.
    pub async fn ended(&self) -> Outcome {
        let mut outcome = self.outcome.clone();
        match outcome.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().expect("waited for Some"),
            Err(_) => Outcome::Aborted,
        }
    }

    /// Whether the task has ended.
    pub fn is_ended(&self) -> bool {
        self.outcome.borrow().is_some()
    }
}

fn log_end(ended: &Ended, asked: bool) {
    let (kind, name, outcome) = (ended.kind.as_str(), ended.name.as_str(), ended.outcome.as_str());
    match &ended.outcome {
        Outcome::Exit | Outcome::Aborted => {
            tracing::debug!(event = "task.ended", kind, name, outcome, asked, "task ended");
        }
        Outcome::Error(why) | Outcome::Panic(why) => {
            tracing::error!(event = "task.ended", kind, name, outcome, asked, err = why, "task failed");
        }
    }
}

/// An error with all its sources on one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "panicked with a value that is no text".to_owned()
    }
}

/// Locks past a poisoned lock: the maps behind it are whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "supervise_test.rs"]
mod tests;
