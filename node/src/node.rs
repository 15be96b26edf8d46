//! The composition root of a node: makes the rooms, wires their handles, owns the order of start and stop. Every
//! decision is in a room; here is only who knows whom.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::Args as ClapArgs;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use twinfeed_proto::internal::{
    Envelope, presence_service_server::PresenceServiceServer, relay_service_server::RelayServiceServer,
};

use crate::{
    api::{self, Admin, http},
    clock::wall_ms,
    config::{self, NodeConfig},
    coordinator::{self, Local, PresenceServer},
    events::{self, EventLog, Journal},
    feed, kafka,
    model::{
        event::Event,
        ids::ClusterId,
        report::{ClusterView, WriterReports},
    },
    raft::{self, RaftHandle},
    relay::{self, RelayServer},
    supervise::{Spawner, Supervisor, TaskError, TaskKind},
    telemetry::{self, Facts, Metrics, RaftFacts},
    worker::{Settings, Worker},
};

const SUSPECTS_MAX: usize = 64;
/// HTTP/2 flow control of the listener for other nodes: the frames of a busy feed in flight.
const WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Calls that peers gave up while this node was frozen lie in its sockets when it wakes. More than this end the connection,
/// and with it the calls behind them that would bring its log up to date. A silent connection is closed after 8 s.
const RESET_WHILE_FROZEN_MAX: usize = 1_000;
/// Half-open connections of other nodes are noticed by pings.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// `twinfeed node`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  twinfeed node --config node.toml")]
pub struct Args {
    /// The node's TOML file; without one, defaults and TWINFEED_… variables
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Stop when standard input ends: for parents that must not leave nodes behind
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

/// Runs a node until a signal; exit code 0, 1 after a failure, 78 for an unusable configuration.
pub fn run(args: &Args) -> ExitCode {
    let loaded = match config::load(args.config.as_deref()) {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&error);
            return ExitCode::from(config::EXIT_CODE);
        }
    };
    if let Err(error) = telemetry::logging::init(&loaded.config.log) {
        complain(&error);
        return ExitCode::from(config::EXIT_CODE);
    }
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let mut config = loaded.config;
    if let Err(why) = runtime.block_on(settle_kafka(&mut config)) {
        eprintln!("error: {why}");
        return ExitCode::from(config::EXIT_CODE);
    }
    let stop = CancellationToken::new();
    if args.exit_with_stdin {
        stop_with_stdin(stop.clone());
    }
    let outcome = runtime.block_on(live(config, stop));
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "node.failed");
            complain(&*error);
            ExitCode::FAILURE
        }
    }
}

/// Puts what references name into the properties for Kafka, and checks them.
async fn settle_kafka(config: &mut NodeConfig) -> Result<(), String> {
    let sources = dial_options(config).secrets;
    let resolved = sources.resolve_all(&config.kafka.properties).await;
    config.kafka.properties = resolved.map_err(|why| format!("kafka.properties: {why}"))?;
    let mut options = kafka::Options::new(ClusterId::default(), &config.kafka.bootstrap);
    options.properties.clone_from(&config.kafka.properties);
    options.check().map_err(|error| error.to_string())
}

/// Prints an error with its causes, for people.
pub fn complain(error: &dyn std::error::Error) {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    eprintln!("error: {text}");
}

fn stop_with_stdin(stop: CancellationToken) {
    std::thread::spawn(move || {
        // Whatever ends the input, the parent is gone.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        stop.cancel();
    });
}

/// The listeners, bound before anything else: a port in use must not cost a start.
struct Listeners {
    internal: TcpListener,
    admin: TcpListener,
    http: TcpListener,
}

impl Listeners {
    async fn bind(config: &NodeConfig) -> Result<Self, TaskError> {
        let bind = async |what: &str, address: &str| {
            TcpListener::bind(address).await.map_err(|error| {
                format!("cannot listen on listen.{what} = \"{address}\": {error}; free the port or set another")
            })
        };
        Ok(Self {
            internal: bind("internal", &config.listen.internal).await?,
            admin: bind("admin", &config.listen.admin).await?,
            http: bind("http", &config.listen.http).await?,
        })
    }
}

/// What is left to be told when the node leaves.
struct Running {
    raft: RaftHandle,
    leaving: coordinator::Leaving,
    ready: http::Check,
}

