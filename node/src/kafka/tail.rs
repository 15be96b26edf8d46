//! The tail of a topic: what a writer's predecessor committed after the last acknowledgement that the new owner knows.
//! `pipeline` keeps a `TailReader` warm and reads once per takeover, after its own producer is open. It interprets
//! nothing: records come back as they were stamped.

use std::{
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::{BorrowedMessage, Headers as _},
};
use tokio::sync::oneshot;

use super::{
    error::{Class, Error, Waited, class, rejected},
    events::Events,
    options::{Options, Target},
    record::{HEADER_KEY, Stamp, cluster_tag},
    topics::Lookup,
};
use crate::faults::{self, Point};

const CONNECT_MS_MAX: u64 = 1_000;
const CONNECT_BACKOFF_MS: u64 = 1_000;
/// Brokers close connections that were idle for 10 minutes by default.
const KEEP_WARM_MS: u64 = 240_000;
/// Between two looks whether the transactions of other streams in the partition have ended; it doubles.
const SETTLE_PAUSE_MIN: Duration = Duration::from_millis(1);
const SETTLE_PAUSE_MAX: Duration = Duration::from_millis(20);

/// The first step back when the last records are looked for, in offsets; each further one is larger by the factor.
const STEP_BACK: i64 = 2_048;
const STEP_GROWTH: i64 = 8;
/// The furthest look back, in offsets: other streams may fill a topic for a year after the last record of this one.
const LOOK_BACK_MAX: i64 = 1_000_000;
/// Another step back is begun only within this part of `read_ms_max`.
const LOOK_BACK_SHARE: u32 = 4;

/// A committed record of the reader's own stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailRecord {
    pub epoch: u64,
    pub sequence: u64,
    pub fingerprint: u128,
    pub subscription: u64,
    pub index: u64,
    pub partition: i32,
    pub offset: i64,
}

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tail {
    /// In offset order per partition.
    pub records: Vec<TailRecord>,
    /// Per partition, where the next read continues.
    pub next_offsets: Vec<(i32, i64)>,
    /// Records without a header of Twinfeed, skipped.
    pub foreign: usize,
    /// Records of another cluster, skipped: two clusters write to one topic, which no fencing can see.
    pub other_cluster: usize,
    /// Records of other streams of this cluster, skipped: other connectors write to the topic too, which is as it should be.
    pub other_stream: usize,
    /// Highest epoch among `records`; above the reader's own it means that the reader is not the owner any more.
    pub epoch_max: u64,
    /// When the newest of the stream's records was read off the wire, by its writer's clock; 0 without any.
    pub received_at_ns_max: u64,
    /// The topic no longer holds all that was asked for (retention, or it was made anew): records may be missing here
    /// that were written, so that writing them again would duplicate them.
    pub truncated: bool,
}

/// The end of the stream's partition, once it is known.
pub type EndOffsets = oneshot::Receiver<Result<Vec<(i32, i64)>, Error>>;

type Reply<T> = oneshot::Sender<Result<T, Error>>;

enum Command {
    Read(Vec<(i32, i64)>, Reply<Tail>),
    ReadLast(usize, Reply<Tail>),
    /// Settled: once everything that is in the partition now is decided.
    EndOffsets {
        settled: bool,
        reply: Reply<Vec<(i32, i64)>>,
    },
}

/// A connected consumer that belongs to no group. Dropping it closes the consumer on its own thread.
#[derive(Debug)]
pub struct TailReader {
    commands: Sender<Command>,
}

impl TailReader {
    /// Makes the consumer and connects it in the background. Fails on bad options only.
    pub fn warm(options: &Options, target: &Target) -> Result<Self, Error> {
        options.check()?;
        let consumer = options
            .for_reader()
            .create_with_context(Events::default())
            .map_err(|_| rejected("the reader's configuration", "see the properties passed through"))?;
        let reader = Reader { consumer, options: options.clone(), target: target.clone() };
        let (commands, inbox) = mpsc::channel();
        thread::Builder::new()
            .name("kafka-tail".to_owned())
            .spawn(move || reader.run(&inbox))
            .map_err(|e| rejected("to start a reader thread", e.to_string()))?;
        Ok(Self { commands })
    }

