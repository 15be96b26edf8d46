//! Presence over the wire: what a leader hears of a node, what a node hears of the cluster, and events that must arrive
//! whoever dies on the way.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod kit;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::sync::watch;
use tonic::Code;
use twinfeed_node::model::{
    event::Event,
    ids::WriterId,
    report::{SubscriptionReport, WriterReport},
};

use kit::{Leader, Node, PATIENCE, report, reports_of};

fn event(kind: &str, at_ms: u64) -> Event {
    Event {
        at_ms,
        kind: kind.into(),
        node: "n1".into(),
        connector: "btc".into(),
        epoch: 1,
        message: String::new(),
        attributes: BTreeMap::new(),
    }
}

/// The first leader reads the event and dies with it; so does the second. The third has not heard of it.
#[tokio::test]
async fn an_event_that_died_with_its_leaders_is_told_to_the_next() {
    let (told, heard) = (watch::Sender::new(0_usize), Arc::new(Mutex::new(Vec::new())));
    let node = Node::start(kit::Fake::new(3, told.clone(), heard.clone())).await;
    node.live();
    node.events.record(event("gap", 7));
    let mut done = told.subscribe();
    tokio::time::timeout(PATIENCE, done.wait_for(|count| *count == 3)).await.expect("told to the third").unwrap();
    let heard = heard.lock().unwrap().clone();
    assert_eq!(heard.len(), 3, "{heard:?}");
    assert!(heard.iter().all(|event| *event == heard[0]), "the same event under the same number: {heard:?}");
    assert_eq!((&heard[0]["event"]["kind"], &heard[0]["id"]["number"]), (&"gap".into(), &1.into()));
}

#[tokio::test]
async fn an_event_is_in_the_log_of_a_leader_once_and_comes_back_to_nobody() {
    let leader = Leader::start().await;
    leader.node.live();
    let far = leader.remote_log();
    far.record(event("gap", 5));
    leader.node.events.record(event("gap", 6));
    let mut stream = leader.stream(&far, 2).await.expect("accepted");
    leader.await_events(&[5, 6]).await;
    stream.await_events(&[5, 6]).await;
    // Told again, as after a reconnection to a leader that was not finished with it.
    let mut again = leader.stream(&far, 2).await.expect("accepted");
    again.await_events(&[5, 6]).await;
    leader.await_events(&[5, 6]).await;
}

#[tokio::test]
async fn a_stream_without_a_report_is_ended() {
    let leader = Leader::start().await;
    let error = leader.silent_stream().await.expect_err("nothing was said");
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error:?}");
}

#[tokio::test]
async fn a_report_that_is_not_the_senders_or_not_for_this_node_ends_the_stream() {
    let leader = Leader::start().await;
    let me = leader.node.raft.node_id();
    let cluster = leader.cluster_id();
    let good = report(&cluster, (2, me), 2);
    for (what, first, second, code) in [
        ("another sender's", report(&cluster, (3, me), 2), None, Code::InvalidArgument),
        ("of another cluster", report("another", (2, me), 2), None, Code::FailedPrecondition),
        ("later of another node", good.clone(), Some(report(&cluster, (3, me), 3)), Code::InvalidArgument),
        ("later of another cluster", good.clone(), Some(report("another", (2, me), 2)), Code::FailedPrecondition),
        ("later meant for another", good.clone(), Some(report(&cluster, (2, me + 1), 2)), Code::FailedPrecondition),
    ] {
        let error = leader.ended(first, second).await;
        assert_eq!(error.code(), code, "{what}: {error:?}");
    }
}

/// Whatever the limit of a message: 10,000 is the most that a cluster may have.
#[tokio::test]
async fn ten_thousand_writers_are_reported_and_seen() {
    let leader = Leader::start().await;
    let writer = |i: u64| {
        let subscription = SubscriptionReport {
            connected: true,
            url: format!("wss://feed.example.com/stream/{i}"),
            last_error: "the server closed the connection: 1001 going away".to_owned(),
            ..SubscriptionReport::default()
        };
        let report = WriterReport { subscription, frames_received: i, ..WriterReport::default() };
        (WriterId(format!("connector-{i}")), report)
    };
    leader.node.writers.send_replace(reports_of((0..10_000).map(writer)));
    leader.node.live();
    let me = leader.node.raft.node_id();
    let mut view = leader.node.view.subscribe();
    let seen = view.wait_for(|view| view.nodes.get(&me).is_some_and(|node| node.report.writers.len() == 10_000));
    tokio::time::timeout(PATIENCE, seen).await.expect("all are seen").unwrap();
    leader.node.writers.send_replace(reports_of((0..3).map(writer)));
    let seen = view.wait_for(|view| view.nodes[&me].report.writers.len() == 3);
    tokio::time::timeout(PATIENCE, seen).await.expect("and gone when they end").unwrap();
}
