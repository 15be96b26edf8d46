//! What the cluster agrees on, remembered: openraft over a durable log, and the handle that others propose and read with.

mod durable_file;
mod error;
mod identity;
mod log_rows;
mod log_store;
mod state_machine;
mod type_config;

pub use error::Error;
