//! The relay over the wire: what ends a session, and who hears why.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Code, Request, Response, Status, Streaming};
use twinfeed_node::{
    model::{
        ids::{ClusterId, Epoch, WriterId},
        relay::{OwnerMessage, StandbyMessage},
    },
    relay::{Owned, Registry, RelayServer, Target, keep_connected},
    relay_session::{Offer, WAITING_BYTES_MAX, Weigh},
    supervise::{Supervisor, TaskKind},
};
use twinfeed_proto::internal::{
    self as wire, Envelope, StandbyHello,
    relay_service_client::RelayServiceClient,
    relay_service_server::{RelayService, RelayServiceServer},
    standby_message::Kind,
};

/// Long enough for a loaded machine; no test waits it out unless it fails.
const PATIENCE: Duration = Duration::from_secs(30);
const EPOCH: Epoch = Epoch(5);

fn writer() -> WriterId {
    WriterId("trades".to_owned())
}

async fn serve<R: RelayService>(supervisor: &Supervisor, relay: R) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tonic::transport::Server::builder().add_service(RelayServiceServer::new(relay));
    supervisor.spawner().spawn(TaskKind::InternalServer, "relay", |_| async move {
        Ok(server.serve_with_incoming(TcpListenerStream::new(listener)).await?)
    });
    address
}

/// What a later version sends looks like this to an earlier one: a kind that it does not know is none.
fn unknown_to_owner() -> wire::StandbyMessage {
    wire::StandbyMessage { kind: None }
}

#[tokio::test]
async fn an_owner_ends_a_session_with_a_message_that_it_does_not_know_and_says_so() {
    let supervisor = Supervisor::default();
    let registry = Registry::default();
    let (offers, mut offered) = mpsc::channel(1);
    registry.put(writer(), Owned { epoch: EPOCH, standby: Some(2), offers });
    let relay = RelayServer { accepts: Arc::new(|_| Ok(())), registry, spawner: supervisor.spawner() };
    let address = serve(&supervisor, relay).await;
    let (out, outbound) = mpsc::channel(8);
    let envelope = Envelope { cluster_id: "c".into(), to_node: 1, from_node: 2 };
    let hello = StandbyHello { envelope: Some(envelope), writer: "trades".into(), epoch: EPOCH.0, incarnation: 9 };
    for kind in [Some(Kind::Hello(hello)), Some(Kind::ReceivedThrough(4))] {
        out.send(wire::StandbyMessage { kind }).await.unwrap();
    }
    let mut client = RelayServiceClient::connect(format!("http://{address}")).await.unwrap();
    let mut inbound = client.relay(ReceiverStream::new(outbound)).await.unwrap().into_inner();
    let Some(Offer::Standby { mut session, .. }) = offered.recv().await else { panic!("a session is offered") };
    assert!(matches!(session.incoming.recv().await, Some(StandbyMessage::ReceivedThrough(4))));
    out.send(unknown_to_owner()).await.unwrap();
    let next = tokio::time::timeout(PATIENCE, session.incoming.recv()).await.expect("it hears something");
    assert!(next.is_none(), "nothing is skipped: the writer's session is over");
    drop(session);
    let ended = tokio::time::timeout(PATIENCE, inbound.message()).await.unwrap().expect_err("it says why");
    assert_eq!(ended.code(), Code::Unimplemented);
    assert!(ended.message().contains("a kind that this version does not know"), "{ended:?}");
}

/// The standby is silent, as on a quiet feed: it must hear of the end nevertheless.
#[tokio::test]
async fn a_session_that_the_owners_writer_ends_is_over_for_a_silent_standby() {
    let supervisor = Supervisor::default();
    let registry = Registry::default();
    let (offers, mut offered) = mpsc::channel(1);
    registry.put(writer(), Owned { epoch: EPOCH, standby: Some(2), offers });
    let relay = RelayServer { accepts: Arc::new(|_| Ok(())), registry, spawner: supervisor.spawner() };
    let owner_address = serve(&supervisor, relay).await;
    let (lost_in, mut lost) = mpsc::channel(1);
    let _standby = standby(&supervisor, owner_address, lost_in).await;
    let Some(Offer::Standby { session, .. }) = offered.recv().await else { panic!("a session is offered") };
    drop(session);
    assert_eq!(tokio::time::timeout(PATIENCE, lost.recv()).await.unwrap(), Some(1));
}

/// An owner of a later version.
struct Later {
    numbers: Vec<Option<wire::owner_message::Kind>>,
    gone: std::sync::Mutex<Option<oneshot::Sender<()>>>,
}

type OwnerStream = Pin<Box<dyn Stream<Item = Result<wire::OwnerMessage, Status>> + Send>>;

#[tonic::async_trait]
impl RelayService for Later {
    type RelayStream = OwnerStream;

