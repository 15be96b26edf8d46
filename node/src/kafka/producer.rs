//! The fenced producer of one writer: `Warm` at the standby, `FencedProducer` at the owner, and the thread behind both.
//! `pipeline` opens it after the assignment has been applied, checks the assignment again once it is open (fencing is
//! "the last init wins", not "the highest epoch wins"), and only then writes.
//!
//! It never opens itself again, whatever happened: an error that ends a producer is returned, and every later call
//! says `Closed`. It never blocks the async runtime either: librdkafka's calls block, so they run on `run`'s thread.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    client::{Client, check_sizes},
    error::{Error, rejected},
    options::{Options, RECORDS_MAX, Target},
    record::OutRecord,
};

/// First patience with `init_transactions`. Two round trips and a commit of the coordinator's log take 4 ms; an *open*
/// transaction of the predecessor does not answer before librdkafka's fixed 500 ms timer. See `open`.
const QUICK_INIT_MS: u64 = 12;
/// On slower networks: this many round trips (find the coordinator, connect, ask for versions, init, and two spare).
const QUICK_INIT_ROUND_TRIPS: u32 = 6;
/// Each further object gets this many times more patience: 12, 48, 192 ms, then whatever is left.
const PATIENCE_GROWTH: u32 = 4;
/// Below librdkafka's 500 ms, so that giving up still beats waiting.
const QUICK_INIT_MS_MAX: u64 = 250;
/// Between a commit and the next begin. Back to back, AddPartitionsToTxn arrives while the coordinator still writes
/// the commit markers, answers CONCURRENT_TRANSACTIONS, and librdkafka waits a fixed 20 ms (rd_kafka_txn_handle_AddPartitionsToTxn).
const BREATHER: Duration = Duration::from_millis(2);
const CONNECT_MS_MAX: u64 = 1_000;
const CONNECT_BACKOFF_MS: u64 = 1_000;
/// Brokers close connections that were idle for 10 minutes by default.
const KEEP_WARM_MS: u64 = 240_000;

type Reply<T> = oneshot::Sender<Result<T, Error>>;

enum Command {
    /// Replies with the largest payload that is taken.
    Open(Reply<usize>),
    Write(Arc<Vec<OutRecord>>, Reply<Committed>),
}

/// What it takes to make one more producer object.
struct Door {
    options: Options,
    transactional_id: String,
    target: Target,
}

/// Two connected producer objects that have not fenced anybody: what a standby holds. Dropping it closes both.
#[derive(Debug)]
pub struct Warm {
    commands: Sender<Command>,
    /// Says nothing but itself, so Relaxed is enough.
    connected: Arc<AtomicBool>,
    target: Target,
}

/// The open producer of a writer. Dropping it is `close`.
#[derive(Debug)]
pub struct FencedProducer {
    commands: Sender<Command>,
    target: Target,
    record_bytes_max: usize,
    /// False once an error or a recycle ended the producer, and while a write is in flight: a caller that drops the
    /// future of a write has given up on an outcome that it can only learn from the tail.
    usable: bool,
}

/// A transaction that is in the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Per touched partition, the offset after the last record. Commit markers take offsets too: the next record comes
    /// at this offset or later.
    pub next_offsets: Vec<(i32, i64)>,
    pub records: usize,
    /// The latest timestamp among them, -1 for none.
    pub timestamp_ms_max: i64,
    /// From begin to the answered commit.
    pub took: Duration,
    /// From the answered commit until readers saw the records; see `markers`.
    pub settled: Duration,
    /// The transaction is committed, but the commit was slow enough to hide a second attempt, so this producer is
    /// finished: open a new one before the next write.
    pub recycle: bool,
}

impl Committed {
    /// From the end of this write to the next begin, at least; what its markers took counts.
    pub fn breather(&self) -> Duration {
        BREATHER.saturating_sub(self.settled)
    }
}

impl FencedProducer {
    /// Makes the two producer objects and connects them in the background. Fails on bad options only; an unreachable
    /// or incomplete Kafka shows when the producer is opened.
    pub fn warm(options: &Options, transactional_id: &str, target: &Target) -> Result<Warm, Error> {
        options.check()?;
        let first = Client::create(options, transactional_id, target)?;
        let second = Client::create(options, transactional_id, target)?;
        let (commands, inbox) = mpsc::channel();
        let connected = Arc::new(AtomicBool::new(false));
        let tell = Arc::clone(&connected);
        let door =
            Door { options: options.clone(), transactional_id: transactional_id.to_owned(), target: target.clone() };
        thread::Builder::new()
            .name("kafka-writer".to_owned())
            .spawn(move || run(&door, (first, second), &inbox, &tell))
            .map_err(|e| rejected("to start a producer thread", e.to_string()))?;
        Ok(Warm { commands, connected, target: target.clone() })
    }

