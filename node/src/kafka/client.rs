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
    error::KafkaError,
    message::{Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _, PurgeConfig},
};

use super::{
    error::{self, Class, Error, Waited, class, is_invalid_record, names_a_record, rejected},
    events::{Events, Reports},
    markers::{Sight, Span},
    options::{HIDDEN_RETRY_MS, MARKERS_MS_MAX, MESSAGE_TIMEOUT_MS, Options, Target},
    record::{HEADER_KEY, OutRecord, STAMP_BYTES, Stamp, cluster_tag},
};
use crate::faults::{self, Bug, Point};

/// Spins 1 ms per slice (see above), so 0.4 % of a core; bounds how long a finished client lingers.
const POLL_SLICE_MS: u64 = 250;
/// librdkafka's own bound on a record's framing, rounded up (rd_kafka_msg_max_wire_size, rdkafka_msg.h).
pub(super) const FRAMING_BYTES_MAX: usize = 128 + HEADER_KEY.len() + STAMP_BYTES;
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

/// A producer object. Dropping it never blocks: the object is destroyed on another thread.
pub(super) struct Client {
    producer: Arc<BaseProducer<Events>>,
    target: Target,
    cluster: u32,
    bootstrap: String,
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
        let producer: BaseProducer<Events> = options
            .for_producer(transactional_id)
            .create_with_context(Events::default())
            // The text may repeat a value, and so a secret; `Options::check` has named bad properties before.
            .map_err(|_| rejected("the producer's configuration", "see the properties passed through"))?;
        Ok(Self {
            producer: Arc::new(producer),
            target: target.clone(),
            cluster: cluster_tag(&options.cluster),
            bootstrap: options.bootstrap.clone(),
            stop: Arc::new(AtomicBool::new(false)),
            polled: false,
        })
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
        // (rdkafka_txnmgr.c:2231, 2316), but never sooner than this. A late first copy would end a *later* transaction
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

    /// The own transaction is open, so the last stable offset is at its first record, unless something else is open before.
    fn is_something_open_before(&self, spans: &[Span]) -> Result<bool, Error> {
        for (partition, records) in spans {
            let stable = self.stable_offset(*partition, Duration::from_millis(LOOK_MS_MAX));
            if Sight::of(records, stable.map_err(|e| error::before_commit(&e))?) == Sight::Hidden {
                return Ok(true);
            }
        }
        Ok(false)
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

    fn undeliverable(&self, error: &KafkaError, record: &OutRecord) -> Error {
        let code = error.rdkafka_error_code();
        self.consequence(
            code.map_or(Class::Other, class),
            error.to_string(),
            code.filter(|c| names_a_record(*c)).map(|_| record),
        )
    }

    /// Names one cause for all failed records: fencing before anything else, and of several refused records the
    /// largest, since librdkafka fails a whole batch for one record that is too large.
    fn undelivered(&self, reports: &Reports, records: &[OutRecord]) -> Error {
        if let Some((code, why)) = self.producer.client().fatal_error() {
            return self.consequence(class(code), why, None);
        }
        if let Some(failed) = reports.failed.iter().find(|failed| is_invalid_record(failed.code)) {
            return Error::InvalidRecords { why: KafkaError::MessageProduction(failed.code).to_string() };
        }
        let rank = |class| match class {
            Class::Fenced => 3,
            Class::Rejected => 2,
            Class::TopicMissing => 1,
            Class::Unreachable | Class::Other => 0,
        };
        let size = |position: usize| records.get(position).map_or(0, |record| record.payload.len());
        let worst = reports.failed.iter().max_by_key(|failed| (rank(class(failed.code)), size(failed.position)));
        let Some(worst) = worst else {
            return Error::Aborted { why: "a record failed without a reason".to_owned() };
        };
        let why = KafkaError::MessageProduction(worst.code).to_string();
        let why = format!("{} of {} records failed: {why}", reports.failed.len(), records.len());
        let record = records.get(worst.position).filter(|_| names_a_record(worst.code));
        self.consequence(class(worst.code), why, record)
    }

    /// Before EndTxn was sent nothing can have been committed, so what is neither fenced nor refused is `Aborted`.
    fn consequence(&self, class: Class, why: String, record: Option<&OutRecord>) -> Error {
        match class {
            Class::Fenced => Error::Fenced { why },
            Class::TopicMissing => Error::TopicMissing { topic: self.target.topic.clone(), why },
            Class::Rejected => match record {
                Some(record) => refused_record(record, &self.target.topic, why),
                None => rejected(format!("to write to topic {}", self.target.topic), why),
            },
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

/// Names the first record that the client would not take, before a transaction is begun for it.
pub(super) fn check_sizes(records: &[OutRecord], bytes_max: usize, topic: &str) -> Result<(), Error> {
    match records.iter().find(|record| record.payload.len() + FRAMING_BYTES_MAX > bytes_max) {
        Some(record) => {
            let limit = format!("message.max.bytes is {bytes_max}, framing included; raise it here and at the topic");
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
        sequence: Some(sequence),
    }
}

/// Starts a detached thread; returns whether it runs.
fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> bool {
    thread::Builder::new().name(name.to_owned()).spawn(body).is_ok()
}
