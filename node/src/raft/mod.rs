//! What the cluster agrees on, remembered: openraft over a durable log, and the handle others propose and read with.
//!
//! `worker`, `coordinator` and `api` use [`RaftHandle`]; the composition root starts it, serves its routes and runs its
//! driver. Decisions belong to `control`; the data plane does not know this room.

mod campaign;
mod driver;
mod durable_file;
mod error;
mod first_start;
mod handle;
mod identity;
mod leader;
mod lock_wait;
mod log_rows;
mod log_store;
mod member;
mod network;
mod open_sled;
mod options;
mod peers;
mod service;
mod state_machine;
mod status;
mod type_config;

pub use driver::Driver;
pub use error::Error;
pub use handle::{RaftHandle, Started};
pub use options::Options;
pub use peers::{Peers, Probed};
pub use status::RaftStatus;
