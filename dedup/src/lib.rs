//! Merging the two copies of a stream into one, so that any node may die and no message is lost or repeated.
//!
//! The owner of a stream runs a [`Merge`]: it takes frames of both subscriptions, finds the new messages, hands them out in
//! batches and tells the standby what is in the topic. The standby runs a [`Retention`]: it keeps every frame until it is told,
//! and hands all of it to [`Merge::take_over`] when it becomes the owner. This crate is pure: no socket, no clock, no
//! randomness, no runtime; time is an argument (`now_ms`, any clock that does not run backwards), payloads are opaque.
//!
//! The protocol is DESIGN section 6; `tests/takeover_simulation.rs` runs it through random kills and reconnects.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod alignment;
mod audit;
mod bug;
mod chain;
mod fingerprint;
mod joining;
mod ledger;
mod member;
mod merge;
mod message;
mod notice;
mod options;
mod queue;
mod record;
mod retention;
mod ring;
mod slots;
pub mod snapshot;
mod window;

#[cfg(feature = "faults")]
pub use bug::Bug;
pub use fingerprint::{Fingerprint, FrameKind};
pub use merge::Merge;
pub use message::{Ack, Resolved, ToStandby};
pub use notice::{HeldBytes, Ignored, MergeStatus, Notice, Observed};
pub use options::Options;
pub use record::{Frame, Record, RecordId, SubscriptionId, TailRecord};
pub use retention::Retention;
pub use snapshot::SnapshotError;
