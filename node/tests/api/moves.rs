//! Failover, drain and removal: refusals that spare a wait, waits that end with the fact, and deadlines that tell.

use std::{pin::pin, sync::Arc, time::Duration};

use tonic::{Code, Request};
use twinfeed_node::{
    control::State,
    model::{ids::NodeId, report::Role},
};
use twinfeed_proto::admin::{
    DrainNodeRequest, FailoverConnectorRequest, GetConnectorRequest, PauseConnectorRequest, RemoveNodeRequest,
    UndrainNodeRequest,
};

use crate::kit::{Node, config, healthy, refused, request};

const OTHER: NodeId = 2;

/// A running connector `btc` at n1, with n2 as its standby.
async fn pair() -> Node {
    let node = Node::start().await;
    let me = node.raft.node_id();
    node.create("btc").await;
    node.add_member(OTHER, "n2").await;
    node.hear(&[(me, true), (OTHER, true)]);
    let epoch = node.assign("btc", me, Some(OTHER)).await;
    node.report(me, "btc", healthy(Role::Owner, epoch));
    node.report(OTHER, "btc", healthy(Role::Standby, epoch));
    node
}

fn failover(to_node: &str) -> FailoverConnectorRequest {
    FailoverConnectorRequest { name: "btc".into(), to_node: to_node.into(), request_id: String::new() }
}

#[tokio::test]
async fn a_failover_answers_when_the_new_owner_delivers() {
    let node = pair().await;
    let me = node.raft.node_id();
    let (mut api, mut other) = (node.connectors(), node.connectors());
    let mut answer = pin!(api.failover_connector(failover("")));
    let coordinator = async {
        let mut state = node.raft.state();
        let wanted = |state: &Arc<State>| state.writers().values().any(|writer| writer.wanted_owner == Some(OTHER));
        state.wait_for(wanted).await.unwrap();
        let epoch = node.assign("btc", OTHER, Some(me)).await;
        let mut opening = healthy(Role::Owner, epoch);
        opening.delivering = false;
        node.report(OTHER, "btc", opening);
        // A whole round trip: time enough for an answer that comes too early.
        other.get_connector(GetConnectorRequest { name: "btc".into() }).await.unwrap();
        epoch
    };
    let epoch = tokio::select! {
        early = &mut answer => panic!("answered before the new owner delivers: {early:?}"),
        epoch = coordinator => epoch,
    };
    node.report(OTHER, "btc", healthy(Role::Owner, epoch));
    let moved = answer.await.unwrap().into_inner();
    assert_eq!((moved.from_node.as_str(), moved.to_node.as_str()), ("n1", "n2"));
    assert_eq!(moved.to_epoch, epoch.0);
    assert!(moved.from_epoch < moved.to_epoch);
    assert_eq!(moved.connector.unwrap().status.unwrap().owner, "n2");
}

#[tokio::test]
async fn a_failover_that_does_not_happen_in_time_is_taken_back() {
    let node = pair().await;
    let mut request = Request::new(failover("n2"));
    request.set_timeout(Duration::from_secs(2));
    refused(node.connectors().failover_connector(request).await, Code::DeadlineExceeded, "NOT_FINISHED");
    let state = node.raft.read().await.unwrap();
    assert!(state.writers().values().all(|writer| writer.wanted_owner.is_none()), "it must not happen by surprise");
}

