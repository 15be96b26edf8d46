//! A deterministic simulation of the takeover protocol against a strict model of Kafka's transactions and of Raft.
//!
//! Three nodes run the writers that ship, each for one stream or for several, which share a partition; requests to Kafka are late, lost,
//! repeated or answered to nobody; nodes crash, freeze and wake up as zombies at any step; lines end for good; channels are slow;
//! the leader may be wrong.

mod broker;
mod bug;
mod inbox;
mod journal;
mod member;
mod net;
mod node;
mod plan;
mod producer;
mod register;
mod stream;
mod verdict;
mod world;
mod writer;

use super::{agenda, feed, prng};
pub(crate) use bug::Bug;
pub(crate) use verdict::Verdict;
pub(crate) use world::run;
