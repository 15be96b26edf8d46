//! What goes into a writer and what comes out: the whole of its dealings with the world.

use std::{collections::BTreeMap, sync::Arc};

use twinfeed_dedup::TailRecord;

use crate::{
    Epoch, NodeId, StreamId,
    event::Event,
    frame::FeedEvent,
    record::OutRecord,
    relay::{OwnerMessage, StandbyMessage},
    report::SubscriptionReport,
    settings::Settings,
};

/// Kafka partition -> offset after the last record known.
pub type Offsets = BTreeMap<i32, i64>;

/// The present moment, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Microseconds on a clock that never runs backwards.
    pub us: u64,
    /// Nanoseconds since 1970. No decision rests on it, but the timestamps of records do.
    pub wall_ns: u64,
}

impl Now {
    pub(crate) fn ms(self) -> u64 {
        self.us / 1_000
    }

    pub(crate) fn wall_ms(self) -> u64 {
        self.wall_ns / 1_000_000
    }
}

/// What this node is to be for the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assigned {
    Owner { epoch: Epoch },
    Standby { epoch: Epoch },
}

impl Assigned {
    /// The same for a stream that has come to its writer at this index.
    pub(crate) fn since(self, since: Epoch) -> Self {
        match self {
            Self::Owner { epoch } => Self::Owner { epoch: epoch.max(since) },
            Self::Standby { epoch } => Self::Standby { epoch: epoch.max(since) },
        }
    }
}

/// Everything that can happen to a writer. Whoever runs it never delivers a result of work that an [`Output`] has ended, nor a
/// message of a relay session that has been followed by another.
#[derive(Debug)]
pub enum Input {
    Assume(Assigned),
    /// The stream belongs to this writer from here on. One of its name has left before.
    Join(Box<Settings>),
    /// It does not any more; its own connection brings nothing further. What an owner has of it is to be committed, unless it leaves
    /// `at_once`. [`Output::Left`] follows.
    Leave {
        stream: StreamId,
        at_once: bool,
    },
    /// Of the stream's own subscription.
    Fed {
        stream: StreamId,
        event: FeedEvent,
    },
    /// A relay session with the standby of this writer has begun; it is the only one from here on.
    StandbyConnected {
        node: NodeId,
    },
    FromStandby {
        stream: StreamId,
        message: StandbyMessage,
    },
    /// A relay session with the owner has begun; it is the only one from here on.
    OwnerConnected,
    FromOwner {
        stream: StreamId,
        message: OwnerMessage,
    },
    /// The relay session has ended.
    RelayEnded,
    Opened(Result<Opened, OpenError>),
    /// The outcome of an [`Output::Find`].
    Found(Result<Opened, OpenError>),
    Written(Result<Committed, Failure>),
    /// Whether Kafka has answered an [`Output::AskKafka`].
    KafkaAnswered(bool),
    /// The moment of [`crate::Writer::cut_at_us`] has come.
    Cut,
    /// Some twenty times a second.
    Look(Sight),
    /// No more roles and frames will come; what an owner has is to be committed.
    Drain,
}

/// What only whoever runs the writer can see.
#[derive(Debug, Clone, Default)]
pub struct Sight {
    /// The clients that wait for a takeover reach Kafka.
    pub kafka_connected: bool,
    /// Of the writer's streams; one that is left out is looked at the next time.
    pub lines: Vec<(StreamId, LineSight)>,
}

/// The same of one stream's own connection.
#[derive(Debug, Clone, Default)]
pub struct LineSight {
    pub subscription: SubscriptionReport,
    /// Events of the connection that the writer has not been given yet.
    pub waiting: u64,
}

