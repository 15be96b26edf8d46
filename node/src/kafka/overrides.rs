//! `producer.override.*` of a connector: Kafka's own names of producer settings and librdkafka's, judged one by one. What
//! a takeover and exactly-once rest on is accepted and not used, with the reason: a configuration written for another
//! connector holds such settings. Security belongs to the node: whoever may create a connector must not weaken it.
//! The API asks at create, `worker` when a producer is made. Pure, except that librdkafka judges the values.

use super::options::check_property;
use crate::model::{
    connector::Config,
    secret::{Secret, SecretPart},
    spec::{FieldError, Warning},
    spec_keys::PRODUCER_OVERRIDE_PREFIX,
};

/// A producer must hold the largest batch at once, and what its records weigh besides the messages.
const BATCH_BYTES_MAX: u64 = 20 * 1024 * 1024;

/// What the settings of a connector come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// For librdkafka, by its names.
    pub properties: Config,
    /// What is accepted and not used, and why.
    pub warnings: Vec<Warning>,
}

/// What becomes of one setting.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// Used, under this name of librdkafka.
    Used(&'static str),
    /// Bytes that librdkafka wants in kilobytes.
    BufferBytes,
    /// The same in librdkafka's unit.
    BufferKilobytes,
    /// A level that only counts for one type of compression.
    Level(&'static str),
    /// A buffer of a socket, where -1 is the system's choice.
    SocketBytes(&'static str),
    /// Accepted, not used: what is so instead.
    NotUsed(&'static str),
    /// Kept as it is whatever the class: accepted if it is one of these, as it changes nothing.
    Serializer,
    Refused(&'static str),
}

const TIMING: &str = "the timing of a takeover rests on it, so the node sets it";
const PROMISE: &str = "exactly-once writing rests on it, so the node sets it";
const METRICS: &str = "a node has metrics of its own";
const NO_COUNTERPART: &str = "librdkafka has no such setting";
const PARTITION: &str = "all records of a connector go to one partition, which keeps their order";
const CODE: &str = "it loads code";

/// Every name that is known.
const RULES: &[(&str, Rule)] = &[
    ("batch.num.messages", Rule::Used("batch.num.messages")),
    ("batch.size", Rule::Used("batch.size")),
    ("broker.address.family", Rule::Used("broker.address.family")),
    ("broker.address.ttl", Rule::Used("broker.address.ttl")),
    ("buffer.memory", Rule::BufferBytes),
    ("queue.buffering.max.kbytes", Rule::BufferKilobytes),
    ("client.dns.lookup", Rule::Used("client.dns.lookup")),
    ("client.id", Rule::Used("client.id")),
    ("client.rack", Rule::Used("client.rack")),
    ("compression.codec", Rule::Used("compression.codec")),
    ("compression.level", Rule::Used("compression.level")),
    ("compression.type", Rule::Used("compression.type")),
    ("compression.gzip.level", Rule::Level("gzip")),
    ("compression.lz4.level", Rule::Level("lz4")),
    ("compression.zstd.level", Rule::Level("zstd")),
    ("connections.max.idle.ms", Rule::Used("connections.max.idle.ms")),
    ("log.connection.close", Rule::Used("log.connection.close")),
    ("max.request.size", Rule::Used("message.max.bytes")),
    ("message.max.bytes", Rule::Used("message.max.bytes")),
    ("metadata.max.age.ms", Rule::Used("metadata.max.age.ms")),
    ("receive.message.max.bytes", Rule::Used("receive.message.max.bytes")),
    ("reconnect.backoff.max.ms", Rule::Used("reconnect.backoff.max.ms")),
    ("reconnect.backoff.ms", Rule::Used("reconnect.backoff.ms")),
    ("receive.buffer.bytes", Rule::SocketBytes("socket.receive.buffer.bytes")),
    ("send.buffer.bytes", Rule::SocketBytes("socket.send.buffer.bytes")),
    ("socket.receive.buffer.bytes", Rule::Used("socket.receive.buffer.bytes")),
    ("socket.send.buffer.bytes", Rule::Used("socket.send.buffer.bytes")),
    ("socket.connection.setup.timeout.ms", Rule::Used("socket.connection.setup.timeout.ms")),
    ("topic.metadata.refresh.interval.ms", Rule::Used("topic.metadata.refresh.interval.ms")),
    ("acks", Rule::NotUsed(PROMISE)),
    ("request.required.acks", Rule::NotUsed(PROMISE)),
    ("enable.idempotence", Rule::NotUsed(PROMISE)),
    ("enable.gapless.guarantee", Rule::NotUsed(PROMISE)),
    ("max.in.flight", Rule::NotUsed(PROMISE)),
    ("max.in.flight.requests.per.connection", Rule::NotUsed(PROMISE)),
    ("message.send.max.retries", Rule::NotUsed(PROMISE)),
    ("retries", Rule::NotUsed(PROMISE)),
    ("transactional.id", Rule::NotUsed(PROMISE)),
    ("transaction.two.phase.commit.enable", Rule::NotUsed(PROMISE)),
    ("delivery.timeout.ms", Rule::NotUsed(TIMING)),
    ("linger.ms", Rule::NotUsed(TIMING)),
    ("max.block.ms", Rule::NotUsed(TIMING)),
    ("message.timeout.ms", Rule::NotUsed(TIMING)),
    ("queue.buffering.max.messages", Rule::NotUsed(TIMING)),
    ("queue.buffering.max.ms", Rule::NotUsed(TIMING)),
    ("request.timeout.ms", Rule::NotUsed(TIMING)),
    ("retry.backoff.max.ms", Rule::NotUsed(TIMING)),
    ("retry.backoff.ms", Rule::NotUsed(TIMING)),
    ("socket.keepalive.enable", Rule::NotUsed(TIMING)),
    ("socket.nagle.disable", Rule::NotUsed(TIMING)),
    ("socket.timeout.ms", Rule::NotUsed(TIMING)),
    ("topic.metadata.propagation.max.ms", Rule::NotUsed(TIMING)),
    ("transaction.timeout.ms", Rule::NotUsed(TIMING)),
    ("auto.include.jmx.reporter", Rule::NotUsed(METRICS)),
    ("enable.metrics.push", Rule::NotUsed(METRICS)),
    ("metric.reporters", Rule::NotUsed(METRICS)),
    ("metrics.num.samples", Rule::NotUsed(METRICS)),
    ("metrics.recording.level", Rule::NotUsed(METRICS)),
    ("metrics.sample.window.ms", Rule::NotUsed(METRICS)),
    ("metadata.max.idle.ms", Rule::NotUsed(NO_COUNTERPART)),
    ("metadata.recovery.strategy", Rule::NotUsed(TIMING)),
    ("metadata.recovery.rebootstrap.trigger.ms", Rule::NotUsed(TIMING)),
    ("socket.connection.setup.timeout.max.ms", Rule::NotUsed(NO_COUNTERPART)),
    ("key.serializer", Rule::Serializer),
    ("value.serializer", Rule::Serializer),
    ("partitioner", Rule::Refused(PARTITION)),
    ("partitioner.adaptive.partitioning.enable", Rule::NotUsed(PARTITION)),
    ("partitioner.availability.timeout.ms", Rule::NotUsed(PARTITION)),
    ("partitioner.class", Rule::Refused(PARTITION)),
    ("partitioner.ignore.keys", Rule::NotUsed(PARTITION)),
    ("bootstrap.servers", Rule::Refused("the brokers belong to the node: set kafka.bootstrap in node.toml")),
    ("config.providers", Rule::Refused("the providers of a node are ${env:…} and ${file:…}")),
    ("debug", Rule::Refused("librdkafka's debug log may show credentials")),
    ("interceptor.classes", Rule::Refused(CODE)),
    ("plugin.library.paths", Rule::Refused(CODE)),
];

/// Settings of the node alone: who one is, whom one trusts, and files of the node.
const NODE_FAMILIES: &[&str] = &["enable.sasl.", "enable.ssl.", "https.", "sasl.", "security.", "ssl."];

/// Judges what a connector wants of its producer. A value with an unresolved reference is not judged.
///
/// # Errors
/// Every setting that is refused, with what to do. Never repeats a value: any of them may be a secret.
pub fn overrides(given: &Config, message_bytes_max: usize) -> Result<Overrides, Vec<FieldError>> {
    let mut found = Overrides::default();
    let mut errors = Vec::new();
    for (name, value) in given {
        match judge(name, value, given, message_bytes_max as u64) {
            Ok(Judged::Set(name, value)) => {
                if value
                    .parse::<u64>()
                    .is_ok_and(|bytes| name == "message.max.bytes" && bytes < message_bytes_max as u64)
                {
                    let text =
                        format!("messages from there to the {message_bytes_max} bytes that may be read are left out");
                    found.warnings.push(Warning { key: key(name), message: text });
                }
                found.properties.insert(name.to_owned(), value);
            }
            Ok(Judged::Left(why)) => {
                found.warnings.push(Warning { key: key(name), message: format!("accepted and not used: {why}") });
            }
            Err((message, hint)) => errors.push(FieldError { key: key(name), message, hint }),
        }
    }
    if errors.is_empty() { Ok(found) } else { Err(errors) }
}

enum Judged {
    Set(&'static str, String),
    Left(&'static str),
}

fn key(name: &str) -> String {
    format!("{PRODUCER_OVERRIDE_PREFIX}{name}")
}

/// What is wrong, and what to do.
type Refusal = (String, String);

fn judge(name: &str, value: &str, given: &Config, message_bytes_max: u64) -> Result<Judged, Refusal> {
    if NODE_FAMILIES.iter().any(|family| name.starts_with(family)) {
        let what = format!("{} cannot be set by a connector: the security of Kafka belongs to the node", key(name));
        return Err((what, node_hint(name)));
    }
    let Some((_, rule)) = RULES.iter().find(|(known, _)| *known == name) else { return Err(unknown(name)) };
    let (to, value) = match *rule {
        Rule::NotUsed(why) => return Ok(Judged::Left(why)),
        Rule::Refused(why) => return Err((format!("{} cannot be set: {why}", key(name)), "remove it".to_owned())),
        Rule::Serializer if value.ends_with("ByteArraySerializer") || value.ends_with("StringSerializer") => {
            return Ok(Judged::Left("records are written as the bytes that came"));
        }
        Rule::Serializer => {
            return Err((format!("{} would change the bytes of a record", key(name)), "remove it".to_owned()));
        }
        Rule::Level(codec) => {
            let codecs = ["compression.type", "compression.codec"];
            if !codecs.iter().any(|name| given.get(*name).is_some_and(|value| value == codec)) {
                return Ok(Judged::Left("compression.type names another compression"));
            }
            ("compression.level", value.to_owned())
        }
        Rule::SocketBytes(to) => (to, if value == "-1" { "0".to_owned() } else { value.to_owned() }),
        Rule::BufferBytes | Rule::BufferKilobytes if is_open(value) => ("queue.buffering.max.kbytes", value.to_owned()),
        Rule::BufferBytes => buffer(name, value, 1, message_bytes_max)?,
        Rule::BufferKilobytes => buffer(name, value, 1024, message_bytes_max)?,
        Rule::Used("batch.size") if value == "0" => ("batch.size", "1".to_owned()),
        Rule::Used(to) => (to, value.to_owned()),
    };
    if !is_open(&value) && check_property(to, &value).is_err() {
        let hint = if to == name { String::new() } else { format!("librdkafka calls it {to}") };
        return Err((format!("Invalid value for configuration {}: Kafka's client does not take it", key(name)), hint));
    }
    Ok(Judged::Set(to, value))
}

/// The size of the producer's buffer in librdkafka's unit: the largest batch must fit, or nothing could be written.
fn buffer(name: &str, value: &str, unit: u64, message_bytes_max: u64) -> Result<(&'static str, String), Refusal> {
    let Ok(number) = value.trim().parse::<u64>() else {
        return Err((
            format!("Invalid value for configuration {}: Not a number of type LONG", key(name)),
            String::new(),
        ));
    };
    let bytes_min = BATCH_BYTES_MAX + message_bytes_max;
    if number.saturating_mul(unit) < bytes_min {
        let what = format!("Invalid value for configuration {}: the largest batch would not fit", key(name));
        return Err((what, format!("give at least {}", bytes_min.div_ceil(unit))));
    }
    Ok(("queue.buffering.max.kbytes", number.saturating_mul(unit).div_ceil(1024).to_string()))
}

/// Whether a reference in it has still to be resolved.
fn is_open(value: &str) -> bool {
    Secret::new(value).parts().iter().any(|part| !matches!(part, SecretPart::Literal(_)))
}

fn node_hint(name: &str) -> String {
    let java = java_security(name).map(|way_out| format!(", where {way_out}")).unwrap_or_default();
    format!("set it in node.toml under [kafka.properties]{java}")
}

/// What librdkafka has instead of a Java client's security settings.
pub(super) fn java_security(name: &str) -> Option<&'static str> {
    Some(match name {
        "ssl.keystore.type" | "ssl.truststore.type" => "stores are PEM: it is not needed",
        "ssl.keystore.key" => "it is called ssl.key.pem",
        "ssl.keystore.certificate.chain" => "it is called ssl.certificate.pem",
        "ssl.truststore.certificates" => "it is called ssl.ca.pem",
        "ssl.truststore.location" | "ssl.truststore.password" => {
            "authorities are a PEM file, ssl.ca.location (from a JKS store: keytool -exportcert -rfc)"
        }
        "ssl.keystore.location" | "ssl.keystore.password" => {
            "a key and its certificate are PEM files, ssl.key.location and ssl.certificate.location, or a PKCS#12 store \
             (from a JKS store: keytool -importkeystore -deststoretype pkcs12)"
        }
        "sasl.jaas.config" => "PLAIN and SCRAM take sasl.username and sasl.password",
        "sasl.client.callback.handler.class" | "sasl.login.callback.handler.class" | "sasl.login.class" => {
            "no Java classes are loaded; OAUTHBEARER takes sasl.oauthbearer.*"
        }
        "ssl.protocol" | "ssl.enabled.protocols" | "ssl.provider" | "ssl.engine.factory.class" => {
            "OpenSSL decides: it is not needed"
        }
        _ => return None,
    })
}

fn unknown(name: &str) -> Refusal {
    let limit = (name.len() / 6).clamp(1, 4);
    let near = RULES
        .iter()
        .map(|(known, _)| (strsim::osa_distance(&name.to_ascii_lowercase(), known), *known))
        .filter(|(distance, _)| *distance <= limit)
        .min();
    let hint = match near {
        Some((_, near)) => format!("did you mean {}?", key(near)),
        None => "neither Kafka's producer nor librdkafka has one that may be set; remove it".to_owned(),
    };
    (format!("Unknown configuration {}", key(name)), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> Config {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn used(pairs: &[(&str, &str)]) -> Overrides {
        overrides(&given(pairs), 4 << 20).expect("all are accepted")
    }

    fn refused(name: &str, value: &str) -> FieldError {
        let mut errors = overrides(&given(&[(name, value)]), 4 << 20).expect_err(name);
        assert_eq!((errors.len(), errors[0].key.clone()), (1, key(name)));
        errors.remove(0)
    }

    #[test]
    fn javas_names_mean_what_they_mean_in_java() {
        for (name, value, to, becomes) in [
            ("max.request.size", "2000000", "message.max.bytes", "2000000"),
            ("batch.size", "32768", "batch.size", "32768"),
            ("batch.size", "0", "batch.size", "1"),
            ("buffer.memory", "67108865", "queue.buffering.max.kbytes", "65537"),
            ("queue.buffering.max.kbytes", "65536", "queue.buffering.max.kbytes", "65536"),
            ("compression.type", "lz4", "compression.type", "lz4"),
            ("client.id", "feeds", "client.id", "feeds"),
            ("send.buffer.bytes", "-1", "socket.send.buffer.bytes", "0"),
            ("client.id", "${env:ID}", "client.id", "${env:ID}"),
        ] {
            let found = used(&[(name, value)]);
            assert_eq!(found.properties.get(to).map(String::as_str), Some(becomes), "{name}");
        }
        let both =
            used(&[("compression.type", "zstd"), ("compression.zstd.level", "5"), ("compression.lz4.level", "9")]);
        assert_eq!(both.properties["compression.level"], "5");
        assert_eq!(both.warnings.len(), 1);
    }

    #[test]
    fn every_name_that_is_passed_on_is_one_that_librdkafka_takes() {
        for (name, rule) in RULES {
            if let Rule::Used(to) | Rule::SocketBytes(to) = rule {
                let values = ["1000", "true", "any", "use_all_dns_ips", "lz4", "5"];
                assert!(values.iter().any(|value| check_property(to, value).is_ok()), "{name} -> {to}");
            }
        }
    }

    #[test]
    fn what_the_promise_rests_on_is_accepted_and_not_used_and_the_reason_is_given() {
        for name in [
            "linger.ms",
            "acks",
            "enable.idempotence",
            "retries",
            "delivery.timeout.ms",
            "request.timeout.ms",
            "max.in.flight.requests.per.connection",
            "transaction.timeout.ms",
            "transactional.id",
            "max.block.ms",
        ] {
            let found = used(&[(name, "1")]);
            assert!(found.properties.is_empty(), "{name}");
            assert_eq!(found.warnings[0].key, key(name));
            assert!(found.warnings[0].message.contains("rests on it"), "{:?}", found.warnings);
        }
        let serializer = used(&[("key.serializer", "org.apache.kafka.common.serialization.ByteArraySerializer")]);
        assert!(serializer.properties.is_empty());
        assert!(refused("value.serializer", "com.example.Avro").message.contains("change the bytes"));
    }

    #[test]
    fn a_connector_cannot_weaken_the_security_of_the_node() {
        for (name, hint) in [
            ("security.protocol", "node.toml under [kafka.properties]"),
            ("ssl.key.pem", "node.toml"),
            ("ssl.endpoint.identification.algorithm", "node.toml"),
            ("sasl.mechanism", "node.toml"),
            ("enable.ssl.certificate.verification", "node.toml"),
            ("https.ca.location", "node.toml"),
            ("ssl.keystore.location", "PEM"),
            ("ssl.truststore.location", "ssl.ca.location"),
            ("sasl.jaas.config", "sasl.username and sasl.password"),
        ] {
            let error = refused(name, "hunter2");
            assert!(error.hint.contains(hint) && error.message.contains("belongs to the node"), "{error:?}");
            assert!(!format!("{error:?}").contains("hunter2"));
        }
        for name in ["bootstrap.servers", "interceptor.classes", "plugin.library.paths", "debug", "partitioner.class"] {
            refused(name, "x");
        }
    }

    #[test]
    fn slips_bad_values_and_buffers_that_hold_no_batch_are_refused() {
        assert_eq!(refused("linger.m", "1").hint, "did you mean producer.override.linger.ms?");
        assert!(refused("no.such.thing", "1").message.contains("Unknown configuration"));
        assert!(refused("compression.type", "hunter2").message.contains("does not take it"));
        assert!(refused("max.request.size", "1").hint.contains("message.max.bytes"));
        assert!(refused("buffer.memory", "1048576").hint.contains("at least 25165824"));
        assert!(refused("buffer.memory", "lots").message.contains("Not a number"));
        let small = used(&[("max.request.size", "2000")]);
        assert!(small.warnings[0].message.contains("left out"), "{small:?}");
    }
}
