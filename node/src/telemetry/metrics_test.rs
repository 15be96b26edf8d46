//! Tests of `metrics.rs`: names against the golden file, series that come and go with their connector.

use std::collections::BTreeSet;

use super::*;

/// Every family has at least one series, so that every name shows.
fn filled() -> Metrics {
    let metrics = Metrics::new("n1", "0.0.0");
    metrics.feed("trades", FeedSide::Primary).received(2, 400, 1_700_000_000_500_000_000);
    metrics.writer("trades", "topic-a").accepted.inc();
    metrics.state("trades").set(StateLabel::Paused);
    metrics.raft().term.set(7);
    metrics.peers_last_contact([("n2".to_owned(), Duration::from_millis(1500))]);
    metrics.grpc_handled("ConnectorService/GetConnector", "OK");
    metrics.http_handled("/metrics", 200);
    metrics.task_ended("writer", "exit");
    metrics
}

fn families(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect()
}

#[test]
fn names_and_types_are_the_golden_ones() {
    let text = filled().render(Exposition::Prometheus);
    let golden: BTreeSet<&str> = include_str!("../../tests/metrics.golden").lines().collect();
    let names = families(&text);
    let (added, gone): (Vec<_>, Vec<_>) = (names.difference(&golden).collect(), golden.difference(&names).collect());
    assert!(added.is_empty() && gone.is_empty(), "metric names are API; added {added:#?}, gone {gone:#?}");
}

#[test]
fn series_carry_labels_and_values() {
    let text = filled().render(Exposition::OpenMetrics);
    for line in [
        r#"twinfeed_build_info{version="0.0.0"} 1"#,
        r#"twinfeed_messages_received_total{connector="trades",feed="primary"} 2"#,
        r#"twinfeed_feed_last_message_timestamp_seconds{connector="trades",feed="primary"} 1700000000.5"#,
        r#"twinfeed_messages_dropped_total{connector="trades",feed="primary",reason="oversize"} 0"#,
        r#"twinfeed_connector_state{connector="trades",state="PAUSED"} 1"#,
        r#"twinfeed_connector_state{connector="trades",state="RUNNING"} 0"#,
        r#"twinfeed_raft_peer_last_contact_seconds{peer="n2"} 1.5"#,
        r#"twinfeed_stream_owner{connector="trades",node="n1"} 0"#,
        "twinfeed_raft_term 7",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn a_forgotten_connector_leaves_no_series_and_others_stay() {
    let metrics = filled();
    metrics.writer("quotes", "topic-b").accepted.inc_by(3);
    metrics.forget("trades");
    let text = metrics.render(Exposition::OpenMetrics);
    assert!(!text.contains(r#"connector="trades""#), "{text}");
    assert!(text.contains(r#"twinfeed_messages_accepted_total{connector="quotes"} 3"#));
    metrics.writer("trades", "topic-a").accepted.inc();
    let text = metrics.render(Exposition::OpenMetrics);
    assert!(text.contains(r#"twinfeed_messages_accepted_total{connector="trades"} 1"#), "starts anew: {text}");
}

#[test]
fn two_handles_of_one_series_count_together() {
    let metrics = Metrics::new("n1", "0.0.0");
    let (a, b) = (metrics.writer("c", "t"), metrics.writer("c", "t"));
    a.failover(FailoverKind::Node, FailoverReason::OwnerDead, Duration::from_millis(40));
    b.failover(FailoverKind::Node, FailoverReason::OwnerDead, Duration::from_millis(60));
    a.deduplicated(FeedSide::Secondary, 5);
    let text = metrics.render(Exposition::OpenMetrics);
    assert!(text.contains(r#"twinfeed_failovers_total{connector="c",kind="node",reason="owner_dead"} 2"#), "{text}");
    assert!(text.contains(r#"twinfeed_messages_deduplicated_total{connector="c",feed="secondary"} 5"#));
}
