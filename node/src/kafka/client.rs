//! One producer object of librdkafka, with the thread that collects its delivery reports. `producer` owns it, calls it
//! from its own thread only, and decides when it is finished; a `Client` never re-opens itself.
//!
//! rdkafka's `poll` returns at its deadline, however many events it saw, and spins through the last millisecond before
//! it; its `flush` and `commit_transaction` poll in 100 ms slices while a report is outstanding. Hence: a thread that
//! polls in long slices, a caller that waits for the reports on a condition, and a commit only when none is missing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig},
};

use super::{
    error::{self, Class, Error, Waited, class, is_invalid_record, is_too_large, rejected},
    events::{Events, Reports, Undelivered},
    markers::{Sight, Span},
    options::{HIDDEN_RETRY_MS, MARKERS_MS_MAX, MESSAGE_TIMEOUT_MS, Options, Target},
    record::{HEADER_KEY, OutRecord, Stamp, cluster_tag},
    topic::NO_KEY,
    topics::Topics,
};
use crate::faults::{self, Bug, Point};

/// Spins 1 ms per slice (see above), so 0.4 % of a core; bounds how long a finished client lingers.
const POLL_SLICE_MS: u64 = 250;
/// Reports are due at message.timeout.ms; the rest is for the threads in between.
const REPORTS_MS_MAX: u64 = MESSAGE_TIMEOUT_MS + 2_000;
const ABANDON_MS_MAX: u64 = 400;
/// Measured after connecting; a few milliseconds in all on a network at ease.
const ROUND_TRIPS: u32 = 5;
const EVENTS_PER_DRAIN_MAX: usize = 32;
/// Transactions given up to close what a predecessor left open: one will do, unless its own marker is forgotten too.
const CLEARS_MAX: usize = 3;
/// One look at the last stable offset.
const LOOK_MS_MAX: u64 = 2_000;
/// Before each look whether a marker is there; it doubles. Usually the first one finds it, within the pause that a next
/// transaction has to keep anyway.
const LOOK_PAUSE_MIN: Duration = Duration::from_millis(1);
const LOOK_PAUSE_MAX: Duration = Duration::from_millis(20);
/// How long what is open in the partition may take to end by itself: the transactions of other streams in the topic
/// last some milliseconds, what a dead predecessor left open does not end.
const OTHERS_MS_MAX: u64 = 100;

/// A producer object. Dropping it never blocks: the object is destroyed on another thread.
pub(super) struct Client {
    producer: Arc<BaseProducer<Events>>,
    target: Target,
    cluster: u32,
    bootstrap: String,
    topics: Topics,
    /// librdkafka puts no more into a batch, unless a record alone is larger.
    batch_bytes: usize,
    /// Set once, to end the poller. Relaxed is enough: it orders nothing but itself.
    stop: Arc<AtomicBool>,
    polled: bool,
}

/// A transaction that is in the topic.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) spans: Vec<Span>,
    /// The commit may contain a hidden second attempt: this client must not begin again.
    pub(super) slow: bool,
    /// From begin to the answered commit.
    pub(super) took: Duration,
    /// From the answered commit to its markers.
    pub(super) settled: Duration,
}

/// A transaction whose records are delivered and which is to be ended.
struct Delivered {
    spans: Vec<Span>,
    began: Instant,
}

impl Client {
    /// Creates the object, which starts to connect in the background.
    pub(super) fn create(options: &Options, transactional_id: &str, target: &Target) -> Result<Self, Error> {
        let batch_bytes = options.batch_bytes(&target.topic);
        let producer: BaseProducer<Events> = options
            .for_producer(transactional_id, batch_bytes)
            .create_with_context(Events::default())
            // The text may repeat a value, and so a secret; `Options::check` has named bad properties before.
            .map_err(|_| rejected("the producer's configuration", "see the properties passed through"))?;
        Ok(Self {
            producer: Arc::new(producer),
            target: target.clone(),
            cluster: cluster_tag(&options.cluster),
            bootstrap: options.bootstrap.clone(),
            topics: options.topics.clone(),
            batch_bytes,
            stop: Arc::new(AtomicBool::new(false)),
            polled: false,
        })
    }

    pub(super) fn batch_bytes(&self) -> usize {
        self.batch_bytes
    }

