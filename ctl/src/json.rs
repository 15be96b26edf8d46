//! The proto3 JSON mapping of what the admin API answers: lowerCamelCase names, 64-bit numbers as strings, enums by
//! name, moments in RFC 3339. Fields that hold their default are printed too, so that scripts find every key.

use prost_types::Timestamp;
use serde_json::{Value, json};
use twinfeed_proto::admin::{
    CompareConnectorResponse, ComparedLine, Connector, ConnectorStatus, Event, FailoverConnectorResponse,
    GetStatusResponse, Member, SamplePair, Subscription,
};

use crate::text::rfc3339;

pub(crate) fn connector(c: &Connector) -> Value {
    json!({
        "name": c.name,
        "config": c.config,
        "targetState": c.target_state().as_str_name(),
        "status": c.status.as_ref().map(status),
        "etag": c.etag,
        "revision": c.revision.to_string(),
        "createTime": moment(c.create_time.as_ref()),
        "updateTime": moment(c.update_time.as_ref()),
    })
}

fn status(s: &ConnectorStatus) -> Value {
    json!({
        "state": s.state().as_str_name(),
        "message": s.message,
        "owner": s.owner,
        "standby": s.standby,
        "epoch": s.epoch.to_string(),
        "subscriptions": s.subscriptions.iter().map(subscription).collect::<Vec<_>>(),
        "atRisk": s.at_risk,
        "aligned": s.aligned,
        "recordsCommitted": s.records_committed.to_string(),
        "recordsPerSecond": s.records_per_second,
        "framesReceived": s.frames_received.to_string(),
        "framesDeduplicated": s.frames_deduplicated.to_string(),
        "unackedRecords": s.unacked_records.to_string(),
        "retainedFrames": s.retained_frames.to_string(),
        "latencyP50Ms": s.latency_p50_ms,
        "latencyP99Ms": s.latency_p99_ms,
        "topic": s.topic,
        "redundancy": s.redundancy().as_str_name(),
        "note": s.note,
        "idle": s.idle,
        "hasData": s.has_data,
        "primaryAlone": s.primary_alone,
        "secondaryAlone": s.secondary_alone,
        "primaryBehindMs": s.primary_behind_ms.to_string(),
        "secondaryBehindMs": s.secondary_behind_ms.to_string(),
        "unmatchedMs": s.unmatched_ms.to_string(),
        "skewMs": s.skew_ms.to_string(),
    })
}

fn subscription(s: &Subscription) -> Value {
    json!({
        "role": s.role,
        "node": s.node,
        "connected": s.connected,
        "connectedSince": moment(s.connected_since.as_ref()),
        "reconnects": s.reconnects.to_string(),
        "lastError": s.last_error,
        "url": s.url,
        "lastMessage": moment(s.last_message.as_ref()),
        "keepAlives": s.keep_alives.to_string(),
    })
}

pub(crate) fn comparison(name: &str, c: &CompareConnectorResponse) -> Value {
    let line = |line: &ComparedLine| {
        json!({
            "subscription": line.subscription.as_ref().map(subscription),
            "behindMs": line.behind_ms.to_string(),
            "alone": line.alone.to_string(),
        })
    };
    let pair = |pair: &SamplePair| json!({ "primary": pair.primary, "secondary": pair.secondary });
    json!({
        "connector": name,
        "state": c.state().as_str_name(),
        "summary": c.summary,
        "lines": c.lines.iter().map(line).collect::<Vec<_>>(),
        "unmatchedMs": c.unmatched_ms.to_string(),
        "skewMs": c.skew_ms.to_string(),
        "messages": c.messages.to_string(),
        "pointers": c.pointers,
        "samples": c.samples.iter().map(pair).collect::<Vec<_>>(),
        "advice": c.advice,
    })
}

pub(crate) fn member(m: &Member) -> Value {
    json!({
        "name": m.name,
        "id": m.id,
        "internalAddress": m.internal_address,
        "adminAddress": m.admin_address,
        "zone": m.zone,
        "role": m.role,
        "voter": m.voter,
        "up": m.up,
        "draining": m.draining,
        "term": m.term.to_string(),
        "lastLogIndex": m.last_log_index.to_string(),
        "appliedIndex": m.applied_index.to_string(),
        "owned": m.owned,
        "standingBy": m.standing_by,
        "lastContactMs": m.last_contact_ms.to_string(),
        "version": m.version,
    })
}

pub(crate) fn cluster(s: &GetStatusResponse) -> Value {
    json!({
        "clusterId": s.cluster_id,
        "clusterName": s.cluster_name,
        "leader": s.leader,
        "term": s.term.to_string(),
        "members": s.members.iter().map(member).collect::<Vec<_>>(),
        "connectors": s.connectors.iter().map(connector).collect::<Vec<_>>(),
        "problems": s.problems,
        "version": s.version,
        "linearizable": s.linearizable,
    })
}

pub(crate) fn event(e: &Event) -> Value {
    json!({
        "time": moment(e.time.as_ref()),
        "kind": e.kind,
        "node": e.node,
        "connector": e.connector,
        "epoch": e.epoch.to_string(),
        "message": e.message,
        "attributes": e.attributes,
    })
}

pub(crate) fn failover(f: &FailoverConnectorResponse) -> Value {
    json!({
        "connector": f.connector.as_ref().map(connector),
        "fromNode": f.from_node,
        "toNode": f.to_node,
        "fromEpoch": f.from_epoch.to_string(),
        "toEpoch": f.to_epoch.to_string(),
        "durationMs": f.duration_ms.to_string(),
    })
}

fn moment(moment: Option<&Timestamp>) -> Value {
    moment.map_or(Value::Null, |moment| Value::String(rfc3339(moment)))
}
