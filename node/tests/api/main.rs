//! The admin API over real gRPC against a real single-node Raft: what clients may rely on. The view of the nodes, which
//! the leader's coordinator publishes in a cluster, is set by the tests.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod cluster;
mod connectors;
mod kit;
mod listener;
mod moves;
