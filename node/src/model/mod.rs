//! The words that all rooms share: ids, nodes, connectors, assignments, commands, reports, frames, events.
//! Plain data with serde where it is stored or sent; no behaviour beyond checking itself. It imports no other room.

pub mod command;
pub mod connector;
pub mod event;
pub mod feed_url;
pub mod foreign_keys;
pub mod frame;
pub mod ids;
pub mod redaction;
pub mod relay;
pub mod report;
pub mod secret;
pub mod sensitive;
pub mod spec;
pub mod spec_keys;
