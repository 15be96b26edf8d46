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
        ("transforms", "a"),
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
    assert_eq!(warned, ["somebody.elses.key", "transforms", "websocket.headers"]);
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
        ("websocket.subscription.message", r#"{"op":"auth","args":{"apiKey":"canary","n":1}}"#),
        ("twinfeed.websocket.subscription.messages", r#"[{"token":["canary"]}]"#),
        ("producer.override.sasl.jaas.config", "canary"),
        ("some.password", "canary"),
    ];
    let config: Config = config(&pairs);
    let shown = format!("{:?}", redacted_config(&config));
    assert!(!shown.contains("canary"), "{shown}");
    assert!(shown.contains("X-Plain:seen"));
    let (spec, warnings) = ConnectorSpec::parse("c1", &config).expect("valid");
    assert!(!format!("{:?} {warnings:?}", spec.feed).contains("canary"));
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
