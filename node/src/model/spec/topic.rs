//! Where the records go: the topic's name, and how it is made when it is missing.

use std::collections::BTreeMap;

use super::Reader;
use crate::model::spec_keys as keys;

/// What Kafka lets be set for a topic. A setting with another name would be refused when the topic is made, which is
/// later than anybody looks.
const TOPIC_SETTINGS: [&str; 36] = [
    "cleanup.policy",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "delete.retention.ms",
    "file.delete.delay.ms",
    "flush.messages",
    "flush.ms",
    "follower.replication.throttled.replicas",
    "index.interval.bytes",
    "leader.replication.throttled.replicas",
    "local.retention.bytes",
    "local.retention.ms",
    "max.compaction.lag.ms",
    MAX_MESSAGE_BYTES,
    "message.downconversion.enable",
    "message.format.version",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "message.timestamp.difference.max.ms",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.compaction.lag.ms",
    "min.insync.replicas",
    "preallocate",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "remote.storage.enable",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.index.bytes",
    "segment.jitter.ms",
    "segment.ms",
    "unclean.leader.election.enable",
];
/// The topic's limit of a batch of records, and so of a record.
const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
/// What a record and its batch weigh besides the message: headers, framing, and room for more of either.
const RECORD_OVERHEAD_BYTES: u64 = 64 * 1024;
/// Kafka's own default of `max.message.bytes`. Batches of small messages need it, however small the limit of one is.
const TOPIC_BYTES_DEFAULT: u64 = 1_048_588;

/// Where the records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    pub name: String,
    /// Create it when it is missing.
    pub create: bool,
    /// None: the broker's default.
    pub partitions: Option<i32>,
    /// None: the broker's default.
    pub replication_factor: Option<i16>,
    /// Other `topic.creation.default.*` settings without the prefix.
    pub properties: BTreeMap<String, String>,
}

impl TopicSpec {
    /// The settings of a topic that is created: those of the connector, and a limit of `max.message.bytes` that the
    /// largest message fits where the connector gives none.
    pub fn creation_properties(&self, message_bytes_max: usize) -> BTreeMap<String, String> {
        let mut properties = self.properties.clone();
        let fits = (message_bytes_max as u64).saturating_add(RECORD_OVERHEAD_BYTES).max(TOPIC_BYTES_DEFAULT);
        properties.entry(MAX_MESSAGE_BYTES.to_owned()).or_insert_with(|| fits.to_string());
        properties
    }
}

impl Reader<'_> {
    pub(super) fn topic(&mut self) -> TopicSpec {
        let name = self.text(keys::KAFKA_TOPIC);
        if let Some(Err(why)) = name.as_deref().map(check_topic_name) {
            let shown = name.as_deref().unwrap_or_default();
            self.invalid(keys::KAFKA_TOPIC, shown, why, "1 to 249 of a-z A-Z 0-9 . _ -");
        }
        let foreign = ["include", "exclude"].map(|name| format!("{}{name}", keys::TOPIC_CREATION_PREFIX));
        let own = [keys::TOPIC_PARTITIONS, keys::TOPIC_REPLICATION_FACTOR, &foreign[0], &foreign[1]];
        let properties = self.under(keys::TOPIC_CREATION_PREFIX, &own);
        let topic = TopicSpec {
            name: name.unwrap_or_default(),
            create: self.flag(keys::TOPIC_CREATE),
            partitions: i32::try_from(self.number(keys::TOPIC_PARTITIONS)).ok().filter(|n| *n > 0),
            replication_factor: i16::try_from(self.number(keys::TOPIC_REPLICATION_FACTOR)).ok().filter(|n| *n > 0),
            properties: properties.into_iter().collect(),
        };
        self.check_settings(&topic);
        topic
    }

    fn check_settings(&mut self, topic: &TopicSpec) {
        for (name, value) in &topic.properties {
            let key = format!("{}{name}", keys::TOPIC_CREATION_PREFIX);
            if !TOPIC_SETTINGS.contains(&name.as_str()) && !name.starts_with("confluent.") {
                let own = ["partitions", "replication.factor"];
                let near = super::unknown::nearest(name, own.into_iter().chain(TOPIC_SETTINGS));
                let hint = near.map_or("see Kafka's topic configurations".to_owned(), |near| {
                    format!("did you mean {}{near}?", keys::TOPIC_CREATION_PREFIX)
                });
                self.error(&key, format!("Unknown configuration {key}: Kafka has no such setting of a topic"), hint);
            } else if name == "cleanup.policy" && value.contains("compact") {
                let why = "a compacted topic takes no record without a key, and records have none";
                self.invalid(&key, value, why, "use delete");
            } else if name == MAX_MESSAGE_BYTES && value.parse::<i32>().is_err() {
                self.invalid(&key, value, "Not a number of type INT", "");
            } else if name == "min.insync.replicas" && topic.replication_factor.is_some_and(|n| exceeds(value, n)) {
                self.invalid(&key, value, "more than there are replicas: nothing could be written", "");
            }
        }
        if !topic.create && self.config.keys().any(|key| key.starts_with(keys::TOPIC_CREATION_PREFIX)) {
            self.warn(keys::TOPIC_CREATE, "is false: topic.creation.default.* has no effect");
        }
    }

    /// Limits that do not fit each other: what the feed may send, and what the topic takes.
    pub(super) fn check_sizes(&mut self, topic: &TopicSpec, message_bytes_max: u64) {
        let stated = topic.properties.get(MAX_MESSAGE_BYTES).and_then(|value| value.parse::<u64>().ok());
        let Some(topic_bytes_max) = stated else {
            return;
        };
        if message_bytes_max > topic_bytes_max {
            let key = format!("{}{MAX_MESSAGE_BYTES}", keys::TOPIC_CREATION_PREFIX);
            let text = format!(
                "{key} is {topic_bytes_max}: messages from there to the {message_bytes_max} bytes that may be read cannot be \
                 written and are left out"
            );
            self.warn(keys::MESSAGE_BYTES_MAX, text);
        }
    }
}

fn exceeds(value: &str, replicas: i16) -> bool {
    value.parse::<i16>().is_ok_and(|value| value > replicas)
}

/// Kafka's rule for topic names, and ours: names beginning with `__` belong to Kafka.
///
/// # Errors
/// Why it is refused.
pub fn check_topic_name(topic: &str) -> Result<(), &'static str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match topic {
        "" => Err("the topic name is empty"),
        "." | ".." => Err("the topic name cannot be . or .."),
        _ if topic.len() > 249 => Err("the topic name is longer than 249 characters"),
        _ if !topic.chars().all(legal) => Err("the topic name contains an illegal character"),
        _ if topic.starts_with("__") => Err("topic names that begin with __ belong to Kafka"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_created_topic_takes_the_largest_message_unless_told_otherwise() {
        let mut topic = TopicSpec {
            name: "t".to_owned(),
            create: true,
            partitions: None,
            replication_factor: None,
            properties: BTreeMap::new(),
        };
        assert_eq!(topic.creation_properties(4 << 20)[MAX_MESSAGE_BYTES], "4259840");
        assert_eq!(topic.creation_properties(2048)[MAX_MESSAGE_BYTES], "1048588");
        topic.properties.insert(MAX_MESSAGE_BYTES.to_owned(), "20000".to_owned());
        assert_eq!(topic.creation_properties(4 << 20)[MAX_MESSAGE_BYTES], "20000");
    }
}
