//! Where this node stands in Raft, as one small value for the rooms above.

use std::{collections::BTreeSet, sync::Arc};

use openraft::{ServerState, error::Fatal};
use tokio::sync::watch;

use super::{error::Error, member::Member};
use crate::model::ids::{ClusterId, NodeId};

/// This node's view of Raft; it may be old on a node that others cannot reach.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RaftStatus {
    pub node_id: NodeId,
    /// None while none is known, and at a leader whom no majority has followed for so long that another would lead by
    /// now if there were one: Raft lets it lead on, but nothing can be changed through it.
    pub leader: Option<NodeId>,
    /// Raft's own state: true at a leader without a majority too.
    pub is_leader: bool,
    pub term: u64,
    pub last_log_index: u64,
    pub applied_index: u64,
    pub voters: BTreeSet<NodeId>,
    /// Empty before the node belongs to a cluster.
    pub cluster_id: ClusterId,
}

impl RaftStatus {
    pub(super) fn of(member: &Member) -> Self {
        let me = member.me();
        let metrics = member.raft.metrics();
        let metrics = metrics.borrow();
        Self {
            node_id: me.node_id,
            leader: metrics.current_leader.filter(|&leader| {
                let without_quorum_ms_max = 2 * member.options.election_ms.1;
                leader != me.node_id || metrics.millis_since_quorum_ack.is_some_and(|ms| ms < without_quorum_ms_max)
            }),
            is_leader: metrics.state == ServerState::Leader && metrics.running_state.is_ok(),
            term: metrics.current_term,
            last_log_index: metrics.last_log_index.unwrap_or(0),
            applied_index: metrics.last_applied.map_or(0, |id| id.index),
            voters: metrics.membership_config.voter_ids().collect(),
            cluster_id: me.cluster_id,
        }
    }

    /// Publishes changes until Raft stops.
    pub(super) async fn follow(member: &Arc<Member>, status: &watch::Sender<Self>) -> Result<(), Error> {
        let mut metrics = member.raft.metrics();
        loop {
            let next = Self::of(member);
            status.send_if_modified(|present| {
                let changed = *present != next;
                *present = next;
                changed
            });
            let running = metrics.borrow_and_update().running_state.clone();
            match running {
                Ok(()) => {}
                Err(Fatal::Stopped) => return Ok(()),
                Err(fatal) => return Err(Error::fatal(&fatal)),
            }
            if metrics.changed().await.is_err() {
                return Ok(());
            }
        }
    }
}
