//! Connections to other nodes, and the small questions asked over them. Every call has a deadline.
//!
//! A stopped process keeps its TCP connections open and silent; only the deadlines notice.

use std::{
    collections::HashMap,
    error::Error,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::timeout;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use twinfeed_proto::internal::{
    AdoptRequest, Envelope, ForwardRequest, HelloRequest, HelloResponse, JoinRequest, JoinResponse,
    membership_service_client::MembershipServiceClient, raft_service_client::RaftServiceClient,
};

use super::{
    identity::IdentityStore,
    leader::{Answer, Ask},
};
use crate::model::ids::NodeId;

/// Time to a TCP connection, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 1_000;
/// Interval of HTTP/2 pings and time to their answer, in milliseconds: finds half-open connections that idle.
const KEEP_ALIVE_MS: (u64, u64) = (5_000, 3_000);
/// Connections kept. A cluster has at most 64 nodes; the rest are addresses that nobody uses any more.
const CHANNELS_MAX: usize = 128;

/// Reaches other nodes by address; clones share connections.
#[derive(Clone)]
pub struct Peers {
    identity: Arc<IdentityStore>,
    channels: Arc<Mutex<HashMap<String, Channel>>>,
    message_bytes_max: usize,
}

impl Peers {
    pub(super) fn new(identity: Arc<IdentityStore>, message_bytes_max: usize) -> Self {
        Self { identity, channels: Arc::default(), message_bytes_max }
    }

    /// Returns a connection that is made when first used and made anew whenever it breaks.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when the address is not host:port.
    pub fn channel(&self, address: &str) -> Result<Channel, Status> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|e| Status::invalid_argument(format!("`{address}` is not a host:port address: {e}")))?
            .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_millis(KEEP_ALIVE_MS.0))
            .keep_alive_timeout(Duration::from_millis(KEEP_ALIVE_MS.1))
            .keep_alive_while_idle(true);
        if channels.len() >= CHANNELS_MAX {
            channels.clear();
        }
        let channel = endpoint.connect_lazy();
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// Returns the envelope of a message to a node of this node's cluster.
    pub fn envelope(&self, to_node: NodeId) -> Envelope {
        let me = self.identity.get();
        Envelope { cluster_id: me.cluster_id.0, to_node, from_node: me.node_id }
    }

    /// Asks whether the node of this id lives at this address. Each of at most two questions gets the deadline: the first may
    /// be lost with a connection that was made to a process which is gone.
    pub async fn probe(&self, id: NodeId, address: &str, deadline_ms: u64) -> Probed {
        for _ in 0..2 {
            match self.hello(address, deadline_ms).await {
                Ok(hello) if hello.node_id == id => return Probed::Alive,
                Ok(_) => return Probed::Refused,
                Err(status) if is_refused(&status) => return Probed::Refused,
                Err(status) if status.code() == Code::DeadlineExceeded => return Probed::Unanswered,
                Err(_) => {}
            }
        }
        Probed::Unanswered
    }

    pub(super) async fn hello(&self, address: &str, deadline_ms: u64) -> Result<HelloResponse, Status> {
        let mut client = self.membership(address)?;
        let request = HelloRequest { envelope: Some(self.envelope(0)) };
        within(deadline_ms, async move { client.hello(request).await }).await
    }

    pub(super) async fn adopt(&self, address: &str, request: AdoptRequest, deadline_ms: u64) -> Result<NodeId, Status> {
        let mut client = self.membership(address)?;
        within(deadline_ms, async move { client.adopt(request).await }).await.map(|answer| answer.node_id)
    }

    pub(super) async fn join(
        &self,
        address: &str,
        request: Request<JoinRequest>,
        deadline_ms: u64,
    ) -> Result<JoinResponse, Status> {
        let mut client = self.membership(address)?;
        within(deadline_ms, async move { client.join(request).await }).await
    }

    pub(super) async fn forward(&self, to: (NodeId, &str), ask: &Ask, deadline_ms: u64) -> Result<Answer, Status> {
        let mut client = self.membership(to.1)?;
        let body = serde_json::to_vec(ask).map_err(|e| Status::internal(e.to_string()))?;
        let request = ForwardRequest { envelope: Some(self.envelope(to.0)), body: body.into() };
        let answer = within(deadline_ms, async move { client.forward(request).await }).await?;
        serde_json::from_slice(&answer.body).map_err(|e| Status::internal(format!("answer cannot be decoded: {e}")))
    }

    pub(super) fn raft(&self, address: &str) -> Result<RaftServiceClient<Channel>, Status> {
        let client = RaftServiceClient::new(self.channel(address)?);
        let bytes_max = self.message_bytes_max;
        Ok(client.max_decoding_message_size(bytes_max).max_encoding_message_size(bytes_max))
    }

    fn membership(&self, address: &str) -> Result<MembershipServiceClient<Channel>, Status> {
        let client = MembershipServiceClient::new(self.channel(address)?);
        let bytes_max = self.message_bytes_max;
        Ok(client.max_decoding_message_size(bytes_max).max_encoding_message_size(bytes_max))
    }
}

/// Runs one call under a deadline; the call is dropped, and so cancelled, when it passes.
async fn within<T>(
    deadline_ms: u64,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match timeout(Duration::from_millis(deadline_ms), call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded(format!("no answer within {deadline_ms} ms"))),
    }
}

/// What a question to a node has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probed {
    Alive,
    /// No such process is there: its address refuses connections, or another node answers at it.
    Refused,
    /// No answer in time: dead with its host, frozen, cut off, or slow.
    Unanswered,
}

/// The errors behind a failed call, outermost first.
fn sources(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let mut next = status.source();
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

fn is_refused(status: &Status) -> bool {
    let mut errors = sources(status).filter_map(|error| error.downcast_ref::<io::Error>());
    errors.any(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Says whether a failed call certainly never reached the other node.
pub(super) fn never_sent(status: &Status) -> bool {
    sources(status).any(|error| error.is::<tonic::ConnectError>())
        // Refused by the receiver before it did anything.
        || matches!(status.code(), Code::FailedPrecondition | Code::InvalidArgument)
}
