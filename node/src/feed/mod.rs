//! Sockets to frames: one `Session` keeps one WebSocket subscription alive and hands its frames on, in order. Workers
//! start a session per subscription; the writer's inbox is the other end of its channel. The room never looks inside a
//! payload, never decides what is a duplicate, and knows neither Kafka nor Raft.
//!
//! `dial` opens a connection, `connection` reads one until it ends, `session` reconnects with `backoff`.

mod address;
mod backoff;
mod connection;
mod dial;
mod error;
mod guard;
mod secrets;
mod session;

pub use address::AddressPolicy;
pub use dial::DialOptions;
pub use error::{Error, Stage};
pub use secrets::SecretSources;
pub use session::{Ended, Session, SessionHandle, Subscription};
