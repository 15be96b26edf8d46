//! `WatchConnectors`: the present connectors, then every change of a configuration, a state or a role. Counters alone
//! are no change: they move with every message.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::Status;
use twinfeed_proto::admin::{Connector, ConnectorStatus, WatchConnectorsResponse, watch_connectors_response::Kind};

use super::{admin::Admin, condition::Scene, convert, status::unavailable};

/// Tells an idle watcher that the stream lives.
const BOOKMARK_EVERY: Duration = Duration::from_secs(10);
/// Three of the longest default elections: a watch on a node that is cut off must end, not hang.
const LEADERLESS_MAX: Duration = Duration::from_millis(2_400);

/// Changes as they happen. It ends with UNAVAILABLE when the cluster is without a leader for long.
pub(super) fn connectors(admin: Admin) -> impl Stream<Item = Result<WatchConnectorsResponse, Status>> {
    async_stream::stream! {
        let (mut state, mut view, mut raft) = (admin.raft.state(), admin.view.clone(), admin.raft.status());
        let mut told = BTreeMap::new();
        let mut bookmark_at = Instant::now();
        let mut leader_seen_at = Instant::now();
        loop {
            let now = state.borrow_and_update().clone();
            view.mark_unchanged();
            raft.mark_unchanged();
            let scene = admin.scene(now);
            let changes = differences(&mut told, &scene);
            let fresh = !changes.is_empty();
            for change in changes {
                yield Ok(change);
            }
            if fresh || Instant::now() >= bookmark_at {
                bookmark_at = Instant::now() + BOOKMARK_EVERY;
                yield Ok(response(Kind::Bookmark, None, scene.raft.applied_index));
            }
            let mut wake_at = bookmark_at;
            if scene.raft.leader.is_some() {
                leader_seen_at = Instant::now();
            } else {
                wake_at = wake_at.min(leader_seen_at + LEADERLESS_MAX);
            }
            if leader_seen_at.elapsed() >= LEADERLESS_MAX {
                yield Err(unavailable("NO_LEADER", "the cluster has no leader; watch through another node"));
                return;
            }
            tokio::select! {
                changed = state.changed() => if changed.is_err() { return },
                changed = view.changed() => if changed.is_err() { return },
                changed = raft.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
    }
}

/// What a watcher that was told `told` does not know yet.
fn differences(told: &mut BTreeMap<String, Connector>, scene: &Scene) -> Vec<WatchConnectorsResponse> {
    let revision = scene.raft.applied_index;
    let mut changes = Vec::new();
    told.retain(|name, known| {
        let stays = scene.state.connectors().contains_key(name);
        if !stays {
            changes.push(response(Kind::Deleted, Some(known.clone()), revision));
        }
        stays
    });
    for connector in scene.state.connectors().values() {
        let shown = convert::connector(scene, connector);
        let steady = without_counters(shown.clone());
        match told.insert(connector.name.clone(), steady.clone()) {
            None => changes.push(response(Kind::Added, Some(shown), revision)),
            Some(known) if known != steady => changes.push(response(Kind::Modified, Some(shown), revision)),
            Some(_) => {}
        }
    }
    changes
}

fn response(kind: Kind, connector: Option<Connector>, revision: u64) -> WatchConnectorsResponse {
    WatchConnectorsResponse { kind: kind.into(), connector, revision }
}

fn without_counters(connector: Connector) -> Connector {
    let status = connector.status.map(|status| ConnectorStatus {
        records_committed: 0,
        records_per_second: 0.0,
        frames_received: 0,
        frames_deduplicated: 0,
        unacked_records: 0,
        retained_frames: 0,
        latency_p50_ms: 0.0,
        latency_p99_ms: 0.0,
        ..status
    });
    Connector { status, ..connector }
}
