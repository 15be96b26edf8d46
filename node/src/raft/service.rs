//! The server side of Raft and membership: checks the envelope, hands over, translates errors. Decides nothing itself.

use std::sync::Arc;

use openraft::error::{InstallSnapshotError, RaftError};
use serde::{Serialize, de::DeserializeOwned};
use tonic::{Request, Response, Status, metadata::MetadataValue};
use twinfeed_proto::internal::{
    AdoptRequest, AdoptResponse, ForwardRequest, ForwardResponse, HelloRequest, HelloResponse, JoinRequest,
    JoinResponse, RaftRequest, RaftResponse,
    membership_service_server::{MembershipService, MembershipServiceServer},
    raft_service_server::{RaftService, RaftServiceServer},
};

use super::{
    leader::{Answer, Ask},
    member::Member,
};
use crate::model::ids::{ClusterId, NodeId};

/// Marks a join that a follower passed on, so that two nodes that hold each other for the leader do not play ball.
const RELAYED: &str = "twinfeed-relayed";
/// Time limit of a passed-on join, in milliseconds: catching up is part of it.
const RELAY_TIMEOUT_MS: u64 = 25_000;

/// Returns both services, ready to be served beside others.
pub(super) fn routes(member: Arc<Member>) -> tonic::service::Routes {
    let bytes_max = member.options.message_bytes_max;
    let raft = RaftServiceServer::new(RaftRpc(member.clone()))
        .max_decoding_message_size(bytes_max)
        .max_encoding_message_size(bytes_max);
    let membership = MembershipServiceServer::new(MembershipRpc(member))
        .max_decoding_message_size(bytes_max)
        .max_encoding_message_size(bytes_max);
    tonic::service::Routes::new(raft).add_service(membership)
}

struct RaftRpc(Arc<Member>);

impl RaftRpc {
    fn open<T: DeserializeOwned>(&self, request: Request<RaftRequest>) -> Result<T, Status> {
        let request = request.into_inner();
        self.0.check(request.envelope.as_ref()).map_err(Status::failed_precondition)?;
        decode(&request.body)
    }
}

#[tonic::async_trait]
impl RaftService for RaftRpc {
    async fn append_entries(&self, request: Request<RaftRequest>) -> Result<Response<RaftResponse>, Status> {
        let answer = self.0.raft.append_entries(self.open(request)?).await.map_err(stopped)?;
        Ok(Response::new(RaftResponse { body: encode(&answer)? }))
    }

    async fn vote(&self, request: Request<RaftRequest>) -> Result<Response<RaftResponse>, Status> {
        let answer = self.0.raft.vote(self.open(request)?).await.map_err(stopped)?;
        Ok(Response::new(RaftResponse { body: encode(&answer)? }))
    }

    async fn install_snapshot(&self, request: Request<RaftRequest>) -> Result<Response<RaftResponse>, Status> {
        let answer = match self.0.raft.install_snapshot(self.open(request)?).await {
            Ok(done) => Ok(done),
            Err(RaftError::APIError(mismatch)) => Err::<_, InstallSnapshotError>(mismatch),
            Err(RaftError::Fatal(fatal)) => return Err(Status::unavailable(fatal.to_string())),
        };
        Ok(Response::new(RaftResponse { body: encode(&answer)? }))
    }
}

fn stopped(error: RaftError<NodeId>) -> Status {
    Status::unavailable(error.to_string())
}

struct MembershipRpc(Arc<Member>);

#[tonic::async_trait]
impl MembershipService for MembershipRpc {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        let me = self.0.me();
        let to_node = request.into_inner().envelope.map_or(0, |envelope| envelope.to_node);
        if to_node != 0 && to_node != me.node_id {
            return Err(Status::failed_precondition(format!("meant for node {to_node}, this is node {}", me.node_id)));
        }
        Ok(Response::new(HelloResponse {
            node_id: me.node_id,
            name: me.name,
            cluster_id: me.cluster_id.0,
            initial_members: self.0.options.member_list(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }

    async fn adopt(&self, request: Request<AdoptRequest>) -> Result<Response<AdoptResponse>, Status> {
        let request = request.into_inner();
        let cluster = ClusterId(request.cluster_id);
        let me = self.0.me();
        if me.cluster_id != cluster {
            let list = self.0.options.member_list();
            let founding = !list.is_empty() && list == request.initial_members;
            if me.cluster_name != request.cluster_name || !(founding || self.0.is_joining(&cluster)) {
                return Err(Status::failed_precondition(format!(
                    "node `{}` neither founds nor joins cluster {cluster} (`{}`): check its `cluster` settings",
                    me.name, request.cluster_name
                )));
            }
            let identity = self.0.identity.clone();
            let adopted = tokio::task::spawn_blocking(move || identity.adopt(&cluster, false)).await;
            let adopted = adopted.map_err(|e| Status::internal(e.to_string()))?;
            adopted.map_err(|e| Status::failed_precondition(e.to_string()))?;
        }
        Ok(Response::new(AdoptResponse { node_id: me.node_id }))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let relayed = request.metadata().contains_key(RELAYED);
        let request = request.into_inner();
        if self.0.leads() {
            return self.0.admit(&request).await.map(Response::new);
        }
        let leader = self.0.leader();
        let address = self.0.addresses().into_iter().find(|(id, _)| Some(*id) == leader);
        let Some((_, address)) = address.filter(|_| !relayed) else {
            return Err(Status::unavailable("the cluster has no leader now"));
        };
        let mut onward = Request::new(request);
        onward.metadata_mut().insert(RELAYED, MetadataValue::from_static("1"));
        self.0.peers.join(&address, onward, RELAY_TIMEOUT_MS).await.map(Response::new)
    }

    async fn forward(&self, request: Request<ForwardRequest>) -> Result<Response<ForwardResponse>, Status> {
        let request = request.into_inner();
        self.0.check(request.envelope.as_ref()).map_err(Status::failed_precondition)?;
        let ask: Ask = decode(&request.body)?;
        let answer: Answer = self.0.answer(ask).await;
        Ok(Response::new(ForwardResponse { body: encode(&answer)? }))
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Status> {
    serde_json::from_slice(body).map_err(|e| {
        Status::invalid_argument(format!("message cannot be decoded, the sender may run an incompatible version: {e}"))
    })
}

fn encode<T: Serialize>(answer: &T) -> Result<bytes::Bytes, Status> {
    serde_json::to_vec(answer).map(Into::into).map_err(|e| Status::internal(e.to_string()))
}
