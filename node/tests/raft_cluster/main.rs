//! Raft clusters inside the test process, over real disks and loopback connections.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod agreement;
mod membership;
mod support;
