//! Real processes on loopback: nodes, feed and verifier, as a user would start them. It drives binaries and the public
//! admin API, never internals; it waits on conditions with deadlines, and every child ends with it.

mod admin;
mod cluster;
pub mod firewall;
pub mod kafka_proxy;
pub mod network;
mod process;
pub mod proxy;
mod tools;

pub use admin::Admin;
pub use cluster::{Cluster, Node};
pub use process::{Process, binary, wait_for};
pub use tools::{Feed, FeedOptions, Silence, Verdict, Verifier};
