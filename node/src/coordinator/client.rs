//! Every node's end of its presence stream to the leader: reports several times a second, at once when something is
//! suspected; in return the leader's view and the cluster's events.

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use twinfeed_proto::internal::{Envelope, PresenceReport, presence_service_client::PresenceServiceClient};

use super::Bulletin;
use crate::{
    model::{
        event::Event,
        ids::NodeId,
        report::{ClusterView, NodeReport, WriterReports},
    },
    raft::RaftHandle,
};

const REPORT_EVERY: Duration = Duration::from_millis(100);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_millis(50);
/// A leader that says nothing for this long is left, and asked for anew.
const LEADER_SILENT_MAX: Duration = Duration::from_millis(1_500);
/// Events waiting for a leader; older ones are only in the log by then.
const EVENTS_MAX: usize = 1_000;

/// What this node says about itself, and where it puts what it hears.
pub struct Local {
    pub raft: RaftHandle,
    pub name: String,
    pub writers: watch::Receiver<WriterReports>,
    pub leaving: watch::Receiver<bool>,
    pub events: mpsc::Receiver<Event>,
    pub suspects: mpsc::Receiver<NodeId>,
    pub view: watch::Sender<ClusterView>,
    pub on_event: Box<dyn Fn(Event) + Send>,
    /// Largest message either way.
    pub message_bytes_max: usize,
}

/// Keeps a presence stream to whoever leads, for as long as it is polled.
pub async fn keep_present(mut local: Local) {
    let mut unsent = Vec::new();
    loop {
        let Some((leader, address)) = leader_address(&local.raft) else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        if let Err(error) = session(&mut local, leader, &address, &mut unsent).await {
            tracing::debug!(leader, %address, %error, "presence.ended");
            if leader != local.raft.node_id() {
                local.raft.replace_leader(leader, &address).await;
            }
        }
        while let Ok(event) = local.events.try_recv() {
            unsent.push(event);
        }
        let excess = unsent.len().saturating_sub(EVENTS_MAX);
        unsent.drain(..excess);
        tokio::time::sleep(RETRY).await;
    }
}

fn leader_address(raft: &RaftHandle) -> Option<(NodeId, String)> {
    let leader = raft.status().borrow().leader?;
    let state = raft.state();
    let address = state.borrow().nodes().get(&leader)?.internal_address.clone();
    Some((leader, address))
}

async fn session(
    local: &mut Local,
    leader: NodeId,
    address: &str,
    unsent: &mut Vec<Event>,
) -> Result<(), tonic::Status> {
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| tonic::Status::invalid_argument(error.to_string()))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .connect()
        .await
        .map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let (out, reports) = mpsc::channel(16);
    let envelope = local.envelope(leader);
    send(&out, &envelope, &local.report(unsent.clone(), Vec::new()))?;
    let mut client = PresenceServiceClient::new(channel)
        .max_decoding_message_size(local.message_bytes_max)
        .max_encoding_message_size(local.message_bytes_max);
    let answer = client.presence(ReceiverStream::new(reports));
    let mut views = tokio::time::timeout(LEADER_SILENT_MAX, answer)
        .await
        .map_err(|_| tonic::Status::deadline_exceeded("the leader does not answer"))??
        .into_inner();
    unsent.clear();
    let mut tick = tokio::time::interval(REPORT_EVERY);
    let mut raft = local.raft.status();
    let mut heard_at = Instant::now();
    loop {
        let mut suspects = Vec::new();
        tokio::select! {
            view = views.message() => match view? {
                Some(view) => {
                    heard_at = Instant::now();
                    local.hear(&view.body);
                    continue;
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
                return Err(tonic::Status::deadline_exceeded("the leader fell silent"));
            }
            _ = tick.tick() => {}
            Some(suspect) = local.suspects.recv() => suspects.push(suspect),
            Some(event) = local.events.recv() => unsent.push(event),
        }
        while let Ok(event) = local.events.try_recv() {
            unsent.push(event);
        }
        send(&out, &envelope, &local.report(unsent.clone(), suspects))?;
        unsent.clear();
    }
}

/// Never waits: a leader that does not take reports any more is as good as silent.
fn send(out: &mpsc::Sender<PresenceReport>, envelope: &Envelope, report: &NodeReport) -> Result<(), tonic::Status> {
    let body = serde_json::to_vec(report).map_err(|error| tonic::Status::internal(error.to_string()))?;
    out.try_send(PresenceReport { envelope: Some(envelope.clone()), body: body.into() })
        .map_err(|_| tonic::Status::unavailable("the leader takes no reports"))
}

impl Local {
    fn envelope(&self, leader: NodeId) -> Envelope {
        let status = self.raft.status();
        let status = status.borrow();
        Envelope { cluster_id: status.cluster_id.0.clone(), to_node: leader, from_node: status.node_id }
    }

    fn report(&self, events: Vec<Event>, suspects: Vec<NodeId>) -> NodeReport {
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
            events,
            suspects,
        }
    }

    fn hear(&self, body: &[u8]) {
        match serde_json::from_slice::<Bulletin>(body) {
            Ok(bulletin) => {
                self.view.send_replace(bulletin.view);
                bulletin.events.into_iter().for_each(&self.on_event);
            }
            Err(error) => tracing::warn!(%error, "presence.unreadable"),
        }
    }
}
