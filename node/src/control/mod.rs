//! Pure decisions of the cluster: what a command does to the state, where writers live, what a node must start or stop.
//!
//! `raft` applies log entries through [`State`], `coordinator` asks [`solve`], `worker` asks [`diff`]. No clock, no
//! randomness, no runtime, no IO: time is an argument and comes with the log entry, so every replica decides alike.

mod limits;
mod placement;
mod placement_model;
mod reconcile;
mod requests;
mod state;

pub use placement::solve;
pub use placement_model::{Liveness, NodeFacts, Placement, WriterFacts};
pub use reconcile::{RoleChange, RoleSpec, diff, role};
pub use state::{State, StateError};
