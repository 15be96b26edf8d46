//! `wsctl` from outside: the built binary against a cluster of one process.

mod cluster;
mod commands;
mod failures;
