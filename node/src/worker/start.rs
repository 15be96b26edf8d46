//! From a connector's configuration and a role to the options of its writer.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    control::{RoleSpec, State},
    faults::{self, Bug},
    feed, kafka,
    model::{
        connector::{Line, Redundancy},
        ids::WriterId,
        spec::ConnectorSpec,
    },
    pipeline::{self, Confirm, ConfirmError, Emit},
    raft::RaftHandle,
    supervise::Spawner,
    telemetry::Metrics,
};

/// What all writers of this node have in common.
#[derive(Clone)]
pub struct Settings {
    pub node: String,
    /// `host:port`, comma-separated, and librdkafka properties for all writers.
    pub bootstrap: String,
    pub kafka_properties: BTreeMap<String, String>,
    /// What all writers ask Kafka about topics by.
    pub topics: kafka::Topics,
    pub dial: feed::DialOptions,
    pub emit: Emit,
    pub metrics: Metrics,
}

/// Makes the options of a writer; the error says why it cannot run here.
pub(super) fn options(
    settings: &Settings,
    raft: &RaftHandle,
    spawner: &Spawner,
    state: &State,
    (writer, role): (&WriterId, &RoleSpec),
) -> Result<pipeline::Options, String> {
    let connector = state
        .writers()
        .get(writer)
        .and_then(|w| w.connectors.first())
        .and_then(|name| state.connectors().get(name))
        .ok_or_else(|| format!("writer `{writer}` has no connector"))?;
    let (spec, _) = ConnectorSpec::parse(&connector.name, &connector.config).map_err(|errors| {
        let list: Vec<String> = errors.iter().map(|e| format!("{}: {}", e.key, e.message)).collect();
        format!("the stored configuration is not valid for this version: {}", list.join("; "))
    })?;
    let kafka = kafka(settings, state, &spec);
    kafka.check().map_err(|error| error.to_string())?;
    let feed = Arc::new(spec.feed);
    let url = match (role.line, &feed.secondary_url) {
        (Line::Secondary, Some(url)) => url.clone(),
        (Line::Primary | Line::Secondary, _) => feed.primary_url.clone(),
    };
    Ok(pipeline::Options {
        id: writer.clone(),
        connector: connector.name.clone(),
        revision: role.revision,
        node: settings.node.clone(),
        feed: feed::Subscription { url, spec: feed, dial: settings.dial.clone() },
        kafka,
        transactional_id: transactional_id(settings, state, writer),
        target: kafka::Target::new(
            &spec.topic.name,
            kafka::record::stream_id(state.cluster_id(), &connector.name, connector.created),
        ),
        creation: kafka::TopicCreation {
            create: spec.topic.create,
            partitions: spec.topic.partitions.unwrap_or(1),
            replication_factor: spec.topic.replication_factor.map_or(-1, i32::from),
            properties: spec.topic.properties.clone(),
        },
        merge: faults::seeded(twinfeed_dedup::Options { span_ms: spec.dedup_span_ms, ..Default::default() }),
        commit_interval: Duration::from_millis(spec.commit_interval_ms),
        buffer_bytes_max: usize::try_from(spec.buffer_bytes_max).unwrap_or(usize::MAX),
        feeds: match spec.redundancy {
            Redundancy::Dual => 2,
            Redundancy::Single => 1,
        },
        confirm: confirm(raft.clone()),
        emit: settings.emit.clone(),
        spawner: spawner.clone(),
        metrics: settings.metrics.clone(),
    })
}

/// The same on every node and for every epoch: that is what fences.
fn transactional_id(settings: &Settings, state: &State, writer: &WriterId) -> String {
    let id = writer.transactional_id(state.cluster_id());
    if faults::bug(Bug::NoFencing) { format!("{id}.{}", settings.node) } else { id }
}

/// The connector's own properties win over the node's.
fn kafka(settings: &Settings, state: &State, spec: &ConnectorSpec) -> kafka::Options {
    let mut options = kafka::Options::new(state.cluster_id().clone(), &settings.bootstrap);
    options.topics = settings.topics.clone();
    options.message_bytes_max = spec.feed.message_bytes_max;
    options.properties.clone_from(&settings.kafka_properties);
    options.properties.extend(spec.producer_overrides.iter().map(|(k, v)| (k.clone(), v.clone())));
    options
}

fn confirm(raft: RaftHandle) -> Confirm {
    Arc::new(move |writer, epoch| {
        let raft = raft.clone();
        Box::pin(async move {
            if faults::bug(Bug::SelfPromotion) {
                return Ok(true);
            }
            let me = raft.status().borrow().node_id;
            raft.confirm_assignment(&writer, epoch, me).await.map_err(|error| ConfirmError(error.to_string()))
        })
    })
}
