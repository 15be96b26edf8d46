//! How to reach Kafka, and what a producer or reader of Twinfeed is configured like. `config` fills `Options`; the
//! other files of the room turn them into librdkafka's configuration here and nowhere else.
//!
//! Safety does not depend on configuration: whatever fencing, exactly-once and bounded takeovers rest on is fixed
//! here, and the pass-through accepts only properties that cannot touch it.

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

use super::{
    error::{Error, rejected},
    overrides::java_security,
    record::FRAMING_BYTES_MAX,
    topics::Topics,
};
use crate::model::{connector::Config, ids::ClusterId};

/// Broker-side life of a silent transaction. It bounds how long a dead writer that nobody replaces holds back
/// `read_committed` consumers; a takeover does not wait for it.
const TRANSACTION_TIMEOUT_MS: u64 = 10_000;
/// Below the transaction's life: a record is delivered or failed before the coordinator aborts its transaction.
pub(super) const MESSAGE_TIMEOUT_MS: u64 = 8_000;
/// How long the markers of a committed transaction are waited for. Well within a transaction's life: a late AddPartitionsToTxn
/// may begin an empty one after the commit, whose abort at the end of that life would pass for the missing marker.
pub(super) const MARKERS_MS_MAX: u64 = TRANSACTION_TIMEOUT_MS / 2;
const SOCKET_TIMEOUT_MS: u64 = 5_000;
/// librdkafka re-sends a request this long after a failed attempt, less 20 % jitter (rd_kafka_broker_buf_retry).
const RETRY_BACKOFF_MS: u64 = 500;
/// A call that took longer may contain a hidden second attempt, whose first copy may still arrive.
pub(super) const HIDDEN_RETRY_MS: u64 = RETRY_BACKOFF_MS * 8 / 10;
/// The largest record, framing included, that is taken whatever is configured: librdkafka's default.
const MESSAGE_BYTES_MIN: usize = 1_000_000;
/// librdkafka's default `batch.size`, just below the broker's default limit of a batch.
const BATCH_BYTES: usize = 1_000_000;
/// librdkafka's default: how much of a partition is fetched at once.
const PARTITION_FETCH_BYTES: usize = 1_048_576;
/// librdkafka's default: the largest answer that is read.
const RECEIVE_BYTES: usize = 100_000_000;
/// Records that may wait in one producer; also the most that one write may carry.
pub(super) const RECORDS_MAX: usize = 500_000;
const READER_QUEUE_KBYTES_MAX: u64 = 32_768;

/// Properties that may be passed through to every client.
const ALLOWED: &[&str] = &[
    "broker.address.family",
    "broker.address.ttl",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "connections.max.idle.ms",
    "enable.ssl.certificate.verification",
    "https.ca.location",
    "https.ca.pem",
    "log.connection.close",
    "message.max.bytes",
    "metadata.max.age.ms",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "security.protocol",
    "socket.connection.setup.timeout.ms",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "topic.metadata.refresh.interval.ms",
];
/// Properties that may be passed through and make sense for producers only.
const ALLOWED_FOR_PRODUCERS: &[&str] = &[
    "batch.num.messages",
    "batch.size",
    "compression.codec",
    "compression.level",
    "compression.type",
    "queue.buffering.max.kbytes",
];
/// Families that may be passed through, except for what `REFUSED_FAMILIES` takes out again.
const ALLOWED_FAMILIES: &[&str] = &["sasl.", "ssl."];
/// They load code or run a shell command: a property file must not be a way to do either.
const REFUSED_FAMILIES: &[&str] = &["sasl.kerberos.kinit.cmd", "ssl.engine.", "ssl.providers"];

/// How to reach Kafka. Made by `config`; the same for all writers of a node.
#[derive(Debug, Clone)]
pub struct Options {
    /// Goes into every record, so that a takeover can tell its own records from another cluster's.
    pub cluster: ClusterId,
    /// `host:port`, comma-separated.
    pub bootstrap: String,
    /// Passed to librdkafka as they are, after `check`.
    pub properties: Config,
    /// How long `Warm::open` may try; default 10,000.
    pub open_ms_max: u64,
    /// How long a commit may be waited for before its outcome counts as unknown; default 5,000.
    pub commit_ms_max: u64,
    /// How long a tail read or an offset query may take; default 10,000.
    pub read_ms_max: u64,
    /// How long looking up or creating a topic may take; default 10,000.
    pub topic_ms_max: u64,
    /// Most records of its own stream that a tail read returns; default 1,000,000 (about 80 bytes each).
    pub tail_records_max: usize,
    /// The largest payload to be written, in bytes; the client takes it with its framing, and never less than 1,000,000
    /// bytes in all. A `message.max.bytes` passed through wins. Default 0.
    pub message_bytes_max: usize,
    /// What all writers of a node ask Kafka about topics by. Clone it into the options of each.
    pub topics: Topics,
}

