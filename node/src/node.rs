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
    api::{Admin, EventLog, http},
    config::{self, NodeConfig},
    coordinator::{self, Local, PresenceServer},
    feed, kafka,
    model::{event::Event, ids::ClusterId, report::ClusterView},
    raft::{self, RaftHandle},
    relay::{self, RelayServer},
    supervise::{Spawner, Supervisor, TaskError, TaskKind},
    telemetry::{self, Metrics},
    worker::{Settings, Worker},
};

/// Events on their way to the leader; more than this at once are only in the log.
const EVENTS_MAX: usize = 1_024;
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
    let mut kafka = kafka::Options::new(ClusterId::default(), &loaded.config.kafka.bootstrap);
    kafka.properties.clone_from(&loaded.config.kafka.properties);
    if let Err(error) = kafka.check() {
        complain(&error);
        return ExitCode::from(config::EXIT_CODE);
    }
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
    let stop = CancellationToken::new();
    if args.exit_with_stdin {
        stop_with_stdin(stop.clone());
    }
    let outcome = runtime.block_on(live(loaded.config, stop));
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
    let events = EventLog::default();
    let view = watch::Sender::new(ClusterView::default());
    let (leaving, is_leaving) = watch::channel(false);
    let registry = relay::Registry::default();
    let (coordination, coordinator) =
        coordinator::coordinator(raft.clone(), config.name.clone(), config.cluster.dead_after, spawner.clone());
    let (unsent_events, outgoing_events) = mpsc::channel(EVENTS_MAX);
    let (suspect, suspects) = mpsc::channel(SUSPECTS_MAX);
    let settings = settings(config, metrics, unsent_events);
    let worker = Worker::new(raft.clone(), settings, spawner.clone(), registry.clone(), suspect);
    let heard = events.clone();
    let local = Local {
        raft: raft.clone(),
        name: config.name.clone(),
        writers: worker.reports(),
        leaving: is_leaving,
        events: outgoing_events,
        suspects,
        view: view.clone(),
        on_event: Box::new(move |event| heard.record(event)),
    };
    let relay = RelayServer { accepts: accepts(raft.clone()), registry, spawner: spawner.clone() };
    let routes = routes.add_service(relay_service(relay)).add_service(
        PresenceServiceServer::new(PresenceServer::new(raft.clone(), coordination, spawner.clone()))
            .max_decoding_message_size(config.limits.internal_message_bytes_max)
            .max_encoding_message_size(config.limits.internal_message_bytes_max),
    );
    let admin = Admin::new(raft.clone(), view.subscribe(), events);

    spawner.spawn(TaskKind::InternalServer, "internal listener", |stop| serve(listeners.internal, routes, stop));
    spawner.spawn(TaskKind::Membership, "membership", |_| async move { Ok(driver.run().await?) });
    spawner.spawn(TaskKind::Coordinator, "coordinator", |_| async move {
        coordinator.run().await;
        Ok(())
    });
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

fn relay_service(relay: RelayServer) -> RelayServiceServer<RelayServer> {
    RelayServiceServer::new(relay)
        .max_decoding_message_size(relay::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(relay::MESSAGE_BYTES_MAX)
}

fn settings(config: &NodeConfig, metrics: &Metrics, unsent_events: mpsc::Sender<Event>) -> Settings {
    Settings {
        node: config.name.clone(),
        bootstrap: config.kafka.bootstrap.clone(),
        kafka_properties: config.kafka.properties.clone(),
        topics: kafka::Topics::default(),
        dial: feed::DialOptions::default(),
        emit: Arc::new(move |event: Event| emit(&unsent_events, event)),
        metrics: metrics.clone(),
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
    spawner.spawn(TaskKind::Probe, "readiness", |_| async move { follow_raft(&raft, &leader_known, &metrics).await });
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
        ..raft::Options::default()
    }
}

/// The log has every event; the cluster's event log misses one only when a thousand wait for a leader.
fn emit(unsent: &mpsc::Sender<Event>, event: Event) {
    let Event { kind, connector, epoch, message, .. } = &event;
    tracing::info!(event = %kind, %connector, epoch, "{message}");
    if unsent.try_send(event).is_err() {
        tracing::warn!("too many events wait for a leader; this one is only in this log");
    }
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

/// Keeps readiness and Raft's metrics true.
async fn follow_raft(raft: &RaftHandle, leader_known: &http::Check, metrics: &Metrics) -> Result<(), TaskError> {
    let mut status = raft.status();
    let gauges = metrics.raft();
    let mut last_leader = None;
    loop {
        let now = status.borrow_and_update().clone();
        match now.leader {
            Some(_) => leader_known.pass(),
            None => leader_known.fail("no Raft leader is known"),
        }
        gauges.has_leader.set(i64::from(now.leader.is_some()));
        gauges.is_leader.set(i64::from(now.is_leader));
        gauges.term.set(i64::try_from(now.term).unwrap_or(i64::MAX));
        gauges.applied_index.set(i64::try_from(now.applied_index).unwrap_or(i64::MAX));
        gauges.voters.set(i64::try_from(now.voters.len()).unwrap_or(i64::MAX));
        if now.leader.is_some() && now.leader != last_leader {
            gauges.leader_changes.inc();
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
