//! Real Kafka brokers for tests: KRaft processes with their own directories, or one that is already there.
//!
//! Looked for in this order: the address in `TWINFEED_TEST_KAFKA`, jars in the user's cache, Maven. Tests of any crate
//! may use it. None outlives the test: dropping a `Broker` kills the process, and a watchdog shell kills it when the
//! test process itself disappears, SIGKILL included.

mod cluster;
mod process;
mod properties;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::OnceLock,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};

pub use cluster::{BrokerCluster, ClusterOptions};
use process::BrokerProcess;
use properties::{Properties, Proxied};

use crate::jars;

/// Address of a broker to use instead of starting one.
pub const ADDRESS_VARIABLE: &str = "TWINFEED_TEST_KAFKA";
const READY_MS_MAX: u64 = 60_000;
const PORT_ATTEMPTS_MAX: usize = 5;

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no Kafka for this test: {why}; set {ADDRESS_VARIABLE}=host:port, or install java 17 and mvn")]
    NoKafka { why: String },
    #[error("the test broker did not become ready within {READY_MS_MAX} ms: {log}")]
    NotReady { log: String },
    #[error("this broker was not started here, so it cannot be {verb}; unset {ADDRESS_VARIABLE}")]
    NotOurs { verb: &'static str },
    #[error("cannot {verb} the test broker")]
    Process {
        verb: &'static str,
        #[source]
        source: std::io::Error,
    },
}

/// Where a broker listens.
#[derive(Debug, Clone, Copy)]
pub struct BrokerOptions {
    /// Its address, such as that of a bridge; loopback by default.
    pub host: IpAddr,
    /// Opens a second listener that is advertised as this address: a proxy's, in front of `Broker::proxied`.
    pub proxy: Option<SocketAddr>,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self { host: IpAddr::V4(Ipv4Addr::LOCALHOST), proxy: None }
    }
}

/// A broker that answers. Dropping it kills the process, if it was started here, and removes its directory.
#[derive(Debug)]
pub struct Broker {
    bootstrap: String,
    proxied: Option<SocketAddr>,
    own: Option<BrokerProcess>,
}

impl Broker {
    /// Finds or starts a broker and waits until it answers a metadata request, at most 60 s.
    pub fn start() -> Result<Self, Error> {
        if let Some(bootstrap) = std::env::var(ADDRESS_VARIABLE).ok().filter(|address| !address.is_empty()) {
            return if answers(&bootstrap, Duration::from_millis(READY_MS_MAX)) {
                Ok(Self { bootstrap, proxied: None, own: None })
            } else {
                Err(Error::NotReady { log: format!("no answer from {bootstrap}") })
            };
        }
        Self::start_own(&BrokerOptions::default())
    }

    /// Starts a broker of one's own, to be listened to or broken in special ways.
    pub fn start_own(options: &BrokerOptions) -> Result<Self, Error> {
        let jars = jars::directory()?;
        on_free_ports(|| Self::start_on(&jars, options))
    }

    /// Returns the broker of this test process, started at the first call. It ends with the process.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(|| Self::start().unwrap_or_else(|error| panic!("{error}")))
    }

    /// Returns `host:port` for `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The listener behind the proxy, where `BrokerOptions::proxy` asked for one.
    pub fn proxied(&self) -> Option<SocketAddr> {
        self.proxied
    }

    /// Kills the process (SIGKILL); its data stays for `restart`.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.own("stopped")?.kill();
        Ok(())
    }

    /// Starts the process again on the same port and data, killing it first when it runs; waits until it answers.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.own("restarted")?.start()?;
        self.wait_ready()
    }

    /// Freezes the process (SIGSTOP): its connections stay open and silent.
    pub fn pause(&mut self) -> Result<(), Error> {
        self.own("paused")?.pause()
    }

    /// Thaws the process (SIGCONT).
    pub fn resume(&mut self) -> Result<(), Error> {
        self.own("resumed")?.resume()
    }

    fn start_on(jars: &Path, options: &BrokerOptions) -> Result<Self, Error> {
        let host = options.host;
        let [port, controller, proxied] = free_ports(host)?;
        let proxied = options.proxy.map(|advertised| Proxied { port: proxied, advertised });
        let properties = Properties { position: 0, host, port, brokers: 1, controllers: &[controller], proxied };
        let mut own = BrokerProcess::format(jars, |directory| properties.text(directory))?;
        own.start()?;
        let proxied = proxied.map(|proxied| SocketAddr::new(host, proxied.port));
        let broker = Self { bootstrap: SocketAddr::new(host, port).to_string(), proxied, own: Some(own) };
        broker.wait_ready()?;
        Ok(broker)
    }

    fn own(&mut self, verb: &'static str) -> Result<&mut BrokerProcess, Error> {
        self.own.as_mut().ok_or(Error::NotOurs { verb })
    }

    fn wait_ready(&self) -> Result<(), Error> {
        match &self.own {
            Some(own) => wait_ready(own, &self.bootstrap),
            None => Err(Error::NotOurs { verb: "awaited" }),
        }
    }
}

/// Polls for readiness: each attempt is a metadata request with its own deadline, so there is no blind sleep.
fn wait_ready(own: &BrokerProcess, bootstrap: &str) -> Result<(), Error> {
    let deadline = Instant::now() + Duration::from_millis(READY_MS_MAX);
    while Instant::now() < deadline {
        if answers(bootstrap, Duration::from_millis(500)) {
            return Ok(());
        }
        if !own.is_alive() {
            break;
        }
    }
    Err(Error::NotReady { log: own.log_tail() })
}

fn answers(bootstrap: &str, within: Duration) -> bool {
    let consumer = client(bootstrap);
    consumer.is_ok_and(|consumer| consumer.fetch_metadata(None, within).is_ok_and(|m| !m.brokers().is_empty()))
}

fn client(bootstrap: &str) -> Result<BaseConsumer, rdkafka::error::KafkaError> {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "50")
        // Refused connections are what waiting looks like here, not news.
        .set("log_level", "0")
        .create()
}

/// Repeats `start` while it finds its ports taken: they were free a moment ago, but not reserved.
fn on_free_ports<T>(mut start: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let mut last = None;
    for _ in 0..PORT_ATTEMPTS_MAX {
        match start() {
            Err(Error::NotReady { log }) if log.contains("Address already in use") => {
                last = Some(Error::NotReady { log });
            }
            result => return result,
        }
    }
    Err(last.expect("a loop of at least one attempt ends with its error or returns"))
}

/// Distinct ports that are free now, at `host` and on loopback, where the controllers are.
fn free_ports<const N: usize>(host: IpAddr) -> Result<[u16; N], Error> {
    let find = process("find a port for");
    // All bound at once, so that no two are the same.
    let mut listeners = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((host, 0)).map_err(&find)?;
        *port = listener.local_addr().map_err(&find)?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

fn process(verb: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Process { verb, source }
}
