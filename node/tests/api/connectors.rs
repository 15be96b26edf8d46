//! Connectors: create, read, list, change, delete; repeats, etags, dry runs, and what is shown.

use prost_types::FieldMask;
use tonic::Code;
use twinfeed_node::{
    api::Limits,
    model::{
        ids::{Epoch, NodeId},
        report::Role,
    },
};
use twinfeed_proto::admin::{
    ConnectorState, CreateConnectorRequest, DeleteConnectorRequest, GetConnectorRequest, ListConnectorsRequest,
    PauseConnectorRequest, RestartConnectorRequest, ResumeConnectorRequest, StopConnectorRequest, TargetState,
    UpdateConnectorRequest, WatchConnectorsRequest, watch_connectors_response::Kind,
};

use crate::kit::{Node, config, healthy, refused, request, uuid};

fn get(name: &str) -> GetConnectorRequest {
    GetConnectorRequest { name: name.into() }
}

#[tokio::test]
async fn a_connector_lives_from_create_to_delete() {
    let node = Node::start().await;
    let mut api = node.connectors();
    let created = api.create_connector(request("btc")).await.unwrap().into_inner().connector.unwrap();
    assert_eq!((created.name.as_str(), created.target_state()), ("btc", TargetState::Running));
    assert_eq!(created.etag, created.revision.to_string());
    assert!(created.create_time.is_some());
    let status = created.status.unwrap();
    assert_eq!(status.state(), ConnectorState::Starting);
    assert!(status.at_risk && status.message == "a node is being chosen for it", "{status:?}");

    for (target, state) in
        [(TargetState::Paused, ConnectorState::Paused), (TargetState::Stopped, ConnectorState::Stopped)]
    {
        let name = "btc".to_owned();
        let connector = match target {
            TargetState::Paused => {
                let request = PauseConnectorRequest { name, request_id: uuid() };
                api.pause_connector(request).await.unwrap().into_inner().connector
            }
            _ => {
                let request = StopConnectorRequest { name, request_id: uuid() };
                api.stop_connector(request).await.unwrap().into_inner().connector
            }
        };
        let connector = connector.unwrap();
        assert_eq!((connector.target_state(), connector.status.unwrap().state()), (target, state));
    }
    let resume = ResumeConnectorRequest { name: "btc".into(), request_id: uuid() };
    let resumed = api.resume_connector(resume).await.unwrap().into_inner().connector.unwrap();
    assert_eq!(resumed.target_state(), TargetState::Running);
    let restart = RestartConnectorRequest { name: "btc".into(), request_id: uuid(), force: false };
    let restarted = api.restart_connector(restart).await.unwrap().into_inner().connector.unwrap();
    assert!(restarted.revision > resumed.revision);

    api.delete_connector(DeleteConnectorRequest { name: "btc".into(), ..Default::default() }).await.unwrap();
    let missing = refused(api.get_connector(get("btc")).await, Code::NotFound, "NOT_FOUND");
    assert_eq!(missing.resource_info().unwrap().resource_name, "btc");
}

#[tokio::test]
async fn a_connector_that_nobody_can_take_says_so() {
    let node = Node::start().await;
    node.create("btc").await;
    node.hear(&[(node.raft.node_id(), false)]);
    let connector = node.connectors().get_connector(get("btc")).await.unwrap().into_inner().connector.unwrap();
    let status = connector.status.unwrap();
    assert_eq!(status.state(), ConnectorState::Unassigned);
    assert!(status.message.contains("0 of 1 nodes are up, 0 take work"), "{status:?}");
}

#[tokio::test]
async fn a_repeated_request_has_one_effect_and_the_first_answer() {
    let node = Node::start().await;
    let mut api = node.connectors();
    let create = CreateConnectorRequest { request_id: uuid(), ..request("btc") };
    let first = api.create_connector(create.clone()).await.unwrap().into_inner();
    let again = api.create_connector(create).await.unwrap().into_inner();
    assert_eq!(first, again);
    let other = CreateConnectorRequest { request_id: uuid(), ..request("btc") };
    refused(api.create_connector(other).await, Code::AlreadyExists, "ALREADY_EXISTS");

    let delete = DeleteConnectorRequest { name: "btc".into(), request_id: uuid(), ..Default::default() };
    api.delete_connector(delete.clone()).await.unwrap();
    api.delete_connector(delete).await.expect("gone already, by this very request");
    let bad = CreateConnectorRequest { request_id: "1".into(), ..request("eth") };
    refused(api.create_connector(bad).await, Code::InvalidArgument, "INVALID");
}

