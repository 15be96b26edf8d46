//! How `wsctl` fails: exit codes, words on stderr, nothing on stdout; and when it tries the next endpoint.

use std::net::TcpListener;

use crate::cluster::{Cluster, not_found, refusal, running, wsctl};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

#[test]
fn every_refusal_has_its_exit_code() {
    let cluster = Cluster::start();
    for (code, exit) in [
        (Code::Internal, 1),
        (Code::NotFound, 3),
        (Code::AlreadyExists, 4),
        (Code::Aborted, 4),
        (Code::InvalidArgument, 5),
        (Code::FailedPrecondition, 5),
        (Code::Unauthenticated, 6),
        (Code::PermissionDenied, 6),
        (Code::Unavailable, 7),
        (Code::DeadlineExceeded, 8),
    ] {
        cluster.refuse(refusal(code, "A_REASON", "because"));
        let ended = cluster.wsctl(&["connector", "get", "btc"]);
        assert_eq!(ended.code, exit, "{code:?}: {ended:?}");
        assert_eq!(ended.stdout, "", "errors never stand on stdout");
        assert!(ended.stderr.starts_with("error: because  ("), "{ended:?}");
    }
    assert_eq!(cluster.wsctl(&["connector", "explode"]).code, 2);
    assert_eq!(wsctl("nonsense", &["status"]).code, 2);
    let documented = cluster.wsctl(&["help", "exit-codes"]).stdout;
    assert!(documented.contains("\n7    no endpoint reachable"), "{documented}");
    assert!(cluster.wsctl(&["help", "connector", "create"]).stdout.contains("--secondary-url"));
}

#[test]
fn every_bad_field_is_named_with_its_flag() {
    let cluster = Cluster::start();
    let fields = [("config.websocket.url", "must use ws:// or wss://"), ("config.tasks.max", "must be 1")];
    let violations: Vec<_> = fields.iter().map(|(field, text)| FieldViolation::new(*field, *text)).collect();
    let details = ErrorDetails::with_bad_request(violations);
    cluster.refuse(Status::with_error_details(Code::InvalidArgument, "invalid configuration", details));
    let ended = cluster.wsctl(&["connector", "create", "btc", "--url=http://x", "--topic=t"]);
    let expected = "\
error: invalid configuration  (INVALID_ARGUMENT, rc 5)
  --url / websocket.url: must use ws:// or wss://
  tasks.max: must be 1
";
    assert_eq!((ended.code, ended.stderr.as_str()), (5, expected));
}

#[test]
fn an_unknown_name_is_answered_with_the_nearest_one() {
    let cluster = Cluster::start();
    for name in ["binance-btcusdt", "coinbase-l2", "kraken-book"] {
        cluster.add(running(name));
    }
    let ended = cluster.wsctl(&["connector", "get", "binance-btcsdt"]);
    assert_eq!(ended.code, 3);
    assert!(ended.stderr.ends_with("did you mean \"binance-btcusdt\"?\n"), "{ended:?}");
    cluster.add(running("btc"));
    let swapped = cluster.wsctl(&["connector", "pause", "bct"]);
    assert!(swapped.stderr.ends_with("did you mean \"btc\"?\n"), "{swapped:?}");
    let far = cluster.wsctl(&["connector", "get", "zzz"]);
    assert!(far.stderr.ends_with("see: wsctl connector ls\n"), "{far:?}");
    cluster.refuse(not_found("node", "m2"));
    let node = cluster.wsctl(&["node", "drain", "m2"]);
    assert!(node.stderr.contains("cluster members") || node.stderr.contains("did you mean"), "{node:?}");
}

#[test]
fn a_taken_name_points_to_set() {
    let cluster = Cluster::start();
    cluster.refuse(refusal(Code::AlreadyExists, "ALREADY_EXISTS", "connector \"btc\" exists"));
    let ended = cluster.wsctl(&["connector", "create", "btc", "--url=ws://x", "--topic=t"]);
    assert_eq!(ended.code, 4);
    assert!(ended.stderr.contains("wsctl connector set btc KEY=VALUE"), "{ended:?}");
}

