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
    options::Options,
    record::{HEADER_KEY, Stamp, cluster_tag},
};
use crate::faults::{self, Point};

const CONNECT_MS_MAX: u64 = 1_000;
const CONNECT_BACKOFF_MS: u64 = 1_000;
/// Brokers close connections that were idle for 10 minutes by default.
const KEEP_WARM_MS: u64 = 240_000;

/// A committed record of this cluster.
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
    /// Highest epoch among `records`; above the reader's own it means that the reader is not the owner any more.
    pub epoch_max: u64,
    /// When the newest of the cluster's records was read off the wire, by its writer's clock; 0 without any.
    pub received_at_ns_max: u64,
    /// The topic no longer holds all that was asked for (retention, or it was made anew): records may be missing here
    /// that were written, so that writing them again would duplicate them.
    pub truncated: bool,
}

/// The end of every partition, once it is known.
pub type EndOffsets = oneshot::Receiver<Result<Vec<(i32, i64)>, Error>>;

type Reply<T> = oneshot::Sender<Result<T, Error>>;

enum Command {
    Read(Vec<(i32, i64)>, Reply<Tail>),
    EndOffsets(Reply<Vec<(i32, i64)>>),
}

/// A connected consumer that belongs to no group. Dropping it closes the consumer on its own thread.
#[derive(Debug)]
pub struct TailReader {
    commands: Sender<Command>,
}

impl TailReader {
    /// Makes the consumer and connects it in the background. Fails on bad options only.
    pub fn warm(options: &Options, topic: &str) -> Result<Self, Error> {
        options.check()?;
        let consumer = options
            .for_reader()
            .create_with_context(Events::default())
            .map_err(|_| rejected("the reader's configuration", "see the properties passed through"))?;
        let reader = Reader { consumer, options: options.clone(), topic: topic.to_owned() };
        let (commands, inbox) = mpsc::channel();
        thread::Builder::new()
            .name("kafka-tail".to_owned())
            .spawn(move || reader.run(&inbox))
            .map_err(|e| rejected("to start a reader thread", e.to_string()))?;
        Ok(Self { commands })
    }

    /// Reads everything committed from the given offsets (partition, offset) to the end that the partitions have at
    /// this call; bounded by `read_ms_max` and `tail_records_max`.
    ///
    /// Complete for a predecessor's records only once a producer of the same transactional id has been opened: Kafka
    /// answers a commit before its markers are written, and until then the end lies before its records. What a forgotten
    /// marker leaves open is never read, and undone by the new producer's first write (`markers`).
    pub async fn read(&self, from: &[(i32, i64)]) -> Result<Tail, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Read(from.to_vec(), reply)).map_err(|_| Error::Closed)?;
        answer.await.unwrap_or(Err(Error::Closed))
    }

    /// Returns the end of every partition: the offset after the last committed record and its marker, or the first
    /// record of the oldest open transaction.
    pub async fn end_offsets(&self) -> Result<Vec<(i32, i64)>, Error> {
        self.ask_end_offsets()?.await.unwrap_or(Err(Error::Closed))
    }

    /// Asks for `end_offsets` without waiting; a reader that ends drops the reply.
    pub fn ask_end_offsets(&self) -> Result<EndOffsets, Error> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::EndOffsets(reply)).map_err(|_| Error::Closed)?;
        Ok(answer)
    }
}

