//! A cluster of node processes, on loopback or each in a namespace of its own.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tempfile::TempDir;
use twinfeed_proto::admin::Connector;

use super::{
    admin::Admin,
    faults,
    life::NodeLife,
    network::Network,
    process::{Process, binary, wait_for},
};

/// Nodes come up, elect and align well within this, also on a loaded machine.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// A node that ends says why in its last lines.
const LOG_TAIL_LINES: usize = 25;

/// Internal, admin and HTTP listener of a node that has a host to itself.
const PORTS: [u16; 3] = [7400, 9090, 9464];

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    pub nodes: usize,
    /// Kafka as the nodes reach it.
    pub bootstrap: String,
    /// The node's binary: `twinfeed`, or the one with seeded faults.
    pub binary: &'static str,
    /// Environment of every node; `{node}` in a value is its name.
    pub environment: Vec<(String, String)>,
    /// With a host of every node's name; None: loopback.
    pub network: Option<Rc<Network>>,
}

/// One node: its addresses, its data, and its process while it runs.
#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub admin: String,
    pub http: String,
    internal: String,
    config: PathBuf,
    process: Option<Process>,
}

impl Node {
    fn new(dir: &Path, name: &str, addresses: &[SocketAddr]) -> Self {
        let address = |n: usize| addresses[n].to_string();
        let config = dir.join(format!("{name}.toml"));
        Self { name: name.to_owned(), internal: address(0), admin: address(1), http: address(2), config, process: None }
    }

    fn configure<'a>(&self, bootstrap: &str, members: impl IntoIterator<Item = &'a Self>) -> Result<()> {
        let Self { name, internal, admin, http, config, .. } = self;
        let members: Vec<_> = members.into_iter().map(|node| format!("\"{}={}\"", node.name, node.internal)).collect();
        let text = format!(
            "name = \"{name}\"\ndata_dir = \"{}\"\n[cluster]\nname = \"test\"\nmembers = [{}]\n\
             [listen]\ninternal = \"{internal}\"\nadmin = \"{admin}\"\nhttp = \"{http}\"\n\
             [kafka]\nbootstrap = \"{bootstrap}\"\n[log]\nformat = \"text\"\n",
            config.with_extension("").display(),
            members.join(", "),
        );
        Ok(std::fs::write(config, text)?)
    }
}

/// Nodes `n1`, `n2`, … with an admin client of all of them. Dropping it ends them and removes their data, except
/// after `keep` or with `TWINFEED_KEEP=1`: then data and logs stay, and it says where.
#[derive(Debug)]
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub admin: Admin,
    options: ClusterOptions,
    lives: BTreeMap<String, NodeLife>,
    keep: bool,
    dir: Option<TempDir>,
}

impl Cluster {
    /// Starts the nodes and waits for a leader and all members.
    pub fn start(options: ClusterOptions) -> Result<Self> {
        let (count, bootstrap) = (options.nodes, &options.bootstrap);
        let dir = tempfile::Builder::new().prefix("twinfeed-cluster-").tempdir()?;
        let addresses = match &options.network {
            Some(network) => {
                network.hosts().iter().flat_map(|h| PORTS.map(|port| (h.address(), port).into())).collect()
            }
            None => free_addresses(count * PORTS.len())?,
        };
        let names: Vec<String> = (1..=count).map(|n| format!("n{n}")).collect();
        let nodes: Vec<Node> = names
            .iter()
            .zip(addresses.chunks(PORTS.len()))
            .map(|(name, addresses)| Node::new(dir.path(), name, addresses))
            .collect();
        nodes.iter().try_for_each(|node| node.configure(bootstrap, &nodes))?;
        let admin = Admin::new(nodes.iter().map(|node| node.admin.clone()).collect())?;
        let mut cluster = Self { nodes, admin, options, lives: BTreeMap::new(), keep: false, dir: Some(dir) };
        for name in &names {
            cluster.start_node(name)?;
        }
        cluster.wait_settled()?;
        Ok(cluster)
    }