#[test]
fn the_next_endpoint_answers_when_one_refuses_the_connection() {
    let cluster = Cluster::start();
    cluster.add(running("btc"));
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let ended = wsctl(&format!("{closed},{}", cluster.address), &["connector", "pause", "btc"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (0, "connector/btc paused\n"), "{ended:?}");

    let nobody = wsctl(&closed.to_string(), &["status"]);
    assert_eq!(nobody.code, 7);
    assert!(nobody.stderr.contains(&closed.to_string()), "{nobody:?}");
}

#[test]
fn a_node_without_a_leader_is_passed_over_with_the_same_request_id() {
    let (leaderless, healthy) = (Cluster::start(), Cluster::start());
    healthy.add(running("btc"));
    leaderless.refuse(refusal(Code::Unavailable, "NO_LEADER", "the cluster has no leader"));
    let endpoints = format!("{},{}", leaderless.address, healthy.address);
    assert_eq!(wsctl(&endpoints, &["connector", "pause", "btc"]).code, 0);
    let (first, second) = (leaderless.facts().calls.clone(), healthy.facts().calls.clone());
    assert_eq!(first, second, "one change, one request id");
    assert_eq!(first.len(), 1);
}

#[test]
fn a_refusal_is_final() {
    let (refusing, other) = (Cluster::start(), Cluster::start());
    refusing.refuse(refusal(Code::FailedPrecondition, "DRAINING", "node is draining"));
    let endpoints = format!("{},{}", refusing.address, other.address);
    assert_eq!(wsctl(&endpoints, &["connector", "failover", "btc"]).code, 5);
    assert!(other.facts().calls.is_empty(), "no second node is asked what the first has refused");
}

#[test]
fn a_silent_endpoint_times_out_and_says_how_to_find_out() {
    // Accepts connections by the backlog and never answers, like a frozen process.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("bound").to_string();
    let ended = wsctl(&address, &["connector", "pause", "btc", "--timeout", "300ms"]);
    assert_eq!(ended.code, 8, "{ended:?}");
    for part in ["outcome is unknown", "check with: wsctl connector get btc", "--request-id "] {
        assert!(ended.stderr.contains(part), "{part} in {ended:?}");
    }
    let read = wsctl(&address, &["connector", "get", "btc", "--timeout", "300ms"]);
    assert_eq!(read.code, 8);
    assert!(!read.stderr.contains("outcome"), "a read changes nothing: {read:?}");
}

#[test]
fn a_repeat_carries_the_given_request_id() {
    let cluster = Cluster::start();
    cluster.add(running("btc"));
    let id = "0d0f3a52-3a5e-4a6c-9d0e-6b1f7a1f6b0e";
    assert_eq!(cluster.wsctl(&["connector", "restart", "btc", "--request-id", id]).code, 0);
    assert_eq!(cluster.facts().calls, [("restart".to_owned(), id.to_owned())]);
    assert_eq!(cluster.wsctl(&["connector", "restart", "btc", "--request-id", "again"]).code, 2);
}

#[test]
fn an_unknown_outcome_is_told_apart_from_a_refusal() {
    let cluster = Cluster::start();
    cluster.refuse(refusal(Code::DeadlineExceeded, "OUTCOME_UNKNOWN", "no answer from the leader"));
    let unknown = cluster.wsctl(&["connector", "stop", "btc"]);
    assert!(unknown.stderr.contains("--request-id "), "{unknown:?}");
    cluster.refuse(refusal(Code::Unavailable, "NO_LEADER", "the cluster has no leader"));
    let refused = cluster.wsctl(&["connector", "stop", "btc"]);
    assert!(!refused.stderr.contains("--request-id "), "the node says that nothing happened: {refused:?}");
}