    async fn relay(
        &self,
        request: Request<Streaming<wire::StandbyMessage>>,
    ) -> Result<Response<Self::RelayStream>, Status> {
        let mut inbound = request.into_inner();
        inbound.message().await?;
        let kinds = self.numbers.clone();
        let gone = self.gone.lock().unwrap().take();
        Ok(Response::new(Box::pin(async_stream::stream! {
            for (number, kind) in (1..).zip(kinds) {
                yield Ok(wire::OwnerMessage { number, kind });
            }
            // Until the standby ends it.
            while let Ok(Some(_)) = inbound.message().await {}
            gone.map(|gone| gone.send(()));
            std::future::pending::<()>().await;
        })))
    }
}

async fn standby(supervisor: &Supervisor, owner_address: String, lost: mpsc::Sender<u64>) -> mpsc::Receiver<Offer> {
    let (offers, mut offered) = mpsc::channel(4);
    let target = Target {
        cluster: ClusterId("c".into()),
        me: 2,
        owner: 1,
        owner_address,
        writer: writer(),
        epoch: EPOCH,
        message_bytes_max: 1 << 20,
    };
    let (sessions_in, sessions) = mpsc::channel(4);
    let spawner = supervisor.spawner();
    spawner.spawn(TaskKind::Relay, "dial", |_| async move {
        keep_connected(target, offers, move |owner| {
            let _ = lost.try_send(owner);
        })
        .await;
        Ok(())
    });
    // The writer's part: it says hello, and listens.
    spawner.spawn(TaskKind::Writer, "standby", |_| async move {
        while let Some(offer) = offered.recv().await {
            if let Offer::Owner { session, .. } = &offer {
                let hello = StandbyMessage::Hello { incarnation: 9 };
                let weight = hello.weight();
                session.outgoing.send(hello, weight).await?;
            }
            sessions_in.send(offer).await?;
        }
        Ok(())
    });
    sessions
}

#[tokio::test]
async fn a_standby_skips_no_message_of_its_owner() {
    let supervisor = Supervisor::default();
    let (gone_in, gone) = oneshot::channel();
    let ack = || Some(wire::owner_message::Kind::Ack(wire::Ack::default()));
    let later = Later { numbers: vec![ack(), None, ack()], gone: std::sync::Mutex::new(Some(gone_in)) };
    let owner_address = serve(&supervisor, later).await;
    let (lost_in, mut lost) = mpsc::channel(1);
    let mut sessions = standby(&supervisor, owner_address, lost_in).await;
    let Some(Offer::Owner { mut session, .. }) = sessions.recv().await else { panic!("a session is offered") };
    assert!(matches!(session.incoming.recv().await, Some(OwnerMessage::Merge { number: 1, .. })));
    assert!(session.incoming.recv().await.is_none(), "the third must not come, as it would confirm the second");
    drop(session);
    assert_eq!(tokio::time::timeout(PATIENCE, lost.recv()).await.unwrap(), Some(1));
    // Its stream is ended or dropped, whichever the owner meets first.
    let _ = tokio::time::timeout(PATIENCE, gone).await.expect("the owner sees the end");
}

/// Thirty-two of them would wait if messages were counted.
#[tokio::test]
async fn what_waits_for_a_slow_writer_is_bounded_in_bytes() {
    const MESSAGE_BYTES: usize = 1 << 20;
    const MESSAGES: u64 = 24;
    let supervisor = Supervisor::default();
    let registry = Registry::default();
    let (offers, mut offered) = mpsc::channel(1);
    registry.put(writer(), Owned { epoch: EPOCH, standby: Some(2), offers });
    let relay = RelayServer { accepts: Arc::new(|_| Ok(())), registry, spawner: supervisor.spawner() };
    let address = serve(&supervisor, relay).await;
    let (out, outbound) = mpsc::channel(MESSAGES as usize + 1);
    let envelope = Envelope { cluster_id: "c".into(), to_node: 1, from_node: 2 };
    let hello = StandbyHello { envelope: Some(envelope), writer: "trades".into(), epoch: EPOCH.0, incarnation: 9 };
    out.send(wire::StandbyMessage { kind: Some(Kind::Hello(hello)) }).await.unwrap();
    for first_index in 0..MESSAGES {
        let frame = wire::RelayedFrame { payload: vec![b'x'; MESSAGE_BYTES].into(), binary: false, received_at_ns: 0 };
        let batch = wire::FrameBatch { subscription: 1, first_index, frames: vec![frame] };
        out.send(wire::StandbyMessage { kind: Some(Kind::Frames(batch)) }).await.unwrap();
    }
    let mut client = RelayServiceClient::connect(format!("http://{address}")).await.unwrap();
    let _inbound = client.relay(ReceiverStream::new(outbound)).await.unwrap();
    let Some(Offer::Standby { mut session, .. }) = offered.recv().await else { panic!("a session is offered") };
    // As many as there is room for.
    while session.incoming.bytes() + MESSAGE_BYTES + 1024 < WAITING_BYTES_MAX {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // What more would come is on its way.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(session.incoming.bytes() <= WAITING_BYTES_MAX, "{} bytes wait", session.incoming.bytes());
    for expected in 0..MESSAGES {
        let next = tokio::time::timeout(PATIENCE, session.incoming.recv()).await.unwrap();
        assert!(matches!(next, Some(StandbyMessage::Frames { first_index, .. }) if first_index == expected));
    }
}
