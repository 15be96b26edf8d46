//! The table of connector configuration keys: name, type, default, bounds, importance and one line of documentation.
//! `spec` checks values against it, the API answers `config/validate` from it, and the reference documentation of the
//! keys is generated from it. It decides nothing itself.

/// The class name of the connector this cluster runs, and the aliases that Kafka Connect would accept for it.
pub const CONNECTOR_CLASSES: [&str; 3] =
    ["io.conduktor.connect.websocket.WebSocketSourceConnector", "WebSocketSourceConnector", "WebSocketSource"];

/// The type of a value, named as Kafka's `ConfigDef` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// STRING
    Text,
    /// PASSWORD: hidden wherever it is shown.
    Password,
    /// BOOLEAN
    Flag,
    /// INT within bounds.
    Int { min: i64, max: i64 },
    /// LONG within bounds.
    Long { min: i64, max: i64 },
    /// STRING out of a list.
    Choice(&'static [&'static str]),
}

impl Kind {
    /// Kafka's name of the type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text | Self::Choice(_) => "STRING",
            Self::Password => "PASSWORD",
            Self::Flag => "BOOLEAN",
            Self::Int { .. } => "INT",
            Self::Long { .. } => "LONG",
        }
    }
}

/// How much an operator should care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Importance {
    High,
    Medium,
    Low,
}

/// What happens to a number outside of its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// An error.
    Refused,
    /// The nearest bound is taken, with a warning: the original connector accepts any number for this key.
    Clamped,
}

/// One configuration key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyDefinition {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
    pub default: Option<&'static str>,
    pub importance: Importance,
    pub outside: Outside,
    pub doc: &'static str,
}

pub const WEBSOCKET_URL: &str = "websocket.url";
pub const KAFKA_TOPIC: &str = "kafka.topic";
pub const SUBSCRIPTION_MESSAGE: &str = "websocket.subscription.message";
pub const RECONNECT_ENABLED: &str = "websocket.reconnect.enabled";
pub const RECONNECT_INTERVAL_MS: &str = "websocket.reconnect.interval.ms";
pub const HEADERS: &str = "websocket.headers";
pub const AUTH_TOKEN: &str = "websocket.auth.token";
pub const MESSAGE_QUEUE_SIZE: &str = "websocket.message.queue.size";
pub const CONNECTION_TIMEOUT_MS: &str = "websocket.connection.timeout.ms";
pub const RECONNECT_MAX_ATTEMPTS: &str = "websocket.reconnect.max.attempts";
pub const RECONNECT_BACKOFF_MAX_MS: &str = "websocket.reconnect.backoff.max.ms";
pub const SECONDARY_URL: &str = "twinfeed.websocket.secondary.url";
pub const SUBSCRIPTION_MESSAGES: &str = "twinfeed.websocket.subscription.messages";
pub const REDUNDANCY: &str = "twinfeed.redundancy";
pub const IDLE_TIMEOUT_MS: &str = "twinfeed.websocket.idle.timeout.ms";
pub const PING_INTERVAL_MS: &str = "twinfeed.websocket.ping.interval.ms";
pub const PONG_TIMEOUT_MS: &str = "twinfeed.websocket.pong.timeout.ms";
pub const MESSAGE_BYTES_MAX: &str = "twinfeed.websocket.message.bytes.max";
pub const UPGRADE_TIMEOUT_MS: &str = "twinfeed.websocket.upgrade.timeout.ms";
pub const BEHIND_TIMEOUT_MS: &str = "twinfeed.websocket.behind.timeout.ms";
pub const HEADERS_JSON: &str = "twinfeed.websocket.headers";
pub const TLS_CA_FILE: &str = "twinfeed.tls.ca.file";
pub const COMMIT_INTERVAL_MS: &str = "twinfeed.commit.interval.ms";
pub const BUFFER_BYTES_MAX: &str = "twinfeed.buffer.bytes.max";
pub const DEDUP_SPAN_MS: &str = "twinfeed.dedup.span.ms";
pub const TOPIC_CREATE: &str = "twinfeed.topic.create";
pub const CONNECTOR_CLASS: &str = "connector.class";
pub const TASKS_MAX: &str = "tasks.max";
pub const TOPIC_PARTITIONS: &str = "topic.creation.default.partitions";
pub const TOPIC_REPLICATION_FACTOR: &str = "topic.creation.default.replication.factor";

