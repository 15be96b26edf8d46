//! The standby's end: keeps one session to the owner open, and offers each new one to the writer.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tonic::transport::{Channel, Endpoint};
use twinfeed_proto::internal::{self as wire, Envelope, relay_service_client::RelayServiceClient};

use super::convert;
use crate::{
    model::ids::{ClusterId, Epoch, NodeId, WriterId},
    relay_session::{Offer, Session, Weigh, direction},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Pauses between attempts: short, because until the session stands the stream is at risk.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_millis(500);
/// The frames of a busy feed in flight between two nodes.
const WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// A silent peer is noticed by HTTP/2 pings.
const KEEP_ALIVE: Duration = Duration::from_millis(1_000);

const WRITER_ENDED: &str = "this node's writer has ended it";

/// Whose session this is and where it goes.
#[derive(Debug, Clone)]
pub struct Target {
    pub cluster: ClusterId,
    pub me: NodeId,
    pub owner: NodeId,
    pub owner_address: String,
    pub writer: WriterId,
    pub epoch: Epoch,
    /// Largest message either way.
    pub message_bytes_max: usize,
}

/// Connects to the owner and offers every session to the writer, for as long as it is polled. `lost` is called when
/// a session that stood has ended: the owner may be dead.
pub async fn keep_connected(target: Target, offers: mpsc::Sender<Offer>, lost: impl Fn(NodeId) + Send) {
    let mut pause = RETRY_MIN;
    loop {
        match session(&target, &offers).await {
            Ok(reason) => {
                tracing::warn!(writer = %target.writer, epoch = %target.epoch, owner = target.owner, reason, "relay.ended");
                lost(target.owner);
                pause = RETRY_MIN;
            }
            Err(error) => {
                tracing::debug!(writer = %target.writer, epoch = %target.epoch, %error, "relay.refused");
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
        if offers.is_closed() {
            return;
        }
        tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
    }
}

/// Why a session that stood has ended; an error when it never did.
async fn session(target: &Target, offers: &mpsc::Sender<Offer>) -> Result<String, tonic::Status> {
    let channel = connect(&target.owner_address).await?;
    let mut client = RelayServiceClient::new(channel)
        .max_decoding_message_size(target.message_bytes_max)
        .max_encoding_message_size(target.message_bytes_max);
    let (outgoing, from_writer) = direction();
    let (to_writer, incoming) = direction();
    let session = Session { incoming, outgoing };
    if offers.send(Offer::Owner { session, epoch: target.epoch }).await.is_err() {
        return Ok(WRITER_ENDED.to_owned());
    }
    let (writer, epoch) = (target.writer.0.clone(), target.epoch.0);
    let envelope = Envelope { cluster_id: target.cluster.0.clone(), to_node: target.owner, from_node: target.me };
    let outbound = from_writer.map(move |message| {
        convert::standby_to_wire(message, |incarnation| wire::StandbyHello {
            envelope: Some(envelope.clone()),
            writer: writer.clone(),
            epoch,
            incarnation,
        })
    });
    let mut inbound = client.relay(outbound).await?.into_inner();
    loop {
        let message = tokio::select! {
            message = inbound.message() => message,
            () = to_writer.closed() => return Ok(WRITER_ENDED.to_owned()),
        };
        let message = match message {
            Ok(Some(message)) => message,
            Ok(None) => return Ok("the owner has ended it".to_owned()),
            Err(status) => return Ok(super::reason(&status)),
        };
        let number = message.number;
        let Some(message) = convert::owner_from_wire(message) else {
            return Ok(format!("message {number} of the owner is {}", super::UNKNOWN_KIND));
        };
        let weight = message.weight();
        if to_writer.send(message, weight).await.is_err() {
            return Ok(WRITER_ENDED.to_owned());
        }
    }
}

async fn connect(address: &str) -> Result<Channel, tonic::Status> {
    Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| tonic::Status::invalid_argument(format!("owner address `{address}`: {error}")))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .connect()
        .await
        .map_err(|error| tonic::Status::unavailable(format!("owner at `{address}`: {error}")))
}
