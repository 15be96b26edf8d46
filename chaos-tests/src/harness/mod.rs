//! Real processes on loopback: nodes, feed and verifier, as a user would start them. It drives binaries and the public
//! admin API, never internals; it waits on conditions with deadlines, and every child ends with it.

mod admin;
mod cluster;
mod disk;
mod faults;
pub mod firewall;
mod gate;
mod history;
mod kafka;
pub mod kafka_proxy;
mod ledger;
mod life;
pub mod network;
mod process;
pub mod proxy;
mod scrape;
mod streams;
mod tools;
mod writes;

pub use admin::{Admin, EventLine};
pub use cluster::{Cluster, ClusterOptions, Node};
pub use disk::Disk;
pub use faults::{Action, Armed, build_faulty_node};
pub use history::Recorder;
pub use kafka::{Kafka, KafkaOptions};
pub use ledger::{Connection, Ledger, Refusal};
pub use life::{Gap, NodeLife};
pub use process::{Process, binary, let_pass, wait_for};
pub use scrape::{Distribution, exposition, metric};
pub use streams::{StreamId, streams};
pub use tools::{Feed, FeedOptions, Missing, ReaderBooks, Silence, Verifier};
pub use writes::Writes;
