//! From cluster state and reports to the messages of the admin API. Secrets end here: configurations leave redacted,
//! URLs without user info and query. Pure.

use std::{collections::BTreeMap, time::Duration};

use prost_types::Timestamp;
use twinfeed_proto::admin;

use super::condition::{Condition, Scene};
use crate::model::{
    connector::{Config, Connector, NodeRecord, Redundancy, TargetState},
    event::Event,
    ids::NodeId,
    redaction::redacted_config,
    report::WriterReport,
};

/// A connector with its status.
pub(super) fn connector(scene: &Scene, connector: &Connector) -> admin::Connector {
    admin::Connector {
        name: connector.name.clone(),
        config: shown(&connector.config),
        target_state: target(connector.target).into(),
        status: Some(status(scene, connector)),
        etag: connector.revision.to_string(),
        revision: connector.revision,
        create_time: timestamp(connector.created_at_ms),
        update_time: timestamp(connector.updated_at_ms),
    }
}

/// A connector that a dry run would have made: without a revision, status or times.
pub(super) fn proposed(name: &str, config: &Config, target_state: TargetState) -> admin::Connector {
    admin::Connector {
        name: name.to_owned(),
        config: shown(config),
        target_state: target(target_state).into(),
        ..admin::Connector::default()
    }
}

fn shown(config: &Config) -> std::collections::HashMap<String, String> {
    redacted_config(config).into_iter().collect()
}

fn target(target: TargetState) -> admin::TargetState {
    match target {
        TargetState::Running => admin::TargetState::Running,
        TargetState::Paused => admin::TargetState::Paused,
        TargetState::Stopped => admin::TargetState::Stopped,
    }
}

fn status(scene: &Scene, connector: &Connector) -> admin::ConnectorStatus {
    let condition = Condition::of(scene, connector);
    let name = |id: Option<NodeId>| id.map(|id| scene.node_name(id)).unwrap_or_default();
    let owner_id = condition.assignment.map(|now| now.owner);
    let standby_id = condition.assignment.and_then(|now| now.standby);
    let nothing = WriterReport::default();
    let owner = condition.owner.unwrap_or(&nothing);
    admin::ConnectorStatus {
        state: condition.state.into(),
        message: condition.message.clone(),
        owner: name(owner_id),
        standby: name(standby_id),
        epoch: condition.assignment.map_or(0, |now| now.epoch.0),
        subscriptions: subscriptions(scene, &condition),
        at_risk: condition.at_risk,
        aligned: owner.aligned,
        records_committed: owner.records_committed,
        records_per_second: owner.records_per_second,
        frames_received: owner.frames_received,
        frames_deduplicated: owner.frames_deduplicated,
        unacked_records: owner.unacked_records,
        retained_frames: condition.standby.map_or(0, |standby| standby.retained_frames),
        latency_p50_ms: owner.latency_p50_ms,
        latency_p99_ms: owner.latency_p99_ms,
        topic: connector.config.get("kafka.topic").cloned().unwrap_or_default(),
        redundancy: match condition.redundancy {
            Redundancy::Dual => admin::Redundancy::Dual,
            Redundancy::Single => admin::Redundancy::Single,
        }
        .into(),
        note: condition.note.clone(),
        idle: condition.idle,
        has_data: condition.has_data(),
        primary_alone: owner.lines.part(owner.lines.own_alone),
        secondary_alone: owner.lines.part(owner.lines.standby_alone),
        primary_behind_ms: owner.lines.own_behind_ms,
        secondary_behind_ms: owner.lines.standby_behind_ms,
        unmatched_ms: owner.lines.unmatched_ms,
        skew_ms: owner.lines.skew_ms,
    }
}

/// The owner's line, then the standby's.
pub(super) fn subscriptions(scene: &Scene, condition: &Condition<'_>) -> Vec<admin::Subscription> {
    let owner_id = condition.assignment.map(|now| now.owner);
    let standby_id = condition.assignment.and_then(|now| now.standby);
    [("primary", owner_id, condition.owner), ("secondary", standby_id, condition.standby)]
        .into_iter()
        .filter_map(|(role, id, report)| id.map(|id| subscription(role, scene.node_name(id), report)))
        .collect()
}

fn subscription(role: &str, node: String, report: Option<&WriterReport>) -> admin::Subscription {
    let feed = report.map(|report| report.subscription.clone()).unwrap_or_default();
    admin::Subscription {
        role: role.to_owned(),
        node,
        connected: feed.connected,
        connected_since: if feed.connected { timestamp(feed.connected_since_ms) } else { None },
        reconnects: feed.reconnects,
        last_error: feed.last_error,
        url: feed.url,
        last_message: timestamp(feed.last_message_ms),
        keep_alives: feed.keep_alives,
    }
}

/// The members by name.
pub(super) fn members(scene: &Scene) -> Vec<admin::Member> {
    let mut owned: BTreeMap<NodeId, u32> = BTreeMap::new();
    let mut standing_by: BTreeMap<NodeId, u32> = BTreeMap::new();
    for now in scene.state.writers().values().filter_map(|writer| writer.assignment.as_ref()) {
        *owned.entry(now.owner).or_default() += 1;
        if let Some(standby) = now.standby {
            *standing_by.entry(standby).or_default() += 1;
        }
    }
    let load = |loads: &BTreeMap<NodeId, u32>, id| loads.get(&id).copied().unwrap_or(0);
    let mut members: Vec<admin::Member> = scene
        .state
        .nodes()
        .values()
        .map(|node| admin::Member {
            owned: load(&owned, node.id),
            standing_by: load(&standing_by, node.id),
            ..member(scene, node)
        })
        .collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    members
}

fn member(scene: &Scene, node: &NodeRecord) -> admin::Member {
    let view = scene.node(node.id);
    let up = view.is_some_and(|view| view.up);
    let voter = scene.raft.voters.contains(&node.id);
    let leads = scene.raft.leader == Some(node.id);
    let role = match (leads, up, voter) {
        (true, ..) => "leader",
        (false, false, _) => "unknown",
        (false, true, true) => "follower",
        (false, true, false) => "learner",
    };
    let report = view.map(|view| view.report.clone()).unwrap_or_default();
    admin::Member {
        name: node.name.clone(),
        id: node.id.to_string(),
        internal_address: node.internal_address.clone(),
        admin_address: node.admin_address.clone(),
        zone: node.zone.clone(),
        role: role.to_owned(),
        voter,
        up,
        draining: node.draining || report.leaving,
        term: report.term,
        last_log_index: report.last_log_index,
        applied_index: report.applied_index,
        last_contact_ms: view.map_or(0, |view| view.last_contact_ms),
        version: report.version,
        ..admin::Member::default()
    }
}

/// An event as the API shows it.
pub(super) fn event(event: &Event) -> admin::Event {
    admin::Event {
        time: timestamp(event.at_ms),
        kind: event.kind.clone(),
        node: event.node.clone(),
        connector: event.connector.clone(),
        epoch: event.epoch,
        message: event.message.clone(),
        attributes: event.attributes.clone().into_iter().collect(),
    }
}

/// A wall-clock moment; none for 0, which stands for unknown.
fn timestamp(at_ms: u64) -> Option<Timestamp> {
    let since = Duration::from_millis(at_ms);
    let seconds = i64::try_from(since.as_secs()).ok().filter(|_| at_ms > 0)?;
    Some(Timestamp { seconds, nanos: since.subsec_nanos() as i32 })
}
