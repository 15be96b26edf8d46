//! Sockets to frames: one `Session` keeps one WebSocket subscription alive and hands its frames on, in order. Workers
//! start a session per subscription; the writer's inbox is the other end of its channel. The room never looks inside a
//! payload, never decides what is a duplicate, and knows neither Kafka nor Raft.
//!
//! `dial` opens a connection when `hosts` lets it (`tls`, then `upgrade`), `connection` reads one until it ends through
//! `guard`, `session` reconnects with `backoff`.

mod address;
mod backoff;
mod connection;
mod dial;
mod error;
mod guard;
mod hosts;
mod retry_after;
mod scan;
mod secrets;
mod sent;
mod session;
mod tls;
mod upgrade;

pub use address::AddressPolicy;
pub use dial::DialOptions;
pub use error::{Error, Refusal, Stage};
pub use hosts::Hosts;
pub use secrets::SecretSources;
pub use session::{Session, SessionHandle, Subscription, inbox};
pub use tls::TlsConfigs;
