//! The commands that change cluster state and their outcomes. Commands are Raft log entries: persisted, replayed,
//! and read by other versions, so variants and fields are only ever added.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    connector::{Config, NodeRecord, TargetState},
    ids::{ClusterId, Epoch, NodeId, WriterId},
};

/// A command with what makes it repeatable and deterministic. Persisted: never rename a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The caller's UUID; a repeat within 24 h has one effect and gets the first outcome. Empty: no memory.
    #[serde(default)]
    pub request_id: String,
    /// Stands for what the caller asked, see [`asked`]: the same request id with another one is a mistake. Computed by the
    /// proposer, once: replicas of other versions would compute others. 0 from whoever uses each request id once.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub asked: u64,
    /// The proposer's wall clock, milliseconds since 1970: state machines read no clock.
    pub proposed_at_ms: u64,
    pub command: Command,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A number for what was asked, whatever its type, never 0: the command, or what the caller sent where the command is made
/// of that and of what the proposer saw, as a repeat may make another command of it.
pub fn asked(what: &impl Serialize) -> u64 {
    let text = serde_json::to_vec(what).expect("strings, numbers and maps with string keys always encode as JSON");
    xxh3_64(&text).max(1)
}

/// A change of cluster state. Persisted: never rename or remove a variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The first entry of every cluster.
    InitCluster {
        id: ClusterId,
        name: String,
    },
    /// Adds a node or updates its addresses.
    PutNode {
        node: NodeRecord,
    },
    RemoveNode {
        id: NodeId,
    },
    SetDraining {
        id: NodeId,
        draining: bool,
    },
    CreateConnector {
        name: String,
        config: Config,
        target: TargetState,
    },
    /// Replaces the configuration; `expected_revision` 0 means unconditional.
    UpdateConnector {
        name: String,
        config: Config,
        expected_revision: u64,
        /// The revision from which a running pair can change over without an interruption, the standby first; 0 when the
        /// change needs a reopening. The proposer judges it: replicas of other versions might judge otherwise.
        #[serde(default)]
        rolls_from: u64,
    },
    DeleteConnector {
        name: String,
        expected_revision: u64,
    },
    SetTarget {
        name: String,
        target: TargetState,
    },
    /// Begins anew with the same configuration.
    Restart {
        name: String,
        /// A running pair does so one after the other, the standby first; else both at once, which interrupts the stream
        /// and forgets what waits.
        #[serde(default)]
        rolls: bool,
    },
    /// `failover`: who the operator wants as owner; None clears it.
    WantOwner {
        writer: WriterId,
        node: Option<NodeId>,
    },
    /// Same owner, new epoch: its process restarted and has forgotten what it wrote, or it begins anew under a new
    /// configuration that no standby could take over from it.
    NewEpoch {
        writer: WriterId,
        expected_epoch: Epoch,
    },
    /// The coordinator's decision. Refused unless the writer's epoch (0 when unassigned) and standby are still what the
    /// decision was based on: a promotion must never meet a standby that has been replaced meanwhile.
    Assign {
        writer: WriterId,
        expected_epoch: Epoch,
        expected_standby: Option<NodeId>,
        owner: Option<NodeId>,
        standby: Option<NodeId>,
    },
}

/// What a command did. Refusals are outcomes by value, not errors: every replica computes the same one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done; the log index of the entry that did it (an earlier one when there was nothing left to do).
    Done {
        revision: u64,
    },
    AlreadyExists {
        what: String,
    },
    NotFound {
        what: String,
    },
    /// `expected_revision` did not match.
    Conflict {
        expected: u64,
        actual: u64,
    },
    /// The request id stands for another command, whose outcome says nothing about this one.
    RequestReused {
        request_id: String,
    },
    /// The command does not fit the present state; the text says why and what to do.
    Refused {
        why: String,
    },
}
