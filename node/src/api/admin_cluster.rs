//! `twinfeed.admin.v1.ClusterService`: the cluster as it is, its nodes, and what happened.

use std::pin::Pin;

use futures_util::StreamExt;
use tokio::sync::broadcast::error::RecvError;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use twinfeed_proto::admin::{self, cluster_service_server::ClusterService};

use super::{
    admin::Admin,
    changes::check_request_id,
    condition::{Scene, problems},
    convert,
    deadline::wait_until,
    status::{self, Subject},
};
use crate::{
    clock::wall_ms,
    events::{EventLog, Forgotten},
    model::{command::Command, connector::NodeRecord, event::Event},
};

/// Most past events in one answer.
const EVENTS_LAST_MAX: usize = 1_000;
/// What a client may rely on beyond the version number; words are only ever added.
const FEATURES: [&str; 6] = ["dry-run", "request-id", "etag", "update-mask", "failover", "drain"];

type Answer<T> = Result<Response<T>, Status>;
type EventStream = Pin<Box<dyn Stream<Item = Result<admin::StreamEventsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ClusterService for Admin {
    /// Answers without a leader, too: that is when it is needed most.
    async fn get_status(&self, _request: Request<admin::GetStatusRequest>) -> Answer<admin::GetStatusResponse> {
        let (scene, linearizable) = match self.confirmed_scene().await {
            Ok(scene) => (scene, true),
            Err(_) => (self.local_scene(), false),
        };
        // Configurations could fill any message; GetConnector has them.
        let connectors = scene
            .state
            .connectors()
            .values()
            .map(|connector| admin::Connector { config: Default::default(), ..convert::connector(&scene, connector) });
        Ok(Response::new(admin::GetStatusResponse {
            cluster_id: scene.state.cluster_id().0.clone(),
            cluster_name: scene.state.cluster_name().to_owned(),
            leader: scene.raft.leader.map(|leader| scene.node_name(leader)).unwrap_or_default(),
            term: scene.raft.term,
            members: convert::members(&scene),
            connectors: connectors.collect(),
            problems: problems(&scene),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            linearizable,
        }))
    }

    async fn list_members(&self, _request: Request<admin::ListMembersRequest>) -> Answer<admin::ListMembersResponse> {
        let scene = self.confirmed_scene().await?;
        Ok(Response::new(admin::ListMembersResponse { members: convert::members(&scene) }))
    }

    async fn drain_node(&self, request: Request<admin::DrainNodeRequest>) -> Answer<admin::DrainNodeResponse> {
        let deadline = wait_until(request.metadata());
        self.drain(request.into_inner(), deadline).await.map(Response::new)
    }

    async fn undrain_node(&self, request: Request<admin::UndrainNodeRequest>) -> Answer<admin::UndrainNodeResponse> {
        let request = request.into_inner();
        let id = node_named(&self.confirmed_scene().await?, &request.node)?.id;
        let command = Command::SetDraining { id, draining: false };
        self.change(command, &request.request_id, Subject::node(&request.node)).await?;
        Ok(Response::new(admin::UndrainNodeResponse {}))
    }

    async fn remove_node(&self, request: Request<admin::RemoveNodeRequest>) -> Answer<admin::RemoveNodeResponse> {
        let request = request.into_inner();
        check_request_id(&request.request_id)?;
        let scene = self.confirmed_scene().await?;
        let id = node_named(&scene, &request.node)?.id;
        if scene.node(id).is_some_and(|node| node.up) {
            let text = format!(
                "node {name} is alive: only a node that is gone for good can be removed; stop it first, or empty it \
                 with: wsctl node drain {name}",
                name = request.node
            );
            return Err(status::precondition("NODE_ALIVE", text));
        }
        let outcome = self.raft.remove_node(id).await.map_err(|error| status::of_error(&error))?;
        status::of_outcome(outcome, Subject::node(&request.node))?;
        Ok(Response::new(admin::RemoveNodeResponse {}))
    }

    type StreamEventsStream = EventStream;

    async fn stream_events(&self, request: Request<admin::StreamEventsRequest>) -> Answer<EventStream> {
        let request = request.into_inner();
        let last = usize::try_from(request.last)
            .ok()
            .filter(|last| *last <= EVENTS_LAST_MAX)
            .ok_or_else(|| status::invalid_field("last", "must be in 0..=1000"))?;
        let node = self.raft.state().borrow().nodes().get(&self.raft.node_id()).map(|node| node.name.clone());
        let told = Told { last, follow: !request.no_follow, connector: request.connector, node };
        let events = events(self.events.clone(), told).take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(Box::pin(events)))
    }

    async fn get_server_info(
        &self,
        _request: Request<admin::GetServerInfoRequest>,
    ) -> Answer<admin::GetServerInfoResponse> {
        let scene = self.local_scene();
        Ok(Response::new(admin::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: scene.node_name(scene.raft.node_id),
            cluster_id: scene.raft.cluster_id.0.clone(),
            features: FEATURES.map(str::to_owned).to_vec(),
        }))
    }
}