async fn live(config: NodeConfig, stop: CancellationToken) -> Result<(), TaskError> {
    let listeners = Listeners::bind(&config).await?;
    let metrics = Metrics::new(&config.name, env!("CARGO_PKG_VERSION"));
    let counting = metrics.clone();
    let supervisor = Supervisor::new(Box::new(move |ended| {
        counting.task_ended(ended.kind.as_str(), ended.outcome.as_str());
    }));
    let running = start(&config, listeners, &metrics, &supervisor.spawner()).await?;
    tracing::info!(
        node = %config.name, internal = %config.listen.internal, admin = %config.listen.admin,
        http = %config.listen.http, "node.started"
    );
    let failed = tokio::select! {
        () = asked_to_stop() => None,
        () = stop.cancelled() => None,
        ended = supervisor.fatal() => Some(ended),
    };
    running.ready.fail("stopping");
    // A second signal does not wait.
    let grace = config.limits.shutdown_grace;
    let cause = failed.as_ref().and_then(|_| running.raft.failure());
    let stopping = async {
        if failed.is_none() {
            running.leaving.leave().await;
        }
        running.raft.retire();
        let report = supervisor.stop(grace).await;
        for (kind, name) in &report.left {
            tracing::warn!(kind = kind.as_str(), name, "node.task_left");
        }
        running.raft.clone().shutdown().await;
    };
    tokio::select! { () = stopping => {}, () = asked_to_stop() => tracing::warn!("node.stopped_at_once") }
    match (cause, failed) {
        (Some(cause), _) => Err(cause.into()),
        (None, Some(ended)) => Err(format!("{ended}; the log says more").into()),
        (None, None) => Ok(()),
    }
}

async fn start(
    config: &NodeConfig,
    listeners: Listeners,
    metrics: &Metrics,
    spawner: &Spawner,
) -> Result<Running, TaskError> {
    let raft::Started { handle: raft, routes, driver } = RaftHandle::start(raft_options(config)).await?;
    let (events, journal) = open_events(config, &raft).await?;
    let emit: coordinator::Emit = {
        let events = events.clone();
        Arc::new(move |event: Event| emit(&events, event))
    };
    let view = watch::Sender::new(ClusterView::default());
    let (leaving, is_leaving) = watch::channel(false);
    let registry = relay::Registry::default();
    let (coordination, coordinator) = coordinator::coordinator(
        raft.clone(),
        config.name.clone(),
        config.cluster.dead_after,
        spawner.clone(),
        emit.clone(),
    );
    let (suspect, suspects) = mpsc::channel(SUSPECTS_MAX);
    let settings = settings(config, emit);
    let worker = Worker::new(raft.clone(), settings, spawner.clone(), registry.clone(), suspect);
    let local = Local {
        raft: raft.clone(),
        name: config.name.clone(),
        writers: worker.reports(),
        leaving: is_leaving,
        events: events.clone(),
        suspects,
        view: view.clone(),
        message_bytes_max: config.limits.internal_message_bytes_max,
    };
    let relay = RelayServer { accepts: accepts(raft.clone()), registry, spawner: spawner.clone() };
    let routes = routes.add_service(relay_service(relay, config)).add_service(
        PresenceServiceServer::new(PresenceServer::new(raft.clone(), coordination, events.clone(), spawner.clone()))
            .max_decoding_message_size(config.limits.internal_message_bytes_max)
            .max_encoding_message_size(config.limits.internal_message_bytes_max),
    );
    metrics.derive_from(facts(raft.clone(), worker.reports(), view.subscribe()));
    let admin = Admin::new(raft.clone(), view.subscribe(), events, admin_limits(config));

    spawner.spawn(TaskKind::InternalServer, "internal listener", |stop| serve(listeners.internal, routes, stop));
    spawner.spawn(TaskKind::Membership, "membership", |_| async move { Ok(driver.run().await?) });
    spawner.spawn(TaskKind::Coordinator, "coordinator", |_| async move {
        coordinator.run().await;
        Ok(())
    });
    spawner.spawn(TaskKind::EventJournal, "event journal", |stop| journal.run(stop));
    spawner.spawn(TaskKind::Presence, "presence", |_| async move {
        coordinator::keep_present(local).await;
        Ok(())
    });
    spawner.spawn(TaskKind::Worker, "worker", |stop| worker.run(stop));
    spawner.spawn(TaskKind::AdminServer, "admin listener", |stop| admin.serve(listeners.admin, stop));
    let ready = serve_http(config, listeners.http, metrics, (spawner, &raft));
    let leaving =
        coordinator::Leaving { me: raft.node_id(), say: leaving, state: raft.state(), view: view.subscribe() };
    Ok(Running { raft, leaving, ready })
}

fn relay_service(relay: RelayServer, config: &NodeConfig) -> RelayServiceServer<RelayServer> {
    RelayServiceServer::new(relay)
        .max_decoding_message_size(config.limits.internal_message_bytes_max)
        .max_encoding_message_size(config.limits.internal_message_bytes_max)
}

fn admin_limits(config: &NodeConfig) -> api::Limits {
    api::Limits {
        message_bytes_max: config.limits.admin_message_bytes_max,
        relayed_bytes_max: config.limits.internal_message_bytes_max.saturating_sub(relay::OVERHEAD_BYTES_MAX),
    }
}

