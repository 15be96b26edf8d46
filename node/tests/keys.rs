//! No key lies: every key of a connector and of a node names the test that shows its effect. A key without one, a test that is
//! gone, or one that does not speak of its key, fails here.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::{collections::BTreeSet, fs, path::Path};

use twinfeed_node::{config, model::spec_keys};

/// Key, `file::test` below the crate, and what the test says of the key.
type Shown = (&'static str, &'static str, &'static str);

const CARRIES: &str = "tests/feed_session.rs::every_connection_carries_headers_and_subscription_and_a_new_id";
const WRITER: &str = "src/worker/start.rs::every_key_of_a_stream_reaches_its_writer";
const TOPIC: &str = "src/worker/start.rs::what_is_not_said_about_a_topic_is_the_brokers_default";
const RAFT: &str = "src/node.rs::every_key_of_the_cluster_reaches_raft";
const WRITERS: &str = "src/node.rs::every_key_of_kafka_and_the_feeds_reaches_the_writers";
const LISTENER: &str = "src/node.rs::a_listener_that_cannot_be_bound_names_its_key";
const WAITS: &str = "tests/feed_session.rs::stops_promptly_in_the_middle_of_a_dial_and_of_a_wait";

const OF_A_CONNECTOR: &[Shown] = &[
    ("websocket.url", CARRIES, "/feed?q=1"),
    ("websocket.subscription.message", CARRIES, "websocket.subscription.message"),
    ("twinfeed.websocket.subscription.messages", CARRIES, "twinfeed.websocket.subscription.messages"),
    ("websocket.headers", CARRIES, "websocket.headers"),
    ("twinfeed.websocket.headers", CARRIES, "twinfeed.websocket.headers"),
    ("websocket.auth.token", CARRIES, "websocket.auth.token"),
    ("kafka.topic", WRITER, "kafka.topic"),
    ("twinfeed.websocket.secondary.url", WRITER, "twinfeed.websocket.secondary.url"),
    ("twinfeed.redundancy", WRITER, "twinfeed.redundancy"),
    ("twinfeed.commit.interval.ms", WRITER, "twinfeed.commit.interval.ms"),
    ("twinfeed.buffer.bytes.max", WRITER, "twinfeed.buffer.bytes.max"),
    ("twinfeed.dedup.span.ms", WRITER, "twinfeed.dedup.span.ms"),
    ("websocket.reconnect.interval.ms", WAITS, "websocket.reconnect.interval.ms"),
    ("websocket.reconnect.backoff.max.ms", WAITS, "websocket.reconnect.backoff.max.ms"),
    (
        "websocket.reconnect.enabled",
        "tests/feed_session.rs::without_reconnect_the_first_end_is_final",
        "websocket.reconnect.enabled",
    ),
    (
        "websocket.reconnect.max.attempts",
        "tests/feed_session.rs::a_refused_connection_is_retried_and_gives_up_when_told_to",
        "websocket.reconnect.max.attempts",
    ),
    (
        "websocket.message.queue.size",
        "src/model/spec_test.rs::numbers_the_original_accepts_are_clamped_with_a_warning",
        "websocket.message.queue.size",
    ),
    (
        "twinfeed.websocket.behind.timeout.ms",
        "src/model/spec_test.rs::a_lagging_subscription_has_a_limit_that_can_be_set",
        "twinfeed.websocket.behind.timeout.ms",
    ),
    (
        "websocket.connection.timeout.ms",
        "tests/feed_hostile.rs::a_connect_that_nobody_answers_is_left",
        "websocket.connection.timeout.ms",
    ),
    (
        "twinfeed.websocket.idle.timeout.ms",
        "tests/feed_session.rs::pongs_keep_a_quiet_feed_open_and_the_idle_limit_ends_it",
        "twinfeed.websocket.idle.timeout.ms",
    ),
    (
        "twinfeed.websocket.ping.interval.ms",
        "tests/feed_hostile.rs::a_peer_that_goes_silent_is_found_by_its_missing_pong",
        "twinfeed.websocket.ping.interval.ms",
    ),
    (
        "twinfeed.websocket.pong.timeout.ms",
        "tests/feed_hostile.rs::a_peer_that_goes_silent_is_found_by_its_missing_pong",
        "twinfeed.websocket.pong.timeout.ms",
    ),
    (
        "twinfeed.websocket.message.bytes.max",
        "tests/feed_hostile.rs::a_giant_frame_is_refused_by_its_header",
        "twinfeed.websocket.message.bytes.max",
    ),
    (
        "twinfeed.websocket.upgrade.timeout.ms",
        "tests/feed_hostile.rs::a_server_that_hangs_in_the_upgrade_is_left",
        "SHORT_UPGRADE",
    ),
    (
        "twinfeed.tls.ca.file",
        "tests/feed_tls.rs::a_private_authority_is_trusted_when_it_is_given",
        "twinfeed.tls.ca.file",
    ),
    ("twinfeed.topic.create", TOPIC, "twinfeed.topic.create"),
    ("topic.creation.default.partitions", TOPIC, "topic.creation.default.partitions"),
    ("topic.creation.default.replication.factor", TOPIC, "topic.creation.default.replication.factor"),
    ("name", "src/model/spec_test.rs::the_framework_s_own_keys_are_checked", "(\"name\""),
    ("connector.class", "src/model/spec_test.rs::the_framework_s_own_keys_are_checked", "connector.class"),
    ("tasks.max", "src/model/spec_test.rs::the_framework_s_own_keys_are_checked", "tasks.max"),
];

const OF_A_NODE: &[Shown] = &[
    ("name", RAFT, "raft.name"),
    ("data_dir", RAFT, "raft.data_dir"),
    ("zone", RAFT, "raft.zone"),
    ("cluster.name", RAFT, "raft.cluster_name"),
    ("cluster.members", RAFT, "raft.initial_members"),
    ("cluster.heartbeat", RAFT, "raft.heartbeat_ms"),
    ("cluster.election_min", RAFT, "raft.election_ms"),
    ("cluster.election_max", RAFT, "raft.election_ms"),
    (
        "cluster.dead_after",
        "src/coordinator/health.rs::silence_counts_even_while_the_process_answers_probes",
        "SILENT_MAX_MS",
    ),
    ("listen.internal", LISTENER, "internal"),
    ("listen.admin", LISTENER, "admin"),
    ("listen.http", LISTENER, "http"),
    ("listen.advertise_internal", RAFT, "raft.internal_address"),
    ("listen.advertise_admin", RAFT, "raft.admin_address"),
    ("kafka.bootstrap", WRITERS, "settings.bootstrap"),
    ("kafka.properties", WRITERS, "settings.kafka_properties"),
    ("feeds.allow_private", WRITERS, "settings.dial.addresses"),
    ("secrets.env_prefix", WRITERS, "settings.dial.secrets.env_prefix"),
    ("secrets.file_root", WRITERS, "settings.dial.secrets.file_root"),
    ("log.filter", "src/telemetry/logging.rs::filter_and_format_decide_what_is_written", "logged(\"warn\""),
    ("log.format", "src/telemetry/logging.rs::filter_and_format_decide_what_is_written", "Format::Text"),
    ("limits.internal_message_bytes_max", RAFT, "raft.message_bytes_max"),
    (
        "limits.admin_message_bytes_max",
        "tests/api/listener.rs::a_request_beyond_the_limit_is_refused_and_one_below_it_is_read",
        "message_bytes_max",
    ),
    (
        "limits.http_connections_max",
        "tests/http.rs::idle_connections_hold_places_and_give_them_back",
        "Server::start(1)",
    ),
    ("limits.shutdown_grace", "src/supervise_test.rs::stop_names_what_outlives_the_grace", "stop("),
];

#[test]
fn every_key_of_a_connector_has_a_test_of_its_effect() {
    let known: BTreeSet<String> = spec_keys::all().map(|key| key.name.to_owned()).collect();
    check(&known, OF_A_CONNECTOR);
}

#[test]
fn every_key_of_a_node_has_a_test_of_its_effect() {
    let known: BTreeSet<String> = config::paths().map(str::to_owned).collect();
    check(&known, OF_A_NODE);
}

fn check(known: &BTreeSet<String>, shown: &[Shown]) {
    let named: BTreeSet<String> = shown.iter().map(|(key, ..)| (*key).to_owned()).collect();
    assert_eq!(named.len(), shown.len(), "a key is there twice");
    let missing: Vec<_> = known.difference(&named).collect();
    assert!(missing.is_empty(), "no test shows the effect of {missing:?}: write it and name it here");
    let gone: Vec<_> = named.difference(known).collect();
    assert!(gone.is_empty(), "{gone:?} are no keys any more");
    for (key, test, says) in shown {
        let body = body(test);
        assert!(body.contains(says), "{test} does not speak of {key}: it should hold {says:?}");
    }
}

/// The text of a test.
fn body(test: &str) -> String {
    let (file, name) = test.split_once("::").unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{test}: {error}"));
    let head = format!("fn {name}(");
    let mut lines = text.lines().skip_while(|line| !line.contains(&head)).peekable();
    let first = *lines.peek().unwrap_or_else(|| panic!("{test} does not exist"));
    let end = format!("{}}}", &first[..first.len() - first.trim_start().len()]);
    lines.take_while(|line| *line != end).collect::<Vec<_>>().join("\n")
}