/// The member of this name.
pub(super) fn node_named<'a>(scene: &'a Scene, name: &str) -> Result<&'a NodeRecord, Status> {
    scene.state.node_named(name).ok_or_else(|| status::not_found(Subject::node(name)))
}

/// What a listener asked to be told.
struct Told {
    last: usize,
    follow: bool,
    /// Empty: of all connectors, and of the cluster itself.
    connector: String,
    node: Option<String>,
}

impl Told {
    fn wants(&self, event: &Event) -> bool {
        self.connector.is_empty() || event.connector == self.connector
    }
}

fn events(log: EventLog, told: Told) -> impl Stream<Item = Result<admin::StreamEventsResponse, Status>> {
    async_stream::stream! {
        let answer = |event: &Event| Ok(admin::StreamEventsResponse { event: Some(convert::event(event)) });
        let (past, mut later) = log.follow();
        let wanted: Vec<_> = past.into_iter().filter(|event| told.wants(&event.event)).collect();
        let forgotten = log.forgotten();
        if wanted.len() < told.last && forgotten.losses > 0 {
            yield answer(&forgotten_events(forgotten, told.node.as_deref()));
        }
        for event in wanted.iter().skip(wanted.len().saturating_sub(told.last)) {
            yield answer(&event.event);
        }
        if !told.follow {
            return;
        }
        loop {
            match later.recv().await {
                Ok(event) if told.wants(&event.event) => yield answer(&event.event),
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => yield answer(&missed_events(missed, told.node.as_deref())),
                Err(RecvError::Closed) => return,
            }
        }
    }
}

/// Tells whoever asks for more than there is that something is missing in the list itself.
fn forgotten_events(forgotten: Forgotten, node: Option<&str>) -> Event {
    let Forgotten { passing, losses, until_ms } = forgotten;
    Event {
        at_ms: until_ms,
        kind: "events.forgotten".to_owned(),
        node: node.unwrap_or_default().to_owned(),
        connector: String::new(),
        epoch: 0,
        message: format!(
            "{losses} older events that said that messages may be missing are not kept any more, here or at all: the logs \
             of the nodes have them"
        ),
        attributes: [("losses".to_owned(), losses.to_string()), ("others".to_owned(), passing.to_string())].into(),
    }
}

/// Tells a listener that is too slow what it does not see; silence would look like peace.
fn missed_events(count: u64, node: Option<&str>) -> Event {
    Event {
        at_ms: wall_ms(),
        kind: "events.missed".to_owned(),
        node: node.unwrap_or_default().to_owned(),
        connector: String::new(),
        epoch: 0,
        message: format!("{count} events came faster than they were read"),
        attributes: [("count".to_owned(), count.to_string())].into(),
    }
}
