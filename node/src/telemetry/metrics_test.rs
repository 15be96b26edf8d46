//! Tests of the exposition: names against the golden file, series that live exactly as long as what they speak of.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use twinfeed_writer::{
    Epoch,
    report::{FailoverReason, Lines, Role, SubscriptionReport, Takeover, Tally, WriterReport},
};

use super::*;
use crate::telemetry::{RaftFacts, StateLabel};

fn report(connector: &str, role: Role) -> WriterReport {
    let tally = Tally {
        connector: connector.into(),
        topic: "topic-a".into(),
        feeds: 2,
        received: 2,
        last_received_at_ns: 1_700_000_000_500_000_000,
        last_gap_at_ms: 1_700_000_001_000,
        takeover: Some(Takeover { reason: FailoverReason::OwnerDead, seconds: 0.04 }),
        ..Tally::default()
    };
    let connected_since_ms = 1_700_000_000_000;
    let subscription = SubscriptionReport { connected: true, connected_since_ms, ..SubscriptionReport::default() };
    WriterReport { role, epoch: Epoch(9), subscription, tally, ..WriterReport::default() }
}

/// Metrics over facts that a test can change.
fn metrics(facts: Facts) -> (Metrics, Arc<Mutex<Facts>>) {
    let metrics = Metrics::new("n1", "0.0.0");
    let facts = Arc::new(Mutex::new(facts));
    let source = Arc::clone(&facts);
    metrics.derive_from(move || source.lock().expect("no test panics with it").clone());
    (metrics, facts)
}

/// Every family has at least one series, so that every name shows.
fn filled() -> Facts {
    Facts {
        writers: vec![report("trades", Role::Owner), report("quotes", Role::Standby)],
        states: vec![("trades".to_owned(), StateLabel::Running), ("idle".to_owned(), StateLabel::Paused)],
        raft: RaftFacts { term: 7, ..RaftFacts::default() },
        peers: vec![("n2".to_owned(), 1.5)],
    }
}

