//! A Raft cluster inside the test process: every node has a runtime of its own, on loopback, and can be killed.
//! Killing drops all its tasks and connections at once, like a process that ends; the disk stays.

use std::{
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};
use tokio_stream::wrappers::TcpListenerStream;
use twinfeed_node::{
    control::State,
    model::{
        command::{Command, Outcome, Proposal},
        connector::{Config, TargetState},
        ids::NodeId,
    },
    raft::{Error, Options, RaftHandle, RaftStatus, Started},
};

/// How long any condition may take to come true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running node.
pub(crate) struct Node {
    runtime: Runtime,
    pub(crate) handle: RaftHandle,
}

/// Where a node lives, running or not.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) options: Options,
    listen: SocketAddr,
}

impl Place {
    pub(crate) fn new(root: &tempfile::TempDir, name: &str) -> Self {
        let listen = free_address();
        let options = Options {
            data_dir: root.path().join(name),
            name: name.to_owned(),
            internal_address: listen.to_string(),
            admin_address: format!("{name}:9090"),
            cluster_name: "test".to_owned(),
            // Debug builds of three nodes and their fsyncs share two cores here.
            heartbeat_ms: 100,
            election_ms: (400, 800),
            snapshot_entries: 100,
            ..Options::default()
        };
        Self { options, listen }
    }

    /// The same node, reachable elsewhere from its next start on.
    pub(crate) fn moved(mut self) -> Self {
        self.listen = free_address();
        self.options.internal_address = self.listen.to_string();
        self
    }

    pub(crate) fn member(&self) -> (String, String) {
        (self.options.name.clone(), self.options.internal_address.clone())
    }

    pub(crate) fn start(&self) -> Node {
        self.try_start().unwrap_or_else(|e| panic!("node {} does not start: {e}", self.options.name))
    }

    pub(crate) fn try_start(&self) -> Result<Node, Error> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let Started { handle, routes, driver } = match runtime.block_on(RaftHandle::start(self.options.clone())) {
            Ok(started) => started,
            Err(e) => {
                runtime.shutdown_background();
                return Err(e);
            }
        };
        let listen = self.listen;
        let listener = runtime.block_on(tokio::net::TcpListener::bind(listen)).expect("the port is still free");
        let server = tonic::transport::Server::builder().add_routes(routes);
        runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        runtime.spawn(driver.run());
        Ok(Node { runtime, handle })
    }
}

/// Nothing listens there now; the node binds it again with `SO_REUSEADDR`.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Node {
    pub(crate) fn id(&self) -> NodeId {
        self.handle.node_id()
    }

    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(crate) fn status(&self) -> RaftStatus {
        self.handle.status().borrow().clone()
    }

    /// Waits until the status fulfils a condition.
    pub(crate) fn await_status(&self, what: &str, condition: impl FnMut(&RaftStatus) -> bool) -> RaftStatus {
        let mut status = self.handle.status();
        let waited = self.run(async {
            tokio::time::timeout(PATIENCE, status.wait_for(condition)).await.map(|s| s.unwrap().clone())
        });
        waited.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}, last {:?}", self.status()))
    }

    /// Waits until this node has applied a state that fulfils a condition.
    pub(crate) fn await_state(&self, what: &str, condition: impl Fn(&State) -> bool) {
        let mut state = self.handle.state();
        let waited = self.run(async { tokio::time::timeout(PATIENCE, state.wait_for(|s| condition(s))).await.is_ok() });
        assert!(waited, "{what}: not within {PATIENCE:?}, nodes {:?}", self.handle.state().borrow().nodes());
    }

    pub(crate) fn propose(&self, request_id: &str, command: Command) -> Result<Outcome, Error> {
        let proposal = Proposal { request_id: request_id.to_owned(), asked: 0, proposed_at_ms: 1, command };
        self.run(self.handle.propose(proposal))
    }

    pub(crate) fn create(&self, name: &str) -> u64 {
        match self.propose("", create(name)) {
            Ok(Outcome::Done { revision }) => revision,
            other => panic!("`{name}` was not created: {other:?}"),
        }
    }

    /// Ends everything this node does, without a goodbye.
    pub(crate) fn kill(self) {
        self.runtime.shutdown_timeout(PATIENCE);
        // A process that ends closes its files; here the rest of the node must be seen to.
        let closing = Builder::new_current_thread().enable_all().build().unwrap();
        closing.block_on(self.handle.shutdown());
    }

    /// Stops as a service manager would.
    pub(crate) fn stop(self) {
        self.run(self.handle.clone().shutdown());
        self.runtime.shutdown_timeout(PATIENCE);
    }
}

pub(crate) fn create(name: &str) -> Command {
    Command::CreateConnector { name: name.to_owned(), config: Config::new(), target: TargetState::Running }
}

/// Places of a cluster that is to be founded together.
pub(crate) fn places(root: &tempfile::TempDir, names: &[&str]) -> Vec<Place> {
    let mut places: Vec<_> = names.iter().map(|name| Place::new(root, name)).collect();
    let members: Vec<_> = places.iter().map(Place::member).collect();
    for place in &mut places {
        place.options.initial_members.clone_from(&members);
    }
    places
}

/// Starts all and waits until every node knows all members by name.
pub(crate) fn start_all(places: &[Place]) -> Vec<Node> {
    let nodes: Vec<_> = places.iter().map(Place::start).collect();
    await_members(&nodes, places.len());
    nodes
}

pub(crate) fn await_members(nodes: &[Node], count: usize) {
    for node in nodes {
        node.await_status("all nodes vote", |s| s.voters.len() == count && s.leader.is_some());
        node.await_state("all nodes are known", |s| {
            s.nodes().len() == count && s.nodes().values().all(|n| !n.admin_address.is_empty())
        });
    }
}

/// Waits until exactly one of the nodes leads and the others follow it; returns its position.
pub(crate) fn leader(nodes: &[Node]) -> usize {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let statuses: Vec<_> = nodes.iter().map(Node::status).collect();
        let leader = statuses.iter().position(|s| s.is_leader);
        if let Some(position) = leader
            && statuses.iter().all(|s| s.leader == Some(statuses[position].node_id))
        {
            return position;
        }
        assert!(Instant::now() < deadline, "no single leader: {statuses:?}");
        // How often to look, not how long to wait: the deadline above decides.
        std::thread::sleep(Duration::from_millis(5));
    }
}