/// Where a producer's records go, and whose they are. All records of a stream go to one partition: Kafka orders nothing
/// beyond it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub topic: String,
    pub partition: i32,
    /// `record::stream_id`. Other streams may write to the same partition; their records are skipped.
    pub stream: u64,
}

impl Target {
    /// Returns partition 0 of `topic`.
    pub fn new(topic: impl Into<String>, stream: u64) -> Self {
        Self { topic: topic.into(), partition: 0, stream }
    }
}

impl Options {
    /// Returns the options with every default.
    pub fn new(cluster: ClusterId, bootstrap: impl Into<String>) -> Self {
        Self {
            cluster,
            bootstrap: bootstrap.into(),
            properties: Config::new(),
            open_ms_max: 10_000,
            commit_ms_max: 5_000,
            read_ms_max: 10_000,
            topic_ms_max: 10_000,
            tail_records_max: 1_000_000,
            message_bytes_max: 0,
            topics: Topics::default(),
        }
    }

    /// Refuses properties that are not on the allow-list and values that librdkafka does not take. Never repeats a
    /// value: any of them may be a secret.
    pub fn check(&self) -> Result<(), Error> {
        if self.bootstrap.trim().is_empty() {
            return Err(rejected("kafka bootstrap", "it is empty; give host:port"));
        }
        self.properties.iter().try_for_each(|(key, value)| check_property(key, value))
    }

    /// The largest record that the client takes, framing included.
    fn client_bytes_max(&self) -> usize {
        self.number("message.max.bytes")
            .unwrap_or_else(|| MESSAGE_BYTES_MIN.max(self.message_bytes_max.saturating_add(FRAMING_BYTES_MAX)))
    }

    /// The largest payload that client and topic take. A compressed record may be larger than the topic's limit and fit:
    /// only Kafka can tell.
    pub(super) fn record_bytes_max(&self, topic: &str) -> usize {
        let client = self.client_bytes_max();
        let topic = self.topics.batch_bytes_max(topic).filter(|_| !self.is_compressed());
        topic.map_or(client, |topic| topic.min(client)).saturating_sub(FRAMING_BYTES_MAX)
    }

    /// The size of a batch, unless a record alone is larger. Kafka refuses a batch above the topic's limit, however small
    /// its records are.
    pub(super) fn batch_bytes(&self, topic: &str) -> usize {
        let wanted = self.number("batch.size").unwrap_or(BATCH_BYTES);
        self.topics.batch_bytes_max(topic).map_or(wanted, |topic| topic.min(wanted)).max(1)
    }

    fn is_compressed(&self) -> bool {
        let codecs = ["compression.type", "compression.codec"].map(|key| self.properties.get(key));
        codecs.into_iter().flatten().any(|codec| codec != "none")
    }

    fn number(&self, key: &str) -> Option<usize> {
        self.properties.get(key).and_then(|value| value.parse().ok())
    }

