//! The owner's end: accepts sessions and hands them to the writer that they name.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use twinfeed_proto::internal::{
    self as wire, Envelope, StandbyHello, relay_service_server::RelayService, standby_message::Kind,
};

use super::convert;
use crate::{
    model::{
        ids::{Epoch, NodeId, WriterId},
        relay::StandbyMessage,
    },
    queue,
    relay_session::{Offer, Session, Weigh, direction},
    supervise::{Spawner, TaskKind},
};

/// A session whose hello does not come within this time is ended.
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);

/// Which writers run on this node as owners, and how to reach them. The worker fills it.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    owners: Arc<Mutex<Owners>>,
}

type Owners = HashMap<WriterId, Owned>;

/// A writer that this node owns.
#[derive(Debug, Clone)]
pub struct Owned {
    pub epoch: Epoch,
    /// The assigned standby. The epoch does not change with it, so a former one that has not heard of its end yet must
    /// be told apart by its id: two standbys would take the place from each other for ever.
    pub standby: Option<NodeId>,
    pub offers: mpsc::Sender<Offer>,
}

impl Registry {
    /// Sessions for `writer` are offered to it from now on.
    pub fn put(&self, writer: WriterId, owned: Owned) {
        self.lock().insert(writer, owned);
    }

    /// This node does not own `writer` any more.
    pub fn remove(&self, writer: &WriterId) {
        self.lock().remove(writer);
    }

    fn find(&self, writer: &WriterId, epoch: Epoch, standby: NodeId) -> Option<mpsc::Sender<Offer>> {
        let owners = self.lock();
        let owned = owners.get(writer).filter(|owned| owned.epoch == epoch && owned.standby == Some(standby))?;
        Some(owned.offers.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Owners> {
        self.owners.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Says of an envelope whether it was meant for this node; the text says what it was meant for.
pub type Accepts = Arc<dyn Fn(&Envelope) -> Result<(), String> + Send + Sync>;

/// The gRPC service.
#[derive(Clone)]
pub struct RelayServer {
    /// Whether a message was meant for this node of this cluster.
    pub accepts: Accepts,
    pub registry: Registry,
    pub spawner: Spawner,
}

type OwnerStream = std::pin::Pin<Box<dyn Stream<Item = Result<wire::OwnerMessage, Status>> + Send>>;

#[tonic::async_trait]
impl RelayService for RelayServer {
    type RelayStream = OwnerStream;

    async fn relay(
        &self,
        request: Request<Streaming<wire::StandbyMessage>>,
    ) -> Result<Response<Self::RelayStream>, Status> {
        let mut inbound = request.into_inner();
        let hello = first_hello(&mut inbound).await?;
        let node = self.check(hello.envelope.as_ref())?;
        let (writer, epoch) = (WriterId(hello.writer), Epoch(hello.epoch));
        let offers = self.registry.find(&writer, epoch, node).ok_or_else(|| {
            Status::unavailable(format!(
                "this node does not own writer `{writer}` at epoch {epoch} with node {node} as its standby; try again"
            ))
        })?;
        let (to_writer, incoming) = direction();
        let (outgoing, from_writer) = direction();
        let session = Session { incoming, outgoing };
        offers
            .send(Offer::Standby { session, epoch, node, incarnation: hello.incarnation })
            .await
            .map_err(|_| Status::unavailable(format!("writer `{writer}` is stopping")))?;
        let name = format!("relay from standby of {writer}");
        let (refuse, refusal) = mpsc::channel(1);
        self.spawner.spawn(TaskKind::Relay, name, |stop| async move {
            tokio::select! {
                () = stop.cancelled() => {}
                ended = pump(inbound, to_writer) => {
                    let reason = match ended {
                        Ok(reason) => reason.to_owned(),
                        Err(status) => {
                            let reason = super::reason(&status);
                            // Whoever has gone away needs no answer.
                            let _ = refuse.send(Err(status)).await;
                            reason
                        }
                    };
                    tracing::warn!(%writer, %epoch, standby = node, reason, "relay.ended");
                }
            }
            Ok(())
        });
        let outbound = from_writer.map(|message| Ok(convert::owner_to_wire(message)));
        // The writer lets go of a session whose messages have ended; then the standby hears why.
        Ok(Response::new(Box::pin(outbound.chain(ReceiverStream::new(refusal)))))
    }
}

impl RelayServer {
    fn check(&self, envelope: Option<&Envelope>) -> Result<NodeId, Status> {
        let envelope = envelope.ok_or_else(|| {
            Status::invalid_argument("a relay session must begin with a hello that names its cluster")
        })?;
        (self.accepts)(envelope).map_err(Status::failed_precondition)?;
        Ok(envelope.from_node)
    }
}

async fn first_hello(inbound: &mut Streaming<wire::StandbyMessage>) -> Result<StandbyHello, Status> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, inbound.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no hello within 2 s"))??;
    match first.and_then(|message| message.kind) {
        Some(Kind::Hello(hello)) => Ok(hello),
        _ => Err(Status::invalid_argument("a relay session must begin with a hello")),
    }
}

/// Hands messages to the writer until either side ends; dropping the sender tells the writer. Returns why it ended; an error
/// is for the standby, too.
async fn pump(
    mut inbound: Streaming<wire::StandbyMessage>,
    to_writer: queue::Sender<StandbyMessage>,
) -> Result<&'static str, Status> {
    loop {
        let message = tokio::select! {
            message = inbound.message() => message?,
            () = to_writer.closed() => return Ok("this node's writer has ended it"),
        };
        let Some(message) = message else { return Ok("the standby has ended it") };
        let message = convert::standby_from_wire(message)
            .ok_or_else(|| Status::unimplemented(format!("a message of the standby is {}", super::UNKNOWN_KIND)))?;
        let weight = message.weight();
        if to_writer.send(message, weight).await.is_err() {
            return Ok("this node's writer has ended it");
        }
    }
}
