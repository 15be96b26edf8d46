//! Every node's end of its presence stream to the leader: what changes in its report several times a second, at once when
//! something is suspected or has happened; in return the leader's view. Events go both ways: whatever the other end lacks.

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Endpoint};
use twinfeed_proto::internal::{
    Envelope, PresenceReport, PresenceView, presence_service_client::PresenceServiceClient,
};

use super::{
    Bulletin, EVENTS_BYTES_MAX, Told,
    changes::ToldReport,
    pieces::{self, Pieces},
};
use crate::{
    events::EventLog,
    model::{
        event::Through,
        ids::NodeId,
        report::{ClusterView, NodeReport, WriterReports},
    },
    raft::RaftHandle,
};

const REPORT_EVERY: Duration = Duration::from_millis(100);
/// Counts move with every message and decide nothing.
const COUNTS_EVERY: Duration = Duration::from_millis(500);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_millis(50);
/// A leader that says nothing, or takes nothing, for this long is left, and asked for anew.
const LEADER_SILENT_MAX: Duration = Duration::from_millis(1_500);
/// Messages on their way to the leader.
const MESSAGES_MAX: usize = 16;

/// What this node says about itself, and where it puts what it hears.
pub struct Local {
    pub raft: RaftHandle,
    pub name: String,
    pub writers: watch::Receiver<WriterReports>,
    pub leaving: watch::Receiver<bool>,
    pub events: EventLog,
    pub suspects: mpsc::Receiver<NodeId>,
    pub view: watch::Sender<ClusterView>,
    /// Limit of one message between nodes, both ways.
    pub message_bytes_max: usize,
}

/// Keeps a presence stream to whoever leads, for as long as it is polled.
pub async fn keep_present(mut local: Local) {
    loop {
        let Some((leader, address)) = leader_address(&local.raft) else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        if let Err(error) = session(&mut local, leader, &address).await {
            tracing::debug!(leader, %address, %error, "presence.ended");
            if leader != local.raft.node_id() {
                local.raft.replace_leader(leader, &address).await;
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

fn leader_address(raft: &RaftHandle) -> Option<(NodeId, String)> {
    let leader = raft.status().borrow().leader?;
    let state = raft.state();
    let address = state.borrow().nodes().get(&leader)?.internal_address.clone();
    Some((leader, address))
}

async fn session(local: &mut Local, leader: NodeId, address: &str) -> Result<(), Status> {
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| Status::invalid_argument(error.to_string()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .connect()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let (out, reports) = mpsc::channel(MESSAGES_MAX);
    let mut said = Said::new(out, local.envelope(leader));
    let mut client = PresenceServiceClient::new(channel)
        .max_decoding_message_size(local.message_bytes_max)
        .max_encoding_message_size(local.message_bytes_max);
    // The first report may be larger than what is on its way at once.
    let first = said.say(local, Vec::new());
    let answer = async { client.presence(ReceiverStream::new(reports)).await };
    let (first, answer) = timeout(LEADER_SILENT_MAX, async { tokio::join!(first, answer) })
        .await
        .map_err(|_| Status::deadline_exceeded("the leader does not answer"))?;
    let mut views = answer?.into_inner();
    first?;
    let mut tick = tokio::time::interval(REPORT_EVERY);
    let mut raft = local.raft.status();
    let mut added = local.events.added();
    let mut pieces = Pieces::default();
    let mut heard_at = Instant::now();
    loop {
        let mut suspects = Vec::new();
        tokio::select! {
            view = views.message() => match view? {
                Some(view) => {
                    heard_at = Instant::now();
                    if !local.hear(&mut said, &mut pieces, &view)? {
                        continue;
                    }
                }
                None => return Ok(()),
            },
            // A frozen leader keeps its connections; its successor is known before the silence is long enough.
            changed = raft.changed() => {
                let now = raft.borrow_and_update().leader;
                if changed.is_err() || now.is_some_and(|now| now != leader) {
                    return Ok(());
                }
                continue;
            }
            () = tokio::time::sleep_until(heard_at + LEADER_SILENT_MAX) => {
                return Err(Status::deadline_exceeded("the leader fell silent"));
            }
            _ = tick.tick() => {}
            Some(suspect) = local.suspects.recv() => suspects.push(suspect),
            // The log lives as long as the node.
            _ = added.changed() => {}
        }
        timeout(LEADER_SILENT_MAX, said.say(local, suspects))
            .await
            .map_err(|_| Status::unavailable("the leader takes no reports"))??;
    }
}

/// What the leader has been told in one session.
struct Said {
    out: mpsc::Sender<PresenceReport>,
    envelope: Envelope,
    report: ToldReport,
    counts_at: Option<Instant>,
    /// What the leader has of the events; None until it has said so.
    events: Option<Through>,
}

impl Said {
    fn new(out: mpsc::Sender<PresenceReport>, envelope: Envelope) -> Self {
        Self { out, envelope, report: ToldReport::default(), counts_at: None, events: None }
    }

    async fn say(&mut self, local: &Local, suspects: Vec<NodeId>) -> Result<(), Status> {
        let counts = self.counts_at.is_none_or(|at| at.elapsed() >= COUNTS_EVERY);
        if counts {
            self.counts_at = Some(Instant::now());
        }
        let events = match &mut self.events {
            Some(told) => local.events.tell(told, EVENTS_BYTES_MAX),
            None => Vec::new(),
        };
        let told = Told {
            report: self.report.tell(&local.report(), counts),
            suspects,
            through: local.events.through(),
            events: events.into_iter().map(|event| (*event).clone()).collect(),
        };
        let body = serde_json::to_vec(&told).map_err(|error| Status::internal(error.to_string()))?;
        for (body, more) in pieces::cut(body) {
            let report = PresenceReport { envelope: Some(self.envelope.clone()), body, more };
            self.out.send(report).await.map_err(|_| Status::unavailable("the leader takes no reports"))?;
        }
        Ok(())
    }
}

impl Local {
    fn envelope(&self, leader: NodeId) -> Envelope {
        let status = self.raft.status();
        let status = status.borrow();
        Envelope { cluster_id: status.cluster_id.0.clone(), to_node: leader, from_node: status.node_id }
    }

    fn report(&self) -> NodeReport {
        let status = self.raft.status();
        let status = status.borrow();
        NodeReport {
            id: status.node_id,
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            leaving: *self.leaving.borrow(),
            term: status.term,
            last_log_index: status.last_log_index,
            applied_index: status.applied_index,
            writers: self.writers.borrow().iter().map(|(id, report)| (id.0.clone(), report.borrow().clone())).collect(),
        }
    }

    /// True when the leader lacks events now that it does not know of.
    fn hear(&self, said: &mut Said, pieces: &mut Pieces, view: &PresenceView) -> Result<bool, Status> {
        let Some(body) = pieces.add(&view.body, view.more)? else { return Ok(false) };
        // After a bulletin that was not understood, the next differences are differences from nothing known.
        let bulletin: Bulletin = serde_json::from_slice(&body)
            .map_err(|error| Status::internal(format!("a bulletin of the leader cannot be read: {error}")))?;
        let mut view_is_whole = true;
        self.view.send_modify(|known| view_is_whole = bulletin.view.apply(known));
        if !view_is_whole {
            return Err(Status::internal("a bulletin of the leader rests on one that did not come"));
        }
        bulletin.events.into_iter().for_each(|event| self.events.hear(event));
        let is_first = said.events.is_none();
        said.events.get_or_insert_default().join(&bulletin.through);
        Ok(is_first)
    }
}
