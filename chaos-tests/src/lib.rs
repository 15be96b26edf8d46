//! Drives real Twinfeed processes against a real Kafka broker and checks the promise from outside.
//!
//! It may start binaries, talk to brokers and read topics. It never imports the node's internals: what it asserts is
//! what a user could see.

pub mod broker;
pub mod harness;
mod jars;
pub mod scenarios;
