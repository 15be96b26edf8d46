//! A cluster of one process for the tests of `wsctl`: the admin API over plain maps, which records what it was asked
//! and can be told to refuse. It imitates answers, not Twinfeed: how a real node answers is tested in `node/tests`.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    pin::Pin,
    process::{Command, Output},
    sync::{Arc, Mutex, MutexGuard},
    thread::JoinHandle,
};

use prost_types::Timestamp;
use tokio::{net::TcpListener, sync::oneshot};
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tonic::{Code, Request, Response, Status, transport::Server};
use tonic_types::{ErrorDetails, StatusExt};
use twinfeed_proto::admin::{
    cluster_service_server::{ClusterService, ClusterServiceServer},
    connector_service_server::{ConnectorService, ConnectorServiceServer},
    *,
};

/// What the fake remembers and what it shall answer.
#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) connectors: BTreeMap<String, Connector>,
    pub(crate) members: Vec<Member>,
    pub(crate) problems: Vec<String>,
    pub(crate) events: Vec<Event>,
    /// Answers to the next calls instead of the normal ones.
    pub(crate) refusals: VecDeque<Status>,
    /// (method, request id) of every call, in order.
    pub(crate) calls: Vec<(String, String)>,
    pub(crate) created: Option<CreateConnectorRequest>,
    pub(crate) updated: Option<UpdateConnectorRequest>,
    /// How two lines compare; of its messages the standby's line alone has a quarter.
    pub(crate) compared: CompareConnectorResponse,
}

