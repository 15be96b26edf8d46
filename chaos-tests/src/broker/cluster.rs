//! Three brokers that replicate everything: each can be killed, frozen and brought back alone. One of them coordinates
//! all transactions, since the tests' brokers keep transaction state in a single partition.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use rdkafka::consumer::Consumer as _;

use super::{
    Error, READY_MS_MAX, client, free_ports, on_free_ports,
    process::BrokerProcess,
    properties::{Properties, Proxied},
    wait_ready,
};
use crate::jars;

/// Brokers of a cluster; one of them may fail.
const BROKERS: usize = 3;
const METADATA_MS_MAX: u64 = 3_000;
const TRANSACTION_STATE: &str = "__transaction_state";

/// Where the brokers listen.
#[derive(Debug, Clone, Copy)]
pub struct ClusterOptions {
    /// The address of all of them; loopback by default.
    pub host: IpAddr,
    /// Opens second listeners, each advertised as the address of the proxy in front of it (`BrokerCluster::proxied`).
    pub proxies: Option<[SocketAddr; BROKERS]>,
    /// How many of them, from the first, are controllers too: with one, killing the two others leaves a cluster that
    /// still knows which replicas are in sync.
    pub controllers: usize,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self { host: IpAddr::V4(Ipv4Addr::LOCALHOST), proxies: None, controllers: BROKERS }
    }
}

/// A cluster in which every topic has three replicas and needs two of them. Dropping it kills all processes.
#[derive(Debug)]
pub struct BrokerCluster {
    bootstrap: String,
    addresses: Vec<String>,
    proxied: Vec<SocketAddr>,
    brokers: Vec<BrokerProcess>,
}

impl BrokerCluster {
    /// Starts three brokers and waits until all of them are members, at most 60 s.
    pub fn start(options: &ClusterOptions) -> Result<Self, Error> {
        let jars = jars::directory()?;
        on_free_ports(|| Self::start_on(&jars, options))
    }

    /// `host:port` of all brokers for `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The listeners behind the proxies, in the order of the brokers; empty without proxies.
    pub fn proxied(&self) -> &[SocketAddr] {
        &self.proxied
    }

    /// SIGKILL of one broker, numbered from 0; its data stays.
    pub fn kill(&mut self, broker: usize) {
        self.brokers[broker].kill();
    }

    /// Stops one broker as an operator does (SIGTERM), and waits until it has handed over and ended.
    pub fn stop(&mut self, broker: usize) -> Result<(), Error> {
        self.brokers[broker].stop()
    }

    /// Freezes one broker (SIGSTOP), proven by its process state.
    pub fn pause(&mut self, broker: usize) -> Result<(), Error> {
        self.brokers[broker].pause()
    }

    /// Thaws one broker.
    pub fn resume(&mut self, broker: usize) -> Result<(), Error> {
        self.brokers[broker].resume()
    }

    /// Starts a killed broker again without waiting for it; see `wait_answer`.
    pub fn restart(&mut self, broker: usize) -> Result<(), Error> {
        self.brokers[broker].start()
    }

    /// Whether the process runs.
    pub fn is_alive(&self, broker: usize) -> bool {
        self.brokers[broker].is_alive()
    }

    /// Waits until this broker itself answers, at most 60 s. Whether it is a member says little: one that is back before its
    /// predecessor's session has expired was never missed.
    pub fn wait_answer(&self, broker: usize) -> Result<(), Error> {
        wait_ready(&self.brokers[broker], &self.addresses[broker])
    }

    /// Waits until so many brokers are members of the cluster, at most 60 s.
    pub fn wait_members(&self, count: usize) -> Result<(), Error> {
        let deadline = Instant::now() + Duration::from_millis(READY_MS_MAX);
        while self.members() != Some(count) {
            if Instant::now() > deadline {
                let logs: Vec<String> = self.brokers.iter().map(BrokerProcess::log_tail).collect();
                return Err(Error::NotReady { log: logs.join(" || ") });
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
        Ok(())
    }

    /// The broker that leads partition 0 of a topic; None while nobody does, or nobody answers.
    pub fn leader_of(&self, topic: &str) -> Option<usize> {
        let client = client(&self.bootstrap).ok()?;
        let metadata = client.fetch_metadata(Some(topic), Duration::from_millis(METADATA_MS_MAX)).ok()?;
        let partition = metadata.topics().first()?.partitions().iter().find(|partition| partition.id() == 0)?;
        // Node ids begin with 1; none is -1.
        usize::try_from(partition.leader()).ok()?.checked_sub(1)
    }

    /// In-sync replicas of partition 0 of a topic; None while nobody answers.
    pub fn in_sync_of(&self, topic: &str) -> Option<usize> {
        let client = client(&self.bootstrap).ok()?;
        let metadata = client.fetch_metadata(Some(topic), Duration::from_millis(METADATA_MS_MAX)).ok()?;
        metadata.topics().first()?.partitions().first().map(|partition| partition.isr().len())
    }

    /// The broker that coordinates all transactions; None before the first one.
    pub fn transaction_coordinator(&self) -> Option<usize> {
        self.leader_of(TRANSACTION_STATE)
    }

    fn start_on(jars: &Path, options: &ClusterOptions) -> Result<Self, Error> {
        let host = options.host;
        let ports: [u16; 3 * BROKERS] = free_ports(host)?;
        let (ports, rest) = ports.split_at(BROKERS);
        let (controllers, proxied) = rest.split_at(BROKERS);
        let mut brokers = Vec::new();
        for position in 0..BROKERS {
            let proxied = options.proxies.map(|at| Proxied { port: proxied[position], advertised: at[position] });
            let controllers = &controllers[..options.controllers];
            let properties =
                Properties { position, host, port: ports[position], brokers: BROKERS, controllers, proxied };
            brokers.push(BrokerProcess::format(jars, |directory| properties.text(directory))?);
        }
        brokers.iter_mut().try_for_each(BrokerProcess::start)?;
        let at = |port: &u16| SocketAddr::new(host, *port);
        let addresses: Vec<String> = ports.iter().map(|port| at(port).to_string()).collect();
        let proxied = options.proxies.iter().flat_map(|_| proxied.iter().map(at)).collect();
        let cluster = Self { bootstrap: addresses.join(","), addresses, proxied, brokers };
        cluster.wait_members(BROKERS)?;
        Ok(cluster)
    }

    fn members(&self) -> Option<usize> {
        let client = client(&self.bootstrap).ok()?;
        let metadata = client.fetch_metadata(None, Duration::from_millis(METADATA_MS_MAX)).ok()?;
        Some(metadata.brokers().len())
    }
}
