//! What can go wrong in this room, by what the caller can do about it.

use std::{io, path::PathBuf};

/// Why a start, a proposal or a read did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing was done; trying again later is safe.
    #[error("no leader answered within {waited_ms} ms: most nodes of the cluster must be up and reachable")]
    NoLeader { waited_ms: u64 },
    /// The command may or may not take effect; repeating it with the same request id is safe and tells.
    #[error("outcome unknown: the leader did not answer in time; repeat with request id {request_id}")]
    Unknown { request_id: String },
    /// This node has not joined a cluster yet, or was removed from it.
    #[error("this node is not a member of a cluster: {why}")]
    NotMember { why: String },
    /// Configuration, data directory or peer do not fit together; the text says what to change.
    #[error("{why}")]
    Refused { why: String },
    /// The data directory cannot be used.
    #[error("cannot use {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The stored vote, log or snapshot is damaged or missing. Going on could break a promise given to other nodes.
    #[error(
        "the store in {} cannot be trusted: {why}; replace this node: move the data directory away, run `wsctl node \
         remove {node}` on another node, and start this one again", path.display()
    )]
    Damaged { path: PathBuf, node: String, why: String },
    /// Raft has stopped on this node; the process must end.
    #[error("raft has stopped on this node: {why}; look after the disk of its data directory, then start it again")]
    Fatal { why: String },
}

impl Error {
    pub(super) fn refused(why: impl Into<String>) -> Self {
        Self::Refused { why: why.into() }
    }

    pub(super) fn fatal(why: &impl ToString) -> Self {
        Self::Fatal { why: why.to_string() }
    }
}