    /// Reads everything of the stream that is committed, from the given offsets (partition, offset) to the end that the
    /// partitions have at this call; bounded by `read_ms_max` and `tail_records_max`. What other streams wrote is skipped.
    ///
    /// Complete for a predecessor's records only once a producer of the same transactional id has been opened: Kafka
    /// answers a commit before its markers are written, and until then the end lies before its records. What a forgotten
    /// marker leaves open is never read, and undone by the new producer's first write (`markers`).
    ///
    /// Nothing can be read behind an open transaction, whoever's it is: the predecessor's records may be there, committed.
    /// So it waits for those of other streams; one that does not end makes it fail.
    pub async fn read(&self, from: &[(i32, i64)]) -> Result<Tail, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Read(from.to_vec(), reply)).map_err(|_| Error::Closed)?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Reads the last `records` records of the stream, or all there are: backwards from the end, as far as the records of
    /// other streams in between make it necessary, but by no more than 1,000,000 offsets and a few seconds. Otherwise like
    /// `read`.
    pub async fn read_last(&self, records: usize) -> Result<Tail, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::ReadLast(records, reply)).map_err(|_| Error::Closed)?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Returns the end of the stream's partition, the offset after the last record and its marker, once every transaction
    /// open there now has ended, as for `read`.
    pub async fn end_offsets(&self) -> Result<Vec<(i32, i64)>, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::EndOffsets { settled: true, reply }).map_err(|_| Error::Closed)?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Asks how far the stream's partition can be read now, which may be up to an open transaction, without waiting for the
    /// answer; a reader that ends drops the reply.
    pub fn ask_end_offsets(&self) -> Result<EndOffsets, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::EndOffsets { settled: false, reply }).map_err(|_| Error::Closed)?;
        Ok(answer)
    }
}

/// The consumer on its thread.
struct Reader {
    consumer: BaseConsumer<Events>,
    options: Options,
    target: Target,
}

/// A partition on the way to its end.
struct Progress {
    partition: i32,
    next: i64,
    end: i64,
}

