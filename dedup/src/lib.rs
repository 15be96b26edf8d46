//! Merging the two copies of a stream into one, so that any node may die and no message is lost or repeated.
//!
//! The owner of a stream runs a [`Merge`]: it takes frames of both subscriptions, finds the new messages, hands them out in
//! batches and tells the standby what is in the topic. The standby runs a [`Retention`]: it keeps every frame until it is told,
//! and hands all of it to [`Merge::take_over`] when it becomes the owner. This crate is pure: no socket, no clock, no
//! randomness, no runtime; time is an argument (`now_ms`, any clock that does not run backwards), payloads are opaque.
//!
//! Why it is as it is: `docs/architecture.md` and `docs/adr/`, 4 for the matching and 9 for lines that fall behind.
//! `tests/takeover_simulation.rs` runs it through random kills, reconnects and silences.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod alignment;
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
mod shape;
mod slots;
pub mod snapshot;
mod watch;
mod window;

#[cfg(feature = "faults")]
pub use bug::Bug;
pub use fingerprint::{Fingerprint, FrameKind};
pub use member::Side;
pub use merge::Merge;
pub use message::{Ack, Resolved, ToStandby};
pub use notice::{Alone, Ignored, MergeStatus, Notice, Observed, Share};
pub use options::Options;
pub use record::{Frame, HeldBytes, Record, RecordId, SubscriptionId, TailRecord};
pub use retention::{Dropped, Retention};
pub use shape::Shape;
pub use snapshot::SnapshotError;