/// Prefix of the keys that only Twinfeed knows; an unknown key under it is an error.
pub const OWN_PREFIX: &str = "twinfeed.";
/// Prefix of the settings handed to the Kafka producer.
pub const PRODUCER_OVERRIDE_PREFIX: &str = "producer.override.";
/// Prefix of the settings of a topic that is created, `max.message.bytes` for example.
pub const TOPIC_CREATION_PREFIX: &str = "topic.creation.default.";

const DAY_MS: i64 = 86_400_000;

const fn key(name: &'static str, kind: Kind, default: Option<&'static str>, doc: &'static str) -> KeyDefinition {
    let importance = Importance::Medium;
    KeyDefinition { name, kind, required: false, default, importance, outside: Outside::Refused, doc }
}

impl KeyDefinition {
    const fn required(self) -> Self {
        Self { required: true, importance: Importance::High, ..self }
    }

    const fn low(self) -> Self {
        Self { importance: Importance::Low, ..self }
    }

    const fn clamped(self) -> Self {
        Self { outside: Outside::Clamped, ..self }
    }
}

/// The eleven keys of the Conduktor connector, with its types and defaults.
pub const CONNECTOR_KEYS: &[KeyDefinition] = &[
    key(WEBSOCKET_URL, Kind::Text, None, "WebSocket endpoint, ws:// or wss://. May contain ${env:…} and ${file:…}. A host may be in any script; what a URL \
         may not hold is percent-encoded.")
        .required(),
    key(KAFKA_TOPIC, Kind::Text, None, "Topic to write to: 1 to 249 of a-z A-Z 0-9 . _ -, not starting with __.")
        .required(),
    key(SUBSCRIPTION_MESSAGE, Kind::Text, None, "Text frame sent first on every connection. May contain references."),
    key(
        RECONNECT_ENABLED,
        Kind::Flag,
        Some("true"),
        "Connect again when a connection ends. If false, the end of one is a failure of the connector.",
    ),
    key(
        RECONNECT_INTERVAL_MS,
        Kind::Long { min: 1, max: DAY_MS },
        Some("5000"),
        "Base of the reconnect backoff in milliseconds; attempt n waits 0 to interval x 2^(n-1), or as long as the \
         server's Retry-After says, 10 min at most.",
    )
    .clamped(),
    key(
        HEADERS,
        Kind::Text,
        None,
        "Request headers of the upgrade: name:value,name:value. May contain references. A value cannot hold a comma here; \
         it can in twinfeed.websocket.headers. One that is given takes the place of Twinfeed's own, such as User-Agent.",
    )
    .low(),
    key(AUTH_TOKEN, Kind::Password, None, "Sent as Authorization: Bearer. Give ${env:…} or ${file:…}, not the token."),
    key(
        MESSAGE_QUEUE_SIZE,
        Kind::Int { min: 1, max: 10_000_000 },
        Some("10000"),
        "Frames that may wait between the socket and the writer, and at most 1 MiB or one message of them. A full queue \
         stops the reading.",
    )
    .clamped()
    .low(),
    key(
        CONNECTION_TIMEOUT_MS,
        Kind::Long { min: 100, max: 600_000 },
        Some("30000"),
        "Limit of the TCP connect in milliseconds, name lookup included.",
    )
    .clamped(),
    key(
        RECONNECT_MAX_ATTEMPTS,
        Kind::Int { min: -1, max: i32::MAX as i64 },
        Some("-1"),
        "Consecutive failed attempts after which the connector fails; -1 and 0 mean no limit. A connection that brought \
         no message is one, however long it lived.",
    )
    .clamped(),
    key(
        RECONNECT_BACKOFF_MAX_MS,
        Kind::Long { min: 1, max: DAY_MS },
        Some("60000"),
        "Upper limit of the reconnect backoff in milliseconds.",
    )
    .clamped(),
];

