//! `wsctl` as people and scripts meet it: what stands on stdout and stderr, and what the cluster was asked.

use crate::cluster::{Cluster, running};
use prost_types::Timestamp;
use serde_json::Value;
use twinfeed_proto::admin::{
    CompareConnectorResponse, ConnectorState, Event, Redundancy, SamplePair, TargetState,
    compare_connector_response::State,
};

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("stdout is one JSON document")
}

/// Rows without what depends on today's date.
fn without_age(table: &str) -> Vec<String> {
    table
        .lines()
        .map(|line| {
            let fields: Vec<_> = line.split("  ").map(str::trim).filter(|field| !field.is_empty()).collect();
            fields[..fields.len() - 1].join("|")
        })
        .collect()
}

#[test]
fn connectors_are_listed_over_all_pages() {
    let cluster = Cluster::start();
    for name in ["ada", "btc", "eth", "sol", "xrp"] {
        cluster.add(running(name));
    }
    let ended = cluster.wsctl(&["connector", "ls"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    let rows = without_age(&ended.stdout);
    assert_eq!(rows[0], "NAME|STATE|OWNER|STANDBY|FEEDS|REDUNDANCY|RATE/s|UNACKED|P99|DEDUP");
    assert_eq!(rows[1], "ada|RUNNING|n2|n3|P+ S+|redundant|12 431|17|8.5ms|49.9%");
    assert_eq!(rows.len(), 6);
    let names = cluster.wsctl(&["get", "connectors", "-o", "name"]).stdout;
    assert_eq!(names, "connector/ada\nconnector/btc\nconnector/eth\nconnector/sol\nconnector/xrp\n");
    let listed = json(&cluster.wsctl(&["conn", "ps", "-o", "json"]).stdout);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(5));
    let lines = cluster.wsctl(&["connectors", "list", "-o", "jsonl"]).stdout;
    assert_eq!(lines.lines().map(json).filter(|item| item["name"].is_string()).count(), 5);
}

#[test]
fn json_is_the_proto3_mapping() {
    let cluster = Cluster::start();
    cluster.add(running("btc"));
    let ended = cluster.wsctl(&["connector", "get", "btc", "-o", "json"]);
    let shown = json(&ended.stdout);
    assert_eq!(shown["targetState"], "TARGET_STATE_RUNNING");
    assert_eq!(shown["revision"], "41");
    assert_eq!(shown["createTime"], "2023-11-14T22:13:20.000Z");
    assert_eq!(shown["status"]["state"], "CONNECTOR_STATE_RUNNING");
    assert_eq!(shown["status"]["recordsCommitted"], "1234567");
    assert_eq!(shown["status"]["atRisk"], false);
    assert_eq!(shown["status"]["subscriptions"][1]["role"], "secondary");
}

#[test]
fn numbers_stand_right_and_words_left() {
    let cluster = Cluster::start();
    let ended = cluster.wsctl(&["cluster", "members"]);
    let expected = "\
NODE  ADDRESS        ROLE      STATE  VOTER  TERM  LAST-LOG  APPLIED  BEHIND  OWNED  STANDBY  LAST-CONTACT  ZONE  VERSION
n1    10.0.0.1:9090  follower  up     yes       7    18 204   18 201       0      1        1          12ms  -     0.1.0
n2    10.0.0.2:9090  leader    up     yes       7    18 204   18 201       -      2        1             -  -     0.1.0
n3    10.0.0.3:9090  follower  up     yes       7    18 201   18 201       3      3        1          12ms  -     0.1.0
";
    assert_eq!(ended.stdout, expected);
    let bare = cluster.wsctl(&["cluster", "members", "--no-headers"]).stdout;
    assert_eq!(bare.lines().count(), 3);
    assert!(bare.starts_with("n1 "));
}

#[test]
fn status_is_one_screen_and_one_exit_code() {
    let cluster = Cluster::start();
    cluster.add(running("btc"));
    let ended = cluster.wsctl(&["status"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.starts_with("Cluster prod-eu   3/3 nodes up   leader n2 (term 7)   v0.1.0\nNAME "));

    cluster.facts().problems.push("btc: secondary closed 1006; nothing lost (primary active)".into());
    let degraded = cluster.wsctl(&["status"]);
    assert_eq!(degraded.code, 1);
    assert!(degraded.stdout.ends_with("! btc: secondary closed 1006; nothing lost (primary active)\n"));

    let mut failed = running("btc");
    failed.status.as_mut().expect("set").state = ConnectorState::Failed.into();
    cluster.add(failed);
    let critical = cluster.wsctl(&["status", "-o", "json"]);
    assert_eq!(critical.code, 2);
    assert_eq!(json(&critical.stdout)["connectors"][0]["status"]["state"], "CONNECTOR_STATE_FAILED");
}

#[test]
fn create_turns_flags_into_keys() {
    let cluster = Cluster::start();
    let directory = tempfile::tempdir().expect("a directory");
    let token = directory.path().join("token");
    std::fs::write(&token, "s3cret\n").expect("written");
    let ended = cluster.wsctl(&[
        "connector",
        "create",
        "btc",
        "--url=wss://a/ws",
        "--secondary-url=wss://b/ws",
        "--topic=ticks",
        "--subscribe={\"op\":1}",
        "--header=X-A:1",
        "--header=X-B:2",
        "--auth-token-file",
        token.to_str().expect("UTF-8"),
        "--config=twinfeed.commit.interval.ms=5",
    ]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "connector/btc created\n"), "{ended:?}");
    assert_eq!(ended.stderr, "warning: the token is stored as it is\n");
    let request = cluster.facts().created.take().expect("created");
    let expect = [
        ("connector.class", "io.conduktor.connect.websocket.WebSocketSourceConnector"),
        ("kafka.topic", "ticks"),
        ("twinfeed.commit.interval.ms", "5"),
        ("twinfeed.websocket.secondary.url", "wss://b/ws"),
        ("websocket.auth.token", "s3cret"),
        ("websocket.headers", "X-A:1,X-B:2"),
        ("websocket.subscription.message", "{\"op\":1}"),
        ("websocket.url", "wss://a/ws"),
    ];
    let mut config: Vec<_> = request.config.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    config.sort_unstable();
    assert_eq!(config, expect);
    assert_eq!(request.request_id.len(), 36, "a UUID");
}

#[test]
fn a_header_may_hold_a_comma() {
    let cluster = Cluster::start();
    let header = "--header=Cookie: a=b; c=d,e";
    let ended = cluster.wsctl(&["connector", "create", "btc", "--url=wss://a/ws", "--topic=ticks", header]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let request = cluster.facts().created.take().expect("created");
    assert_eq!(request.config["twinfeed.websocket.headers"], r#"{"Cookie":"a=b; c=d,e"}"#);
    assert!(!request.config.contains_key("websocket.headers"));
}

#[test]
fn create_takes_the_json_of_kafka_connect() {
    let cluster = Cluster::start();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("btc.json");
    std::fs::write(&file, r#"{"name":"btc","config":{"websocket.url":"ws://a","kafka.topic":"t","tasks.max":1}}"#)
        .expect("written");
    let path = file.to_str().expect("UTF-8");
    let ended = cluster.wsctl(&["connector", "create", "--from-file", path, "--topic", "other", "--single"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let request = cluster.facts().created.take().expect("created");
    assert_eq!(request.name, "btc");
    assert_eq!(request.config["kafka.topic"], "other", "a flag wins over the file");
    assert_eq!(request.config["tasks.max"], "1");
    assert_eq!(request.config["twinfeed.redundancy"], "single");
}

#[test]
fn several_subscription_messages_keep_their_order() {
    let cluster = Cluster::start();
    let create = ["connector", "create", "btc", "--url=ws://a", "--topic=t", "--subscribe=one", "--subscribe=two"];
    assert_eq!(cluster.wsctl(&create).code, 0);
    let request = cluster.facts().created.take().expect("created");
    assert_eq!(request.config["twinfeed.websocket.subscription.messages"], r#"["one","two"]"#);
}

#[test]
fn a_dry_run_changes_nothing_and_says_so() {
    let cluster = Cluster::start();
    let ended = cluster.wsctl(&["connector", "create", "btc", "--url=ws://a", "--topic=t", "--dry-run"]);
    assert_eq!(ended.stdout, "connector/btc would be created (dry run)\n");
    assert!(cluster.facts().created.as_ref().is_some_and(|request| request.validate_only));
    assert!(cluster.facts().connectors.is_empty());
}

#[test]
fn set_and_unset_name_only_their_keys() {
    let cluster = Cluster::start();
    cluster.add(running("btc"));
    let ended = cluster.wsctl(&["connector", "set", "btc", "kafka.topic=t2", "a=b=c", "--etag", "41"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "connector/btc configured\n"), "{ended:?}");
    let request = cluster.facts().updated.take().expect("updated");
    assert_eq!(request.update_mask.expect("a mask").paths, ["config.kafka.topic", "config.a"]);
    assert_eq!(request.config["a"], "b=c");
    assert_eq!(request.etag, "41");

    assert_eq!(cluster.wsctl(&["connector", "unset", "btc", "a"]).code, 0);
    let request = cluster.facts().updated.take().expect("updated");
    assert_eq!(request.update_mask.expect("a mask").paths, ["config.a"]);
    assert!(request.config.is_empty());
}

#[test]
fn lifecycle_verbs_reach_their_methods() {
    let cluster = Cluster::start();
    cluster.add(running("btc"));
    for (verb, done) in [("pause", "paused"), ("resume", "resumed"), ("stop", "stopped"), ("restart", "restarting")] {
        let ended = cluster.wsctl(&["connector", verb, "btc"]);
        assert_eq!(ended.stdout, format!("connector/btc {done}\n"), "{ended:?}");
        let (method, request_id) = cluster.facts().calls.pop().expect("called");
        assert_eq!((method.as_str(), request_id.len()), (verb, 36));
    }
    let mut paused = running("btc");
    paused.set_target_state(TargetState::Paused);
    cluster.add(paused);
    let ended = cluster.wsctl(&["connector", "restart", "btc"]);
    assert!(ended.stdout.contains("does not run; run it with: wsctl connector resume btc"), "{ended:?}");
}

#[test]
fn delete_wants_a_confirmation_where_nobody_can_be_asked() {
    let cluster = Cluster::start();
    cluster.add(running("btc"));
    let refused = cluster.wsctl(&["connector", "delete", "btc"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (2, ""));
    assert!(refused.stderr.contains("--yes"), "{refused:?}");
    assert!(cluster.facts().calls.is_empty(), "nothing was asked of the cluster");

    let deleted = cluster.wsctl(&["connector", "rm", "btc", "--yes"]);
    assert_eq!((deleted.code, deleted.stdout.as_str()), (0, "connector/btc deleted\n"));
    assert!(cluster.facts().connectors.is_empty());
    assert_eq!(cluster.wsctl(&["node", "remove", "n3"]).code, 2);
    assert_eq!(cluster.wsctl(&["node", "remove", "n3", "--yes"]).stdout, "node/n3 removed\n");
}

#[test]
fn moves_say_what_moved() {
    let cluster = Cluster::start();
    cluster.add(running("btc"));
    let ended = cluster.wsctl(&["connector", "failover", "btc", "--to-node", "n1"]);
    assert_eq!(ended.stdout, "connector/btc moved from n2 to n1 (epoch 14 -> 15) in 87 ms\n");
    assert_eq!(ended.stderr, "Failing over btc to n1 ...\n");
    let drained = cluster.wsctl(&["node", "drain", "n2", "--quiet"]);
    assert_eq!((drained.stdout.as_str(), drained.stderr.as_str()), ("node/n2 drained, moved: btc, eth\n", ""));
    assert_eq!(cluster.wsctl(&["node", "undrain", "n2"]).stdout, "node/n2 takes work again\n");
}

#[test]
fn events_are_rows_or_json_lines() {
    let cluster = Cluster::start();
    for (epoch, connector) in [(3, "btc"), (4, "eth"), (5, "btc")] {
        cluster.facts().events.push(Event {
            time: Some(Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            kind: "takeover.done".into(),
            node: "n1".into(),
            connector: connector.into(),
            epoch,
            message: "took over\u{1b}[31m".into(),
            ..Event::default()
        });
    }
    let ended = cluster.wsctl(&["events", "--last", "1", "--connector", "btc"]);
    let expected = "\
TIME                      KIND           NODE  CONNECTOR  EPOCH  MESSAGE
2023-11-14T22:13:20.000Z  takeover.done  n1    btc            5  took over\u{fffd}[31m
";
    assert_eq!(ended.stdout, expected, "control characters of a feed never reach the terminal");
    let lines = cluster.wsctl(&["events", "-o", "jsonl"]).stdout;
    assert_eq!(lines.lines().map(|line| json(line)["epoch"].clone()).collect::<Vec<_>>(), ["3", "4", "5"]);
}

#[test]
fn describe_shows_subscriptions_configuration_and_events() {
    let cluster = Cluster::start();
    let mut connector = running("btc");
    connector.status.as_mut().expect("set").at_risk = true;
    cluster.add(connector);
    cluster.facts().events.push(Event { kind: "at_risk".into(), connector: "btc".into(), ..Event::default() });
    let page = cluster.wsctl(&["connector", "describe", "btc"]).stdout;
    for part in
        ["Redundancy:             AT-RISK", "Subscriptions (P+ S+):", "websocket.url = wss://", "Recent events:"]
    {
        assert!(page.contains(part), "{part} in {page}");
    }
}

/// What the first lines end with depends on today's date.
fn without_connected_for(page: &str) -> String {
    let line = |line: &str| match line.split_once("connected for ") {
        Some((before, after)) => format!("{before}connected{}", after.find(',').map_or("", |comma| &after[comma..])),
        None => line.to_owned(),
    };
    page.lines().map(|text| line(text) + "\n").collect()
}

#[test]
fn compare_shows_both_lines_side_by_side_and_what_differs() {
    let cluster = Cluster::start();
    cluster.add(running("btc"));
    let pair = |n: u64| SamplePair {
        primary: format!(r#"{{"connection":7,"seq":{n}}}"#),
        secondary: if n == 1 { format!(r#"{{"connection":8,"seq":{n}}}"#) } else { String::new() },
    };
    let mut compared = CompareConnectorResponse {
        summary: "the two lines could not be matched for 42 s: the stream is at risk".into(),
        unmatched_ms: 41_500,
        skew_ms: 12,
        messages: 4_000,
        pointers: vec!["/connection".into()],
        samples: vec![pair(1), pair(2)],
        advice: "ask the feed\u{1b}[31m".into(),
        ..Default::default()
    };
    compared.set_state(State::Unmatched);
    cluster.facts().compared = compared;
    let ended = cluster.wsctl(&["connector", "compare", "btc"]);
    let expected = "\
connector/btc  UNMATCHED: the two lines could not be matched for 42 s: the stream is at risk
  primary   n2  wss://feed.example/ws  connected, alone with 0 of 4 000 messages (0.0%)
  secondary n3  wss://feed.example/ws  connected, alone with 1 000 of 4 000 messages (25.0%)
The two usually differ by 12 ms in time.

Messages that are most alike (P: primary, S: secondary):
  P: {\"connection\":7,\"seq\":1}
  S: {\"connection\":8,\"seq\":1}

  P: {\"connection\":7,\"seq\":2}
  S: (nothing like it)

They differ at:
  /connection

ask the feed\u{fffd}[31m
";
    assert_eq!((without_connected_for(&ended.stdout).as_str(), ended.stderr.as_str()), (expected, ""));
    assert_eq!(ended.code, 1, "scripts see that they differ");
    let shown = json(&cluster.wsctl(&["connector", "compare", "btc", "-o", "json"]).stdout);
    assert_eq!(shown["state"], "STATE_UNMATCHED");
    assert_eq!(shown["unmatchedMs"], "41500");
    assert_eq!(shown["lines"][1]["subscription"]["node"], "n3");
    assert_eq!(shown["samples"][0]["secondary"], r#"{"connection":8,"seq":1}"#);
    assert_eq!(cluster.wsctl(&["connector", "compare", "btx"]).code, 3);
}

#[test]
fn compare_is_a_check_for_scripts() {
    let cluster = Cluster::start();
    cluster.add(running("btc"));
    for (state, code) in [
        (State::Agree, 0),
        (State::Idle, 0),
        (State::Matching, 1),
        (State::Unmatched, 1),
        (State::Differ, 1),
        (State::Behind, 1),
        (State::Down, 1),
    ] {
        cluster.facts().compared.set_state(state);
        let ended = cluster.wsctl(&["connector", "compare", "btc", "-o", "name"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (code, "connector/btc\n"), "{state:?}");
    }
}

#[test]
fn wait_returns_when_the_condition_holds() {
    let cluster = Cluster::start();
    cluster.add(running("btc"));
    for condition in ["delivering", "redundant", "state=running"] {
        let ended = cluster.wsctl(&["wait", "connector/btc", "--for", condition]);
        assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{ended:?}");
    }
    assert_eq!(cluster.wsctl(&["wait", "connector/gone", "--for=deleted"]).code, 0);
    assert_eq!(cluster.wsctl(&["wait", "connector/gone", "--for=delivering"]).code, 3);

    let late = cluster.wsctl(&["wait", "connector/btc", "--for=state=paused", "--timeout=300ms"]);
    assert_eq!(late.code, 8);
    assert!(late.stderr.contains("last seen: RUNNING"), "{late:?}");

    let mut single = running("solo");
    single.status.as_mut().expect("set").redundancy = Redundancy::Single.into();
    cluster.add(single);
    let never = cluster.wsctl(&["wait", "connector/solo", "--for=redundant"]);
    assert_eq!(never.code, 5, "waiting would never end");
}