    /// Connects to a broker and to the partition's leader. The connection to the transaction coordinator cannot be had
    /// before `init`.
    pub(super) fn connect(&self, within: Duration) -> Result<(), Error> {
        let waited = Waited { bootstrap: &self.bootstrap, since: Instant::now() };
        let unanswered = |e: KafkaError| {
            self.drain_events();
            waited.or_trouble(e.to_string(), self.producer.context().take_trouble())
        };
        let (topic, partition) = (self.target.topic.as_str(), self.target.partition);
        let client = self.producer.client();
        let metadata = client.fetch_metadata(Some(topic), within).map_err(unanswered)?;
        let known = metadata.topics().iter().find(|t| t.name() == topic);
        let missing = |why: String| Error::TopicMissing { topic: topic.to_owned(), why };
        match known {
            Some(t) if t.partitions().iter().any(|p| p.id() == partition) => {}
            Some(t) if !t.partitions().is_empty() => {
                return Err(missing(format!("has no partition {partition}, only {}", t.partitions().len())));
            }
            _ => return Err(missing("does not exist".to_owned())),
        }
        // The answer does not matter; the connection that it leaves behind does.
        client.fetch_watermarks(topic, partition, within).map(drop).map_err(unanswered)
    }

    /// A round trip's duration, the shortest of a few: a machine that is busy for a moment is no slow network.
    pub(super) fn round_trip(&self, within: Duration) -> Result<Duration, Error> {
        let waited = Waited { bootstrap: &self.bootstrap, since: Instant::now() };
        let mut shortest = Duration::MAX;
        for _ in 0..ROUND_TRIPS {
            let asked = Instant::now();
            let answer = self.producer.client().fetch_metadata(Some(&self.target.topic), within);
            answer.map_err(|e| waited.or_trouble(e.to_string(), self.producer.context().take_trouble()))?;
            shortest = shortest.min(asked.elapsed());
        }
        Ok(shortest)
    }

    /// Fences every earlier producer of the same transactional id and ends its open transaction. A call that timed out
    /// goes on in the background and may be repeated.
    pub(super) fn init(&self, within: Duration) -> Result<(), Error> {
        let waited = Waited { bootstrap: &self.bootstrap, since: Instant::now() };
        self.producer.init_transactions(within).map_err(|e| {
            self.drain_events();
            error::at_init(&e, waited, self.producer.context().take_trouble())
        })
    }

    /// Starts to collect delivery reports; needed before the first `write`.
    pub(super) fn poll_in_background(&mut self) {
        let (producer, stop) = (Arc::clone(&self.producer), Arc::clone(&self.stop));
        self.polled = spawn("kafka-poll", move || {
            while !stop.load(Ordering::Relaxed) {
                producer.poll(Duration::from_millis(POLL_SLICE_MS));
            }
        });
    }

    /// Writes `records` in one transaction, and returns when they are there for every reader. On any error this client is
    /// finished.
    pub(super) fn write(&self, records: &[OutRecord], commit_within: Duration) -> Result<Written, Error> {
        let delivered = self.deliver(records)?;
        self.commit(delivered, commit_within)
    }

    /// Writes as `write` does, the first records of a producer: if something is open before them, their transaction is
    /// aborted, which closes it, and they are written again. What is still open after the last time belongs to somebody
    /// else.
    pub(super) fn write_first(&self, records: &[OutRecord], commit_within: Duration) -> Result<Written, Error> {
        for _ in 0..CLEARS_MAX {
            let delivered = self.deliver(records)?;
            if !self.is_something_open_before(&delivered.spans)? {
                return self.commit(delivered, commit_within);
            }
            tracing::warn!(topic = %self.target.topic, spans = ?delivered.spans, "producer.cleared");
            self.abort(commit_within)?;
        }
        self.write(records, commit_within)
    }

    /// Begins a transaction and has its records delivered.
    fn deliver(&self, records: &[OutRecord]) -> Result<Delivered, Error> {
        faults::point(Point::OwnerBeforeBegin);
        let began = Instant::now();
        self.producer.begin_transaction().map_err(|e| error::before_commit(&e))?;
        let deadline = began + Duration::from_millis(REPORTS_MS_MAX);
        self.producer.context().expect(records.len());
        for (position, record) in records.iter().enumerate() {
            self.send(position, record)?;
        }
        let reports = self.producer.context().wait_until(deadline);
        if !reports.failed.is_empty() {
            return Err(self.undelivered(&reports, records));
        }
        self.settle(deadline);
        if reports.missing > 0 {
            let why = format!("{} of {} records had no delivery report", reports.missing, records.len());
            return Err(Error::Aborted { why });
        }
        faults::point(Point::OwnerAfterProduce);
        Ok(Delivered { spans: reports.spans, began })
    }

