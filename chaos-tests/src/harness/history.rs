//! A recorder of admin histories: several clients at once, each at another node, creating, changing, deleting and reading the same
//! few connectors while a story does its worst. What they were told is judged by `linearizability`.
//!
//! Its connectors are created stopped: they read no feed and write no record. A call that was not answered within its deadline,
//! or with anything that leaves the outcome open, is unknown and never repeated.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{runtime::Runtime, task::JoinHandle};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use twinfeed_proto::admin::{
    Connector, CreateConnectorRequest, DeleteConnectorRequest, GetConnectorRequest, TargetState,
    UpdateConnectorRequest, connector_service_client::ConnectorServiceClient,
};

use crate::linearizability::{Call, Found, History, Operation, Outcome, Refusal};

/// Longer than an election, shorter than a client's patience.
const DEADLINE: Duration = Duration::from_millis(1_500);
const CONNECT_MAX: Duration = Duration::from_millis(300);
/// Few, so that clients meet.
const CONNECTORS: usize = 3;
/// Calls of one client; it stops by itself then, as the check gets slower with every call.
const CALLS_PER_CLIENT_MAX: usize = 400;
/// Between two calls of one client.
const PAUSE_MS: std::ops::RangeInclusive<u64> = 2..=30;
/// The value travels in a key that any configuration may have.
const VALUE_KEY: &str = "websocket.reconnect.interval.ms";

/// Clients at work until `stop`.
#[derive(Debug)]
pub struct Recorder {
    runtime: Runtime,
    clients: Vec<JoinHandle<Vec<Operation>>>,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
}

/// What all clients share.
#[derive(Debug, Clone)]
struct Shared {
    endpoints: Vec<String>,
    prefix: String,
    began: Instant,
    stop: Arc<AtomicBool>,
    /// Every write has a value of its own.
    values: Arc<AtomicU64>,
    answered: Arc<AtomicUsize>,
}

impl Recorder {
    /// Starts `clients` clients of these `host:port` admin addresses. Connectors are named after `seed`, so that recorders
    /// of one cluster do not meet.
    ///
    /// # Errors
    /// When the machine has no thread left.
    pub fn start(endpoints: Vec<String>, clients: usize, seed: u64) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let shared = Shared {
            endpoints,
            prefix: format!("history-{seed}"),
            began: Instant::now(),
            stop: Arc::clone(&stop),
            values: Arc::new(AtomicU64::new(1)),
            answered: Arc::clone(&answered),
        };
        let client = |number| Client {
            number,
            random: StdRng::seed_from_u64(seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            read: HashMap::new(),
            shared: shared.clone(),
        };
        let clients = (0..clients).map(|number| runtime.spawn(client(number).run())).collect();
        Ok(Self { runtime, clients, stop, answered })
    }

    /// Calls so far whose outcome is known.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Lets every client finish its call and returns what all of them did.
    ///
    /// # Errors
    /// When a client panicked.
    pub fn stop(self) -> Result<History> {
        self.stop.store(true, Ordering::Relaxed);
        let mut history = History::default();
        for client in self.clients {
            history.operations.extend(self.runtime.block_on(client).context("a client of the recorder ended badly")?);
        }
        Ok(history)
    }
}

struct Client {
    number: usize,
    random: StdRng,
    /// What it last read of each connector: the etags that it may use.
    read: HashMap<String, Found>,
    shared: Shared,
}