    pub(super) fn for_producer(&self, transactional_id: &str, batch_bytes: usize) -> ClientConfig {
        let mut config = self.common(|key| !key.is_empty());
        config
            .set("transactional.id", transactional_id)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS.to_string())
            .set("message.timeout.ms", MESSAGE_TIMEOUT_MS.to_string())
            .set("queue.buffering.max.messages", RECORDS_MAX.to_string())
            .set("message.max.bytes", self.client_bytes_max().to_string())
            .set("batch.size", batch_bytes.to_string())
            // A batch is complete when it is handed over: waiting for more only adds to the silence of a takeover.
            .set("linger.ms", "0")
            // A deleted topic fails its records soon instead of holding them for 30 s.
            .set("topic.metadata.propagation.max.ms", "3000");
        config
    }

    /// Returns the configuration of a reader without group membership: `assign` needs a group name, but nothing here
    /// joins or commits.
    pub(super) fn for_reader(&self) -> ClientConfig {
        let mut config = self.common(|key| !ALLOWED_FOR_PRODUCERS.contains(&key));
        let largest = self.client_bytes_max();
        // librdkafka fetches at least a whole record, and wants room for it and for the protocol around it.
        let fetch = largest.max(READER_QUEUE_KBYTES_MAX as usize * 1024);
        let receive = self.number("receive.message.max.bytes").unwrap_or(RECEIVE_BYTES).max(fetch + 1024);
        config
            .set("message.max.bytes", largest.to_string())
            .set("fetch.max.bytes", fetch.to_string())
            .set("fetch.message.max.bytes", largest.max(PARTITION_FETCH_BYTES).to_string())
            .set("receive.message.max.bytes", receive.to_string())
            .set("group.id", format!("twinfeed.{}.tail", self.cluster))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            // The only reliable end: control markers occupy offsets that no record ever has.
            .set("enable.partition.eof", "true")
            // How long the empty fetch at the end waits; it is part of every takeover.
            .set("fetch.wait.max.ms", "5")
            .set("fetch.error.backoff.ms", "20")
            .set("queued.max.messages.kbytes", READER_QUEUE_KBYTES_MAX.to_string());
        config
    }

    /// Returns the configuration for questions about topics and their creation. Its ends of partitions are those of the log,
    /// behind open transactions too.
    pub(super) fn for_topics(&self) -> ClientConfig {
        let mut config = self.common(|key| !ALLOWED_FOR_PRODUCERS.contains(&key) && key != "message.max.bytes");
        config.set("isolation.level", "read_uncommitted").set("allow.auto.create.topics", "false");
        config
    }

    fn common(&self, keep: impl Fn(&str) -> bool) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("client.id", "twinfeed").set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
        for (key, value) in self.properties.iter().filter(|(key, _)| keep(key)) {
            config.set(key, value);
        }
        // After the pass-through: what is set here wins.
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("socket.timeout.ms", SOCKET_TIMEOUT_MS.to_string())
            .set("retry.backoff.ms", RETRY_BACKOFF_MS.to_string())
            .set("retry.backoff.max.ms", (2 * RETRY_BACKOFF_MS).to_string())
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            .set_log_level(RDKafkaLogLevel::Warning);
        config
    }
}

fn is_allowed(key: &str) -> bool {
    ALLOWED.contains(&key)
        || ALLOWED_FOR_PRODUCERS.contains(&key)
        || (ALLOWED_FAMILIES.iter().any(|family| key.starts_with(family))
            && !REFUSED_FAMILIES.iter().any(|family| key.starts_with(family)))
}

/// Checks one property that is to be passed through to librdkafka.
pub fn check_property(key: &str, value: &str) -> Result<(), Error> {
    if !is_allowed(key) {
        return Err(rejected(format!("property {key}"), why_refused(key)));
    }
    match ClientConfig::new().set(key, value).create_native_config() {
        Ok(_) => Ok(()),
        Err(_) => {
            let why = java_security(key).unwrap_or("librdkafka does not take its name or its value");
            Err(rejected(format!("property {key}"), why))
        }
    }
}