    /// The largest payload that client and topic take, in bytes, as far as the topic's limit could be asked for. What is
    /// larger need not be tried: `write` refuses it without a transaction.
    pub fn record_bytes_max(&self) -> usize {
        self.record_bytes_max
    }

    /// Writes `records` in one transaction and returns when it is committed and closed, so that nothing can undo it; at most
    /// 500,000 records, and at most one write at a time. After an error, except a refusal of a record's size, the producer
    /// is finished.
    pub async fn write(&mut self, records: impl Into<Arc<Vec<OutRecord>>>) -> Result<Committed, Error> {
        let records = records.into();
        if !self.usable {
            return Err(Error::Closed);
        }
        if records.is_empty() {
            return Ok(Committed {
                next_offsets: Vec::new(),
                records: 0,
                timestamp_ms_max: -1,
                took: Duration::ZERO,
                settled: Duration::ZERO,
                recycle: false,
            });
        }
        if records.len() > RECORDS_MAX {
            return Err(rejected("a write", format!("{} records in one write; at most {RECORDS_MAX}", records.len())));
        }
        check_sizes(&records, self.record_bytes_max, &self.target.topic)?;
        self.usable = false;
        let (reply, outcome) = oneshot::channel();
        self.commands.send(Command::Write(records, reply)).map_err(|_| Error::Closed)?;
        let outcome = outcome.await.unwrap_or_else(|_| {
            Err(Error::OutcomeUnknown { why: "the producer's thread ended during the write".to_owned() })
        });
        self.usable = matches!(&outcome, Ok(committed) if !committed.recycle);
        outcome
    }

    /// Ends the producer at once, without draining: what was not committed is for the next owner to decide. An open
    /// transaction is left to the next `init` or to the coordinator's timeout.
    pub fn close(self) {}
}

impl Warm {
    /// Whether both objects were connected when that was last tried.
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Fences every earlier producer of the transactional id and ends its open transaction; bounded by `open_ms_max`.
    /// When it returns, all that the predecessor committed is visible to `read_committed`.
    pub async fn open(self) -> Result<FencedProducer, Error> {
        let (reply, opened) = oneshot::channel();
        self.commands.send(Command::Open(reply)).map_err(|_| Error::Closed)?;
        let record_bytes_max = opened.await.unwrap_or(Err(Error::Closed))?;
        Ok(FencedProducer { commands: self.commands, target: self.target, record_bytes_max, usable: true })
    }
}

/// What a standby keeps connected.
struct Prepared {
    first: Client,
    second: Client,
    /// Of the last time that all were connected.
    round_trip: Option<Duration>,
}

impl Prepared {
    /// Connects, asks how much the topic takes, and replaces objects that would make larger batches. That a topic can take
    /// nothing shows at the first write.
    fn connect(&mut self, door: &Door, within: Duration) -> Result<Duration, Error> {
        self.first.connect(within)?;
        self.second.connect(within)?;
        let (options, topic) = (&door.options, door.target.topic.as_str());
        options.topics.look(options, &door.target, within);
        for client in [&mut self.first, &mut self.second] {
            if options.batch_bytes(topic) < client.batch_bytes() {
                *client = Client::create(options, &door.transactional_id, &door.target)?;
                client.connect(within)?;
            }
        }
        self.second.round_trip(within)
    }
}

/// The life of a producer: warm, opened, writing. It ends with its handle, or with the first outcome that finishes it.
fn run(door: &Door, (first, second): (Client, Client), inbox: &Receiver<Command>, connected: &AtomicBool) {
    let mut prepared = Prepared { first, second, round_trip: None };
    let Some(reply) = stay_warm(door, &mut prepared, inbox, connected) else { return };
    let Prepared { first, second, round_trip } = prepared;
    match open(door, round_trip, first, second) {
        // A caller that no longer waits gets no producer: nobody would close it.
        Ok(mut client) if !reply.is_closed() => {
            client.poll_in_background();
            let cleared = match client.clear(&door.options) {
                Ok(cleared) => cleared,
                Err(error) => return drop(reply.send(Err(error))),
            };
            if reply.send(Ok(door.options.record_bytes_max(&door.target.topic))).is_ok() {
                serve(&door.options, &client, cleared, inbox);
            }
        }
        Ok(_) => {}
        Err(error) => drop(reply.send(Err(error))),
    }
}

/// Keeps all connected until the order to open comes; `None` when the handle is gone.
fn stay_warm(
    door: &Door,
    prepared: &mut Prepared,
    inbox: &Receiver<Command>,
    told: &AtomicBool,
) -> Option<Reply<usize>> {
    let mut wait = Duration::ZERO;
    loop {
        match inbox.recv_timeout(wait) {
            Ok(Command::Open(reply)) => return Some(reply),
            // No handle can write before it is open.
            Ok(Command::Write(_, reply)) => drop(reply.send(Err(Error::Closed))),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {
                let connected = prepared.connect(door, Duration::from_millis(CONNECT_MS_MAX));
                let connected = connected.inspect_err(|error| tracing::debug!(%error, "producer is not warm yet"));
                prepared.round_trip = connected.ok();
                let is_warm = prepared.round_trip.is_some();
                told.store(is_warm, Ordering::Relaxed);
                wait = Duration::from_millis(if is_warm { KEEP_WARM_MS } else { CONNECT_BACKOFF_MS });
            }
        }
    }
}

