//! One node with Raft in a temporary directory and its internal listener on a free port: served by the real presence server
//! and coordinator, or by leaders that die.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, atomic::AtomicUsize},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming, transport::Channel};
use twinfeed_node::{
    coordinator::{Local, PresenceServer, coordinator, keep_present},
    events::EventLog,
    model::{
        event::Through,
        ids::{NodeId, WriterId},
        report::{ClusterView, WriterReport, WriterReports},
    },
    raft::{Options, RaftHandle},
    supervise::{Supervisor, TaskKind},
};
use twinfeed_proto::internal::{
    Envelope, PresenceReport, PresenceView,
    presence_service_client::PresenceServiceClient,
    presence_service_server::{PresenceService, PresenceServiceServer},
};

/// Long enough for a loaded machine; no test waits it out unless it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The smallest limit that can be configured.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

pub(crate) struct Node {
    pub(crate) raft: RaftHandle,
    pub(crate) events: EventLog,
    pub(crate) view: watch::Sender<ClusterView>,
    pub(crate) writers: watch::Sender<WriterReports>,
    supervisor: Supervisor,
    _leaving: watch::Sender<bool>,
    leaving: watch::Receiver<bool>,
    _directory: TempDir,
}

impl Node {
    /// A node alone, which leads; `presence` answers at its internal address.
    pub(crate) async fn start<P: PresenceService>(presence: P) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (node, _) = Self::found(&listener).await;
        node.serve(listener, presence);
        node
    }

    async fn found(listener: &TcpListener) -> (Self, String) {
        let directory = tempfile::tempdir().unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let options = Options {
            data_dir: directory.path().join("data"),
            name: "n1".into(),
            internal_address: address.clone(),
            admin_address: "127.0.0.1:1".into(),
            ..Options::default()
        };
        let started = RaftHandle::start(options).await.unwrap();
        let raft = started.handle;
        let supervisor = Supervisor::default();
        let driver = started.driver;
        supervisor.spawner().spawn(TaskKind::Membership, "driver", |_| async move { Ok(driver.run().await?) });
        let mut state = raft.state();
        let joined = state.wait_for(|state| state.node_named("n1").is_some());
        tokio::time::timeout(PATIENCE, joined).await.expect("a node alone founds its cluster").unwrap();
        let (leaving_sender, leaving) = watch::channel(false);
        let node = Self {
            events: EventLog::new(raft.node_id(), 1),
            raft: raft.clone(),
            view: watch::Sender::default(),
            writers: watch::Sender::default(),
            supervisor,
            _leaving: leaving_sender,
            leaving,
            _directory: directory,
        };
        (node, address)
    }

    fn serve<P: PresenceService>(&self, listener: TcpListener, presence: P) {
        let service = PresenceServiceServer::new(presence)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let server = tonic::transport::Server::builder().add_service(service);
        self.supervisor.spawner().spawn(TaskKind::InternalServer, "presence", |_| async move {
            Ok(server.serve_with_incoming(TcpListenerStream::new(listener)).await?)
        });
    }

    /// Reports to whoever leads from now on.
    pub(crate) fn live(&self) {
        let (_, suspects) = mpsc::channel(1);
        let local = Local {
            raft: self.raft.clone(),
            name: "n1".into(),
            writers: self.writers.subscribe(),
            leaving: self.leaving.clone(),
            events: self.events.clone(),
            suspects,
            view: self.view.clone(),
            message_bytes_max: MESSAGE_BYTES_MAX,
        };
        self.supervisor.spawner().spawn(TaskKind::Presence, "presence", |_| async move {
            keep_present(local).await;
            Ok(())
        });
    }
}

/// Leaders that know nothing; each reads until it has an event, and dies with it. The last one lives on.
pub(crate) struct Fake {
    deaths: AtomicUsize,
    told: watch::Sender<usize>,
    heard: Arc<Mutex<Vec<Value>>>,
}

impl Fake {
    pub(crate) fn new(leaders: usize, told: watch::Sender<usize>, heard: Arc<Mutex<Vec<Value>>>) -> Self {
        Self { deaths: AtomicUsize::new(leaders - 1), told, heard }
    }
}

type ViewStream = Pin<Box<dyn Stream<Item = Result<PresenceView, Status>> + Send>>;

#[tonic::async_trait]
impl PresenceService for Fake {
    type PresenceStream = ViewStream;

    async fn presence(
        &self,
        request: Request<Streaming<PresenceReport>>,
    ) -> Result<Response<Self::PresenceStream>, Status> {
        let mut reports = request.into_inner();
        let (told, heard) = (self.told.clone(), self.heard.clone());
        let dies = self
            .deaths
            .fetch_update(std::sync::atomic::Ordering::SeqCst, std::sync::atomic::Ordering::SeqCst, |n| {
                n.checked_sub(1)
            })
            .is_ok();
        Ok(Response::new(Box::pin(async_stream::stream! {
            loop {
                yield Ok(bulletin());
                let Ok(Some(report)) = reports.message().await else { return };
                let report: Value = serde_json::from_slice(&report.body).unwrap();
                let events = report["events"].as_array().unwrap().clone();
                if !events.is_empty() {
                    heard.lock().unwrap().extend(events);
                    told.send_modify(|count| *count += 1);
                    if dies {
                        return;
                    }
                }
            }
        })))
    }
}

/// Of a leader that has heard of no event.
fn bulletin() -> PresenceView {
    let bulletin = json!({"view": {"leader": 1, "nodes": {}}, "through": {}, "events": []});
    PresenceView { body: serde_json::to_vec(&bulletin).unwrap().into(), more: false }
}