    fn commit(&self, Delivered { spans, began }: Delivered, within: Duration) -> Result<Written, Error> {
        let committing = Instant::now();
        let definite = |outcome| match outcome {
            Err(Error::OutcomeUnknown { .. }) if faults::bug(Bug::UnknownCommitIsSuccess) => Ok(()),
            outcome => outcome,
        };
        definite(self.producer.commit_transaction(within).map_err(|e| error::at_commit(&e)))?;
        let answered = Instant::now();
        // librdkafka re-sends an EndTxn that timed out or lost its connection, with the same epoch and without telling
        // (rd_kafka_txn_handle_EndTxn), but never sooner than this. A late first copy would end a *later* transaction
        // of the same producer. So a slow commit, though it is one, is the last of its producer.
        let slow = answered - committing >= Duration::from_millis(HIDDEN_RETRY_MS);
        definite(self.wait_for_markers(&spans, answered + Duration::from_millis(MARKERS_MS_MAX)))?;
        Ok(Written { spans, slow, took: answered - began, settled: answered.elapsed() })
    }

    /// Aborts the open transaction, so that another can be begun.
    fn abort(&self, within: Duration) -> Result<(), Error> {
        let aborting = Instant::now();
        self.producer.abort_transaction(within).map_err(|e| error::before_commit(&e))?;
        // As with a commit: the late copy of a slow abort would abort a later transaction.
        if aborting.elapsed() >= Duration::from_millis(HIDDEN_RETRY_MS) {
            return Err(Error::Aborted { why: "an abort took so long that it may be repeated".to_owned() });
        }
        Ok(())
    }

    /// Ends what a predecessor left open in the partition and no transaction knows of any more (`markers`): nobody could read
    /// the tail behind it. Called once, before the first write. False: something stays open there, so it is another
    /// producer's. A Kafka that does not say is an error: whoever is asked for the tail then could only wait in vain.
    pub(super) fn clear(&self, options: &Options) -> Result<bool, Error> {
        let partition = self.target.partition;
        let lookup = options.topics.lookup(options)?;
        let deadline = Instant::now() + Duration::from_millis(options.read_ms_max);
        let end = lookup.log_end(&self.target.topic, partition, deadline);
        let end = end.inspect_err(|_| options.topics.failed(&lookup))?;
        if self.is_stable_to(partition, end).map_err(|e| error::before_commit(&e))? {
            return Ok(true);
        }
        tracing::warn!(topic = %self.target.topic, partition, end, "producer.cleared");
        self.producer.begin_transaction().map_err(|e| error::before_commit(&e))?;
        self.producer.context().expect(1);
        // Any record will do, for the marker behind it: it is never committed.
        let out: BaseRecord<'_, (), [u8], usize> =
            BaseRecord::with_opaque_to(&self.target.topic, 0).partition(partition).payload(&[]);
        self.producer.send(out).map_err(|(e, _)| error::before_commit(&e))?;
        self.producer.context().wait_until(Instant::now() + Duration::from_millis(LOOK_MS_MAX));
        self.abort(Duration::from_millis(options.commit_ms_max))?;
        self.is_stable_to(partition, end).map_err(|e| error::before_commit(&e))
    }