/// Everything that a writer asks for, in this order.
#[derive(Debug)]
pub enum Output {
    /// Run the takeover sequence, instead of any other that is under way.
    Open(Plan),
    /// Find out what the topics hold of these streams, which have joined since the producer was opened.
    Find(Vec<StreamPlan>),
    /// The stream has left: nothing of it is under way.
    Left(StreamId),
    /// Connect what a takeover will need; nobody is fenced by it.
    WarmUp,
    /// Write these in one transaction: the records of some streams, in order. Once, and only after an opening that succeeded.
    Write(Vec<Arc<Vec<OutRecord>>>),
    /// Let go of the producer and of whatever is under way with it, at once.
    Close,
    /// End the relay session.
    EndRelay,
    /// End the stream's own connection and make a new one at once.
    Reconnect {
        stream: StreamId,
        reason: String,
    },
    /// Ask whether Kafka can be reached from here, over the clients that wait for a takeover.
    AskKafka,
    Event(Event),
}

/// A message for the other end of the relay.
#[derive(Debug, Clone)]
pub enum Message {
    ToStandby(StreamId, OwnerMessage),
    ToOwner(StreamId, StandbyMessage),
}

/// What to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub epoch: Epoch,
    pub streams: Vec<StreamPlan>,
    /// Use the clients that were warmed up for it.
    pub warm: bool,
    /// Ask for the assignment before the init as well. Not for safety (only the check after the init gives that) but
    /// for peace: a zombie that wakes up would otherwise fence the rightful owner once, by its init alone.
    pub ask_first: bool,
}

/// What an opening has to find out for one stream, once the producer is open and the assignment is confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPlan {
    pub stream: StreamId,
    pub tail_from: TailFrom,
    /// Nothing can be missing, so nobody asks when the last record was read.
    pub redundant: bool,
}

/// Where the tail begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TailFrom {
    /// Nothing that this node holds can be in the topic.
    End,
    /// From these acked offsets; partitions not named are read from their last records.
    Offsets(Offsets),
    /// The last records. Those before these offsets were acked, but not for all that this node holds.
    Recent(Offsets),
}

impl TailFrom {
    /// Whether the record at this place was acked.
    pub fn is_acknowledged(&self, partition: i32, offset: i64) -> bool {
        match self {
            Self::End => false,
            Self::Offsets(acked) | Self::Recent(acked) => acked.get(&partition).is_some_and(|next| offset < *next),
        }
    }
}

/// A producer may write now, and this is in the topics already. Every stream of the plan is named.
#[derive(Debug)]
pub struct Opened {
    pub streams: Vec<(StreamId, InTopic)>,
}

/// What the topic of a stream holds of it.
#[derive(Debug)]
pub struct InTopic {
    pub tail: Vec<TailRecord>,
    pub offsets: Offsets,
    /// When the last message that is in the topic was read off the wire; None when there is none.
    pub last_received_at_ms: Option<u64>,
    /// Largest payload that Kafka takes, in bytes.
    pub payload_bytes_max: usize,
}

/// A transaction that is in the topic, closed, so that nothing can undo it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Per stream that was written, and touched partition, the offset after the last record.
    pub next_offsets: Vec<(StreamId, Vec<(i32, i64)>)>,
    /// The latest timestamp among the records, -1 for none.
    pub timestamp_ms_max: i64,
    /// From begin to the answered commit, in microseconds.
    pub took_us: u64,
    /// From the answered commit until readers saw the records, in microseconds.
    pub settled_us: u64,
    /// Until the next begin, at least, in microseconds.
    pub breather_us: u64,
    /// The producer is finished, though its transaction is committed.
    pub recycle: bool,
}

/// Why something could not be written or opened, by what is done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What, why, and what to do.
    pub text: String,
    pub remedy: Remedy,
}

/// What is done about a failure. In every case the producer is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Open anew at once: only that makes the outcome definite, or says whether this node may go on.
    Reopen,
    /// The same, and Kafka has said why: a newer producer has begun, or the coordinator has ended this one.
    Fenced,
    /// Open anew after a pause.
    Wait,
    /// Only an operator can help; it is tried again all the same.
    Operator,
    /// Kafka refuses this one record: leave it out.
    LeaveOut { stream: StreamId, sequence: u64 },
    /// Kafka refuses records as invalid: perhaps their timestamps.
    Restamp,
}

/// Why the writer may not write now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// The assignment has moved on.
    NotOwner,
    /// It could not be found out; the text says why.
    Unconfirmed(String),
    Kafka(Failure),
}
