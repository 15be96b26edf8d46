//! Standing for election as soon as it can be won. `coordinator` calls it on a follower whose connection to the leader
//! broke; openraft's own timer stays the way for a leader that falls silent without a reset.
//!
//! openraft waits the leader's lease and then a random timeout more, which tells a dead leader from a slow one and keeps
//! two candidates apart. A killed process tells the same by itself: its connections are reset and a probe is refused. So
//! only the lease is left to wait for, which no voter would break; ranks keep the candidates apart. A wrong verdict costs
//! a needless election, and no data path waits for one.

use std::{collections::BTreeSet, time::Duration};

use openraft::{RaftMetrics, ServerState};
use tokio::time::timeout;

use super::{handle::RaftHandle, peers::Probed};
use crate::model::ids::NodeId;

/// A probe that takes longer has failed. A leader that is merely slow then meets voters that still hold its lease.
const PROBE_MS_MAX: u64 = 200;
/// After the lease: the last heartbeat may have been on its way when the connection broke.
const SLACK_MS: u64 = 20;
/// Between two candidates: two fsyncs and a round trip, so that the second one sees the first one's votes.
const APART_MS: u64 = 60;

impl RaftHandle {
    /// Replaces a leader that has just become unreachable: probes it, waits for its lease to end, and stands for election
    /// unless it answers, or another leader or candidate is seen first.
    pub async fn replace_leader(&self, leader: NodeId, address: &str) {
        let (me, voters, term) = {
            let status = self.status();
            let status = status.borrow();
            (status.node_id, status.voters.clone(), status.term)
        };
        let Some(wait) = wait(&voters, leader, me, self.member.options.election_ms.1) else { return };
        let mut metrics = self.member.raft.metrics();
        // The lease runs from before the probe, which a killed process answers with a refusal within a millisecond.
        let changed = async {
            if self.member.peers.probe(leader, address, PROBE_MS_MAX).await == Probed::Alive {
                return;
            }
            // A candidate tries again by itself, and leaves the turn to others when a voter's log was ahead of its own. An
            // error means that Raft has stopped here.
            let over = |m: &RaftMetrics<_, _>| {
                m.current_term != term || m.state == ServerState::Candidate || m.running_state.is_err()
            };
            let _ = metrics.wait_for(over).await;
        };
        if timeout(wait, changed).await.is_err() {
            tracing::info!(leader, term, "raft.campaign: the leader is gone");
            if let Err(error) = self.member.raft.trigger().elect().await {
                tracing::debug!(%error, "raft has stopped");
            }
        }
    }
}

/// How long this voter waits; None when it is not to stand. The greatest id goes first, as it wins ties.
fn wait(voters: &BTreeSet<NodeId>, leader: NodeId, me: NodeId, lease_ms: u64) -> Option<Duration> {
    let rank = voters.iter().rev().filter(|id| **id != leader).position(|id| *id == me)?;
    Some(Duration::from_millis(lease_ms + SLACK_MS + APART_MS * rank as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_wait_for_the_lease_and_then_one_after_the_other() {
        let voters = BTreeSet::from([1, 2, 3]);
        let ms = |me| wait(&voters, 2, me, 400).map(|wait| wait.as_millis() as u64);
        assert_eq!(ms(3), Some(400 + SLACK_MS));
        assert_eq!(ms(1), Some(400 + SLACK_MS + APART_MS));
        assert_eq!(ms(2), None, "the leader itself");
        assert_eq!(ms(9), None, "no voter");
    }
}