/// What the node decides about the feeds of its connectors.
fn dial_options(config: &NodeConfig) -> feed::DialOptions {
    feed::DialOptions {
        addresses: match config.feeds.allow_private {
            true => feed::AddressPolicy::PrivateAllowed,
            false => feed::AddressPolicy::PublicOnly,
        },
        secrets: feed::SecretSources {
            env_prefix: config.secrets.env_prefix.clone(),
            file_root: config.secrets.file_root.clone(),
        },
        ..feed::DialOptions::default()
    }
}

fn settings(config: &NodeConfig, emit: coordinator::Emit) -> Settings {
    Settings {
        node: config.name.clone(),
        bootstrap: config.kafka.bootstrap.clone(),
        kafka_properties: config.kafka.properties.clone(),
        topics: kafka::Topics::default(),
        openings: kafka::Openings::default(),
        message_bytes_max: config.limits.internal_message_bytes_max,
        dial: dial_options(config),
        emit,
    }
}

/// Metrics and probes; returns the check that fails once the node stops.
fn serve_http(
    config: &NodeConfig,
    listener: TcpListener,
    metrics: &Metrics,
    (spawner, raft): (&Spawner, &RaftHandle),
) -> http::Check {
    let (live, ready) = (http::Checks::default(), http::Checks::default());
    live.add("process").pass();
    let leader_known = ready.add("leader");
    let not_stopping = ready.add("running");
    not_stopping.pass();
    let connections_max = config.limits.http_connections_max;
    let options = http::Options { metrics: metrics.clone(), live, ready, connections_max };
    spawner.spawn(TaskKind::HttpServer, "metrics listener", |stop| async move {
        Ok(http::serve(listener, options, stop).await?)
    });
    let (raft, metrics) = (raft.clone(), metrics.clone());
    spawner.spawn(
        TaskKind::Readiness,
        "readiness",
        |_| async move { follow_raft(&raft, &leader_known, &metrics).await },
    );
    not_stopping
}

fn raft_options(config: &NodeConfig) -> raft::Options {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    raft::Options {
        data_dir: config.data_dir.clone(),
        name: config.name.clone(),
        zone: config.zone.clone(),
        internal_address: config.listen.advertise_internal.clone(),
        admin_address: config.listen.advertise_admin.clone(),
        initial_members: config.cluster.members.iter().map(|m| (m.name.clone(), m.address.clone())).collect(),
        cluster_name: config.cluster.name.clone(),
        heartbeat_ms: ms(config.cluster.heartbeat),
        election_ms: (ms(config.cluster.election_min), ms(config.cluster.election_max)),
        message_bytes_max: config.limits.internal_message_bytes_max,
        ..raft::Options::default()
    }
}

/// The data directory is this node's alone once Raft has opened it.
async fn open_events(config: &NodeConfig, raft: &RaftHandle) -> Result<(EventLog, Journal), TaskError> {
    let (data_dir, me) = (config.data_dir.clone(), raft.node_id());
    Ok(tokio::task::spawn_blocking(move || events::open(&data_dir, me, wall_ms())).await?)
}

fn emit(events: &EventLog, event: Event) {
    let Event { kind, connector, epoch, message, .. } = &event;
    tracing::info!(event = %kind, %connector, epoch, "{message}");
    events.record(event);
}

fn accepts(raft: RaftHandle) -> relay::Accepts {
    Arc::new(move |envelope: &Envelope| raft.check_envelope(Some(envelope)))
}

async fn serve(
    listener: TcpListener,
    routes: tonic::service::Routes,
    stop: CancellationToken,
) -> Result<(), TaskError> {
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .http2_max_pending_accept_reset_streams(Some(RESET_WHILE_FROZEN_MAX))
        .add_routes(routes)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.cancelled_owned())
        .await?;
    Ok(())
}

/// What a scrape is made of: the present reports of this node's writers, and at the leader what it knows of all.
fn facts(
    raft: RaftHandle,
    writers: watch::Receiver<WriterReports>,
    view: watch::Receiver<ClusterView>,
) -> impl Fn() -> Facts {
    move || {
        let status = raft.status().borrow().clone();
        let (mut states, mut peers) = (Vec::new(), Vec::new());
        if status.is_leader {
            let view = view.borrow().clone();
            let others = view.nodes.iter().filter(|(id, _)| **id != status.node_id);
            peers.extend(others.map(|(_, node)| (node.report.name.clone(), node.last_contact_ms as f64 / 1e3)));
            states = api::states(&raft, view);
        }
        let raft = RaftFacts {
            has_leader: status.leader.is_some(),
            is_leader: status.leader == Some(status.node_id),
            term: status.term,
            voters: status.voters.len(),
            last_log_index: status.last_log_index,
            applied_index: status.applied_index,
        };
        Facts {
            writers: writers.borrow().values().map(|report| report.borrow().clone()).collect(),
            states,
            raft,
            peers,
        }
    }
}

