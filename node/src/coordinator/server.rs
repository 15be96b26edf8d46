//! The leader's end of the presence streams.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};
use twinfeed_proto::internal::{PresenceReport, PresenceView, presence_service_server::PresenceService};

use super::{
    Bulletin, EVENTS_BYTES_MAX, Told,
    actor::{Handle, Heard},
    changes::ToldView,
    pieces::{self, Pieces},
};
use crate::{
    events::EventLog,
    model::{event::Through, ids::NodeId, report::NodeReport},
    raft::RaftHandle,
    supervise::{Spawner, TaskKind},
};

/// How often a node hears from the leader, beside events.
const BULLETIN_EVERY: Duration = Duration::from_millis(200);
/// A stream whose first report does not come within this time is ended.
const FIRST_REPORT_WITHIN: Duration = Duration::from_secs(2);
/// Messages on their way to a node.
const MESSAGES_MAX: usize = 16;

/// The gRPC service; it refuses while this node does not lead.
pub struct PresenceServer {
    raft: RaftHandle,
    coordinator: Handle,
    events: EventLog,
    spawner: Spawner,
    streams: AtomicU64,
}

impl PresenceServer {
    pub fn new(raft: RaftHandle, coordinator: Handle, events: EventLog, spawner: Spawner) -> Self {
        Self { raft, coordinator, events, spawner, streams: AtomicU64::new(0) }
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
        let mut inbound =
            Inbound { raft: self.raft.clone(), reports: request.into_inner(), pieces: Pieces::default(), from: None };
        let first = timeout(FIRST_REPORT_WITHIN, inbound.next())
            .await
            .map_err(|_| Status::deadline_exceeded("no report within 2 s"))??
            .ok_or_else(|| Status::invalid_argument("a first report is missing"))?;
        let stream = self.streams.fetch_add(1, Ordering::Relaxed) + 1;
        let node = first.report.node_id();
        let session = Session { stream, coordinator: self.coordinator.clone(), events: self.events.clone() };
        let through = first.through.clone();
        let known = session.hear(first, None).await?;
        let (out, views) = mpsc::channel(MESSAGES_MAX);
        self.spawner.spawn(TaskKind::PresenceStream, format!("presence of node {node}"), move |_| async move {
            tokio::select! {
                () = session.announce(&out, through) => {}
                ended = session.listen(inbound, known) => if let Err(status) = ended {
                    tracing::warn!(node, error = status.message(), "presence.refused");
                    // Whoever has gone away needs no answer.
                    let _ = out.send(Err(status)).await;
                }
            }
            session.coordinator.tell(Heard::StreamEnded { stream, node }).await;
            Ok(())
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(views))))
    }
}

/// The reports of one stream, each checked: all are of the node that began it, and meant for this one.
struct Inbound {
    raft: RaftHandle,
    reports: Streaming<PresenceReport>,
    pieces: Pieces,
    /// Who began it.
    from: Option<NodeId>,
}

impl Inbound {
    /// The next report; None at the end of the stream.
    async fn next(&mut self) -> Result<Option<Told>, Status> {
        while let Some(message) = self.reports.message().await? {
            self.raft.check_envelope(message.envelope.as_ref()).map_err(Status::failed_precondition)?;
            let sender = message.envelope.map(|envelope| envelope.from_node);
            if let Some(body) = self.pieces.add(&message.body, message.more)? {
                let told: Told = serde_json::from_slice(&body)
                    .map_err(|error| Status::invalid_argument(format!("unreadable report: {error}")))?;
                let reported = told.report.node_id();
                if sender != Some(reported) || *self.from.get_or_insert(reported) != reported {
                    let sender = sender.unwrap_or_default();
                    let text = format!("node {sender} sends a report of node {reported}: a stream is one node's");
                    return Err(Status::invalid_argument(text));
                }
                return Ok(Some(told));
            }
        }
        Ok(None)
    }
}

/// One node's stream.
struct Session {
    stream: u64,
    coordinator: Handle,
    events: EventLog,
}

impl Session {
    /// Returns the whole report after this.
    async fn hear(&self, told: Told, known: Option<Arc<NodeReport>>) -> Result<Arc<NodeReport>, Status> {
        // Before the bulletin that confirms them.
        told.events.into_iter().for_each(|event| self.events.hear(event));
        let report = told.report.apply_shared(known);
        let report = report.ok_or_else(|| Status::invalid_argument("a stream must begin with a whole report"))?;
        let heard = Heard::Report { stream: self.stream, report: report.clone(), suspects: told.suspects };
        self.coordinator.tell(heard).await;
        Ok(report)
    }

    /// Hands reports on until the stream ends or goes bad.
    async fn listen(&self, mut inbound: Inbound, mut known: Arc<NodeReport>) -> Result<(), Status> {
        while let Some(told) = inbound.next().await? {
            known = self.hear(told, Some(known)).await?;
        }
        Ok(())
    }

    /// Sends what changes in the view at intervals, and events at once, for as long as this node leads.
    async fn announce(&self, out: &mpsc::Sender<Result<PresenceView, Status>>, mut told: Through) {
        let mut added = self.events.added();
        let mut tick = tokio::time::interval(BULLETIN_EVERY);
        let mut told_view = ToldView::default();
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                // The log lives as long as the node.
                _ = added.changed() => {}
            }
            // More than fit one message follow at once.
            loop {
                if !self.coordinator.leads() {
                    return;
                }
                let events: Vec<_> = self.events.tell(&mut told, EVENTS_BYTES_MAX);
                let more = !events.is_empty();
                let events = events.into_iter().map(|event| (*event).clone()).collect();
                let view = self.coordinator.change_of_view(&mut told_view);
                let bulletin = Bulletin { view, through: self.events.through(), events };
                if !send(out, &bulletin).await {
                    return;
                }
                if !more {
                    break;
                }
            }
        }
    }
}

/// False when nobody listens any more.
async fn send(out: &mpsc::Sender<Result<PresenceView, Status>>, bulletin: &Bulletin) -> bool {
    let body = match serde_json::to_vec(bulletin) {
        Ok(body) => body,
        Err(error) => {
            tracing::error!(%error, "presence.unwritable");
            return false;
        }
    };
    for (body, more) in pieces::cut(body) {
        if out.send(Ok(PresenceView { body, more })).await.is_err() {
            return false;
        }
    }
    true
}
