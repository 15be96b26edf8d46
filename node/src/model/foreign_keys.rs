//! Keys of the Kafka Connect framework that nothing here does. One that would change what is written is refused with the
//! reason: a mask that masks nothing leaks. Only one that cannot change a record is accepted, with a warning.

/// What becomes of a key that has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Records, or where they go, would differ from what it asks for.
    Refused,
    /// Nothing that is written depends on it.
    Ignored,
}

/// One key, or all with a prefix.
#[derive(Debug, Clone, Copy)]
pub struct ForeignKey {
    /// The key; a prefix when it ends in a dot.
    pub name: &'static str,
    /// Values that ask for what happens anyway.
    pub same: &'static [&'static str],
    pub fate: Fate,
    /// Completes "it …".
    pub why: &'static str,
}

const fn refused(name: &'static str, same: &'static [&'static str], why: &'static str) -> ForeignKey {
    ForeignKey { name, same, fate: Fate::Refused, why }
}

const fn ignored(name: &'static str, same: &'static [&'static str], why: &'static str) -> ForeignKey {
    ForeignKey { name, same, fate: Fate::Ignored, why }
}

/// Converters that write the bytes of a message as they are.
const VERBATIM: &[&str] = &[
    "org.apache.kafka.connect.storage.StringConverter",
    "StringConverter",
    "String",
    "org.apache.kafka.connect.converters.ByteArrayConverter",
    "ByteArrayConverter",
    "ByteArray",
];
const NO_KEYS: &[&str] = &[
    "org.apache.kafka.connect.storage.StringConverter",
    "StringConverter",
    "String",
    "org.apache.kafka.connect.converters.ByteArrayConverter",
    "ByteArrayConverter",
    "ByteArray",
    "org.apache.kafka.connect.json.JsonConverter",
    "JsonConverter",
    "Json",
];
const HEADERS: &[&str] = &["org.apache.kafka.connect.storage.SimpleHeaderConverter", "SimpleHeaderConverter", "Simple"];
const UTF_8: &[&str] = &["UTF-8", "utf-8", "UTF8", "utf8"];

const TRANSFORMS: &str = "would change, mask, route or drop records, which does not work yet";
const ERRORS: &str =
    "would skip records or set them aside, which does not work yet; a record that Kafka refuses is an event";
const GROUPS: &str = "would decide how topics are made, which only topic.creation.default.* does here";
const NO_KEY: &str = "changes nothing: records have no key";
const OWN_HEADERS: &str = "changes nothing: records carry no headers but Twinfeed's own, which are bytes";
const CLIENT: &str = "belongs to the node: set it in node.toml under [kafka.properties]";

/// All of them. The longest name that fits counts.
pub const FOREIGN_KEYS: &[ForeignKey] = &[
    refused("transforms", &[""], TRANSFORMS),
    refused("transforms.", &[], TRANSFORMS),
    refused("predicates", &[""], TRANSFORMS),
    refused("predicates.", &[], TRANSFORMS),
    refused("value.converter", VERBATIM, "would change the bytes of a record; String and ByteArray keep them"),
    refused("value.converter.converter.encoding", UTF_8, "would change the bytes of a record; they are UTF-8"),
    refused("value.converter.schemas.enable", &["false"], "would wrap each record in a schema"),
    ignored("value.converter.", &[], "is no setting of a converter that keeps the bytes"),
    ignored("key.converter", NO_KEYS, NO_KEY),
    ignored("key.converter.", &[], NO_KEY),
    ignored("header.converter", HEADERS, OWN_HEADERS),
    ignored("header.converter.", &[], OWN_HEADERS),
    refused("errors.tolerance", &["none"], ERRORS),
    refused("errors.retry.timeout", &["0"], ERRORS),
    refused("errors.retry.delay.max.ms", &["60000"], ERRORS),
    refused("errors.deadletterqueue.topic.name", &[""], ERRORS),
    refused("errors.deadletterqueue.topic.replication.factor", &["3"], ERRORS),
    refused("errors.deadletterqueue.context.headers.enable", &["false"], ERRORS),
    ignored("errors.log.enable", &["false"], "changes nothing: every error is logged and an event"),
    ignored("errors.log.include.messages", &["false"], "changes nothing: messages are never logged"),
    refused("errors.", &[], ERRORS),
    refused("topic.creation.groups", &[""], GROUPS),
    refused("topic.creation.default.include", &[".*"], GROUPS),
    refused("topic.creation.default.exclude", &[""], GROUPS),
    refused("topic.creation.", &[], GROUPS),
    ignored("exactly.once.support", &[], "is not needed: every message is written exactly once whatever it says"),
    ignored("transaction.boundary", &[], "has no effect: twinfeed.commit.interval.ms is the time between transactions"),
    ignored(
        "transaction.boundary.",
        &[],
        "has no effect: twinfeed.commit.interval.ms is the time between transactions",
    ),
    ignored("offsets.storage.topic", &[], "has no effect: a feed has no offsets to store"),
    ignored("tasks.max.enforce", &[], "has no effect: a connector is one stream"),
    ignored("config.action.reload", &[], "has no effect: references are resolved anew at each connection"),
    ignored("connector.plugin.version", &[], "has no effect: the connector is part of the node"),
    refused("config.providers", &[""], "cannot add providers; those of a node are ${env:…} and ${file:…}"),
    refused("config.providers.", &[], "cannot add providers; those of a node are ${env:…} and ${file:…}"),
    refused("admin.override.", &[], CLIENT),
    refused("consumer.override.", &[], CLIENT),
];

/// The rule for `name`, if it is one of these keys.
pub fn foreign_key(name: &str) -> Option<&'static ForeignKey> {
    let fits = |key: &&ForeignKey| if key.name.ends_with('.') { name.starts_with(key.name) } else { name == key.name };
    FOREIGN_KEYS.iter().filter(fits).max_by_key(|key| key.name.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_counts_and_every_name_is_there_once() {
        for (index, key) in FOREIGN_KEYS.iter().enumerate() {
            assert!(FOREIGN_KEYS[..index].iter().all(|other| other.name != key.name), "{}", key.name);
        }
        let fate = |name: &str| foreign_key(name).map(|key| key.fate);
        assert_eq!(fate("value.converter.schemas.enable"), Some(Fate::Refused));
        assert_eq!(fate("value.converter.other"), Some(Fate::Ignored));
        assert_eq!(fate("errors.log.enable"), Some(Fate::Ignored));
        assert_eq!(fate("errors.deadletterqueue.topic.name"), Some(Fate::Refused));
        assert_eq!(fate("transformers"), None);
    }
}
