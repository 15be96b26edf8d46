//! The admin API's hold on the node, shared by its services, and the listener that serves them with health and
//! reflection. Any node serves it: proposals and reads find the leader by themselves.

use std::{sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use twinfeed_proto::{
    DESCRIPTOR_SET,
    admin::{
        cluster_service_server::{ClusterServiceServer, SERVICE_NAME as CLUSTER_SERVICE},
        connector_service_server::{ConnectorServiceServer, SERVICE_NAME as CONNECTOR_SERVICE},
    },
};

use super::{
    changes::check_request_id,
    condition::Scene,
    status::{self, Subject},
};
use crate::{
    clock::wall_ms,
    control::State,
    events::EventLog,
    model::{
        command::{Command, Proposal, asked},
        report::ClusterView,
    },
    raft::RaftHandle,
    supervise::TaskError,
};

/// Finds half-open connections of clients that are gone.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// A client that holds its connection open must not hold up the node's end.
const DRAIN: Duration = Duration::from_millis(1_500);

/// Bounds of the admin API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest message either way.
    pub message_bytes_max: usize,
    /// Largest message of a feed that two nodes can pass on to each other.
    pub relayed_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes_max: 4 * 1024 * 1024, relayed_bytes_max: 64 * 1024 * 1024 }
    }
}

/// The admin API of this node. Cheap to clone.
#[derive(Clone)]
pub struct Admin {
    pub(super) raft: RaftHandle,
    pub(super) view: watch::Receiver<ClusterView>,
    pub(super) events: EventLog,
    pub(super) limits: Limits,
    /// Ends every stream of answers.
    pub(super) stop: CancellationToken,
}

impl Admin {
    /// Joins what the API answers from: Raft, the view that the leader sends to every node, and the event log.
    pub fn new(raft: RaftHandle, view: watch::Receiver<ClusterView>, events: EventLog, limits: Limits) -> Self {
        Self { raft, view, events, limits, stop: CancellationToken::new() }
    }

    /// Serves the API until `stop`; calls in flight get a moment to end.
    ///
    /// # Errors
    /// When the listener fails, or the descriptors compiled in cannot be read.
    pub async fn serve(mut self, listener: TcpListener, stop: CancellationToken) -> Result<(), TaskError> {
        self.stop = stop.clone();
        let (health, health_service) = tonic_health::server::health_reporter();
        let bytes_max = self.limits.message_bytes_max;
        let connectors = ConnectorServiceServer::new(self.clone())
            .max_decoding_message_size(bytes_max)
            .max_encoding_message_size(bytes_max);
        let cluster = ClusterServiceServer::new(self.clone())
            .max_decoding_message_size(bytes_max)
            .max_encoding_message_size(bytes_max);
        let routes = Routes::new(connectors)
            .add_service(cluster)
            .add_service(health_service)
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?);
        let server = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .add_routes(routes)
            .serve_with_incoming_shutdown(
                TcpIncoming::from(listener).with_nodelay(Some(true)),
                stop.clone().cancelled_owned(),
            );
        // tonic's own graceful shutdown waits for clients that never go.
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            served = server => Ok(served?),
            ended = self.keep_health(health) => ended,
            () = overdue => Ok(()),
        }
    }

    /// The process is healthy while it answers; the services serve while somebody leads.
    async fn keep_health(&self, health: HealthReporter) -> Result<(), TaskError> {
        let mut raft = self.raft.status();
        health.set_service_status("", ServingStatus::Serving).await;
        loop {
            let leader = raft.borrow_and_update().leader;
            let serving = if leader.is_some() { ServingStatus::Serving } else { ServingStatus::NotServing };
            health.set_service_status(CONNECTOR_SERVICE, serving).await;
            health.set_service_status(CLUSTER_SERVICE, serving).await;
            if raft.changed().await.is_err() {
                // Raft has stopped and says so itself; this is not the place to end the node.
                std::future::pending::<()>().await;
            }
        }
    }

    /// What is known now, with a state of the caller's choice.
    pub(super) fn scene(&self, state: Arc<State>) -> Scene {
        Scene { state, view: self.view.borrow().clone(), raft: self.raft.status().borrow().clone() }
    }

    /// What this node itself knows, possibly old.
    pub(super) fn local_scene(&self) -> Scene {
        let state = self.raft.state().borrow().clone();
        self.scene(state)
    }

    /// What is true at the time of the call.
    pub(super) async fn confirmed_scene(&self) -> Result<Scene, Status> {
        let state = self.raft.read().await.map_err(|error| status::of_error(&error))?;
        Ok(self.scene(state))
    }

    /// What is true after a change. The change is made whatever this read says, so a late answer is better than none.
    pub(super) async fn scene_after_change(&self) -> Scene {
        match self.confirmed_scene().await {
            Ok(scene) => scene,
            Err(_) => self.local_scene(),
        }
    }

    /// Proposes a command that is what was asked, and returns the revision that it made.
    pub(super) async fn change(&self, command: Command, request_id: &str, on: Subject<'_>) -> Result<u64, Status> {
        let request = (request_id, asked(&command));
        self.change_as(request, command, on).await
    }

    /// The same for a command made of what was asked and of what is there now: a repeat may make another one of it.
    pub(super) async fn change_as(
        &self,
        (request_id, asked): (&str, u64),
        command: Command,
        on: Subject<'_>,
    ) -> Result<u64, Status> {
        check_request_id(request_id)?;
        let proposal = Proposal { request_id: request_id.to_owned(), asked, proposed_at_ms: wall_ms(), command };
        let outcome = self.raft.propose(proposal).await.map_err(|error| status::of_error(&error))?;
        status::of_outcome(outcome, on)
    }

    /// Waits until what this node hears satisfies `check`; None at the deadline.
    pub(super) async fn settled<T>(&self, deadline: Instant, check: impl Fn(&Scene) -> Option<T>) -> Option<T> {
        let (mut state, mut view) = (self.raft.state(), self.view.clone());
        loop {
            let now = state.borrow_and_update().clone();
            view.mark_unchanged();
            if let Some(found) = check(&self.scene(now)) {
                return Some(found);
            }
            let changed = async {
                tokio::select! {
                    changed = state.changed() => changed.is_ok(),
                    changed = view.changed() => changed.is_ok(),
                }
            };
            // A closed watch never changes again.
            if !tokio::time::timeout_at(deadline, changed).await.unwrap_or(false) {
                return None;
            }
        }
    }
}

/// Lists what is served, and knows the error details, so that generic clients can print both.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .with_service_name(CONNECTOR_SERVICE)
        .with_service_name(CLUSTER_SERVICE)
        .with_service_name("grpc.health.v1.Health")
}