/// Opens the producer, by one object or another.
///
/// A predecessor that died within a transaction leaves it open. The first InitProducerId then makes the coordinator
/// abort it and answers CONCURRENT_TRANSACTIONS; the abort is done within a few ms, but librdkafka asks again only on
/// a fixed 500 ms timer (rd_kafka_idemp_pid_timer_cb). So an object gets a little patience; after that it has done its
/// duty as a trigger, and the next one, which has no timer running, asks at once. Two are connected in advance, which
/// is enough for a broker at ease (15 ms in all); a slower one meets a third, made on the spot, and only then the
/// fourth waits as long as it takes.
///
/// An object that was given up must be gone before its timer fires: its next InitProducerId would fence our own
/// producer. If it is late, or its first request is still on its way, that costs a `Fenced` and another round through
/// the assignment, never a record.
fn open(door: &Door, round_trip: Option<Duration>, first: Client, second: Client) -> Result<Client, Error> {
    let deadline = Instant::now() + Duration::from_millis(door.options.open_ms_max);
    let left = || deadline.saturating_duration_since(Instant::now());
    let round_trip = match round_trip {
        Some(round_trip) => round_trip,
        // Never connected so far: this names what is wrong better than an init that times out.
        None => first.connect(left()).and_then(|()| first.round_trip(left()))?,
    };
    let began = Instant::now();
    let mut patience = (round_trip * QUICK_INIT_ROUND_TRIPS).max(Duration::from_millis(QUICK_INIT_MS));
    let mut connected = VecDeque::from([first, second]);
    let mut objects = 0;
    loop {
        objects += 1;
        let client = match connected.pop_front() {
            Some(client) => client,
            None => {
                let client = Client::create(&door.options, &door.transactional_id, &door.target)?;
                // Without a connection librdkafka looks for the coordinator once, and again 500 ms later
                // (rd_kafka_txn_coord_query).
                client.connect(left())?;
                client
            }
        };
        let last = patience > Duration::from_millis(QUICK_INIT_MS_MAX);
        match client.init(if last { left() } else { patience.min(left()) }) {
            Ok(()) => {
                let (took, writer) = (began.elapsed(), &door.transactional_id);
                tracing::info!(%writer, objects, ?round_trip, ?took, "producer.opened");
                return Ok(client);
            }
            Err(Error::Unreachable { .. }) if !last && !left().is_zero() => patience *= PATIENCE_GROWTH,
            Err(error) => return Err(error),
        }
        // Here the loop drops `client`: a thread of its own destroys it while the next one asks.
    }
}

/// Writes until the handle is gone or an outcome finishes the producer.
fn serve(options: &Options, client: &Client, cleared: bool, inbox: &Receiver<Command>) {
    let commit_within = Duration::from_millis(options.commit_ms_max);
    let mut may_begin_at = Instant::now();
    let mut must_clear = !cleared;
    while let Ok(command) = inbox.recv() {
        let (records, reply) = match command {
            Command::Write(records, reply) => (records, reply),
            // `Warm` is consumed by opening, so a second order cannot come.
            Command::Open(reply) => {
                drop(reply.send(Err(Error::Closed)));
                continue;
            }
        };
        thread::sleep(may_begin_at.saturating_duration_since(Instant::now()));
        let outcome = if std::mem::take(&mut must_clear) {
            client.write_first(&records, commit_within)
        } else {
            client.write(&records, commit_within)
        };
        let outcome = outcome.map(|written| Committed {
            next_offsets: written.spans.iter().map(|(partition, records)| (*partition, records.end)).collect(),
            records: records.len(),
            timestamp_ms_max: records.iter().map(|record| record.timestamp_ms).max().unwrap_or(-1),
            took: written.took,
            settled: written.settled,
            recycle: written.slow,
        });
        may_begin_at = Instant::now() + outcome.as_ref().map_or(BREATHER, Committed::breather);
        let finished = !matches!(&outcome, Ok(committed) if !committed.recycle);
        let left_open = matches!(
            &outcome,
            Err(Error::Aborted { .. }
                | Error::InvalidRecords { .. }
                | Error::Rejected { .. }
                | Error::TopicMissing { .. })
        );
        // A caller that no longer waits learns the outcome from the tail, like the next owner.
        drop(reply.send(outcome));
        if left_open {
            client.abandon();
        }
        if finished {
            return;
        }
    }
}
