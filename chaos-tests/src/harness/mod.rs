//! Real processes on loopback: nodes, feed and verifier, as a user would start them. It drives binaries and the public
//! admin API, never internals; it waits on conditions with deadlines, and every child ends with it.

mod admin;
mod cluster;
mod life;
mod process;
mod tools;

pub use admin::{Admin, EventLine};
pub use cluster::{Cluster, ClusterOptions, Node};
pub use life::NodeLife;
pub use process::{Process, binary, wait_for};
pub use tools::{Feed, FeedOptions, ReaderBooks, Silence, Verifier};