impl Reader {
    fn run(&self, inbox: &Receiver<Command>) {
        let mut wait = Duration::ZERO;
        loop {
            match inbox.recv_timeout(wait) {
                Ok(Command::Read(from, reply)) => {
                    let tail = self.with(|lookup| self.read(&from, lookup));
                    drop(reply.send(tail));
                }
                Ok(Command::ReadLast(records, reply)) => {
                    let tail = self.with(|lookup| self.read_last(records, lookup));
                    drop(reply.send(tail));
                }
                Ok(Command::EndOffsets { settled: true, reply }) => {
                    let ends = self.with(|lookup| {
                        let deadline = self.deadline();
                        self.check_topic(deadline)?;
                        Ok(vec![(self.target.partition, self.settled(self.target.partition, lookup, deadline)?.1)])
                    });
                    drop(reply.send(ends));
                }
                Ok(Command::EndOffsets { settled: false, reply }) => drop(reply.send(self.ends(self.deadline()))),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    let deadline = Instant::now() + Duration::from_millis(CONNECT_MS_MAX);
                    let (topic, partition) = (self.target.topic.as_str(), self.target.partition);
                    let connected = self
                        .ends(deadline)
                        .and_then(|_| self.with(|lookup| lookup.log_end(topic, partition, deadline)));
                    let connected = connected.inspect_err(|error| tracing::debug!(%error, "reader is not warm yet"));
                    wait = Duration::from_millis(if connected.is_ok() { KEEP_WARM_MS } else { CONNECT_BACKOFF_MS });
                }
            }
        }
    }

    /// Asks with the node's shared client at hand.
    fn with<T>(&self, ask: impl FnOnce(&Lookup) -> Result<T, Error>) -> Result<T, Error> {
        let lookup = self.options.topics.lookup(&self.options)?;
        ask(&lookup).inspect_err(|_| self.options.topics.failed(&lookup))
    }

    fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.options.read_ms_max)
    }

    /// Asks for the readable end of the stream's partition, which also connects to its leader.
    fn ends(&self, deadline: Instant) -> Result<Vec<(i32, i64)>, Error> {
        self.check_topic(deadline)?;
        Ok(vec![(self.target.partition, self.watermarks(self.target.partition, deadline)?.1)])
    }

    fn check_topic(&self, deadline: Instant) -> Result<(), Error> {
        let waited = Waited { bootstrap: &self.options.bootstrap, since: Instant::now() };
        let left = deadline.saturating_duration_since(Instant::now());
        let Target { topic, partition, .. } = &self.target;
        let metadata = self.consumer.fetch_metadata(Some(topic), left).map_err(|e| self.failed(&e, waited))?;
        let missing = |why: String| Err(Error::TopicMissing { topic: topic.clone(), why });
        match metadata.topics().iter().find(|found| found.name() == topic).map(|found| found.partitions()) {
            None | Some([]) => missing("does not exist".to_owned()),
            Some(found) if found.iter().any(|found| found.id() == *partition) => Ok(()),
            Some(found) => missing(format!("has no partition {partition}, only {}", found.len())),
        }
    }

    /// Returns the first offset and the end; for a `read_committed` consumer the end is the last stable offset.
    fn watermarks(&self, partition: i32, deadline: Instant) -> Result<(i64, i64), Error> {
        let waited = Waited { bootstrap: &self.options.bootstrap, since: Instant::now() };
        let left = deadline.saturating_duration_since(Instant::now());
        self.consumer.fetch_watermarks(&self.target.topic, partition, left).map_err(|e| self.failed(&e, waited))
    }

    /// The same, once the end has reached what is in the log at this call.
    fn settled(&self, partition: i32, lookup: &Lookup, deadline: Instant) -> Result<(i64, i64), Error> {
        // The last look must have time for its answer.
        let settled_by = Instant::now() + deadline.saturating_duration_since(Instant::now()) / 4 * 3;
        let mut pause = SETTLE_PAUSE_MIN;
        let (first, mut end) = self.watermarks(partition, deadline)?;
        let log_end = lookup.log_end(&self.target.topic, partition, deadline)?;
        while end < log_end {
            if Instant::now() >= settled_by {
                let why = format!(
                    "a transaction of another producer is open in partition {partition} of {} at offset {end} and hides what \
                     is behind it; kafka-transactions.sh find-hanging names it",
                    self.target.topic
                );
                return Err(Error::OutcomeUnknown { why });
            }
            thread::sleep(pause);
            pause = (pause * 2).min(SETTLE_PAUSE_MAX);
            end = self.watermarks(partition, deadline)?.1;
        }
        Ok((first, end))
    }

    fn read(&self, from: &[(i32, i64)], lookup: &Lookup) -> Result<Tail, Error> {
        let deadline = self.deadline();
        let mut tail = Tail::default();
        let mut open = Vec::new();
        for &(partition, offset) in from {
            let (first, end) = self.settled(partition, lookup, deadline)?;
            // Beyond the end only if the topic was made anew: then everything in it is newer than what was asked for.
            let next = if offset > end { first } else { offset.max(first) };
            tail.truncated |= next != offset;
            tail.next_offsets.push((partition, next));
            if next < end {
                open.push(Progress { partition, next, end });
            }
        }
        self.read_ranges(&mut tail, open, deadline)?;
        tail.tell(&self.target.topic);
        Ok(tail)
    }

    fn read_last(&self, records: usize, lookup: &Lookup) -> Result<Tail, Error> {
        let (began, deadline, partition) = (Instant::now(), self.deadline(), self.target.partition);
        let (first, end) = self.settled(partition, lookup, deadline)?;
        let (mut tail, mut start, mut step) = (Tail::default(), end, STEP_BACK);
        let patience = Duration::from_millis(self.options.read_ms_max) / LOOK_BACK_SHARE;
        let earliest = first.max(end - LOOK_BACK_MAX);
        while tail.records.len() < records && start > earliest && began.elapsed() < patience {
            let next = (start - step).max(earliest);
            let mut before = Tail { next_offsets: vec![(partition, next)], ..Tail::default() };
            self.read_ranges(&mut before, vec![Progress { partition, next, end: start }], deadline)?;
            tail = before.and(tail);
            (start, step) = (next, step * STEP_GROWTH);
        }
        let surplus = tail.records.len().saturating_sub(records);
        tail.records.drain(..surplus);
        tail.next_offsets = vec![(partition, end)];
        tail.tell(&self.target.topic);
        Ok(tail)
    }

    /// Adds what lies in these ranges to the tail.
    fn read_ranges(&self, tail: &mut Tail, mut open: Vec<Progress>, deadline: Instant) -> Result<(), Error> {
        let mut assignment = TopicPartitionList::new();
        for Progress { partition, next, .. } in &open {
            let added = assignment.add_partition_offset(&self.target.topic, *partition, Offset::Offset(*next));
            added.map_err(|e| rejected(format!("offset {next} of partition {partition}"), e.to_string()))?;
        }
        if open.is_empty() {
            return Ok(());
        }
        self.consumer.assign(&assignment).map_err(|e| rejected("to read the tail", e.to_string()))?;
        let collected = self.collect(tail, &mut open, deadline);
        // Stops the fetchers; the next read assigns anew.
        drop(self.consumer.unassign());
        collected
    }

    /// Polls until every partition has reached its end. The end may be a control marker, which is never delivered, so
    /// either the last offset before it or the partition's end-of-file event completes a partition.
    fn collect(&self, tail: &mut Tail, open: &mut Vec<Progress>, deadline: Instant) -> Result<(), Error> {
        let waited = Waited { bootstrap: &self.options.bootstrap, since: Instant::now() };
        let own = (cluster_tag(&self.options.cluster), self.target.stream);
        while !open.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.consumer.poll(left) {
                None => {
                    let why = format!("{} partitions not at their end", open.len());
                    return Err(waited.or_trouble(why, self.consumer.context().take_trouble()));
                }
                Some(Ok(message)) => {
                    if let Some(progress) = open.iter_mut().find(|p| p.partition == message.partition()) {
                        progress.next = message.offset() + 1;
                        // A record after the end came after the call; it would not be wrong, but it is not asked for.
                        if message.offset() < progress.end {
                            tail.add(&message, own);
                            faults::point(Point::OpeningInTail);
                        }
                    }
                    if tail.records.len() > self.options.tail_records_max {
                        let why =
                            format!("it has more than {} records since the last ack", self.options.tail_records_max);
                        return Err(rejected(format!("to read the tail of {}", self.target.topic), why));
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.iter_mut().filter(|p| p.partition == partition).for_each(|p| p.next = p.next.max(p.end));
                }
                Some(Err(e)) => match e.rdkafka_error_code() {
                    // The group is a name that `assign` wants; nothing joins or commits, so its ACL does not matter.
                    Some(Code::GroupAuthorizationFailed) => {}
                    Some(code) if matches!(class(code), Class::Unreachable | Class::Other) => {
                        tracing::debug!(error = %e, "reading the tail");
                    }
                    _ => return Err(self.failed(&e, waited)),
                },
            }
            for done in open.iter().filter(|p| p.next >= p.end) {
                let at = tail.next_offsets.iter_mut().find(|(partition, _)| *partition == done.partition);
                at.expect("every open partition was pushed before it was opened").1 = done.end;
            }
            open.retain(|p| p.next < p.end);
        }
        Ok(())
    }

    fn failed(&self, error: &KafkaError, waited: Waited<'_>) -> Error {
        match error.rdkafka_error_code().map(class) {
            Some(Class::TopicMissing) => {
                Error::TopicMissing { topic: self.target.topic.clone(), why: error.to_string() }
            }
            Some(Class::Rejected) => rejected(format!("to read topic {}", self.target.topic), error.to_string()),
            Some(Class::Fenced | Class::Unreachable | Class::Other) | None => {
                waited.or_trouble(error.to_string(), self.consumer.context().take_trouble())
            }
        }
    }
}

