//! The cluster as a whole: status, members, events.

use std::collections::BTreeMap;

use tonic::Code;
use twinfeed_node::model::event::Event;
use twinfeed_proto::admin::{GetServerInfoRequest, GetStatusRequest, ListMembersRequest, StreamEventsRequest};

use crate::kit::{Node, refused};

fn event(epoch: u64, connector: &str) -> Event {
    Event {
        at_ms: 1_700_000_000_120,
        kind: "takeover.done".into(),
        node: "n1".into(),
        connector: connector.into(),
        epoch,
        message: "took over".into(),
        attributes: BTreeMap::from([("silence_ms".into(), "87".into())]),
    }
}

#[tokio::test]
async fn status_and_members_show_the_cluster() {
    let node = Node::start().await;
    let me = node.raft.node_id();
    node.add_member(2, "n2").await;
    node.hear(&[(me, true), (2, false)]);
    node.create("btc").await;
    node.assign("btc", me, None).await;
    let status = node.cluster().get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.cluster_name.as_str(), status.leader.as_str()), ("prod-eu", "n1"));
    assert!(status.linearizable && !status.cluster_id.is_empty());
    assert!(status.connectors[0].config.is_empty(), "configurations could fill any message");
    assert!(status.problems.iter().any(|line| line.starts_with("n2 is down")), "{:?}", status.problems);
    assert!(status.problems.iter().any(|line| line.starts_with("btc: ")), "{:?}", status.problems);

    let members = node.cluster().list_members(ListMembersRequest {}).await.unwrap().into_inner().members;
    let shown: Vec<_> = members.iter().map(|m| (m.name.as_str(), m.role.as_str(), m.up, m.owned, m.voter)).collect();
    assert_eq!(shown, [("n1", "leader", true, 1, true), ("n2", "unknown", false, 0, false)]);
    assert_eq!(members[0].id, me.to_string());

    let info = node.cluster().get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.node.as_str(), info.cluster_id), ("n1", status.cluster_id));
}

/// A list that is shorter than what was asked for looks complete: it says what it lacks.
#[tokio::test]
async fn events_that_are_not_kept_any_more_are_counted() {
    let node = Node::start().await;
    let mut api = node.cluster();
    let mut first_of = async |last: i32| {
        let request = StreamEventsRequest { last, no_follow: true, connector: "btc".into() };
        let mut stream = api.stream_events(request).await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap().event.unwrap()
    };
    let gap = |epoch, connector: &str| Event { kind: "gap".into(), ..event(epoch, connector) };
    node.events.record(gap(1, "btc"));
    assert_eq!(first_of(1_000).await.kind, "gap");
    (2..5_002).for_each(|epoch| node.events.record(gap(epoch, "eth")));
    let said = first_of(1_000).await;
    assert_eq!((said.kind.as_str(), said.attributes["losses"].as_str()), ("events.forgotten", "1001"));
    assert_eq!(first_of(1).await.epoch, 1, "the only word of a stream outlives those of a noisy one");
}

#[tokio::test]
async fn events_are_told_from_the_past_and_as_they_happen() {
    let node = Node::start().await;
    for (epoch, connector) in [(1, "btc"), (2, "eth"), (3, "btc"), (4, "btc")] {
        node.events.record(event(epoch, connector));
    }
    let mut api = node.cluster();
    let past = StreamEventsRequest { last: 2, no_follow: true, connector: "btc".into() };
    let mut stream = api.stream_events(past).await.unwrap().into_inner();
    let mut epochs = Vec::new();
    while let Some(response) = stream.message().await.unwrap() {
        epochs.push(response.event.unwrap().epoch);
    }
    assert_eq!(epochs, [3, 4]);

    let follow = StreamEventsRequest { last: 1, no_follow: false, connector: String::new() };
    let mut stream = api.stream_events(follow).await.unwrap().into_inner();
    let mut next = async || stream.message().await.unwrap().expect("it goes on").event.unwrap();
    let last = next().await;
    assert_eq!((last.epoch, last.attributes["silence_ms"].as_str()), (4, "87"));
    assert_eq!(last.time.unwrap().nanos, 120_000_000);
    node.events.record(event(5, "eth"));
    assert_eq!(next().await.epoch, 5);

    let too_many = StreamEventsRequest { last: 1_001, ..Default::default() };
    refused(api.stream_events(too_many).await, Code::InvalidArgument, "INVALID");
}