/// The outcome of one command is no answer to another, however harmless both are.
#[tokio::test]
async fn a_request_id_with_another_command_is_refused_and_nothing_is_done() {
    let node = Node::start().await;
    let mut api = node.connectors();
    let id = uuid();
    let create = CreateConnectorRequest { request_id: id.clone(), ..request("btc") };
    api.create_connector(create.clone()).await.unwrap();
    let reused = |answer: tonic::Status| {
        assert!(answer.message().contains(&format!("{id} was used for another command")), "{answer:?}");
    };
    let other = CreateConnectorRequest { name: "eth".into(), ..create.clone() };
    reused(api.create_connector(other).await.unwrap_err());
    let target = TargetState::Stopped.into();
    reused(api.create_connector(CreateConnectorRequest { initial_state: target, ..create.clone() }).await.unwrap_err());
    let delete = DeleteConnectorRequest { name: "btc".into(), request_id: id.clone(), ..Default::default() };
    refused(api.delete_connector(delete.clone()).await, Code::InvalidArgument, "INVALID");
    reused(api.delete_connector(delete).await.unwrap_err());
    let pause = PauseConnectorRequest { name: "btc".into(), request_id: id.clone() };
    reused(api.pause_connector(pause).await.unwrap_err());
    let connector = api.get_connector(get("btc")).await.expect("it is still there").into_inner().connector.unwrap();
    assert_eq!(connector.target_state(), TargetState::Running);
    refused(api.get_connector(get("eth")).await, Code::NotFound, "NOT_FOUND");
}

/// What is stored has changed since, so the same request makes another command; it is the same request still.
#[tokio::test]
async fn a_repeated_update_is_the_same_whatever_happened_since() {
    let node = Node::start().await;
    node.create("btc").await;
    let mut api = node.connectors();
    let mask = |key: &str| Some(FieldMask { paths: vec![format!("config.{key}")] });
    let set = |key: &str, value: &str, request_id: String| UpdateConnectorRequest {
        name: "btc".into(),
        config: config(&[(key, value)]),
        update_mask: mask(key),
        request_id,
        ..UpdateConnectorRequest::default()
    };
    let first = set("twinfeed.commit.interval.ms", "20", uuid());
    api.update_connector(first.clone()).await.unwrap();
    api.update_connector(set("websocket.headers", "a:b", uuid())).await.unwrap();
    let now = api.get_connector(get("btc")).await.unwrap().into_inner().connector.unwrap();
    let again = api.update_connector(first.clone()).await.expect("a repeat").into_inner().connector.unwrap();
    assert_eq!(again.revision, now.revision, "it changed nothing");
    let another = UpdateConnectorRequest { config: config(&[("twinfeed.commit.interval.ms", "30")]), ..first };
    refused(api.update_connector(another).await, Code::InvalidArgument, "INVALID");
    // One that creates is the same one when it is repeated and finds what it has made.
    let upsert = UpdateConnectorRequest {
        name: "eth".into(),
        config: request("eth").config,
        allow_missing: true,
        request_id: uuid(),
        ..UpdateConnectorRequest::default()
    };
    let made = api.update_connector(upsert.clone()).await.unwrap().into_inner().connector.unwrap();
    let again = api.update_connector(upsert).await.expect("a repeat").into_inner().connector.unwrap();
    assert_eq!(made.revision, again.revision);
}

#[tokio::test]
async fn all_bad_fields_are_named_at_once() {
    let node = Node::start().await;
    let bad = CreateConnectorRequest {
        name: "a/b".into(),
        config: config(&[("websocket.url", "http://x"), ("kafka.topic", "no spaces"), ("websocket.headrs", "a:b")]),
        ..Default::default()
    };
    let details = refused(node.connectors().create_connector(bad).await, Code::InvalidArgument, "INVALID");
    let mut fields: Vec<_> =
        details.bad_request().unwrap().field_violations.iter().map(|field| field.field.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["config.kafka.topic", "config.websocket.headrs", "config.websocket.url", "name"]);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let node = Node::start().await;
    let mut api = node.connectors();
    let dry = CreateConnectorRequest { validate_only: true, ..request("btc") };
    let answer = api.create_connector(dry.clone()).await.unwrap().into_inner().connector.unwrap();
    assert_eq!((answer.name.as_str(), answer.etag.as_str()), ("btc", ""));
    refused(api.get_connector(get("btc")).await, Code::NotFound, "NOT_FOUND");

    node.create("btc").await;
    refused(api.create_connector(dry).await, Code::AlreadyExists, "ALREADY_EXISTS");
    let before = api.get_connector(get("btc")).await.unwrap().into_inner();
    let update = UpdateConnectorRequest {
        name: "btc".into(),
        config: config(&[("kafka.topic", "other")]),
        update_mask: Some(FieldMask { paths: vec!["config.kafka.topic".into()] }),
        validate_only: true,
        ..Default::default()
    };
    let would = api.update_connector(update).await.unwrap().into_inner().connector.unwrap();
    assert_eq!(would.config["kafka.topic"], "other");
    let delete = DeleteConnectorRequest { name: "btc".into(), validate_only: true, ..Default::default() };
    api.delete_connector(delete).await.unwrap();
    assert_eq!(api.get_connector(get("btc")).await.unwrap().into_inner(), before);
}

