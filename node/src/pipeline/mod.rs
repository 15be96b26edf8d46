//! One actor per writer and node: runs the decisions of `twinfeed-writer` against a real feed, relay and Kafka.
//!
//! `actor` is the loop; `opening` is the takeover sequence, `failure` what Kafka's errors mean to a writer. It decides nothing: the
//! actor learns its role from the worker and whether it is still the assigned owner through a closure, and hands both on. This
//! room does not know that Raft exists.

mod actor;
mod failure;
mod handle;
mod opening;
mod options;
mod pending;
mod relayed;

pub use handle::{WriterHandle, start};
pub use opening::{Confirm, ConfirmError};
pub use options::{Emit, Options};
pub use twinfeed_writer::Assigned as Role;
