//! The admin API over real gRPC against a real single-node Raft: what clients may rely on. The view of the nodes, which
//! the leader's coordinator publishes in a cluster, is set by the tests.

mod cluster;
mod connectors;
mod kit;
mod listener;
mod moves;