/// The keys that Twinfeed adds.
pub const TWINFEED_KEYS: &[KeyDefinition] = &[
    key(SECONDARY_URL, Kind::Text, None, "Endpoint of the secondary subscription; by default the same as the first."),
    key(
        SUBSCRIPTION_MESSAGES,
        Kind::Text,
        None,
        "JSON array of further frames sent on every connection, in order; strings as they are, other values as JSON.",
    ),
    key(
        HEADERS_JSON,
        Kind::Text,
        None,
        "Further request headers of the upgrade as a JSON object: {\"Cookie\":\"a=b; c=d,e\"}; an array of texts repeats a \
         header. May contain references.",
    )
    .low(),
    key(REDUNDANCY, Kind::Choice(&["dual", "single"]), Some("dual"), "Two subscriptions on two nodes, or one."),
    key(
        IDLE_TIMEOUT_MS,
        Kind::Long { min: 0, max: DAY_MS },
        Some("0"),
        "Reconnect when no message came for so long, in milliseconds; 0 never. Pings find dead connections anyway. Empty \
         messages, and text of white space alone, are keep-alives: never records, and no message here.",
    ),
    key(
        BEHIND_TIMEOUT_MS,
        Kind::Long { min: 0, max: 3_600_000 },
        Some("5000"),
        "Reconnect when a subscription has lacked for so long what its twin has delivered, in milliseconds; 0 never.",
    ),
    key(
        PING_INTERVAL_MS,
        Kind::Long { min: 0, max: 3_600_000 },
        Some("10000"),
        "Interval of own pings in milliseconds; 0 sends none.",
    ),
    key(
        PONG_TIMEOUT_MS,
        Kind::Long { min: 100, max: 3_600_000 },
        Some("15000"),
        "Reconnect when a ping brought neither pong nor message for so long, in milliseconds.",
    ),
    key(
        MESSAGE_BYTES_MAX,
        Kind::Long { min: 1024, max: 67_108_864 },
        Some("4194304"),
        "Largest message in bytes; a larger one ends the connection.",
    ),
    key(
        UPGRADE_TIMEOUT_MS,
        Kind::Long { min: 100, max: 600_000 },
        Some("10000"),
        "Limit of the TLS handshake, of the HTTP upgrade, and of sending the subscription, each, in milliseconds.",
    ),
    key(TLS_CA_FILE, Kind::Text, None, "PEM file on the nodes with authorities to trust besides the public ones."),
    key(
        COMMIT_INTERVAL_MS,
        Kind::Long { min: 2, max: 1000 },
        Some("10"),
        "Time between Kafka transactions in milliseconds: smaller is faster for readers, larger cheaper for brokers.",
    ),
    key(
        BUFFER_BYTES_MAX,
        Kind::Long { min: 1_048_576, max: 68_719_476_736 },
        Some("268435456"),
        "Bytes of unwritten messages a node keeps for this connector while Kafka is away.",
    ),
    key(
        DEDUP_SPAN_MS,
        Kind::Long { min: 100, max: 3_600_000 },
        Some("10000"),
        "How far the two subscriptions may lag behind each other, in milliseconds. A stream remembers 262,144 messages at \
         most, so at a rate of n messages a second no further than 262,144 / n seconds: 3.7 s at 70,000.",
    ),
    key(TOPIC_CREATE, Kind::Flag, Some("true"), "Create the topic if it does not exist."),
];

/// Framework keys that have an effect here.
pub const FRAMEWORK_KEYS: &[KeyDefinition] = &[
    key("name", Kind::Text, None, "Name of the connector.").required(),
    key(CONNECTOR_CLASS, Kind::Text, None, "Class of the connector; all aliases mean this one.").required(),
    key(TASKS_MAX, Kind::Int { min: 1, max: i32::MAX as i64 }, Some("1"), "Accepted; a connector is one stream."),
    key(
        TOPIC_PARTITIONS,
        Kind::Int { min: -1, max: 10_000 },
        Some("-1"),
        "Partitions of a created topic; -1 takes the broker's default. Records go to partition 0, to keep their order.",
    ),
    key(
        TOPIC_REPLICATION_FACTOR,
        Kind::Int { min: -1, max: 32_767 },
        Some("-1"),
        "Replicas of a created topic; -1 takes the broker's default.",
    ),
];

/// All keys with an effect.
pub fn all() -> impl Iterator<Item = &'static KeyDefinition> {
    CONNECTOR_KEYS.iter().chain(TWINFEED_KEYS).chain(FRAMEWORK_KEYS)
}

/// The definition of `name`, if it is a key with an effect.
pub fn definition(name: &str) -> Option<&'static KeyDefinition> {
    all().find(|key| key.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_lies_within_its_bounds_and_names_are_unique() {
        let all: Vec<_> = all().collect();
        for key in &all {
            assert_eq!(all.iter().filter(|other| other.name == key.name).count(), 1, "{}", key.name);
            if let (Kind::Int { min, max } | Kind::Long { min, max }, Some(default)) = (key.kind, key.default) {
                let default: i64 = default.parse().expect("a number");
                assert!((min..=max).contains(&default), "{}", key.name);
            }
        }
        assert_eq!(CONNECTOR_KEYS.len(), 11, "the eleven keys of the connector that is replaced");
    }
}
