//! What a writer decides: its role, the merges of its streams, its batches, what owner and standby tell each other, and what it
//! says of them.
//!
//! A [`Writer`] is a pure state machine. [`Writer::step`] takes one [`Input`] at a moment and returns the [`Output`]s that it asks
//! for; [`Writer::next_message`] hands out what the relay may carry, when there is room for it. No socket, no clock, no runtime, no
//! Kafka: the node's `pipeline` runs it against real ones, `tests/fencing_simulation.rs` against a hostile model of them, and both
//! run this very code.
#![forbid(unsafe_code)]

mod absence;
mod account;
pub mod comparison;
mod differences;
mod entropy;
pub mod event;
pub mod frame;
mod inbox;
mod meter;
mod numbering;
mod outbox;
mod owner;
mod pace;
mod payload;
mod phase;
mod port;
mod reach;
pub mod record;
pub mod relay;
mod renewal;
pub mod report;
mod settings;
mod standby;
mod stream;
mod timestamps;
mod words;
mod writer;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use meter::{BATCH_RECORDS, Histogram, LATENCY_SECONDS};
pub use port::{
    Assigned, Committed, Failure, InTopic, Input, LineSight, Message, Now, Offsets, OpenError, Opened, Output, Plan,
    Remedy, Sight, StreamPlan, TailFrom,
};
pub use settings::Settings;
pub use writer::Writer;

/// The Raft node id: random, made at the first start, stored beside the log. An empty disk never gets an old one back.
pub type NodeId = u64;

/// Names a stream in its records, on the relay and towards its writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct StreamId(pub u64);

/// The Raft log index of the entry that made the present owner the owner; strictly increasing per writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
