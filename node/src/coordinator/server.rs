//! The leader's end of the presence streams.

use std::{
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::sync::{broadcast, mpsc};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use twinfeed_proto::internal::{PresenceReport, PresenceView, presence_service_server::PresenceService};

use super::{
    Bulletin,
    actor::{Handle, Heard},
};
use crate::{
    model::report::NodeReport,
    raft::RaftHandle,
    supervise::{Spawner, TaskKind},
};

/// How often a node hears from the leader, beside events.
const BULLETIN_EVERY: std::time::Duration = std::time::Duration::from_millis(200);

/// The gRPC service; it refuses while this node does not lead.
pub struct PresenceServer {
    raft: RaftHandle,
    coordinator: Handle,
    spawner: Spawner,
    streams: AtomicU64,
}

impl PresenceServer {
    pub fn new(raft: RaftHandle, coordinator: Handle, spawner: Spawner) -> Self {
        Self { raft, coordinator, spawner, streams: AtomicU64::new(0) }
    }

    fn check(&self, report: &PresenceReport) -> Result<NodeReport, Status> {
        self.raft.check_envelope(report.envelope.as_ref()).map_err(Status::failed_precondition)?;
        serde_json::from_slice(&report.body)
            .map_err(|error| Status::invalid_argument(format!("unreadable report: {error}")))
    }
}

type ViewStream = Pin<Box<dyn Stream<Item = Result<PresenceView, Status>> + Send>>;

#[tonic::async_trait]
impl PresenceService for PresenceServer {
    type PresenceStream = ViewStream;

    async fn presence(
        &self,
        request: Request<Streaming<PresenceReport>>,
    ) -> Result<Response<Self::PresenceStream>, Status> {
        if !self.coordinator.leads() {
            return Err(Status::unavailable("this node is not the leader"));
        }
        let mut reports = request.into_inner();
        let stream = self.streams.fetch_add(1, Ordering::Relaxed) + 1;
        let first = reports.message().await?.ok_or_else(|| Status::invalid_argument("a first report is missing"))?;
        let report = self.check(&first)?;
        let node = report.id;
        self.coordinator.tell(Heard::Report { stream, report: Box::new(report) }).await;
        let (out, views) = mpsc::channel(16);
        let coordinator = self.coordinator.clone();
        self.spawner.spawn(TaskKind::Probe, format!("presence of node {node}"), move |_| async move {
            let bulletins = announce(coordinator.clone(), out);
            let listening = listen(coordinator.clone(), reports, stream);
            tokio::select! { () = bulletins => {}, () = listening => {} }
            coordinator.tell(Heard::StreamEnded { stream, node }).await;
            Ok(())
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(views))))
    }
}

/// Hands reports to the actor until the stream ends or goes bad.
async fn listen(coordinator: Handle, mut reports: Streaming<PresenceReport>, stream: u64) {
    while let Ok(Some(message)) = reports.message().await {
        match serde_json::from_slice::<NodeReport>(&message.body) {
            Ok(report) => coordinator.tell(Heard::Report { stream, report: Box::new(report) }).await,
            Err(error) => {
                tracing::warn!(%error, "presence.unreadable");
                return;
            }
        }
    }
}

/// Sends the view at intervals and events at once, for as long as this node leads.
async fn announce(coordinator: Handle, out: mpsc::Sender<Result<PresenceView, Status>>) {
    let mut events = coordinator.events();
    let mut tick = tokio::time::interval(BULLETIN_EVERY);
    loop {
        let first = tokio::select! {
            _ = tick.tick() => None,
            event = events.recv() => match event {
                Ok(event) => Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => None,
                Err(broadcast::error::RecvError::Closed) => return,
            },
        };
        if !coordinator.leads() {
            return;
        }
        let mut bulletin = Bulletin { view: coordinator.view(), events: first.into_iter().collect() };
        while let Ok(event) = events.try_recv() {
            bulletin.events.push(event);
        }
        let body = match serde_json::to_vec(&bulletin) {
            Ok(body) => body.into(),
            Err(error) => {
                tracing::error!(%error, "presence.unwritable");
                return;
            }
        };
        if out.send(Ok(PresenceView { body })).await.is_err() {
            return;
        }
    }
}
