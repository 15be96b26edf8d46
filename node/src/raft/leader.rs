//! What only the leader can answer: commands, read indexes, and changes of membership. Called by `service` for other
//! nodes and by `handle` when this node leads. Never forwards; a node that does not lead says who does.

use std::{collections::BTreeSet, time::Duration};

use openraft::{
    BasicNode, ChangeMembers, ServerState,
    error::{CheckIsLeaderError, ClientWriteError, RaftError},
    raft::ClientWriteResponse,
};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tonic::Status;
use twinfeed_proto::internal::{AdoptRequest, JoinRequest, JoinResponse};

use super::{
    member::Member,
    peers::Probed,
    type_config::{LogId, Raft, TypeConfig},
};
use crate::model::{
    command::{Command, Outcome, Proposal},
    connector::NodeRecord,
    ids::NodeId,
};

/// Time limit of one attempt at the leader, in milliseconds. openraft 0.9 may never answer a write that a lost
/// leadership has stranded; the caller then asks again, the request id makes that safe.
const ATTEMPT_TIMEOUT_MS: u64 = 2_000;
/// Time limit for a new member to catch up with the log, in milliseconds.
const CATCH_UP_TIMEOUT_MS: u64 = 10_000;
/// Time limit to decide whether the holder of a name is alive, in milliseconds.
const PROBE_TIMEOUT_MS: u64 = 1_000;

/// A question for the leader. Sent between versions: variants are only ever added.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Ask {
    Propose(Proposal),
    /// The index up to which a follower must have applied to read what is true now.
    ReadIndex,
    RemoveNode {
        id: NodeId,
        proposal: Proposal,
    },
}

/// The answer to an [`Ask`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Answer {
    Outcome(Outcome),
    ReadIndex(u64),
    /// Nothing was done here.
    NotLeader {
        leader: Option<NodeId>,
    },
    /// It may have been done.
    Unknown {
        why: String,
    },
}

/// The body of a join request: the node's record and the cluster it is configured for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Joiner {
    #[serde(flatten)]
    pub(super) node: NodeRecord,
    pub(super) cluster_name: String,
}

impl Ask {
    /// How long one attempt may take, in milliseconds. A removal writes two membership entries before its command.
    pub(super) fn attempt_timeout_ms(&self) -> u64 {
        match self {
            Self::Propose(_) | Self::ReadIndex => ATTEMPT_TIMEOUT_MS,
            Self::RemoveNode { .. } => ATTEMPT_TIMEOUT_MS + CATCH_UP_TIMEOUT_MS,
        }
    }
}

impl Member {
    /// Answers as the leader, within [`ATTEMPT_TIMEOUT_MS`] for everything but a removal.
    pub(super) async fn answer(&self, ask: Ask) -> Answer {
        match ask {
            Ask::Propose(proposal) => write(&self.raft, proposal).await,
            Ask::ReadIndex => self.read_index().await,
            Ask::RemoveNode { id, proposal } => match self.drop_member(id).await {
                Ok(()) => write(&self.raft, proposal).await,
                Err(answer) => answer,
            },
        }
    }

    pub(super) fn leads(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        metrics.state == ServerState::Leader && metrics.running_state.is_ok()
    }

