//! Tests of the connector specification: parity with the connector that is replaced, all errors at once, no secret out.

use super::*;

fn config(pairs: &[(&str, &str)]) -> Config {
    let least = [("websocket.url", "ws://h/x"), ("kafka.topic", "t")];
    least.iter().chain(pairs).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn parsed(pairs: &[(&str, &str)]) -> (ConnectorSpec, Vec<Warning>) {
    ConnectorSpec::parse("c1", &config(pairs)).expect("valid")
}

fn errors(pairs: &[(&str, &str)]) -> Vec<FieldError> {
    ConnectorSpec::parse("c1", &config(pairs)).expect_err("invalid")
}

#[test]
fn the_least_configuration_takes_every_default() {
    let (spec, warnings) = parsed(&[]);
    assert_eq!(warnings, []);
    assert_eq!((spec.redundancy, spec.topic.name.as_str(), spec.topic.create), (Redundancy::Dual, "t", true));
    let feed = &spec.feed;
    assert_eq!(
        (feed.reconnect_interval_ms, feed.reconnect_backoff_max_ms, feed.queue_frames_max),
        (5000, 60_000, 10_000)
    );
    assert_eq!((feed.connect_timeout_ms, feed.ping_interval_ms, feed.pong_timeout_ms), (30_000, 10_000, 15_000));
    assert_eq!((feed.message_bytes_max, feed.reconnect_attempts_max, feed.reconnect_enabled), (4 << 20, None, true));
    assert_eq!((spec.commit_interval_ms, spec.buffer_bytes_max, spec.dedup_span_ms), (10, 256 << 20, 10_000));
}

#[test]
fn a_configuration_of_the_original_connector_is_taken_as_it_is() {
    let (spec, warnings) = parsed(&[
        ("name", "c1"),
        ("connector.class", "io.conduktor.connect.websocket.WebSocketSourceConnector"),
        ("tasks.max", "1"),
        ("websocket.subscription.message", r#"{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}"#),
        ("websocket.reconnect.enabled", "TRUE"),
        ("websocket.reconnect.interval.ms", " 1000 "),
        ("websocket.reconnect.max.attempts", "0"),
        ("websocket.headers", "X-A:1,X-B: b:c,broken"),
        ("value.converter", "org.apache.kafka.connect.storage.StringConverter"),
        ("transforms", ""),
        ("errors.tolerance", "none"),
        ("key.converter", "com.example.AvroConverter"),
        ("producer.override.compression.type", "lz4"),
        ("topic.creation.default.partitions", "3"),
        ("topic.creation.default.retention.ms", "1000"),
        ("somebody.elses.key", "1"),
    ]);
    assert_eq!(spec.feed.reconnect_interval_ms, 1000);
    assert_eq!(spec.feed.reconnect_attempts_max, None);
    let headers: Vec<_> = spec.feed.headers.iter().map(|(n, v)| (n.as_str(), v.expose())).collect();
    assert_eq!(headers, [("X-A", "1"), ("X-B", "b:c")]);
    assert_eq!(spec.topic.partitions, Some(3));
    assert_eq!(spec.topic.properties["retention.ms"], "1000");
    assert_eq!(spec.producer_overrides["compression.type"], "lz4");
    let warned: Vec<_> = warnings.iter().map(|w| w.key.as_str()).collect();
    assert_eq!(warned, ["key.converter", "somebody.elses.key", "websocket.headers"]);
}

#[test]
fn reports_every_error_at_once_in_kafkas_words() {
    let config: Config = [
        ("websocket.url", "http://x"),
        ("tasks.max", "0"),
        ("websocket.message.queue.size", "abc"),
        ("twinfeed.redundancy", "triple"),
        ("twinfeed.commit.interval.ms", "0"),
        ("twinfeed.websocket.ping.intervall.ms", "1"),
        ("websocket.reconnect.enabled", "yes"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into();
    let errors = ConnectorSpec::parse("c/1", &config).expect_err("invalid");
    let messages: Vec<_> = errors.iter().map(|e| e.message.as_str()).collect();
    for expected in [
        "Connector name must not contain '/'",
        "Invalid value 0 for configuration tasks.max: Value must be at least 1",
        "Unknown configuration twinfeed.websocket.ping.intervall.ms",
        "Invalid value http://x for configuration websocket.url: WebSocket URL must use ws:// or wss:// scheme, got: http",
        "Missing required configuration \"kafka.topic\" which has no default value.",
        "Invalid value abc for configuration websocket.message.queue.size: Not a number of type INT",
        "Invalid value triple for configuration twinfeed.redundancy: String must be one of: dual, single",
        "Invalid value 0 for configuration twinfeed.commit.interval.ms: Value must be in 2..=1000",
        "Invalid value yes for configuration websocket.reconnect.enabled: Expected value to be either true or false",
    ] {
        assert!(messages.contains(&expected), "{expected} is not in {messages:#?}");
    }
    assert_eq!(errors.len(), 9, "{messages:#?}");
    assert!(errors.iter().any(|e| e.hint == "did you mean twinfeed.websocket.ping.interval.ms?"));
}

#[test]
fn a_slip_near_a_known_key_is_an_error_and_a_foreign_key_is_not() {
    assert_eq!(errors(&[("websocket.header", "a:b")])[0].hint, "did you mean websocket.headers?");
    assert_eq!(errors(&[("twinfeed.nonsense", "1")])[0].key, "twinfeed.nonsense");
    assert_eq!(parsed(&[("confluent.license", "")]).1.len(), 1);
}

#[test]
fn slips_are_found_whatever_their_case_and_separators() {
    for (key, meant) in [
        ("Websocket.URL", "websocket.url"),
        ("websocket_auth_token", "websocket.auth.token"),
        ("task.max", "tasks.max"),
        ("transform", "transforms"),
        ("twinfeed.redundency", "twinfeed.redundancy"),
        ("topic.creation.default.partition", "topic.creation.default.partitions"),
        ("topic.creation.default.retention", "topic.creation.default.retention.ms"),
    ] {
        let found = errors(&[(key, "1")]);
        assert_eq!(found[0].hint, format!("did you mean {meant}?"), "{key}: {found:?}");
    }
    for key in ["websocket.nonsense", "kafka.nonsense", "producer.linger.ms", "topic.creation.default.nonsense.x"] {
        assert_eq!(errors(&[(key, "1")])[0].key, key);
    }
}

#[test]
fn the_framework_s_own_keys_are_checked() {
    assert!(errors(&[("name", "other")])[0].message.contains("doesn't match connector name"));
    assert!(errors(&[("connector.class", "JdbcSource")])[0].message.contains("Failed to find any class"));
    assert!(parsed(&[("tasks.max", "4")]).1[0].message.contains("further tasks are not started"));
    assert_eq!(errors(&[("tasks.max", "0")])[0].key, "tasks.max");
}

#[test]
fn every_key_that_has_no_effect_is_refused_or_named() {
    use crate::model::foreign_keys::{FOREIGN_KEYS, Fate};
    for key in FOREIGN_KEYS {
        let name = if key.name.ends_with('.') { format!("{}any", key.name) } else { key.name.to_owned() };
        let config = config(&[(&name, "a value that nothing stands for")]);
        match (ConnectorSpec::parse("c1", &config), key.fate) {
            (Err(errors), Fate::Refused) => assert_eq!((errors.len(), &errors[0].key), (1, &name), "{errors:?}"),
            (Ok((_, warnings)), Fate::Ignored) => assert_eq!(warnings[0].key, name),
            (other, fate) => panic!("{name} should be {fate:?}: {other:?}"),
        }
        for same in key.same.iter().filter(|_| !key.name.ends_with('.')) {
            assert_eq!(parsed(&[(key.name, same)]).1, [], "{name}={same}");
        }
    }
}

#[test]
fn keys_that_would_change_records_are_refused_with_the_reason() {
    for (key, value) in [
        ("transforms", "mask"),
        ("transforms.mask.type", "org.apache.kafka.connect.transforms.MaskField$Value"),
        ("predicates", "p"),
        ("value.converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("value.converter.schemas.enable", "true"),
        ("errors.tolerance", "all"),
        ("errors.deadletterqueue.topic.name", "dlq"),
        ("errors.retry.timeout", "1000"),
        ("topic.creation.groups", "compacted"),
        ("topic.creation.compacted.include", "x"),
        ("config.providers", "vault"),
        ("admin.override.security.protocol", "PLAINTEXT"),
    ] {
        let found = errors(&[(key, value)]);
        assert_eq!((found.len(), found[0].key.as_str()), (1, key), "{found:?}");
        assert!(found[0].message.contains(": it "), "{found:?}");
    }
}

#[test]
fn keys_that_cannot_change_a_record_are_ignored_and_say_so() {
    for (key, value) in [
        ("errors.log.enable", "true"),
        ("exactly.once.support", "required"),
        ("transaction.boundary", "interval"),
        ("tasks.max.enforce", "false"),
        ("config.action.reload", "none"),
        ("offsets.storage.topic", "x"),
        ("connector.plugin.version", "1"),
        ("header.converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("key.converter", "io.confluent.connect.avro.AvroConverter"),
    ] {
        let (_, warnings) = parsed(&[(key, value)]);
        assert_eq!((warnings.len(), warnings[0].key.as_str()), (1, key), "{warnings:?}");
    }
    for (key, value) in [
        ("transforms", ""),
        ("errors.tolerance", "none"),
        ("value.converter", "org.apache.kafka.connect.converters.ByteArrayConverter"),
        ("key.converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("header.converter", "org.apache.kafka.connect.storage.SimpleHeaderConverter"),
    ] {
        assert_eq!(parsed(&[(key, value)]).1, [], "{key}");
    }
}

#[test]
fn settings_of_a_topic_that_cannot_work_are_refused() {
    for (key, value, why) in [
        ("cleanup.policy", "compact", "no record without a key"),
        ("cleanup.policy", "compact,delete", "no record without a key"),
        ("max.message.bytes", "4MB", "Not a number"),
        ("retention.msec", "1", "no such setting"),
        ("retention.ms", "${env:X}", "a reference is not resolved here"),
    ] {
        let found = errors(&[(&format!("topic.creation.default.{key}"), value)]);
        assert!(found[0].message.contains(why), "{key}: {found:?}");
    }
    let replicas =
        [("topic.creation.default.replication.factor", "1"), ("topic.creation.default.min.insync.replicas", "2")];
    assert!(errors(&replicas)[0].message.contains("nothing could be written"));
    let (_, warnings) = parsed(&[("twinfeed.topic.create", "false"), ("topic.creation.default.partitions", "3")]);
    assert!(warnings[0].message.contains("has no effect"), "{warnings:?}");
}

#[test]
fn limits_that_do_not_fit_each_other_are_named() {
    let topic = ("topic.creation.default.max.message.bytes", "1000000");
    let (_, warnings) = parsed(&[topic]);
    assert!(warnings[0].key == "twinfeed.websocket.message.bytes.max" && warnings[0].message.contains("4194304"));
    assert_eq!(parsed(&[topic, ("twinfeed.websocket.message.bytes.max", "1000000")]).1, []);
}

#[test]
fn references_nobody_resolves_are_refused() {
    let found = errors(&[("websocket.auth.token", "${secrets:prod:key}")]);
    assert!(found[0].message.contains("${secrets:…} names no provider"), "{found:?}");
    assert_eq!(found[0].hint, "the providers that exist are ${env:…} and ${file:…}");
    for key in ["twinfeed.tls.ca.file", "twinfeed.redundancy", "tasks.max"] {
        let found = errors(&[(key, "${env:X}")]);
        assert!(found.iter().any(|e| e.message.contains("a reference is not resolved here")), "{found:?}");
    }
}

#[test]
fn headers_may_hold_commas_in_a_json_object() {
    let object = r#"{"Cookie":"a=b; c=d,e","X-Many":["1","2"]}"#;
    let (spec, warnings) = parsed(&[("websocket.headers", "X-A:1"), ("twinfeed.websocket.headers", object)]);
    let headers: Vec<_> = spec.feed.headers.iter().map(|(n, v)| (n.as_str(), v.expose())).collect();
    assert_eq!(headers, [("X-A", "1"), ("Cookie", "a=b; c=d,e"), ("X-Many", "1"), ("X-Many", "2")]);
    assert!(warnings[0].message.contains("raw secret"), "{warnings:?}");
    for bad in ["a:b", "[]", r#"{"A":1}"#, r#"{"Host":"x"}"#, r#"{"A":"b\r\nC: d"}"#] {
        assert_eq!(errors(&[("twinfeed.websocket.headers", bad)])[0].key, "twinfeed.websocket.headers", "{bad}");
    }
    let twice = [("websocket.headers", "X-A:1"), ("twinfeed.websocket.headers", r#"{"x-a":"2"}"#)];
    assert!(errors(&twice)[0].message.contains("too"));
    assert_eq!(errors(&[("twinfeed.websocket.headers", "s3cret")]).len(), 1);
    assert!(!format!("{:?}", errors(&[("twinfeed.websocket.headers", "s3cret")])).contains("s3cret"));
}

#[test]
fn a_lagging_subscription_has_a_limit_that_can_be_set() {
    assert_eq!(parsed(&[]).0.feed.behind_timeout_ms, 5_000);
    assert_eq!(parsed(&[("twinfeed.websocket.behind.timeout.ms", "0")]).0.feed.behind_timeout_ms, 0);
    assert_eq!(errors(&[("twinfeed.websocket.behind.timeout.ms", "3600001")]).len(), 1);
}

#[test]
fn numbers_the_original_accepts_are_clamped_with_a_warning() {
    let (spec, warnings) =
        parsed(&[("websocket.reconnect.interval.ms", "-1000"), ("websocket.message.queue.size", "0")]);
    assert_eq!((spec.feed.reconnect_interval_ms, spec.feed.queue_frames_max), (1, 1));
    assert_eq!(warnings.len(), 2);
}

#[test]
fn topic_names_follow_kafkas_rule() {
    let long = "x".repeat(250);
    for bad in ["", ".", "..", "a b", "ä", "a/b", "__consumer_offsets", &long] {
        assert!(check_topic_name(bad).is_err(), "{bad:?}");
    }
    for good in ["a", "a.b_c-D9", "_x", &long[1..]] {
        assert!(check_topic_name(good).is_ok(), "{good:?}");
    }
}

#[test]
fn connector_names_can_be_addressed() {
    let long = "x".repeat(256);
    for bad in ["", " ", " a", "a/b", "a\nb", &long] {
        assert!(check_connector_name(bad).is_err(), "{bad:?}");
    }
    for good in ["a", "Ä b", &long[1..]] {
        assert!(check_connector_name(good).is_ok(), "{good:?}");
    }
}

#[test]
fn headers_of_the_upgrade_itself_and_injections_are_refused() {
    for bad in ["Host:x", "upgrade:x", "Sec-WebSocket-Key:x", "Content-Length:1", "a b:x", "X:a\r\nY: b", "X:\0"] {
        assert!(errors(&[("websocket.headers", bad)]).iter().any(|e| e.key == "websocket.headers"), "{bad:?}");
    }
    assert_eq!(parsed(&[("websocket.headers", "Sec-WebSocket-Protocol: graphql-ws")]).0.feed.headers.len(), 1);
}

#[test]
fn several_subscription_messages_keep_their_bytes_and_order() {
    let (spec, _) = parsed(&[
        ("websocket.subscription.message", "first"),
        ("twinfeed.websocket.subscription.messages", r#"[ "second", {"b":1, "a": 1e3} ]"#),
    ]);
    let sent: Vec<_> = spec.feed.subscription_messages.iter().map(Secret::expose).collect();
    assert_eq!(sent, ["first", "second", r#"{"b":1, "a": 1e3}"#]);
    assert_eq!(errors(&[("twinfeed.websocket.subscription.messages", "{}")]).len(), 1);
}

#[test]
fn no_secret_survives_redaction_debug_or_errors() {
    let pairs = [
        ("websocket.url", "wss://u:canary@h/p?token=canary"),
        ("twinfeed.websocket.secondary.url", "ws://canary@h/?canary"),
        ("websocket.auth.token", "canary"),
        ("websocket.headers", "Authorization: canary,X-Api-Key:canary,X-Plain:seen"),
        ("websocket.subscription.message", r#"{"op":"authKeyExpires","args":["canary",17,{"n":"canary"}]}"#),
        ("twinfeed.websocket.subscription.messages", r#"[{"token":["canary"]}]"#),
        ("producer.override.sasl.jaas.config", "canary"),
        ("some.password", "canary"),
    ];
    let config: Config = config(&pairs);
    let shown = format!("{:?}", redacted_config(&config));
    assert!(!shown.contains("canary"), "{shown}");
    assert!(shown.contains("X-Plain:seen"));
    let (spec, warnings) = ConnectorSpec::parse("c1", &config).expect("valid");
    assert!(!format!("{spec:?} {warnings:?}").contains("canary"));
    assert!(warnings.iter().any(|w| w.key == "websocket.auth.token" && w.message.contains("raw secret")));
    let broken = errors(&[("websocket.url", "wss://u:canary@/p?token=canary"), ("websocket.auth.token", "canary\n\0")]);
    assert!(!format!("{broken:?}").contains("canary"));
}

#[test]
fn references_stay_visible_and_are_not_warned_about() {
    let pairs = [("websocket.auth.token", "${env:TOKEN}"), ("websocket.headers", "Authorization:Basic ${file:/s/t}")];
    let (_, warnings) = parsed(&pairs);
    assert_eq!(warnings, []);
    assert_eq!(redacted_config(&config(&pairs))["websocket.auth.token"], "${env:TOKEN}");
}