impl Client {
    async fn run(mut self) -> Vec<Operation> {
        let mut operations = Vec::new();
        while operations.len() < CALLS_PER_CLIENT_MAX && !self.shared.stop.load(Ordering::Relaxed) {
            let connector = format!("{}-{}", self.shared.prefix, self.random.random_range(0..CONNECTORS));
            let (call, etag) = self.choose(&connector);
            let invoked_ns = self.now_ns();
            let outcome = self.ask(&connector, &call, etag).await;
            let returned_ns = self.now_ns();
            match &outcome {
                Outcome::Read(Some(found)) => drop(self.read.insert(connector.clone(), found.clone())),
                Outcome::Read(None) => drop(self.read.remove(&connector)),
                _ => {}
            }
            self.shared.answered.fetch_add(usize::from(outcome != Outcome::Unknown), Ordering::Relaxed);
            operations.push(Operation { connector, client: self.number, call, outcome, invoked_ns, returned_ns });
            let pause_ms = self.random.random_range(PAUSE_MS);
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
        operations
    }

    fn now_ns(&self) -> u64 {
        self.shared.began.elapsed().as_nanos() as u64
    }

    fn choose(&mut self, connector: &str) -> (Call, String) {
        let read = self.read.get(connector).filter(|_| self.random.random_bool(0.6)).cloned();
        let (expected, etag) = read.map_or((None, String::new()), |found| (Some(found.value), found.etag));
        let value = || self.shared.values.fetch_add(1, Ordering::Relaxed);
        match self.random.random_range(0..10) {
            0..4 => (Call::Get, String::new()),
            4 | 5 => (Call::Create { value: value() }, String::new()),
            6..9 => (Call::Update { value: value(), expected }, etag),
            _ => (Call::Delete { expected }, etag),
        }
    }

    /// Sends one call to one node, once.
    async fn ask(&mut self, connector: &str, call: &Call, etag: String) -> Outcome {
        let node = self.random.random_range(0..self.shared.endpoints.len());
        let Ok(endpoint) = Endpoint::from_shared(format!("http://{}", self.shared.endpoints[node])) else {
            return Outcome::Unknown;
        };
        let sent = async {
            let channel = endpoint.connect_timeout(CONNECT_MAX).connect().await.map_err(|_| Outcome::Unknown)?;
            Ok::<_, Outcome>(send(ConnectorServiceClient::new(channel), connector, call, etag).await)
        };
        tokio::time::timeout(DEADLINE, sent).await.map_or(Outcome::Unknown, |answer| answer.unwrap_or_else(|open| open))
    }
}

async fn send(mut client: ConnectorServiceClient<Channel>, name: &str, call: &Call, etag: String) -> Outcome {
    let name = name.to_owned();
    match call {
        Call::Create { value } => {
            let (config, initial_state) = (config(&name, *value), TargetState::Stopped.into());
            let request = CreateConnectorRequest { name, config, initial_state, ..CreateConnectorRequest::default() };
            let refusals = [(Code::AlreadyExists, Refusal::Exists)];
            done(client.create_connector(request).await.map(drop), &refusals)
        }
        Call::Update { value, expected } => {
            let config = config(&name, *value);
            let request = UpdateConnectorRequest { name, config, etag, ..UpdateConnectorRequest::default() };
            // NOT_FOUND may come from before the change or from after it, when the connector is shown: it says nothing.
            let refusals: &[_] = if expected.is_some() { &[(Code::Aborted, Refusal::Changed)] } else { &[] };
            done(client.update_connector(request).await.map(drop), refusals)
        }
        Call::Delete { expected } => {
            let request = DeleteConnectorRequest { name, etag, ..DeleteConnectorRequest::default() };
            let refusals = [(Code::NotFound, Refusal::Missing), (Code::Aborted, Refusal::Changed)];
            let possible = if expected.is_some() { &refusals[..] } else { &refusals[..1] };
            done(client.delete_connector(request).await.map(drop), possible)
        }
        Call::Get => match client.get_connector(GetConnectorRequest { name }).await {
            Ok(response) => response
                .into_inner()
                .connector
                .as_ref()
                .and_then(found)
                .map_or(Outcome::Unknown, |found| Outcome::Read(Some(found))),
            Err(status) if status.code() == Code::NotFound => Outcome::Read(None),
            Err(_) => Outcome::Unknown,
        },
    }
}

/// Only these codes say that nothing was done; every other leaves it open.
fn done(answer: Result<(), Status>, refusals: &[(Code, Refusal)]) -> Outcome {
    match answer {
        Ok(()) => Outcome::Done,
        Err(status) => {
            let refusal = refusals.iter().find(|(code, _)| *code == status.code());
            refusal.map_or(Outcome::Unknown, |(_, refusal)| Outcome::Refused(*refusal))
        }
    }
}

fn found(connector: &Connector) -> Option<Found> {
    let value = connector.config.get(VALUE_KEY)?.parse().ok()?;
    Some(Found { value, etag: connector.etag.clone() })
}

fn config(name: &str, value: u64) -> HashMap<String, String> {
    let pairs = [
        ("websocket.url", "ws://127.0.0.1:9/".to_owned()),
        ("kafka.topic", format!("topic-of-{name}")),
        (VALUE_KEY, value.to_string()),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