    /// A node that the others do not list starts and finds them; for a cluster on loopback.
    ///
    /// # Errors
    /// When it has not become a member.
    pub fn add_node(&mut self, name: &str) -> Result<()> {
        let node = Node::new(self.dir(), name, &free_addresses(PORTS.len())?);
        let running: Vec<&Node> = self.nodes.iter().filter(|node| node.process.is_some()).collect();
        node.configure(&self.options.bootstrap, running)?;
        self.nodes.push(node);
        self.admin = Admin::new(self.nodes.iter().map(|node| node.admin.clone()).collect())?;
        self.start_node(name)?;
        self.wait_settled()
    }

    /// Where data and logs are.
    pub fn dir(&self) -> &Path {
        self.dir.as_ref().expect("kept until drop").path()
    }

    /// Where a node keeps its data.
    pub fn data(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// The end of a node's log; it outlives the node.
    pub fn log_tail(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.dir().join(format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    /// The process id of a running node.
    pub fn pid(&self, name: &str) -> Result<u32> {
        Ok(self.process(name)?.pid())
    }

    /// Whether a node that was started has ended by itself.
    pub fn has_ended(&mut self, name: &str) -> bool {
        self.node_mut(name).ok().and_then(|node| node.process.as_mut()).is_some_and(|process| process.ended().is_some())
    }

    /// Starts a node that does not run.
    pub fn start_node(&mut self, name: &str) -> Result<()> {
        let (dir, binary) = (self.dir().to_owned(), binary(self.options.binary)?);
        let own = |(key, value): &(String, String)| (key.clone(), value.replace("{node}", name));
        let environment: Vec<(String, String)> = self.options.environment.iter().map(own).collect();
        let faulty = self.options.binary == faults::FAULTY_NODE;
        let mut command = match &self.options.network {
            Some(network) => network.host(name)?.command(&binary),
            None => Command::new(binary),
        };
        let node = self.node_mut(name)?;
        // A harness that is killed leaves no nodes behind.
        command.args(["node", "--exit-with-stdin", "--config"]).arg(&node.config).envs(environment);
        if faulty {
            let orders = faults::directory(&dir, name);
            std::fs::create_dir_all(&orders)?;
            command.env("TWINFEED_FAULTS_DIR", orders);
        }
        node.process = Some(Process::start(&node.name, &dir, &mut command)?);
        Ok(())
    }

    /// Waits until all running nodes are up under one leader.
    pub fn wait_settled(&self) -> Result<()> {
        wait_for("a leader and all nodes", SETTLE_MAX, || self.is_settled().then_some(()))
            .map_err(|error| self.explain(error))
    }

    /// All running nodes are up under one leader.
    pub fn is_settled(&self) -> bool {
        let running = self.nodes.iter().filter(|n| n.process.is_some()).count();
        self.admin
            .status()
            .is_ok_and(|status| !status.leader.is_empty() && status.members.iter().filter(|m| m.up).count() == running)
    }

    /// kill -9; the node stays down until `start_node`.
    pub fn kill(&mut self, name: &str) -> Result<()> {
        self.look_at_nodes();
        self.node_mut(name)?.process.take().context("it does not run")?.kill()
    }

    /// SIGSTOP, proven by the process state.
    pub fn pause(&self, name: &str) -> Result<()> {
        let process = self.process(name)?;
        process.signal(Signal::STOP)?;
        wait_for("the process to stop", Duration::from_secs(2), || (process.state().ok()? == 'T').then_some(()))
    }

    /// SIGCONT.
    pub fn resume(&self, name: &str) -> Result<()> {
        self.process(name)?.signal(Signal::CONT)
    }

    /// SIGTERM, and waits for the exit.
    pub fn terminate(&mut self, name: &str) -> Result<i32> {
        self.look_at_nodes();
        let mut process = self.node_mut(name)?.process.take().context("it does not run")?;
        process.signal(Signal::TERM)?;
        process.wait(Duration::from_secs(60))
    }

    /// Waits for a node to end by itself, as a fault of its host makes it; the exit code, -1 for a signal.
    pub fn wait_exit(&mut self, name: &str, limit: Duration) -> Result<i32> {
        self.node_mut(name)?.process.take().context("it does not run")?.wait(limit)
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|n| n.name == name).with_context(|| format!("no node {name}"))
    }

    /// Name of the Raft leader.
    pub fn leader(&self) -> Result<String> {
        wait_for("a leader", SETTLE_MAX, || self.admin.status().ok().map(|s| s.leader).filter(|l| !l.is_empty()))
    }

    /// The connector, once its owner delivers and its standby is redundant.
    pub fn wait_redundant(&self, connector: &str) -> Result<Connector> {
        wait_for("a redundant stream", SETTLE_MAX, || self.is_redundant(connector)).map_err(|error| self.explain(error))
    }

    /// The connector, if its owner delivers and its standby is redundant.
    pub fn is_redundant(&self, connector: &str) -> Option<Connector> {
        self.admin.connector(connector).ok().filter(Self::says_redundant)
    }

    /// Whether this is how a redundant stream looks.
    pub fn says_redundant(connector: &Connector) -> bool {
        connector.status.as_ref().is_some_and(|s| !s.at_risk && s.aligned && !s.owner.is_empty())
    }

    /// Notes memory, descriptors and unasked ends of all nodes.
    pub fn look_at_nodes(&mut self) {
        for node in &mut self.nodes {
            let Some(process) = &mut node.process else { continue };
            let life = self.lives.entry(node.name.clone()).or_insert_with(|| NodeLife::of(&node.name));
            life.look_at(process);
        }
    }

    /// What became of every node so far, panics and gaps in its log included.
    pub fn lives(&self) -> Vec<NodeLife> {
        let dir = self.dir();
        self.lives.values().map(|life| life.clone().with_log(&dir.join(format!("{}.log", life.name)))).collect()
    }

    /// Data and logs stay when the cluster is dropped.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Adds the present roles to an error, in one line.
    pub fn explain_briefly(&self, error: &anyhow::Error) -> anyhow::Error {
        let status = self.admin.status().map(|s| {
            let up = s.members.iter().filter(|m| m.up).map(|m| m.name.as_str()).collect::<Vec<_>>().join(" ");
            format!("leader `{}`, up: {up}", s.leader)
        });
        anyhow::anyhow!("{error:#}; {}", status.unwrap_or_else(|e| format!("no status: {e:#}")))
    }

    /// Adds what the cluster says of itself to an error.
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let status = self.admin.status().map(|s| format!("{s:#?}")).unwrap_or_else(|e| e.to_string());
        let events = self.admin.events().unwrap_or_default();
        let events: String = events[events.len().saturating_sub(40)..].iter().map(|e| format!("{e}\n")).collect();
        let logs: String = self
            .nodes
            .iter()
            .filter_map(|n| n.process.as_ref().map(|p| format!("--- {}\n{}\n", n.name, p.log_tail())))
            .collect();
        error.context(format!("status: {status}\nevents:\n{events}\n{logs}"))
    }

    pub(super) fn process(&self, name: &str) -> Result<&Process> {
        self.node(name)?.process.as_ref().context("it does not run")
    }

    fn node_mut(&mut self, name: &str) -> Result<&mut Node> {
        self.nodes.iter_mut().find(|n| n.name == name).with_context(|| format!("no node {name}"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.clear();
        if (self.keep || std::env::var_os("TWINFEED_KEEP").is_some())
            && let Some(dir) = self.dir.take()
        {
            eprintln!("kept {}", dir.keep().display());
        }
    }
}

/// Addresses that are free now. Another process may take one before a node does; the node then says so and the test
/// fails.
fn free_addresses(count: usize) -> Result<Vec<SocketAddr>> {
    let listeners: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    Ok(listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?)
}