/// The consumer on its thread.
struct Reader {
    consumer: BaseConsumer<Events>,
    options: Options,
    topic: String,
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
                    let tail = self.read(&from);
                    // Stops the fetchers; the next read assigns anew.
                    drop(self.consumer.unassign());
                    drop(reply.send(tail));
                }
                Ok(Command::EndOffsets(reply)) => drop(reply.send(self.ends(self.deadline()))),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    let connected = self.ends(Instant::now() + Duration::from_millis(CONNECT_MS_MAX));
                    let connected = connected.inspect_err(|error| tracing::debug!(%error, "reader is not warm yet"));
                    wait = Duration::from_millis(if connected.is_ok() { KEEP_WARM_MS } else { CONNECT_BACKOFF_MS });
                }
            }
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.options.read_ms_max)
    }

    /// Asks for the end of every partition, which also connects to their leaders.
    fn ends(&self, deadline: Instant) -> Result<Vec<(i32, i64)>, Error> {
        let waited = Waited { bootstrap: &self.options.bootstrap, since: Instant::now() };
        let left = deadline.saturating_duration_since(Instant::now());
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), left).map_err(|e| self.failed(&e, waited))?;
        let partitions: Vec<i32> = metadata
            .topics()
            .iter()
            .filter(|topic| topic.name() == self.topic)
            .flat_map(|topic| topic.partitions().iter().map(|partition| partition.id()))
            .collect();
        if partitions.is_empty() {
            return Err(Error::TopicMissing { topic: self.topic.clone(), why: "does not exist".to_owned() });
        }
        partitions.into_iter().map(|partition| Ok((partition, self.watermarks(partition, deadline)?.1))).collect()
    }

    /// Returns the first offset and the end; for a `read_committed` consumer the end is the last stable offset.
    fn watermarks(&self, partition: i32, deadline: Instant) -> Result<(i64, i64), Error> {
        let waited = Waited { bootstrap: &self.options.bootstrap, since: Instant::now() };
        let left = deadline.saturating_duration_since(Instant::now());
        self.consumer.fetch_watermarks(&self.topic, partition, left).map_err(|e| self.failed(&e, waited))
    }

    fn read(&self, from: &[(i32, i64)]) -> Result<Tail, Error> {
        let deadline = self.deadline();
        let mut tail = Tail::default();
        let mut open = Vec::new();
        let mut assignment = TopicPartitionList::new();
        for &(partition, offset) in from {
            let (first, end) = self.watermarks(partition, deadline)?;
            // Beyond the end only if the topic was made anew: then everything in it is newer than what was asked for.
            let next = if offset > end { first } else { offset.max(first) };
            tail.truncated |= next != offset;
            tail.next_offsets.push((partition, next));
            if next < end {
                let added = assignment.add_partition_offset(&self.topic, partition, Offset::Offset(next));
                added.map_err(|e| rejected(format!("offset {next} of partition {partition}"), e.to_string()))?;
                open.push(Progress { partition, next, end });
            }
        }
        if !open.is_empty() {
            self.consumer.assign(&assignment).map_err(|e| rejected("to read the tail", e.to_string()))?;
            self.collect(&mut tail, &mut open, deadline)?;
        }
        Ok(tail)
    }

    /// Polls until every partition has reached its end. The end may be a control marker, which is never delivered, so
    /// either the last offset before it or the partition's end-of-file event completes a partition.
    fn collect(&self, tail: &mut Tail, open: &mut Vec<Progress>, deadline: Instant) -> Result<(), Error> {
        let waited = Waited { bootstrap: &self.options.bootstrap, since: Instant::now() };
        let cluster = cluster_tag(&self.options.cluster);
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
                            tail.add(&message, cluster);
                            faults::point(Point::OpeningInTail);
                        }
                    }
                    if tail.records.len() > self.options.tail_records_max {
                        let why =
                            format!("it has more than {} records since the last ack", self.options.tail_records_max);
                        return Err(rejected(format!("to read the tail of {}", self.topic), why));
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
            Some(Class::TopicMissing) => Error::TopicMissing { topic: self.topic.clone(), why: error.to_string() },
            Some(Class::Rejected) => rejected(format!("to read topic {}", self.topic), error.to_string()),
            Some(Class::Fenced | Class::Unreachable | Class::Other) | None => {
                waited.or_trouble(error.to_string(), self.consumer.context().take_trouble())
            }
        }
    }
}

impl Tail {
    fn add(&mut self, message: &BorrowedMessage<'_>, cluster: u32) {
        let header = message.headers().and_then(|headers| headers.iter().find(|header| header.key == HEADER_KEY));
        let Some(stamp) = header.and_then(|header| header.value).and_then(Stamp::decode) else {
            self.foreign += 1;
            return;
        };
        if stamp.cluster != cluster {
            self.other_cluster += 1;
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