/// A running fake cluster; stops when dropped.
pub(crate) struct Cluster {
    pub(crate) address: SocketAddr,
    facts: Arc<Mutex<Facts>>,
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

#[derive(Clone)]
struct Fake {
    facts: Arc<Mutex<Facts>>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let facts = Arc::new(Mutex::new(Facts { members: members(), ..Facts::default() }));
        let fake = Fake { facts: facts.clone() };
        let (stop, stopped) = oneshot::channel::<()>();
        let (bound, address) = std::sync::mpsc::channel();
        let server = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                bound.send(listener.local_addr().expect("bound")).expect("the test waits");
                let serve = Server::builder()
                    .add_service(ConnectorServiceServer::new(fake.clone()))
                    .add_service(ClusterServiceServer::new(fake))
                    .serve_with_incoming(TcpListenerStream::new(listener));
                tokio::select! {
                    served = serve => served.expect("serving"),
                    _ = stopped => {}
                }
            });
        });
        let address = address.recv().expect("the server binds");
        Self { address, facts, stop: Some(stop), server: Some(server) }
    }

    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().expect("no test panics while holding it")
    }

    pub(crate) fn add(&self, connector: Connector) {
        self.facts().connectors.insert(connector.name.clone(), connector);
    }

    pub(crate) fn refuse(&self, status: Status) {
        self.facts().refusals.push_back(status);
    }

    /// Runs the binary against this cluster.
    pub(crate) fn wsctl(&self, arguments: &[&str]) -> Ended {
        wsctl(&self.address.to_string(), arguments)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// How a run of the binary ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the binary against endpoints.
pub(crate) fn wsctl(endpoints: &str, arguments: &[&str]) -> Ended {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_wsctl"))
        .args(arguments)
        .env("WSCTL_ENDPOINTS", endpoints)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("the binary runs");
    Ended {
        code: output.status.code().expect("not killed"),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// A healthy connector as a node would show it.
pub(crate) fn running(name: &str) -> Connector {
    let feed = |role: &str, node: &str| Subscription {
        role: role.into(),
        node: node.into(),
        connected: true,
        connected_since: Some(Timestamp { seconds: 1_700_000_000, nanos: 0 }),
        reconnects: 2,
        last_error: String::new(),
        url: "wss://feed.example/ws".into(),
        last_message: Some(Timestamp { seconds: 1_700_000_000, nanos: 0 }),
        keep_alives: 0,
    };
    let status = ConnectorStatus {
        state: ConnectorState::Running.into(),
        owner: "n2".into(),
        standby: "n3".into(),
        epoch: 14,
        subscriptions: vec![feed("primary", "n2"), feed("secondary", "n3")],
        aligned: true,
        records_committed: 1_234_567,
        records_per_second: 12_431.0,
        frames_received: 1_000,
        frames_deduplicated: 499,
        unacked_records: 17,
        latency_p50_ms: 4.25,
        latency_p99_ms: 8.5,
        topic: "ticks".into(),
        redundancy: Redundancy::Dual.into(),
        has_data: true,
        ..ConnectorStatus::default()
    };
    Connector {
        name: name.into(),
        config: [("websocket.url".to_owned(), "wss://feed.example/ws".to_owned())].into(),
        target_state: TargetState::Running.into(),
        status: Some(status),
        etag: "41".into(),
        revision: 41,
        create_time: Some(Timestamp { seconds: 1_700_000_000, nanos: 0 }),
        update_time: Some(Timestamp { seconds: 1_700_000_000, nanos: 0 }),
    }
}

fn members() -> Vec<Member> {
    let member = |n: u32, role: &str| Member {
        name: format!("n{n}"),
        id: format!("{}", 1_000 + n),
        admin_address: format!("10.0.0.{n}:9090"),
        role: role.into(),
        voter: true,
        up: true,
        term: 7,
        last_log_index: 18_204 - if n == 3 { 3 } else { 0 },
        applied_index: 18_201,
        owned: n,
        standing_by: 1,
        last_contact_ms: 12,
        version: "0.1.0".into(),
        ..Member::default()
    };
    vec![member(1, "follower"), member(2, "leader"), member(3, "follower")]
}

/// A refusal in the shape that nodes give it.
pub(crate) fn refusal(code: Code, reason: &str, message: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, "twinfeed.dev", std::collections::HashMap::new());
    Status::with_error_details(code, message, details)
}

pub(crate) fn not_found(kind: &str, name: &str) -> Status {
    let mut details = ErrorDetails::with_error_info("NOT_FOUND", "twinfeed.dev", std::collections::HashMap::new());
    details.set_resource_info(kind, name, "", "");
    Status::with_error_details(Code::NotFound, format!("{kind} {name:?} does not exist"), details)
}

impl Fake {
    fn enter(&self, method: &str, request_id: &str) -> Result<MutexGuard<'_, Facts>, Status> {
        let mut facts = self.facts.lock().expect("no test panics while holding it");
        facts.calls.push((method.to_owned(), request_id.to_owned()));
        match facts.refusals.pop_front() {
            Some(status) => Err(status),
            None => Ok(facts),
        }
    }

    fn show(&self, method: &str, name: &str, request_id: &str) -> Result<Connector, Status> {
        let facts = self.enter(method, request_id)?;
        facts.connectors.get(name).cloned().ok_or_else(|| not_found("connector", name))
    }
}

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(value: T) -> Answer<T> {
    Ok(Response::new(value))
}

#[tonic::async_trait]
impl ConnectorService for Fake {
    async fn create_connector(&self, request: Request<CreateConnectorRequest>) -> Answer<CreateConnectorResponse> {
        let request = request.into_inner();
        let mut facts = self.enter("create", &request.request_id)?;
        let connector = Connector { config: request.config.clone(), ..running(&request.name) };
        if !request.validate_only {
            facts.connectors.insert(request.name.clone(), connector.clone());
        }
        facts.created = Some(request);
        let warnings = vec!["the token is stored as it is".to_owned()];
        answer(CreateConnectorResponse { connector: Some(connector), warnings })
    }

    async fn get_connector(&self, request: Request<GetConnectorRequest>) -> Answer<GetConnectorResponse> {
        let connector = self.show("get", &request.into_inner().name, "")?;
        answer(GetConnectorResponse { connector: Some(connector) })
    }

    /// Gives two at a time, so that every client that forgets to turn the page is found out.
    async fn list_connectors(&self, request: Request<ListConnectorsRequest>) -> Answer<ListConnectorsResponse> {
        let request = request.into_inner();
        let facts = self.enter("list", "")?;
        let mut rest = facts.connectors.values().filter(|connector| connector.name > request.page_token).cloned();
        let connectors: Vec<_> = rest.by_ref().take(2).collect();
        let more = rest.next().is_some();
        let last = connectors.last().map(|connector| connector.name.clone()).unwrap_or_default();
        answer(ListConnectorsResponse { connectors, next_page_token: if more { last } else { String::new() } })
    }

    async fn update_connector(&self, request: Request<UpdateConnectorRequest>) -> Answer<UpdateConnectorResponse> {
        let request = request.into_inner();
        let connector = self.show("update", &request.name, &request.request_id)?;
        self.facts.lock().expect("no test panics while holding it").updated = Some(request);
        answer(UpdateConnectorResponse { connector: Some(connector), warnings: Vec::new() })
    }

    async fn delete_connector(&self, request: Request<DeleteConnectorRequest>) -> Answer<DeleteConnectorResponse> {
        let request = request.into_inner();
        self.show("delete", &request.name, &request.request_id)?;
        if !request.validate_only {
            self.facts.lock().expect("no test panics while holding it").connectors.remove(&request.name);
        }
        answer(DeleteConnectorResponse {})
    }

    async fn pause_connector(&self, request: Request<PauseConnectorRequest>) -> Answer<PauseConnectorResponse> {
        let request = request.into_inner();
        let connector = self.show("pause", &request.name, &request.request_id)?;
        answer(PauseConnectorResponse { connector: Some(connector) })
    }

    async fn resume_connector(&self, request: Request<ResumeConnectorRequest>) -> Answer<ResumeConnectorResponse> {
        let request = request.into_inner();
        let connector = self.show("resume", &request.name, &request.request_id)?;
        answer(ResumeConnectorResponse { connector: Some(connector) })
    }

    async fn stop_connector(&self, request: Request<StopConnectorRequest>) -> Answer<StopConnectorResponse> {
        let request = request.into_inner();
        let connector = self.show("stop", &request.name, &request.request_id)?;
        answer(StopConnectorResponse { connector: Some(connector) })
    }

    async fn restart_connector(&self, request: Request<RestartConnectorRequest>) -> Answer<RestartConnectorResponse> {
        let request = request.into_inner();
        let connector = self.show("restart", &request.name, &request.request_id)?;
        answer(RestartConnectorResponse { connector: Some(connector) })
    }

    async fn failover_connector(
        &self,
        request: Request<FailoverConnectorRequest>,
    ) -> Answer<FailoverConnectorResponse> {
        let request = request.into_inner();
        let connector = self.show("failover", &request.name, &request.request_id)?;
        let to_node = if request.to_node.is_empty() { "n3".to_owned() } else { request.to_node };
        answer(FailoverConnectorResponse {
            connector: Some(connector),
            from_node: "n2".into(),
            to_node,
            from_epoch: 14,
            to_epoch: 15,
            duration_ms: 87,
        })
    }

    async fn compare_connector(&self, request: Request<CompareConnectorRequest>) -> Answer<CompareConnectorResponse> {
        let connector = self.show("compare", &request.into_inner().name, "")?;
        let facts = self.facts.lock().expect("no test panics while holding it");
        let subscriptions = connector.status.unwrap_or_default().subscriptions.into_iter();
        let line = |subscription| ComparedLine { subscription: Some(subscription), ..ComparedLine::default() };
        let mut lines: Vec<_> = subscriptions.map(line).collect();
        if let Some(line) = lines.last_mut() {
            line.alone = facts.compared.messages / 4;
        }
        answer(CompareConnectorResponse { lines, ..facts.compared.clone() })
    }

    type WatchConnectorsStream = Pin<Box<dyn Stream<Item = Result<WatchConnectorsResponse, Status>> + Send>>;

    async fn watch_connectors(&self, _: Request<WatchConnectorsRequest>) -> Answer<Self::WatchConnectorsStream> {
        Err(Status::unimplemented("wsctl does not watch"))
    }
}

#[tonic::async_trait]
impl ClusterService for Fake {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Answer<GetStatusResponse> {
        let facts = self.enter("status", "")?;
        answer(GetStatusResponse {
            cluster_id: "5f0c".into(),
            cluster_name: "prod-eu".into(),
            leader: "n2".into(),
            term: 7,
            members: facts.members.clone(),
            connectors: facts.connectors.values().cloned().collect(),
            problems: facts.problems.clone(),
            version: "0.1.0".into(),
            linearizable: true,
        })
    }

    async fn list_members(&self, _: Request<ListMembersRequest>) -> Answer<ListMembersResponse> {
        let members = self.enter("members", "")?.members.clone();
        answer(ListMembersResponse { members })
    }

    async fn drain_node(&self, request: Request<DrainNodeRequest>) -> Answer<DrainNodeResponse> {
        drop(self.enter("drain", &request.into_inner().request_id)?);
        answer(DrainNodeResponse { moved: vec!["btc".into(), "eth".into()] })
    }

    async fn undrain_node(&self, request: Request<UndrainNodeRequest>) -> Answer<UndrainNodeResponse> {
        drop(self.enter("undrain", &request.into_inner().request_id)?);
        answer(UndrainNodeResponse {})
    }

    async fn remove_node(&self, request: Request<RemoveNodeRequest>) -> Answer<RemoveNodeResponse> {
        drop(self.enter("remove", &request.into_inner().request_id)?);
        answer(RemoveNodeResponse {})
    }

    type StreamEventsStream = Pin<Box<dyn Stream<Item = Result<StreamEventsResponse, Status>> + Send>>;

    async fn stream_events(&self, request: Request<StreamEventsRequest>) -> Answer<Self::StreamEventsStream> {
        let request = request.into_inner();
        let facts = self.enter("events", "")?;
        let wanted = |event: &&Event| request.connector.is_empty() || event.connector == request.connector;
        let events: Vec<Event> = facts.events.iter().filter(wanted).cloned().collect();
        let first = events.len().saturating_sub(usize::try_from(request.last).unwrap_or(0));
        let answers: Vec<_> =
            events.into_iter().skip(first).map(|event| Ok(StreamEventsResponse { event: Some(event) })).collect();
        answer(Box::pin(tokio_stream::iter(answers)))
    }

    async fn get_server_info(&self, _: Request<GetServerInfoRequest>) -> Answer<GetServerInfoResponse> {
        Err(Status::unimplemented("wsctl does not ask"))
    }
}
