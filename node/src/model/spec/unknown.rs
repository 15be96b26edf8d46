//! Keys that are not in the table: those of the framework that nothing here does, slips, and somebody else's. And
//! references that nobody would resolve.

use super::Reader;
use crate::model::{
    foreign_keys::{FOREIGN_KEYS, Fate, foreign_key},
    secret::{PROVIDERS, Secret},
    spec_keys as keys,
};

/// First parts of names that are ours alone: what is unknown under them is a slip, however far from every known key.
const OWN_FAMILIES: [&str; 4] = [keys::OWN_PREFIX, "websocket.", "kafka.", "producer."];
/// Keys whose references a node resolves, besides `producer.override.*`.
const RESOLVED: [&str; 7] = [
    keys::WEBSOCKET_URL,
    keys::SECONDARY_URL,
    keys::SUBSCRIPTION_MESSAGE,
    keys::SUBSCRIPTION_MESSAGES,
    keys::HEADERS,
    keys::HEADERS_JSON,
    keys::AUTH_TOKEN,
];

impl Reader<'_> {
    pub(super) fn check_unknown(&mut self) {
        let config = self.config;
        for (key, value) in config {
            if keys::definition(key).is_some() || key.starts_with(keys::PRODUCER_OVERRIDE_PREFIX) {
                continue;
            }
            match foreign_key(key) {
                // Settings of a topic have their own check.
                Some(rule) if rule.name == "topic.creation." && key.starts_with(keys::TOPIC_CREATION_PREFIX) => {}
                Some(rule) if rule.same.contains(&value.trim()) => {}
                Some(rule) if rule.fate == Fate::Refused => {
                    let message = format!("Configuration {key} cannot be accepted: it {}", rule.why);
                    self.error(key, message, "remove it");
                }
                Some(rule) => self.warn(key, format!("it {}", rule.why)),
                None => self.check_stray(key),
            }
        }
    }

    /// A key that nobody here knows.
    fn check_stray(&mut self, key: &str) {
        let ours = keys::all().map(|known| known.name);
        let foreign = FOREIGN_KEYS.iter().map(|known| known.name).filter(|name| !name.ends_with('.'));
        match nearest(key, ours.chain(foreign)) {
            Some(near) => self.error(key, format!("Unknown configuration {key}"), format!("did you mean {near}?")),
            None if OWN_FAMILIES.iter().any(|family| key.starts_with(family)) => {
                self.error(key, format!("Unknown configuration {key}"), "docs/configuration.md lists the keys");
            }
            None => self.warn(key, "unknown; kept but without effect"),
        }
    }

    /// A reference that nobody resolves would be sent, or used, as it stands.
    pub(super) fn check_references(&mut self) {
        let config = self.config;
        for (key, value) in config {
            let secret = Secret::new(value.as_str());
            let is_override = key.starts_with(keys::PRODUCER_OVERRIDE_PREFIX);
            if RESOLVED.contains(&key.as_str()) || is_override {
                if let Some(why) = secret.bad_reference() {
                    let message = format!("Invalid value for configuration {key}: {why}");
                    let list = PROVIDERS.map(|name| format!("${{{name}:…}}")).join(" and ");
                    self.error(key, message, format!("the providers that exist are {list}"));
                }
            } else if keys::definition(key).is_some() || key.starts_with(keys::TOPIC_CREATION_PREFIX) {
                let has_reference = secret.with_references_as("") != *value || secret.bad_reference().is_some();
                if has_reference {
                    let message = format!("Invalid value for configuration {key}: a reference is not resolved here");
                    self.error(key, message, "give the value itself");
                }
            }
        }
    }
}

/// The known name that `key` may have been meant to be. Case and the kind of separator do not count.
pub(super) fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.trim().to_ascii_lowercase().replace(['_', '-'], ".");
    let key = plain(key);
    // A sixth of the name may differ at most: `websocket.ur` is a slip, `foo` is somebody else's key.
    let limit = (key.len() / 6).clamp(1, 4);
    known
        .map(|name| (strsim::osa_distance(&key, name), name))
        // Or its end is missing: `retention` for `retention.ms`.
        .filter(|(distance, name)| *distance <= limit || (key.len() > 5 && name.starts_with(&format!("{key}."))))
        .min()
        .map(|(_, name)| name)
}
