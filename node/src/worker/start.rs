//! From a connector's configuration and a role to the options of its writer.

use std::{sync::Arc, time::Duration};

use crate::{
    control::{reconcile::RoleSpec, state::State},
    feed, kafka,
    model::{ids::WriterId, report::Role, spec::ConnectorSpec},
    pipeline::{self, Confirm, ConfirmError, Emit},
    raft::RaftHandle,
    supervise::Spawner,
    telemetry::Metrics,
};

/// What all writers of this node have in common.
#[derive(Clone)]
pub struct Settings {
    pub node: String,
    pub kafka: kafka::Options,
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
    let kafka = settings.kafka.with_overrides(&spec.producer_overrides).map_err(|error| error.to_string())?;
    Ok(pipeline::Options {
        id: writer.clone(),
        connector: connector.name.clone(),
        node: settings.node.clone(),
        feed: feed::Options::new(&spec, role.role == Role::Standby).map_err(|error| error.to_string())?,
        kafka,
        transactional_id: writer.transactional_id(state.cluster_id()),
        topic: spec.topic.clone(),
        creation: kafka::TopicCreation::from(&spec.topic_creation),
        merge: twinfeed_dedup::Options { span_ms: spec.dedup_span_ms, ..twinfeed_dedup::Options::default() },
        commit_interval: Duration::from_millis(spec.commit_interval_ms),
        buffer_bytes_max: spec.buffer_bytes_max,
        confirm: confirm(raft.clone()),
        emit: settings.emit.clone(),
        spawner: spawner.clone(),
        metrics: settings.metrics.writer(&connector.name, &spec.topic),
    })
}

fn confirm(raft: RaftHandle) -> Confirm {
    Arc::new(move |writer, epoch| {
        let raft = raft.clone();
        Box::pin(async move {
            let me = raft.status().borrow().node_id;
            raft.confirm_assignment(&writer, epoch, me).await.map_err(|error| ConfirmError(error.to_string()))
        })
    })
}