#[tokio::test]
async fn an_etag_refuses_lost_updates() {
    let node = Node::start().await;
    let mut api = node.connectors();
    node.create("btc").await;
    let etag = api.get_connector(get("btc")).await.unwrap().into_inner().connector.unwrap().etag;
    let update = |topic: &str, etag: &str| UpdateConnectorRequest {
        name: "btc".into(),
        config: config(&[("websocket.url", "ws://127.0.0.1:1/feed"), ("kafka.topic", topic)]),
        etag: etag.into(),
        ..Default::default()
    };
    let changed = api.update_connector(update("t2", &etag)).await.unwrap().into_inner().connector.unwrap();
    assert_eq!(changed.config["kafka.topic"], "t2");
    let details = refused(api.update_connector(update("t3", &etag)).await, Code::Aborted, "ETAG_MISMATCH");
    assert_eq!(details.error_info().unwrap().metadata["actual"], changed.etag);
    let stale = DeleteConnectorRequest { name: "btc".into(), etag, ..Default::default() };
    refused(api.delete_connector(stale).await, Code::Aborted, "ETAG_MISMATCH");
    refused(api.update_connector(update("t3", "x")).await, Code::InvalidArgument, "INVALID");
    let unconditional = api.update_connector(update("t4", "")).await.unwrap().into_inner().connector.unwrap();
    assert_eq!(unconditional.config["kafka.topic"], "t4");
}

#[tokio::test]
async fn masks_change_single_keys_and_missing_ones_can_be_allowed() {
    let node = Node::start().await;
    let mut api = node.connectors();
    let whole = request("btc").config;
    let upsert =
        UpdateConnectorRequest { name: "btc".into(), config: whole, allow_missing: true, ..Default::default() };
    let absent = UpdateConnectorRequest { allow_missing: false, ..upsert.clone() };
    refused(api.update_connector(absent).await, Code::NotFound, "NOT_FOUND");
    api.update_connector(upsert).await.unwrap();
    let mask = |paths: &[&str]| Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() });
    let set = UpdateConnectorRequest {
        name: "btc".into(),
        config: config(&[("twinfeed.redundancy", "single"), ("kafka.topic", "not masked")]),
        update_mask: mask(&["config.twinfeed.redundancy"]),
        ..Default::default()
    };
    let connector = api.update_connector(set).await.unwrap().into_inner().connector.unwrap();
    assert_eq!(
        (connector.config["twinfeed.redundancy"].as_str(), connector.config["kafka.topic"].as_str()),
        ("single", "ticks")
    );
    let unset = UpdateConnectorRequest {
        name: "btc".into(),
        update_mask: mask(&["config.twinfeed.redundancy"]),
        ..Default::default()
    };
    let connector = api.update_connector(unset).await.unwrap().into_inner().connector.unwrap();
    assert!(!connector.config.contains_key("twinfeed.redundancy"));
    let required =
        UpdateConnectorRequest { name: "btc".into(), update_mask: mask(&["config.kafka.topic"]), ..Default::default() };
    refused(api.update_connector(required).await, Code::InvalidArgument, "INVALID");
}