#[test]
fn names_and_types_are_the_golden_ones() {
    let (metrics, _) = metrics(filled());
    metrics.http_handled("/metrics", 200);
    metrics.task_ended("writer", "exit");
    let text = metrics.render(Exposition::Prometheus);
    let golden: BTreeSet<&str> = include_str!("../../tests/metrics.golden").lines().collect();
    let names: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let (added, gone): (Vec<_>, Vec<_>) = (names.difference(&golden).collect(), golden.difference(&names).collect());
    assert!(added.is_empty() && gone.is_empty(), "metric names are API; added {added:#?}, gone {gone:#?}");
    let silent = |name: &&&str| {
        let name = name.split(' ').next().unwrap_or_default();
        !text.lines().any(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")))
            && !text.contains(&format!("{name}_count"))
    };
    let silent: Vec<_> = names.iter().filter(silent).collect();
    assert!(silent.is_empty(), "named and never written: {silent:?}");
}

#[test]
fn series_carry_labels_and_values() {
    let (metrics, _) = metrics(filled());
    let text = metrics.render(Exposition::OpenMetrics);
    for line in [
        r#"twinfeed_build_info{version="0.0.0"} 1"#,
        r#"twinfeed_messages_received_total{connector="trades",feed="primary"} 2"#,
        r#"twinfeed_messages_received_total{connector="quotes",feed="secondary"} 2"#,
        r#"twinfeed_feed_last_message_timestamp_seconds{connector="trades",feed="primary"} 1700000000.5"#,
        r#"twinfeed_messages_dropped_total{connector="trades",feed="primary",reason="oversize"} 0"#,
        r#"twinfeed_connector_state{connector="idle",state="PAUSED"} 1.0"#,
        r#"twinfeed_connector_state{connector="idle",state="RUNNING"} 0.0"#,
        r#"twinfeed_raft_peer_last_contact_seconds{peer="n2"} 1.5"#,
        r#"twinfeed_stream_owner{connector="trades",node="n1"} 1.0"#,
        r#"twinfeed_failovers_total{connector="trades",reason="owner_dead"} 1"#,
        r#"twinfeed_failover_duration_seconds_bucket{le="0.05",connector="trades"} 1"#,
        r#"twinfeed_failover_duration_seconds_bucket{le="0.025",connector="trades"} 0"#,
        // Without it no quantile can be computed.
        r#"twinfeed_failover_duration_seconds_bucket{le="+Inf",connector="trades"} 1"#,
        r#"twinfeed_end_to_end_latency_seconds_bucket{le="+Inf",connector="trades"} 0"#,
        "twinfeed_raft_term 7.0",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains(r#"twinfeed_at_risk{connector="quotes"}"#), "a standby does not speak for the stream");
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn the_owner_says_what_its_lines_are_like() {
    let (metrics, facts) = metrics(filled());
    let says = |series: &str| metrics.render(Exposition::OpenMetrics).lines().any(|line| line == series);
    assert!(says(r#"twinfeed_at_risk{connector="trades"} 1.0"#));
    let change = |change: fn(&mut WriterReport)| change(&mut facts.lock().expect("no test panics with it").writers[0]);
    change(|owner| owner.lines.idle = true);
    assert!(says(r#"twinfeed_at_risk{connector="trades"} 0.0"#), "nothing came, so nothing can be lost");
    assert!(says(r#"twinfeed_idle{connector="trades"} 1.0"#));
    change(|owner| {
        owner.redundant = true;
        owner.lines = Lines { own_behind_ms: 2_500, standby_alone: 3, of: 12, ..Lines::default() };
    });
    for series in [
        r#"twinfeed_at_risk{connector="trades"} 1.0"#,
        r#"twinfeed_idle{connector="trades"} 0.0"#,
        r#"twinfeed_line_behind_seconds{connector="trades",feed="primary"} 2.5"#,
        r#"twinfeed_line_behind_seconds{connector="trades",feed="secondary"} 0.0"#,
        r#"twinfeed_feed_alone_ratio{connector="trades",feed="primary"} 0.0"#,
        r#"twinfeed_feed_alone_ratio{connector="trades",feed="secondary"} 0.25"#,
    ] {
        assert!(says(series), "{series} is missing in\n{}", metrics.render(Exposition::OpenMetrics));
    }
    change(|owner| owner.covered = true);
    assert!(says(r#"twinfeed_at_risk{connector="trades"} 0.0"#));
    change(|owner| owner.tally.feeds = 1);
    let text = metrics.render(Exposition::OpenMetrics);
    for name in ["at_risk", "idle", "line_behind_seconds", "feed_alone_ratio"] {
        assert!(!text.contains(&format!("twinfeed_{name}{{")), "a single stream has no {name}");
    }
}

#[test]
fn a_silent_feed_is_as_old_in_a_new_tenure() {
    let (metrics, facts) = metrics(filled());
    {
        let mut facts = facts.lock().expect("no test panics with it");
        facts.writers[0].tally.last_received_at_ns = 0;
        facts.writers[0].subscription.last_message_ms = 1_600_000_000_000;
    }
    let text = metrics.render(Exposition::OpenMetrics);
    let series = r#"twinfeed_feed_last_message_timestamp_seconds{connector="trades",feed="primary"} 1600000000.0"#;
    assert!(text.lines().any(|line| line == series), "{text}");
    facts.lock().expect("no test panics with it").writers[0].tally.last_received_at_ns = 1_500_000_000_000_000_000;
    let text = metrics.render(Exposition::OpenMetrics);
    assert!(text.contains(&series.replace("16", "15")), "the clock was set back: {text}");
}

#[test]
fn a_series_ends_with_its_role() {
    let (metrics, facts) = metrics(filled());
    let owners = [r#"twinfeed_at_risk{connector="trades"}"#, r#"twinfeed_stream_owner{connector="trades""#];
    assert!(owners.iter().all(|series| metrics.render(Exposition::OpenMetrics).contains(series)));
    facts.lock().expect("no test panics with it").writers = vec![report("trades", Role::Standby)];
    let text = metrics.render(Exposition::OpenMetrics);
    assert!(!owners.iter().any(|series| text.contains(series)), "{text}");
    assert!(!text.contains(r#"connector="quotes""#), "{text}");
    facts.lock().expect("no test panics with it").writers.clear();
    assert!(!metrics.render(Exposition::OpenMetrics).contains(r#"feed="#));
}
