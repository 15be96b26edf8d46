//! One node: Raft in a temporary directory, the admin API on a free port, and a view that the test writes.

use std::{collections::HashMap, time::Duration};

use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};
use tonic_types::{ErrorDetails, StatusExt};
use twinfeed_node::{
    api::{Admin, Limits},
    events::EventLog,
    model::{
        command::{Command, Outcome, Proposal},
        connector::NodeRecord,
        ids::{Epoch, NodeId, WriterId},
        report::{ClusterView, NodeReport, NodeView, Role, SubscriptionReport, WriterReport},
    },
    raft::{Options, RaftHandle},
    supervise::{StopReport, Supervisor, TaskKind},
};
use twinfeed_proto::admin::{
    CreateConnectorRequest, cluster_service_client::ClusterServiceClient,
    connector_service_client::ConnectorServiceClient,
};

/// Long enough for a loaded machine; no test waits it out unless it fails.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Node {
    pub(crate) raft: RaftHandle,
    pub(crate) view: watch::Sender<ClusterView>,
    pub(crate) events: EventLog,
    pub(crate) channel: Channel,
    supervisor: Supervisor,
    _directory: TempDir,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    pub(crate) async fn start_with(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let options = Options {
            data_dir: directory.path().join("data"),
            name: "n1".into(),
            internal_address: "127.0.0.1:1".into(),
            admin_address: address.to_string(),
            cluster_name: "prod-eu".into(),
            ..Options::default()
        };
        let started = RaftHandle::start(options).await.unwrap();
        let raft = started.handle;
        let view = watch::Sender::new(ClusterView::default());
        let events = EventLog::default();
        let supervisor = Supervisor::default();
        let spawner = supervisor.spawner();
        let driver = started.driver;
        spawner.spawn(TaskKind::Membership, "driver", |_| async move { Ok(driver.run().await?) });
        let admin = Admin::new(raft.clone(), view.subscribe(), events.clone(), limits);
        spawner.spawn(TaskKind::AdminServer, "admin", |stop: CancellationToken| admin.serve(listener, stop));
        let joined = async {
            let mut state = raft.state();
            state.wait_for(|state| state.node_named("n1").is_some()).await.unwrap();
        };
        tokio::time::timeout(PATIENCE, joined).await.expect("a node alone founds its cluster");
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let node = Self { raft, view, events, channel, supervisor, _directory: directory };
        node.hear(&[(node.raft.node_id(), true)]);
        node
    }

    /// Ends the tasks in their order.
    pub(crate) async fn stop(self, grace: Duration) -> StopReport {
        self.supervisor.stop(grace).await
    }

    pub(crate) fn connectors(&self) -> ConnectorServiceClient<Channel> {
        ConnectorServiceClient::new(self.channel.clone())
    }

    pub(crate) fn cluster(&self) -> ClusterServiceClient<Channel> {
        ClusterServiceClient::new(self.channel.clone())
    }

    /// Adds a member that exists only in the state.
    pub(crate) async fn add_member(&self, id: NodeId, name: &str) {
        let node = NodeRecord { id, name: name.into(), ..NodeRecord::default() };
        self.command(Command::PutNode { node }).await;
    }

    /// Decides as the coordinator would, and returns the writer's epoch.
    pub(crate) async fn assign(&self, writer: &str, owner: NodeId, standby: Option<NodeId>) -> Epoch {
        let id = WriterId(writer.into());
        let now = self.raft.state().borrow().writers()[&id].assignment.clone();
        self.command(Command::Assign {
            writer: id.clone(),
            expected_epoch: now.as_ref().map(|now| now.epoch).unwrap_or_default(),
            expected_standby: now.and_then(|now| now.standby),
            owner: Some(owner),
            standby,
        })
        .await;
        self.raft.read().await.unwrap().writers()[&id].assignment.as_ref().unwrap().epoch
    }

    async fn command(&self, command: Command) {
        let proposal = Proposal { request_id: String::new(), asked: 0, proposed_at_ms: 1, command };
        let outcome = self.raft.propose(proposal).await.unwrap();
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    }

    /// Replaces the view: which nodes are up.
    pub(crate) fn hear(&self, nodes: &[(NodeId, bool)]) {
        let node = |(id, up): &(NodeId, bool)| {
            let report = NodeReport { id: *id, version: "0.1.0".into(), term: 1, ..NodeReport::default() };
            (*id, NodeView { report, up: *up, last_contact_ms: 12 })
        };
        self.view.send_replace(ClusterView { leader: self.raft.node_id(), nodes: nodes.iter().map(node).collect() });
    }

    /// Adds a writer's report to the view.
    pub(crate) fn report(&self, node: NodeId, writer: &str, report: WriterReport) {
        self.view.send_modify(|view| {
            view.nodes.get_mut(&node).unwrap().report.writers.insert(writer.into(), report);
        });
    }

    pub(crate) async fn create(&self, name: &str) {
        self.connectors().create_connector(request(name)).await.unwrap();
    }
}

/// A report of an owner or standby for whom all is well.
pub(crate) fn healthy(role: Role, epoch: Epoch) -> WriterReport {
    WriterReport {
        role,
        epoch,
        subscription: SubscriptionReport { connected: true, connected_since_ms: 1_000, ..Default::default() },
        delivering: role == Role::Owner,
        aligned: role == Role::Owner,
        redundant: role == Role::Owner,
        covered: role == Role::Owner,
        ..WriterReport::default()
    }
}

pub(crate) fn config(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A valid creation.
pub(crate) fn request(name: &str) -> CreateConnectorRequest {
    CreateConnectorRequest {
        name: name.into(),
        config: config(&[("websocket.url", "ws://127.0.0.1:1/feed"), ("kafka.topic", "ticks")]),
        ..CreateConnectorRequest::default()
    }
}

/// Checks code and reason of a refusal and returns its details.
pub(crate) fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, reason: &str) -> ErrorDetails {
    let status = answer.expect_err("a refusal");
    assert_eq!(status.code(), code, "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().expect("every status names its reason");
    assert_eq!((info.domain.as_str(), info.reason.as_str()), ("twinfeed.dev", reason));
    details
}

pub(crate) fn uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}