    async fn read_index(&self) -> Answer {
        match attempt(ATTEMPT_TIMEOUT_MS, self.raft.get_read_log_id()).await {
            None => Answer::Unknown { why: "no quorum answered in time".to_owned() },
            Some(Ok((read, _))) => Answer::ReadIndex(read.map_or(0, |id| id.index)),
            Some(Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(to)))) => {
                Answer::NotLeader { leader: to.leader_id }
            }
            Some(Err(e)) => Answer::Unknown { why: e.to_string() },
        }
    }

    /// First out of the quorum, then out of the state: a retry after a crash in between finds the name still there.
    async fn drop_member(&self, id: NodeId) -> Result<(), Answer> {
        if id == self.me().node_id {
            let why = "this node leads the cluster now: stop it first, then remove it".to_owned();
            return Err(if self.leads() { Answer::Outcome(Outcome::Refused { why }) } else { not_leader(None) });
        }
        let membership = self.raft.metrics().borrow().membership_config.clone();
        if membership.membership().get_node(&id).is_none() {
            return Ok(());
        }
        let voter = membership.voter_ids().any(|voter| voter == id);
        let ids = BTreeSet::from([id]);
        let change = if voter { ChangeMembers::RemoveVoters(ids) } else { ChangeMembers::RemoveNodes(ids) };
        match attempt(CATCH_UP_TIMEOUT_MS, self.raft.change_membership(change, false)).await {
            Some(Ok(_)) => Ok(()),
            other => Err(unwritten(other)),
        }
    }

    /// Lets a node in: name free, address reachable, identity adopted, caught up, and only then a voter.
    /// Every step may be repeated.
    pub(super) async fn admit(&self, request: &JoinRequest) -> Result<JoinResponse, Status> {
        let me = self.me();
        if request.cluster_id != me.cluster_id.0 {
            let text = format!("meant for cluster {}, this is cluster {}", request.cluster_id, me.cluster_id);
            return Err(Status::failed_precondition(text));
        }
        let joiner: Joiner =
            serde_json::from_slice(&request.node).map_err(|e| Status::invalid_argument(e.to_string()))?;
        if joiner.cluster_name != me.cluster_name {
            return Err(Status::failed_precondition(format!(
                "this is cluster `{}`, node `{}` is configured for `{}`: correct `cluster.name` or the member addresses",
                me.cluster_name, joiner.node.name, joiner.cluster_name
            )));
        }
        match self.read_index().await {
            Answer::ReadIndex(_) => {}
            _ => return Err(Status::unavailable("this node does not lead the cluster")),
        }
        self.check_name(&joiner.node).await?;
        self.make_belong(&joiner.node).await?;
        let proposal = Proposal {
            request_id: String::new(),
            asked: 0,
            // No outcome depends on the time of this command, and there is no request id to age.
            proposed_at_ms: 0,
            command: Command::PutNode { node: joiner.node.clone() },
        };
        match write(&self.raft, proposal).await {
            Answer::Outcome(Outcome::Done { .. }) => {}
            Answer::Outcome(refusal) => return Err(Status::failed_precondition(format!("refused: {refusal:?}"))),
            other => return Err(Status::unavailable(format!("not written: {other:?}"))),
        }
        self.make_voter(&joiner.node).await?;
        Ok(JoinResponse { cluster_id: me.cluster_id.0, cluster_name: me.cluster_name })
    }

    async fn check_name(&self, joiner: &NodeRecord) -> Result<(), Status> {
        let state = self.state();
        if state.is_removed(joiner.id) {
            return Err(Status::failed_precondition(format!(
                "node id {} was removed from this cluster: start `{}` with an empty data directory",
                joiner.id, joiner.name
            )));
        }
        let Some(holder) = state.node_named(&joiner.name).filter(|holder| holder.id != joiner.id) else {
            return Ok(());
        };
        let (name, address) = (&holder.name, &holder.internal_address);
        let probe = self.peers.probe(holder.id, address, PROBE_TIMEOUT_MS);
        if holder.id == self.me().node_id || probe.await == Probed::Alive {
            let text = format!("node name `{name}` is taken by a running node at {address}: choose another name");
            return Err(Status::already_exists(text));
        }
        Err(Status::failed_precondition(format!(
            "node name `{name}` belongs to a dead node with another data directory: remove it first: wsctl node remove \
             {name}"
        )))
    }

    /// The joint membership that is in effect, by its log id. It is a passing state of a change in two steps.
    pub(super) fn joint_membership(&self) -> Option<LogId> {
        let membership = self.raft.metrics().borrow().membership_config.clone();
        let joint = membership.membership().get_joint_config().len() > 1;
        membership.log_id().filter(|_| joint && self.leads())
    }

    /// Takes the second step of a change whose first step was left behind by a crash or a deadline.
    pub(super) async fn finish_membership_change(&self) {
        let change = ChangeMembers::AddVoterIds(BTreeSet::new());
        if !matches!(attempt(CATCH_UP_TIMEOUT_MS, self.raft.change_membership(change, false)).await, Some(Ok(_))) {
            tracing::debug!("the joint membership could not be left yet");
        }
    }

    /// Also proves that the address the cluster would use leads to this very node.
    async fn make_belong(&self, joiner: &NodeRecord) -> Result<(), Status> {
        let me = self.me();
        let request =
            AdoptRequest { cluster_id: me.cluster_id.0, cluster_name: me.cluster_name, initial_members: String::new() };
        let answered = self.peers.adopt(&joiner.internal_address, request, ATTEMPT_TIMEOUT_MS).await?;
        if answered != joiner.id {
            return Err(Status::failed_precondition(format!(
                "another node answers at {}, the advertised address of `{}`",
                joiner.internal_address, joiner.name
            )));
        }
        Ok(())
    }

    async fn make_voter(&self, joiner: &NodeRecord) -> Result<(), Status> {
        let membership = self.raft.metrics().borrow().membership_config.clone();
        if membership.voter_ids().any(|id| id == joiner.id) && membership.membership().get_joint_config().len() == 1 {
            return Ok(());
        }
        let unavailable = |answer: Answer| Status::unavailable(format!("membership not changed: {answer:?}"));
        let node = BasicNode::new(&joiner.internal_address);
        match attempt(CATCH_UP_TIMEOUT_MS, self.raft.add_learner(joiner.id, node, true)).await {
            Some(Ok(_)) => {}
            other => return Err(unavailable(unwritten(other))),
        }
        let change = ChangeMembers::AddVoterIds(BTreeSet::from([joiner.id]));
        match attempt(CATCH_UP_TIMEOUT_MS, self.raft.change_membership(change, false)).await {
            Some(Ok(_)) => Ok(()),
            other => Err(unavailable(unwritten(other))),
        }
    }
}

type WriteResult = Result<ClientWriteResponse<TypeConfig>, RaftError<NodeId, ClientWriteError<NodeId, BasicNode>>>;

async fn write(raft: &Raft, proposal: Proposal) -> Answer {
    match attempt(ATTEMPT_TIMEOUT_MS, raft.client_write(proposal)).await {
        Some(Ok(response)) => Answer::Outcome(response.data),
        other => unwritten(other),
    }
}

fn unwritten(result: Option<WriteResult>) -> Answer {
    match result {
        None => Answer::Unknown { why: "not committed in time".to_owned() },
        Some(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))) => not_leader(to.leader_id),
        Some(Err(e)) => Answer::Unknown { why: e.to_string() },
        Some(Ok(_)) => Answer::Unknown { why: "written".to_owned() },
    }
}

fn not_leader(leader: Option<NodeId>) -> Answer {
    Answer::NotLeader { leader }
}

async fn attempt<T>(limit_ms: u64, work: impl Future<Output = T>) -> Option<T> {
    timeout(Duration::from_millis(limit_ms), work).await.ok()
}
