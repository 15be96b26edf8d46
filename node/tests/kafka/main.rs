//! The kafka room against a real broker: commits, fencing, takeover, the tail, topics. One broker for all tests of this
//! binary; each test has its own topic and transactional id.

mod markers;
mod outcome;
mod producer;
mod recovery;
mod sizes;
mod support;
mod tail;
mod throughput;
mod topic;
