//! A discrete-event simulation of one stream: a feed, two nodes, a topic, and everything that may break between them.
//!
//! It is the executable model of the protocol, over the real `Merge`, `Retention` and the bytes between them. Times are
//! microseconds inside, milliseconds where the crate sees them.

mod agenda;
pub(crate) mod feed;
pub(crate) mod prng;
pub(crate) mod scenario;
mod world;

pub(crate) use scenario::{Bug, Scenario};
pub(crate) use world::{Outcome, run};