    /// The own transaction is open, so the last stable offset is at its first record, unless something else is open before.
    fn is_something_open_before(&self, spans: &[Span]) -> Result<bool, Error> {
        for (partition, records) in spans {
            if !self.is_stable_to(*partition, records.start).map_err(|e| error::before_commit(&e))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the last stable offset reaches `offset`, by itself and soon: transactions of other streams end.
    fn is_stable_to(&self, partition: i32, offset: i64) -> Result<bool, KafkaError> {
        let deadline = Instant::now() + Duration::from_millis(OTHERS_MS_MAX);
        let mut pause = LOOK_PAUSE_MIN;
        loop {
            if self.stable_offset(partition, Duration::from_millis(LOOK_MS_MAX))? >= offset {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LOOK_PAUSE_MAX);
        }
    }

    /// Waits until the records of a committed transaction are closed. A broker that does not answer may have died between
    /// decision and marker, so the outcome is unknown until one does.
    fn wait_for_markers(&self, spans: &[Span], deadline: Instant) -> Result<(), Error> {
        let mut pause = LOOK_PAUSE_MIN;
        for (partition, records) in spans {
            loop {
                thread::sleep(pause);
                pause = (pause * 2).min(LOOK_PAUSE_MAX);
                let left = deadline.saturating_duration_since(Instant::now());
                let stable = self.stable_offset(*partition, left.min(Duration::from_millis(LOOK_MS_MAX)));
                if Instant::now() >= deadline {
                    let looked = stable.map_or_else(|e| e.to_string(), |stable| format!("the topic ends at {stable}"));
                    let why = format!("committed, but its records from {} on do not appear: {looked}", records.start);
                    return Err(Error::OutcomeUnknown { why });
                }
                if stable.is_ok_and(|stable| Sight::of(records, stable) != Sight::Open) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The last stable offset: librdkafka asks as its `isolation.level` says, which is `read_committed` for a producer too.
    fn stable_offset(&self, partition: i32, within: Duration) -> Result<i64, KafkaError> {
        let (_, stable) = self.producer.client().fetch_watermarks(&self.target.topic, partition, within)?;
        Ok(stable)
    }

    /// Asks the coordinator to end the open transaction, so that it does not hold readers back until it expires. Only a
    /// courtesy: nobody waits for it or believes it, and the next `init` does the same with certainty.
    pub(super) fn abandon(&self) {
        let _ = self.producer.abort_transaction(Duration::from_millis(ABANDON_MS_MAX));
    }

    fn send(&self, position: usize, record: &OutRecord) -> Result<(), Error> {
        let stamp = Stamp::of(record, self.cluster).encode();
        let headers =
            OwnedHeaders::new_with_capacity(1).insert(Header { key: HEADER_KEY, value: Some(stamp.as_slice()) });
        let out: BaseRecord<'_, (), [u8], usize> = BaseRecord::with_opaque_to(&self.target.topic, position)
            .partition(self.target.partition)
            .payload(record.payload.as_ref())
            .timestamp(record.timestamp_ms)
            .headers(headers);
        self.producer.send(out).map_err(|(e, _)| self.undeliverable(&e, record))
    }

    /// Waits for librdkafka to count the reported messages as gone: it does so just after the last report, and rdkafka
    /// would meet the moment in between with a 100 ms poll inside the commit.
    fn settle(&self, deadline: Instant) {
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_micros(20));
        }
    }

    /// The client itself does not take a record, so nothing else is to blame.
    fn undeliverable(&self, error: &KafkaError, record: &OutRecord) -> Error {
        let code = error.rdkafka_error_code();
        if code.is_some_and(is_too_large) {
            return refused_record(record, &self.target.topic, error.to_string());
        }
        self.consequence(code.map_or(Class::Other, class), error.to_string())
    }

    /// Names one cause for all failed records, fencing before anything else.
    fn undelivered(&self, reports: &Reports, records: &[OutRecord]) -> Error {
        if let Some((code, why)) = self.producer.client().fatal_error() {
            return self.consequence(class(code), why);
        }
        if let Some(failed) = reports.failed.iter().find(|failed| is_invalid_record(failed.code)) {
            return self.invalid(*failed, records);
        }
        let rank = |class| match class {
            Class::Fenced => 3,
            Class::Rejected => 2,
            Class::TopicMissing => 1,
            Class::Unreachable | Class::Other => 0,
        };
        let Some(worst) = reports.failed.iter().max_by_key(|failed| rank(class(failed.code))) else {
            return Error::Aborted { why: "a record failed without a reason".to_owned() };
        };
        if is_too_large(worst.code) {
            return self.too_large(reports, records);
        }
        let why = KafkaError::MessageProduction(worst.code).to_string();
        self.consequence(
            class(worst.code),
            format!("{} of {} records failed: {why}", reports.failed.len(), records.len()),
        )
    }

    /// Kafka refuses a batch for its size, not a record: only one that was alone in its batch is to blame. Otherwise the
    /// topic's limit was not known, or is lower than when it was asked for, and the next producer makes smaller batches:
    /// in the end each record is alone.
    fn too_large(&self, reports: &Reports, records: &[OutRecord]) -> Error {
        let refused = || reports.failed.iter().filter(|failed| is_too_large(failed.code));
        let largest = refused().filter_map(|failed| records.get(failed.position)).max_by_key(|r| r.payload.len());
        match largest {
            Some(record) if refused().count() == 1 || record.payload.len() > self.batch_bytes => {
                let why = "it is larger than the topic's max.message.bytes; raise that".to_owned();
                refused_record(record, &self.target.topic, why)
            }
            _ => {
                self.topics.learn(&self.target.topic, self.batch_bytes / 2);
                let why = format!("a batch of up to {} bytes is too large for the topic", self.batch_bytes);
                Error::Aborted { why }
            }
        }
    }

    /// Kafka refuses records as they are: for their timestamps, which can be bounded, or for something that stays. Of several
    /// bad records in a batch librdkafka does not tell which; of one alone it does.
    fn invalid(&self, failed: Undelivered, records: &[OutRecord]) -> Error {
        let code = match records.get(failed.position) {
            Some(record) if failed.code == Code::InvalidRecord && records.len() > 1 => self.ask_alone(record),
            _ => Some(failed.code),
        };
        let why = KafkaError::MessageProduction(code.unwrap_or(failed.code)).to_string();
        match code {
            Some(Code::InvalidRecord) => {
                let why = format!("{why}, and not for their timestamps; if {NO_KEY}");
                rejected(format!("records of topic {}", self.target.topic), why)
            }
            _ => Error::InvalidRecords { why },
        }
    }

    /// Begins another transaction with this record alone, never to be committed, and returns what Kafka says of it; `None`:
    /// it takes it, or does not answer.
    fn ask_alone(&self, record: &OutRecord) -> Option<Code> {
        self.abort(Duration::from_millis(LOOK_MS_MAX)).ok()?;
        self.producer.begin_transaction().ok()?;
        self.producer.context().expect(1);
        self.send(0, record).ok()?;
        let reports = self.producer.context().wait_until(Instant::now() + Duration::from_millis(LOOK_MS_MAX));
        reports.failed.first().map(|failed| failed.code)
    }

    /// Before EndTxn was sent nothing can have been committed, so what is neither fenced nor refused is `Aborted`.
    fn consequence(&self, class: Class, why: String) -> Error {
        match class {
            Class::Fenced => Error::Fenced { why },
            Class::TopicMissing => Error::TopicMissing { topic: self.target.topic.clone(), why },
            Class::Rejected => rejected(format!("to write to topic {}", self.target.topic), why),
            Class::Unreachable | Class::Other => Error::Aborted { why },
        }
    }

    /// Lets librdkafka report trouble while nobody polls yet. Each `poll` of zero duration serves at most one event.
    fn drain_events(&self) {
        for _ in 0..EVENTS_PER_DRAIN_MAX {
            self.producer.poll(Duration::ZERO);
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // What is still queued must not be sent by an object that nobody watches.
        self.producer.purge(PurgeConfig::default().queue().inflight());
        if !self.polled {
            // Destroying joins librdkafka's threads. With a poller, the poller drops the last reference.
            let producer = Arc::clone(&self.producer);
            spawn("kafka-drop", move || drop(producer));
        }
    }
}

/// Names the first record that client or topic would not take, before a transaction is begun for it.
pub(super) fn check_sizes(records: &[OutRecord], record_bytes_max: usize, topic: &str) -> Result<(), Error> {
    match records.iter().find(|record| record.payload.len() > record_bytes_max) {
        Some(record) => {
            let limit = format!(
                "at most {record_bytes_max} bytes fit; raise the topic's max.message.bytes, and message.max.bytes if it is set"
            );
            Err(refused_record(record, topic, limit))
        }
        None => Ok(()),
    }
}

fn refused_record(record: &OutRecord, topic: &str, why: String) -> Error {
    let (sequence, bytes) = (record.sequence, record.payload.len());
    Error::Rejected {
        what: format!("record {sequence} of epoch {} ({bytes} bytes) for topic {topic}", record.epoch),
        why,
        record: Some((record.stream, sequence)),
    }
}

/// Starts a detached thread; returns whether it runs.
pub(super) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> bool {
    thread::Builder::new().name(name.to_owned()).spawn(body).is_ok()
}
