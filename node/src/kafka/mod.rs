//! The only room that talks to Kafka: one fenced transactional producer per writer, the tail reader of a takeover, and
//! topics. `pipeline` and `worker` call it; it knows nothing of Raft, streams or deduplication.
//!
//! Two promises hold the house up. A write is `Committed`, or it says by its error what may have happened to it; there
//! is no "probably". And a producer that was fenced, or whose outcome is not known, never opens itself again.
//! The rules behind it were measured on Kafka 4.3.0 with librdkafka 2.12.1; each is argued where it is upheld.

mod client;
mod error;
mod events;
mod markers;
mod openings;
mod options;
mod overrides;
mod producer;
pub mod record;
mod tail;
mod topic;
mod topics;

pub use error::{Error, Retry};
pub use openings::{Cause, Openings, Place};
pub use options::{Options, Target, check_property};
pub use overrides::{Overrides, overrides};
pub use producer::{Committed, FencedProducer, Warm};
pub use record::OutRecord;
pub use tail::{EndOffsets, Tail, TailReader, TailRecord};
pub use topic::{TopicCreation, TopicInfo, ensure_topic};
pub use topics::Topics;