impl Tail {
    /// This and what comes after it.
    fn and(mut self, later: Self) -> Self {
        self.records.extend(later.records);
        Self {
            records: self.records,
            next_offsets: later.next_offsets,
            foreign: self.foreign + later.foreign,
            other_cluster: self.other_cluster + later.other_cluster,
            other_stream: self.other_stream + later.other_stream,
            epoch_max: self.epoch_max.max(later.epoch_max),
            received_at_ns_max: self.received_at_ns_max.max(later.received_at_ns_max),
            truncated: self.truncated || later.truncated,
        }
    }

    fn tell(&self, topic: &str) {
        if self.other_cluster > 0 {
            tracing::warn!(topic, records = self.other_cluster, "topic.other_cluster");
        }
    }

    fn add(&mut self, message: &BorrowedMessage<'_>, (cluster, stream): (u32, u64)) {
        let header = message.headers().and_then(|headers| headers.iter().find(|header| header.key == HEADER_KEY));
        let Some(stamp) = header.and_then(|header| header.value).and_then(Stamp::decode) else {
            self.foreign += 1;
            return;
        };
        if stamp.cluster != cluster {
            self.other_cluster += 1;
            return;
        }
        if stamp.stream != stream {
            self.other_stream += 1;
            return;
        }
        self.epoch_max = self.epoch_max.max(stamp.epoch);
        self.received_at_ns_max = self.received_at_ns_max.max(stamp.received_at_ns);
        self.records.push(TailRecord {
            epoch: stamp.epoch,
            sequence: stamp.sequence,
            fingerprint: stamp.fingerprint,
            subscription: stamp.subscription,
            index: stamp.index,
            partition: message.partition(),
            offset: message.offset(),
        });
    }
}
