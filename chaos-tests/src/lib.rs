//! Drives real Twinfeed processes against a real Kafka broker and checks the promise from outside.
//!
//! It may start binaries, talk to brokers and read topics. It never imports the node's internals: what it asserts is
//! what a user could see. Downwards: `run` plays a `story` on a `stage` built from the `harness` and a `broker`; what it
//! left behind is an `observation`, judged by `invariants` into a `verdict`; `results` keeps verdicts and tells them.

pub mod broker;
pub mod harness;
pub mod invariants;
mod jars;
pub mod linearizability;
pub mod observation;
pub mod reference;
pub mod results;
pub mod run;
pub mod scenarios;
pub mod self_test;
pub mod stage;
pub mod story;
pub mod verdict;