fn why_refused(key: &str) -> &'static str {
    match key {
        "transactional.id" | "acks" | "request.required.acks" | "enable.idempotence" => {
            "fencing and exactly-once rest on it; remove it"
        }
        "transaction.timeout.ms" | "message.timeout.ms" | "socket.timeout.ms" | "retry.backoff.ms" | "linger.ms" => {
            "the timing of a takeover rests on it; remove it"
        }
        "debug" => "librdkafka's debug log may show credentials; remove it",
        _ if REFUSED_FAMILIES.iter().any(|family| key.starts_with(family)) || key == "plugin.library.paths" => {
            "it loads code or runs a command; remove it"
        }
        _ => "it is not on the list of properties that may be passed through; remove it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, value: &str) -> Options {
        let mut options = Options::new(ClusterId("c".to_owned()), "127.0.0.1:1");
        options.properties.insert(key.to_owned(), value.to_owned());
        options
    }

    #[test]
    fn what_safety_rests_on_cannot_be_configured() {
        for key in [
            "transactional.id",
            "acks",
            "enable.idempotence",
            "retry.backoff.ms",
            "plugin.library.paths",
            "ssl.engine.location",
            "sasl.kerberos.kinit.cmd",
            "debug",
            "no.such.property",
        ] {
            let refused = with(key, "1").check();
            assert!(matches!(&refused, Err(Error::Rejected { what, .. }) if what.contains(key)), "{key}: {refused:?}");
        }
    }

    #[test]
    fn a_refusal_never_repeats_the_value() {
        let refused = with("security.protocol", "hunter2").check().expect_err("no such protocol");
        assert!(!format!("{refused} {refused:?}").contains("hunter2"));
    }

    #[test]
    fn security_properties_pass_through() {
        with("security.protocol", "ssl").check().expect("a known protocol");
        let config = with("sasl.username", "feeds").for_producer("t", BATCH_BYTES);
        assert_eq!(config.get("sasl.username"), Some("feeds"));
    }

    #[test]
    fn fixed_properties_win_over_the_pass_through() {
        let config = with("socket.timeout.ms", "1").for_producer("t", BATCH_BYTES);
        assert_eq!(config.get("socket.timeout.ms"), Some("5000"));
    }

    #[test]
    fn javas_security_settings_are_refused_with_the_way_out() {
        for (key, way_out) in [("sasl.jaas.config", "sasl.username"), ("ssl.truststore.location", "ssl.ca.location")] {
            let refused = with(key, "hunter2").check().expect_err(key).to_string();
            assert!(refused.contains(way_out) && !refused.contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", with("ssl.key.pem", "canary"));
        assert!(!shown.contains("canary") && shown.contains("ssl.key.pem"), "{shown}");
    }

    #[test]
    fn producer_properties_stay_away_from_readers() {
        let options = with("compression.type", "zstd");
        assert_eq!(options.for_producer("t", BATCH_BYTES).get("compression.type"), Some("zstd"));
        assert_eq!(options.for_reader().get("compression.type"), None);
    }

    #[test]
    fn a_frame_that_may_be_read_may_be_written_and_read_back() {
        let mut options = Options::new(ClusterId("c".to_owned()), "127.0.0.1:1");
        assert_eq!(options.record_bytes_max("t"), 1_000_000 - FRAMING_BYTES_MAX);
        for bytes in [4 << 20, 128 << 20] {
            options.message_bytes_max = bytes;
            assert_eq!(options.record_bytes_max("t"), bytes);
            options.for_producer("t", BATCH_BYTES).create_native_config().expect("a producer takes it");
            let reader = options.for_reader().create::<rdkafka::consumer::BaseConsumer>();
            reader.unwrap_or_else(|error| panic!("a reader does not take {bytes}: {error}"));
        }
        options.properties.insert("message.max.bytes".to_owned(), "2000".to_owned());
        options.properties.insert("receive.message.max.bytes".to_owned(), "1000".to_owned());
        assert_eq!(options.record_bytes_max("t"), 2_000 - FRAMING_BYTES_MAX, "whoever says so means it");
        options.for_reader().create::<rdkafka::consumer::BaseConsumer>().expect("a reader whose answers have room");
    }

    #[test]
    fn a_batch_and_a_record_are_never_larger_than_the_topic_takes() {
        let mut options = Options::new(ClusterId("c".to_owned()), "127.0.0.1:1");
        options.message_bytes_max = 4 << 20;
        assert_eq!(options.batch_bytes("small"), BATCH_BYTES, "nothing is known of it");
        options.topics.learn("small", 20_000);
        options.topics.learn("large", 8 << 20);
        assert_eq!((options.batch_bytes("small"), options.batch_bytes("large")), (20_000, BATCH_BYTES));
        assert_eq!(options.record_bytes_max("small"), 20_000 - FRAMING_BYTES_MAX);
        assert_eq!(options.record_bytes_max("large"), 4 << 20);
        options.properties.insert("batch.size".to_owned(), "16000000".to_owned());
        assert_eq!((options.batch_bytes("small"), options.batch_bytes("large")), (20_000, 8 << 20));
        options.properties.insert("compression.type".to_owned(), "zstd".to_owned());
        assert_eq!(options.record_bytes_max("small"), 4 << 20, "it may be smaller than it looks");
        assert_eq!(options.batch_bytes("small"), 20_000);
    }
}