#[tokio::test]
async fn a_change_that_interrupts_the_stream_says_so_before_it_does() {
    let node = Node::start().await;
    let mut api = node.connectors();
    node.create("btc").await;
    let mut warnings = async |key: &str, value: &str| {
        let update = UpdateConnectorRequest {
            name: "btc".into(),
            config: config(&[(key, value)]),
            update_mask: Some(FieldMask { paths: vec![format!("config.{key}")] }),
            validate_only: true,
            ..Default::default()
        };
        api.update_connector(update).await.unwrap().into_inner().warnings
    };
    for (key, value) in
        [("kafka.topic", "other"), ("websocket.subscription.message", "{}"), ("twinfeed.redundancy", "single")]
    {
        assert!(warnings(key, value).await.iter().any(|w| w.contains("reopened")), "{key}");
    }
    for (key, value) in [("kafka.topic", "ticks"), ("twinfeed.commit.interval.ms", "20")] {
        assert_eq!(warnings(key, value).await, Vec::<String>::new(), "{key}");
    }
}

#[tokio::test]
async fn an_override_that_kafka_s_client_would_refuse_is_refused_before_anything_is_stored() {
    let node = Node::start().await;
    let mut api = node.connectors();
    let mut create = request("btc");
    create.config.insert("producer.override.ssl.key.pem".into(), "s3cret".into());
    let details = refused(api.create_connector(create.clone()).await, Code::InvalidArgument, "INVALID");
    let field = &details.bad_request().unwrap().field_violations[0];
    assert_eq!(field.field, "config.producer.override.ssl.key.pem");
    assert!(field.description.contains("node.toml under [kafka.properties]"), "{}", field.description);
    assert!(!format!("{details:?}").contains("s3cret"), "{details:?}");
    node.create("btc").await;
    let update = UpdateConnectorRequest { name: "btc".into(), config: create.config, ..Default::default() };
    refused(api.update_connector(update).await, Code::InvalidArgument, "INVALID");
}

#[tokio::test]
async fn keys_that_are_accepted_and_not_used_are_named_at_create() {
    let node = Node::start().await;
    let mut api = node.connectors();
    let mut create = request("btc");
    for (key, value) in [
        ("producer.override.linger.ms", "10"),
        ("producer.override.acks", "1"),
        ("producer.override.buffer.memory", "67108864"),
        ("topic.creation.default.max.message.bytes", "1000000"),
        ("errors.log.enable", "true"),
    ] {
        create.config.insert(key.into(), value.into());
    }
    let warnings = api.create_connector(create).await.unwrap().into_inner().warnings;
    for said in [
        "producer.override.linger.ms: accepted and not used: the timing of a takeover rests on it",
        "producer.override.acks: accepted and not used",
        "twinfeed.websocket.message.bytes.max: topic.creation.default.max.message.bytes is 1000000",
        "errors.log.enable: it changes nothing",
    ] {
        assert!(warnings.iter().any(|warning| warning.starts_with(said)), "{said}: {warnings:#?}");
    }
    assert_eq!(warnings.len(), 4, "{warnings:#?}");
}

