//! openraft's way to other nodes: its messages as JSON in an envelope that names cluster and target.

use std::sync::Arc;

use openraft::{
    BasicNode, RaftNetwork, RaftNetworkFactory,
    error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Timeout, Unreachable},
    network::{Backoff, RPCOption, RPCTypes},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
        VoteResponse,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::watch, time::timeout};
use tonic::{Code, Status};
use twinfeed_proto::internal::RaftRequest;

use super::{peers::Peers, type_config::TypeConfig};
use crate::{control::State, model::ids::NodeId};

type CallError<E = openraft::error::Infallible> = RPCError<NodeId, BasicNode, RaftError<NodeId, E>>;

/// Makes a link per target.
pub(super) struct Network {
    pub(super) me: NodeId,
    pub(super) peers: Peers,
    pub(super) state: watch::Receiver<Arc<State>>,
    /// Pause after a failed connection. A returning node must hear from the leader before it calls an election.
    pub(super) retry_ms: u64,
}

/// The link to one node.
pub(super) struct Link {
    me: NodeId,
    target: NodeId,
    address_at_join: String,
    peers: Peers,
    state: watch::Receiver<Arc<State>>,
    retry_ms: u64,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: NodeId, node: &BasicNode) -> Link {
        Link {
            me: self.me,
            target,
            address_at_join: node.addr.clone(),
            peers: self.peers.clone(),
            state: self.state.clone(),
            retry_ms: self.retry_ms,
        }
    }
}

impl Link {
    /// Addresses live in the cluster state, where a node corrects its own; membership keeps the one of its joining.
    fn address(&self) -> String {
        let known = self.state.borrow().nodes().get(&self.target).map(|node| node.internal_address.clone());
        known.unwrap_or_else(|| self.address_at_join.clone())
    }

    async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        action: RPCTypes,
        message: &Q,
        option: &RPCOption,
    ) -> Result<A, Failure> {
        let envelope = Some(self.peers.envelope(self.target));
        let body = serde_json::to_vec(message).map_err(|e| Status::internal(e.to_string()))?.into();
        let request = RaftRequest { envelope, body };
        let mut client = self.peers.raft(&self.address())?;
        let call = async {
            match action {
                RPCTypes::Vote => client.vote(request).await,
                RPCTypes::AppendEntries => client.append_entries(request).await,
                RPCTypes::InstallSnapshot => client.install_snapshot(request).await,
            }
        };
        let answer = match timeout(option.hard_ttl(), call).await {
            Ok(answer) => answer?,
            Err(_) => {
                let (id, target, timeout) = (self.me, self.target, option.hard_ttl());
                return Err(Failure::Timeout(Timeout { action, id, target, timeout }));
            }
        };
        let decoded = serde_json::from_slice(&answer.into_inner().body);
        Ok(decoded.map_err(|e| Status::internal(format!("answer cannot be decoded: {e}")))?)
    }
}

enum Failure {
    Timeout(Timeout<NodeId>),
    Status(Status),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl Failure {
    fn into_rpc_error<E: std::error::Error>(self) -> CallError<E> {
        match self {
            Self::Timeout(timeout) => RPCError::Timeout(timeout),
            // A broken connection is repaired by the next call; everything else deserves a pause.
            Self::Status(status) if status.code() == Code::Cancelled => RPCError::Network(NetworkError::new(&status)),
            Self::Status(status) => RPCError::Unreachable(Unreachable::new(&status)),
        }
    }
}

impl RaftNetwork<TypeConfig> for Link {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, CallError> {
        self.call(RPCTypes::AppendEntries, &rpc, &option).await.map_err(Failure::into_rpc_error)
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<NodeId>, CallError<InstallSnapshotError>> {
        let answer: Result<Result<_, InstallSnapshotError>, Failure> =
            self.call(RPCTypes::InstallSnapshot, &rpc, &option).await;
        answer.map_err(Failure::into_rpc_error)?.map_err(|mismatch| {
            // Tells openraft to start over with the first chunk.
            RPCError::RemoteError(RemoteError::new(self.target, RaftError::APIError(mismatch)))
        })
    }

    async fn vote(&mut self, rpc: VoteRequest<NodeId>, option: RPCOption) -> Result<VoteResponse<NodeId>, CallError> {
        self.call(RPCTypes::Vote, &rpc, &option).await.map_err(Failure::into_rpc_error)
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(std::time::Duration::from_millis(self.retry_ms)))
    }
}