pub(crate) fn report(cluster: &str, (from_node, to_node): (NodeId, NodeId), of: NodeId) -> PresenceReport {
    said(cluster, (from_node, to_node), of, &Through::default(), &[])
}

fn said(
    cluster: &str,
    (from_node, to_node): (NodeId, NodeId),
    of: NodeId,
    through: &Through,
    events: &[Value],
) -> PresenceReport {
    let node = json!({
        "id": of, "name": "n", "version": "1", "term": 1, "last_log_index": 1, "applied_index": 1, "writers": {}
    });
    let report = json!({"whole": true, "node": node, "gone": []});
    let told = json!({"report": report, "suspects": [], "through": through, "events": events});
    let envelope = Some(Envelope { cluster_id: cluster.to_owned(), to_node, from_node });
    PresenceReport { envelope, body: serde_json::to_vec(&told).unwrap().into(), more: false }
}

pub(crate) fn reports_of(writers: impl Iterator<Item = (WriterId, WriterReport)>) -> WriterReports {
    writers.map(|(id, report)| (id, watch::Sender::new(report).subscribe())).collect::<BTreeMap<_, _>>()
}

/// The real leader, alone, and what its test says to it.
pub(crate) struct Leader {
    pub(crate) node: Node,
    address: String,
}

impl Leader {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (node, address) = Node::found(&listener).await;
        let spawner = node.supervisor.spawner();
        let log = node.events.clone();
        let emit = Arc::new(move |event: twinfeed_node::model::event::Event| {
            // Elections have their place elsewhere.
            if event.kind == "gap" {
                log.record(event);
            }
        });
        let (handle, actor) =
            coordinator(node.raft.clone(), "n1".into(), Duration::from_secs(5), spawner.clone(), emit);
        spawner.spawn(TaskKind::Coordinator, "coordinator", |_| async move {
            actor.run().await;
            Ok(())
        });
        node.serve(listener, PresenceServer::new(node.raft.clone(), handle, node.events.clone(), spawner.clone()));
        let leader = Self { node, address };
        leader.leads().await;
        leader
    }

    /// The coordinator has noticed that it leads.
    async fn leads(&self) {
        let me = self.node.raft.node_id();
        let end = tokio::time::Instant::now() + PATIENCE;
        while self.open(vec![report(&self.cluster_id(), (me, me), me)]).await.is_err() {
            assert!(tokio::time::Instant::now() < end, "it does not lead");
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn cluster_id(&self) -> String {
        self.node.raft.status().borrow().cluster_id.0.clone()
    }

    /// The log of another node.
    pub(crate) fn remote_log(&self) -> EventLog {
        EventLog::new(2, 1)
    }

    async fn client(&self) -> PresenceServiceClient<Channel> {
        PresenceServiceClient::connect(format!("http://{}", self.address)).await.unwrap()
    }

    /// A stream that says all this and stays open.
    async fn open(&self, reports: Vec<PresenceReport>) -> Result<Open, Status> {
        let (out, outbound) = mpsc::channel(16);
        for report in reports {
            out.send(report).await.unwrap();
        }
        let views = self.client().await.presence(ReceiverStream::new(outbound)).await?.into_inner();
        Ok(Open { views, _out: out })
    }

    /// A stream on which another node tells its log.
    pub(crate) async fn stream(&self, log: &EventLog, node: NodeId) -> Result<Elsewhere, Status> {
        let me = self.node.raft.node_id();
        let events: Vec<Value> = log
            .tell(&mut Through::default(), 1 << 20)
            .iter()
            .map(|event| serde_json::to_value(event.as_ref()).unwrap())
            .collect();
        let report = said(&self.cluster_id(), (node, me), node, &log.through(), &events);
        Ok(Elsewhere { open: self.open(vec![report]).await?, log: log.clone() })
    }

    /// Why a stream ends on which nothing is said.
    pub(crate) async fn silent_stream(&self) -> Result<(), Status> {
        self.open(Vec::new()).await.map(|_| ())
    }

    /// Why a stream ends that says these.
    pub(crate) async fn ended(&self, first: PresenceReport, second: Option<PresenceReport>) -> Status {
        let mut open = match self.open([Some(first), second].into_iter().flatten().collect()).await {
            Ok(open) => open,
            Err(status) => return status,
        };
        let ended = async {
            loop {
                match open.views.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("ended without a reason"),
                    Err(status) => return status,
                }
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.expect("it ends")
    }

    /// Waits for the log to hold exactly these.
    pub(crate) async fn await_events(&self, times: &[u64]) {
        let mut added = self.node.events.added();
        let done = added.wait_for(|_| times_of(&self.node.events) == times);
        tokio::time::timeout(PATIENCE, done).await.expect("all are there").unwrap();
    }
}

pub(crate) struct Open {
    views: Streaming<PresenceView>,
    _out: mpsc::Sender<PresenceReport>,
}

/// Another node's stream.
pub(crate) struct Elsewhere {
    open: Open,
    log: EventLog,
}

impl Elsewhere {
    /// Hears the leader until the log holds exactly these.
    pub(crate) async fn await_events(&mut self, times: &[u64]) {
        let heard = async {
            while times_of(&self.log) != times {
                let view = self.open.views.message().await.unwrap().expect("it goes on");
                assert!(!view.more);
                let bulletin: Value = serde_json::from_slice(&view.body).unwrap();
                for event in bulletin["events"].as_array().unwrap() {
                    self.log.hear(serde_json::from_value(event.clone()).unwrap());
                }
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.expect("all are told");
    }
}

fn times_of(log: &EventLog) -> Vec<u64> {
    log.follow().0.iter().map(|event| event.event.at_ms).collect()
}
