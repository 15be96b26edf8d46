//! A deterministic simulation of the takeover protocol against a strict model of Kafka's transactions and of Raft.
//!
//! Three nodes run the writer that ships; requests to Kafka are late, lost, repeated or answered to nobody; nodes crash, freeze and
//! wake up as zombies at any step; the leader may be wrong.

mod broker;
mod journal;
mod net;
mod node;
pub(crate) mod plan;
mod producer;
mod register;
mod verdict;
mod world;
mod writer;

use super::{agenda, feed, prng};
pub(crate) use plan::Bug;
pub(crate) use verdict::Verdict;
pub(crate) use world::run;