#[tokio::test]
async fn a_reference_that_nobody_resolves_is_refused_with_the_providers_that_exist() {
    let node = Node::start().await;
    let mut api = node.connectors();
    for (key, value) in [
        ("websocket.url", "ws://h/${secrets:prod:key}"),
        ("twinfeed.websocket.secondary.url", "ws://h/?k=${secrets:prod:key}"),
        ("websocket.headers", "X-Api-Key: ${secrets:prod:key}"),
        ("twinfeed.websocket.headers", r#"{"X-Api-Key":"${secrets:prod:key}"}"#),
        ("websocket.auth.token", "${secrets:prod:key}"),
        ("websocket.subscription.message", r#"{"op":"auth","key":"${secrets:prod:key}"}"#),
        ("twinfeed.websocket.subscription.messages", r#"["${secrets:prod:key}"]"#),
        ("producer.override.client.id", "${secrets:prod:key}"),
    ] {
        let mut create = request("btc");
        create.config.insert(key.into(), value.into());
        let details = refused(api.create_connector(create).await, Code::InvalidArgument, "INVALID");
        let field = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(field.field, format!("config.{key}"));
        assert!(field.description.contains("${env:…} and ${file:…}"), "{}", field.description);
    }
    let mut literal = request("btc");
    literal.config.insert("websocket.subscription.message".into(), r#"{"filter":"${","b":"$${x}"}"#.into());
    literal.config.insert("producer.override.client.id".into(), "${env:TWINFEED_SECRET_ID}".into());
    api.create_connector(literal).await.expect("no reference, and one that exists");
}

#[tokio::test]
async fn messages_of_a_feed_must_fit_what_the_nodes_exchange_unless_it_has_one_subscription() {
    let limits = Limits { relayed_bytes_max: 4 << 20, ..Limits::default() };
    let node = Node::start_with(limits).await;
    let mut api = node.connectors();
    let mut create = request("btc");
    create.config.insert("twinfeed.websocket.message.bytes.max".into(), "8388608".into());
    let details = refused(api.create_connector(create.clone()).await, Code::InvalidArgument, "INVALID");
    let field = &details.bad_request().unwrap().field_violations[0];
    assert!(field.description.contains("limits.internal_message_bytes_max"), "{}", field.description);
    create.config.insert("twinfeed.redundancy".into(), "single".into());
    api.create_connector(create).await.expect("nothing is relayed");
}

#[tokio::test]
async fn secrets_are_never_shown_and_survive_a_round_trip() {
    let node = Node::start().await;
    let mut api = node.connectors();
    let mut create = request("btc");
    create.config.insert("websocket.auth.token".into(), "s3cret".into());
    create.config.insert("websocket.url".into(), "ws://127.0.0.1:1/feed?token=s3cret".into());
    let created = api.create_connector(create).await.unwrap().into_inner();
    assert!(!created.warnings.is_empty(), "a raw secret is accepted with a warning");
    let shown = api.get_connector(get("btc")).await.unwrap().into_inner().connector.unwrap();
    let page = api.list_connectors(ListConnectorsRequest::default()).await.unwrap().into_inner();
    for text in [format!("{created:?}"), format!("{shown:?}"), format!("{page:?}")] {
        assert!(!text.contains("s3cret"), "{text}");
    }
    let mut edited = shown.config;
    edited.insert("kafka.topic".into(), "other".into());
    let update = UpdateConnectorRequest { name: "btc".into(), config: edited, ..Default::default() };
    api.update_connector(update).await.unwrap();
    let stored = node.raft.read().await.unwrap().connectors()["btc"].config.clone();
    assert_eq!(stored["websocket.auth.token"], "s3cret");
    assert_eq!(stored["websocket.url"], "ws://127.0.0.1:1/feed?token=s3cret");
    assert_eq!(stored["kafka.topic"], "other");

    let mut half = api.get_connector(get("btc")).await.unwrap().into_inner().connector.unwrap().config;
    half.insert("websocket.auth.token".into(), "x[hidden]".into());
    let update = UpdateConnectorRequest { name: "btc".into(), config: half.clone(), ..Default::default() };
    refused(api.update_connector(update).await, Code::InvalidArgument, "INVALID");
    let copy = CreateConnectorRequest { config: half, ..request("copy") };
    refused(api.create_connector(copy).await, Code::InvalidArgument, "INVALID");
}

#[tokio::test]
async fn pages_cover_every_connector_once() {
    let node = Node::start().await;
    let mut api = node.connectors();
    for name in ["a", "b", "c", "d", "e"] {
        node.create(name).await;
    }
    let mut names = Vec::new();
    let mut request = ListConnectorsRequest { page_size: 2, ..Default::default() };
    loop {
        let page = api.list_connectors(request.clone()).await.unwrap().into_inner();
        assert!(page.connectors.len() <= 2);
        names.extend(page.connectors.into_iter().map(|connector| connector.name));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    let foreign = ListConnectorsRequest { page_token: "b".into(), ..Default::default() };
    refused(api.list_connectors(foreign).await, Code::InvalidArgument, "INVALID");
}

/// Connector `btc`, owned by this node with n2 as standby, both up, under which epoch.
async fn pair() -> (Node, NodeId, Epoch) {
    let node = Node::start().await;
    let me = node.raft.node_id();
    node.create("btc").await;
    node.add_member(2, "n2").await;
    node.hear(&[(me, true), (2, true)]);
    let epoch = node.assign("btc", me, Some(2)).await;
    (node, me, epoch)
}

#[tokio::test]
async fn the_state_is_what_the_nodes_report() {
    let (node, me, epoch) = pair().await;
    let mut api = node.connectors();
    let mut status =
        async || api.get_connector(get("btc")).await.unwrap().into_inner().connector.unwrap().status.unwrap();

    assert_eq!(status().await.state(), ConnectorState::Starting);
    let (owner, standby) = (healthy(Role::Owner, epoch), healthy(Role::Standby, epoch));
    node.report(me, "btc", owner.clone());
    node.report(2, "btc", standby.clone());
    let fine = status().await;
    assert_eq!((fine.state(), fine.at_risk, fine.message.as_str()), (ConnectorState::Running, false, ""));
    assert_eq!((fine.owner.as_str(), fine.standby.as_str(), fine.epoch), ("n1", "n2", epoch.0));
    assert_eq!(fine.subscriptions.iter().map(|feed| feed.role.as_str()).collect::<Vec<_>>(), ["primary", "secondary"]);

    let mut cut = standby.clone();
    cut.subscription.connected = false;
    cut.subscription.last_error = "closed 1006".into();
    node.report(2, "btc", cut.clone());
    let risky = status().await;
    assert_eq!((risky.state(), risky.at_risk), (ConnectorState::Running, true));
    assert_eq!(risky.message, "secondary at n2 is not connected (closed 1006); nothing lost (primary active)");

    let mut alone = owner.clone();
    alone.subscription.connected = false;
    node.report(me, "btc", alone);
    assert_eq!(status().await.state(), ConnectorState::Starting, "nothing is connected: it does not deliver");

    let mut failed = owner.clone();
    failed.failed = Some("topic t: not authorised".into());
    node.report(me, "btc", failed);
    let broken = status().await;
    assert_eq!(broken.state(), ConnectorState::Failed);
    assert!(broken.message.starts_with("topic t: not authorised"));

    let mut old = owner;
    old.epoch.0 -= 1;
    node.report(me, "btc", old);
    assert_eq!(status().await.state(), ConnectorState::Starting, "a report on an old epoch says nothing on this one");

    node.hear(&[(me, false), (2, true)]);
    assert_eq!(status().await.message, "owner n1 does not answer; n2 takes over");
    node.hear(&[(me, false), (2, false)]);
    assert_eq!(status().await.state(), ConnectorState::Unassigned);
}

#[tokio::test]
async fn a_restart_interrupts_nothing_unless_it_is_forced() {
    let (node, me, epoch) = pair().await;
    let mut api = node.connectors();
    let mut epoch_after = async |force: bool| {
        let request = RestartConnectorRequest { name: "btc".into(), request_id: uuid(), force };
        api.restart_connector(request).await.unwrap().into_inner().connector.unwrap().status.unwrap().epoch
    };
    node.report(me, "btc", healthy(Role::Owner, epoch));
    node.report(2, "btc", healthy(Role::Standby, epoch));
    assert_eq!(epoch_after(false).await, epoch.0, "both are redundant: one after the other");
    let forced = epoch_after(true).await;
    assert!(forced > epoch.0);
    assert_eq!(epoch_after(false).await, forced, "it starts, and holds nothing yet");

    node.hear(&[(me, false), (2, true)]);
    let request = RestartConnectorRequest { name: "btc".into(), request_id: uuid(), force: false };
    let error = refused(node.connectors().restart_connector(request).await, Code::FailedPrecondition, "WOULD_LOSE");
    let text = error.precondition_failure().unwrap().violations[0].description.clone();
    assert!(
        text.starts_with("owner n1 does not answer") && text.ends_with("wsctl connector restart btc --force"),
        "{text}"
    );
}

#[tokio::test]
async fn a_watch_tells_every_change_once() {
    let node = Node::start().await;
    let me = node.raft.node_id();
    node.create("btc").await;
    let mut watch = node.connectors().watch_connectors(WatchConnectorsRequest {}).await.unwrap().into_inner();
    let mut next = async || {
        let change = watch.message().await.unwrap().expect("it goes on");
        (change.kind(), change.connector.map(|connector| connector.name).unwrap_or_default())
    };
    assert_eq!(next().await, (Kind::Added, "btc".to_owned()));
    assert_eq!(next().await.0, Kind::Bookmark);
    node.create("eth").await;
    assert_eq!(next().await, (Kind::Added, "eth".to_owned()));
    assert_eq!(next().await.0, Kind::Bookmark);
    let epoch = node.assign("btc", me, None).await;
    assert_eq!(next().await, (Kind::Modified, "btc".to_owned()));
    assert_eq!(next().await.0, Kind::Bookmark);
    node.report(me, "btc", healthy(Role::Owner, epoch));
    assert_eq!(next().await, (Kind::Modified, "btc".to_owned()));
    assert_eq!(next().await.0, Kind::Bookmark);
    let mut busy = healthy(Role::Owner, epoch);
    busy.records_committed = 7;
    node.report(me, "btc", busy);
    let delete = DeleteConnectorRequest { name: "eth".into(), ..Default::default() };
    node.connectors().delete_connector(delete).await.unwrap();
    assert_eq!(next().await, (Kind::Deleted, "eth".to_owned()), "counters alone are no change");
}