/// Keeps readiness true and counts the changes of leader.
async fn follow_raft(raft: &RaftHandle, leader_known: &http::Check, metrics: &Metrics) -> Result<(), TaskError> {
    let mut status = raft.status();
    let mut last_leader = None;
    loop {
        let now = status.borrow_and_update().clone();
        match now.leader {
            Some(_) => leader_known.pass(),
            None => leader_known.fail("no Raft leader is known"),
        }
        if now.leader.is_some() && now.leader != last_leader {
            metrics.leader_changed();
            last_leader = now.leader;
        }
        status.changed().await?;
    }
}

async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        name = "n1"
        data_dir = "/data"
        zone = "rack-a"
        [cluster]
        name = "prod"
        members = ["n1=10.0.0.1:7400", "n2=10.0.0.2:7400", "n3=10.0.0.3:7400"]
        heartbeat = "50ms"
        election_min = "200ms"
        election_max = "250ms"
        dead_after = "900ms"
        [listen]
        internal = "127.0.0.1:0"
        admin = "127.0.0.1:0"
        http = "127.0.0.1:0"
        advertise_internal = "10.0.0.1:7400"
        advertise_admin = "10.0.0.1:9090"
        [kafka]
        bootstrap = "k1:9092,k2:9092"
        properties = { "security.protocol" = "ssl", "client.id" = "a-${env:CARGO_PKG_NAME}" }
        [feeds]
        allow_private = false
        [secrets]
        env_prefix = "CARGO_PKG_N"
        file_root = "/run/secrets"
        [limits]
        internal_message_bytes_max = "32MiB"
        admin_message_bytes_max = "2MiB"
    "#;

    fn loaded(text: &str) -> NodeConfig {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        config::load(Some(file.path())).expect("valid").config
    }

    #[test]
    fn every_key_of_the_cluster_reaches_raft() {
        let config = loaded(FILE);
        let raft = raft_options(&config);
        assert_eq!((raft.name.as_str(), raft.zone.as_str(), raft.cluster_name.as_str()), ("n1", "rack-a", "prod"));
        assert_eq!(raft.data_dir, PathBuf::from("/data"));
        assert_eq!(raft.initial_members.len(), 3);
        assert_eq!((raft.heartbeat_ms, raft.election_ms), (50, (200, 250)));
        assert_eq!(raft.internal_address, "10.0.0.1:7400");
        assert_eq!(raft.admin_address, "10.0.0.1:9090");
        assert_eq!(raft.message_bytes_max, 32 << 20);
        assert_eq!(admin_limits(&config).message_bytes_max, 2 << 20);
        assert_eq!(admin_limits(&config).relayed_bytes_max, 28 << 20);
    }

    #[tokio::test]
    async fn every_key_of_kafka_and_the_feeds_reaches_the_writers() {
        let mut config = loaded(FILE);
        settle_kafka(&mut config).await.expect("what is referred to exists");
        let settings = settings(&config, Arc::new(|_| {}));
        assert_eq!(settings.bootstrap, "k1:9092,k2:9092");
        assert_eq!(settings.kafka_properties["client.id"], "a-twinfeed-node");
        assert_eq!(settings.kafka_properties["security.protocol"], "ssl");
        assert_eq!(settings.message_bytes_max, 32 << 20);
        assert_eq!(settings.dial.addresses, feed::AddressPolicy::PublicOnly);
        assert_eq!(settings.dial.secrets.env_prefix, "CARGO_PKG_N");
        assert_eq!(settings.dial.secrets.file_root, PathBuf::from("/run/secrets"));
        config.kafka.properties.insert("client.id".to_owned(), "${env:CARGO_PKG_NONE}".to_owned());
        assert!(settle_kafka(&mut config).await.expect_err("unset").contains("client.id"));
        config.kafka.properties = [("linger.ms".to_owned(), "1".to_owned())].into();
        assert!(settle_kafka(&mut config).await.expect_err("not allowed").contains("linger.ms"));
    }

    #[tokio::test]
    async fn a_listener_that_cannot_be_bound_names_its_key() {
        let mut config = loaded(FILE);
        let taken = Listeners::bind(&config).await.expect("three free ports");
        for (key, listener) in [("internal", &taken.internal), ("admin", &taken.admin), ("http", &taken.http)] {
            let address = listener.local_addr().expect("bound").to_string();
            let mut other = config.listen.clone();
            match key {
                "internal" => other.internal = address,
                "admin" => other.admin = address,
                _ => other.http = address,
            }
            std::mem::swap(&mut config.listen, &mut other);
            let refused = Listeners::bind(&config).await.err().expect("the port is in use").to_string();
            assert!(refused.contains(&format!("listen.{key}")), "{refused}");
            config.listen = other;
        }
    }
}