#[tokio::test]
async fn impossible_failovers_are_refused_at_once() {
    let node = pair().await;
    let me = node.raft.node_id();
    let mut api = node.connectors();
    let precondition = Code::FailedPrecondition;
    refused(api.failover_connector(failover("n1")).await, precondition, "ALREADY_OWNER");
    let missing = refused(api.failover_connector(failover("n9")).await, Code::NotFound, "NOT_FOUND");
    assert_eq!(missing.resource_info().unwrap().resource_type, "node");
    node.hear(&[(me, true), (OTHER, false)]);
    refused(api.failover_connector(failover("n2")).await, precondition, "NODE_DOWN");
    node.hear(&[(me, true), (OTHER, true)]);

    let mut single = request("solo");
    single.config.extend(config(&[("twinfeed.redundancy", "single")]));
    api.create_connector(single).await.unwrap();
    let solo = FailoverConnectorRequest { name: "solo".into(), ..Default::default() };
    refused(api.failover_connector(solo.clone()).await, precondition, "UNASSIGNED");
    node.assign("solo", me, None).await;
    refused(api.failover_connector(solo).await, precondition, "SINGLE");
    node.assign("btc", me, None).await;
    refused(api.failover_connector(failover("")).await, precondition, "NO_STANDBY");
    let pause = PauseConnectorRequest { name: "btc".into(), ..Default::default() };
    api.pause_connector(pause).await.unwrap();
    refused(api.failover_connector(failover("n2")).await, precondition, "NOT_RUNNING");
}

#[tokio::test]
async fn a_drain_answers_when_the_node_is_empty() {
    let node = pair().await;
    let me = node.raft.node_id();
    let mut api = node.cluster();
    let mut other = node.connectors();
    let drain = DrainNodeRequest { node: "n2".into(), request_id: String::new() };
    let mut answer = pin!(api.drain_node(drain));
    let coordinator = async {
        let mut state = node.raft.state();
        state.wait_for(|state| state.node_named("n2").is_some_and(|record| record.draining)).await.unwrap();
        node.assign("btc", me, None).await;
        other.get_connector(GetConnectorRequest { name: "btc".into() }).await.unwrap();
    };
    tokio::select! {
        early = &mut answer => panic!("answered while the writer still closes: {early:?}"),
        () = coordinator => {}
    }
    node.hear(&[(me, true), (OTHER, true)]);
    assert_eq!(answer.await.unwrap().into_inner().moved, ["btc"]);

    let refused_to_draining = node.connectors().failover_connector(failover("n2")).await;
    refused(refused_to_draining, Code::FailedPrecondition, "NODE_DRAINING");
    let mut api = node.cluster();
    let last = DrainNodeRequest { node: "n1".into(), request_id: String::new() };
    refused(api.drain_node(last).await, Code::FailedPrecondition, "NO_OTHER_NODE");
    assert!(!node.raft.read().await.unwrap().node_named("n1").unwrap().draining, "a refused drain changes nothing");

    api.undrain_node(UndrainNodeRequest { node: "n2".into(), request_id: String::new() }).await.unwrap();
    assert!(!node.raft.read().await.unwrap().node_named("n2").unwrap().draining);
}

#[tokio::test]
async fn an_overdue_drain_names_what_is_left_and_goes_on() {
    let node = pair().await;
    let mut request = Request::new(DrainNodeRequest { node: "n2".into(), request_id: String::new() });
    request.set_timeout(Duration::from_secs(2));
    let answer = node.cluster().drain_node(request).await;
    assert!(answer.as_ref().is_err_and(|status| status.message().contains("still holds: btc")), "{answer:?}");
    refused(answer, Code::DeadlineExceeded, "NOT_FINISHED");
    assert!(node.raft.read().await.unwrap().node_named("n2").unwrap().draining);
}

#[tokio::test]
async fn only_dead_nodes_are_removed() {
    let node = pair().await;
    let me = node.raft.node_id();
    let remove = |name: &str| RemoveNodeRequest { node: name.into(), request_id: String::new() };
    let mut api = node.cluster();
    refused(api.remove_node(remove("n2")).await, Code::FailedPrecondition, "NODE_ALIVE");
    node.hear(&[(me, true), (OTHER, false)]);
    api.remove_node(remove("n2")).await.unwrap();
    assert!(node.raft.read().await.unwrap().node_named("n2").is_none());
    refused(api.remove_node(remove("n2")).await, Code::NotFound, "NOT_FOUND");
}
