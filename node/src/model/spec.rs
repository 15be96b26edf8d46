//! The checked specification of a connector, read from its configuration map. The API checks with it before anything
//! is stored, workers build their roles from it, and displays go through `redaction`.
//! Pure: it reads no file, no environment and no clock; references to secrets stay references.

mod headers;
mod topic;
mod unknown;

use serde_json::value::RawValue;

use super::{
    connector::{Config, Redundancy},
    feed_url::FeedUrl,
    secret::{Secret, SecretPart},
    spec_keys::{self as keys, Kind, Outside},
};

pub use super::{feed_url::public_url, redaction::redacted_config};
pub use topic::{TopicSpec, check_topic_name};

/// Frames a subscription may send, at most.
const SUBSCRIPTION_MESSAGES_MAX: usize = 1024;

/// A connector as the data plane needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectorSpec {
    pub name: String,
    pub redundancy: Redundancy,
    pub feed: FeedSpec,
    pub topic: TopicSpec,
    /// Time between transactions.
    pub commit_interval_ms: u64,
    /// Unwritten bytes kept while Kafka is away.
    pub buffer_bytes_max: u64,
    /// How long a message may be matched to its twin.
    pub dedup_span_ms: u64,
    /// `producer.override.*` without the prefix; the kafka room decides what it allows. References are not resolved.
    pub producer_overrides: Config,
}

/// How to subscribe. The same for both subscriptions except the URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedSpec {
    pub primary_url: FeedUrl,
    /// None: the secondary subscription uses the primary's URL.
    pub secondary_url: Option<FeedUrl>,
    /// Text frames sent on every connection, in order.
    pub subscription_messages: Vec<Secret>,
    pub headers: Vec<(String, Secret)>,
    pub auth_token: Option<Secret>,
    pub tls_ca_file: Option<String>,
    pub reconnect_enabled: bool,
    pub reconnect_interval_ms: u64,
    pub reconnect_backoff_max_ms: u64,
    /// None: no limit.
    pub reconnect_attempts_max: Option<u32>,
    pub connect_timeout_ms: u64,
    /// For the TLS handshake, the upgrade, and sending the subscription, each.
    pub upgrade_timeout_ms: u64,
    /// 0: never.
    pub idle_timeout_ms: u64,
    /// How long the subscription may lack what its twin has delivered, before it is connected anew. 0: for ever.
    pub behind_timeout_ms: u64,
    /// 0: no own pings.
    pub ping_interval_ms: u64,
    pub pong_timeout_ms: u64,
    pub message_bytes_max: usize,
    /// Frames between socket and writer.
    pub queue_frames_max: usize,
}

/// What is wrong with one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    pub key: String,
    /// A full sentence in Kafka Connect's words, without secrets.
    pub message: String,
    /// What to do; may be empty.
    pub hint: String,
}

/// Something accepted that does not do what one may think.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub key: String,
    pub message: String,
}

impl ConnectorSpec {
    /// Checks a configuration map.
    ///
    /// # Errors
    /// Every key that is wrong, not only the first.
    pub fn parse(name: &str, config: &Config) -> Result<(Self, Vec<Warning>), Vec<FieldError>> {
        let mut reader = Reader { config, errors: Vec::new(), warnings: Vec::new() };
        reader.check_name(name);
        reader.check_framework();
        reader.check_unknown();
        reader.check_references();
        let redundancy = match reader.text(keys::REDUNDANCY).as_deref() {
            Some("single") => Redundancy::Single,
            _ => Redundancy::Dual,
        };
        let feed = reader.feed();
        let topic = reader.topic();
        reader.check_sizes(&topic, feed.as_ref().map_or(0, |feed| feed.message_bytes_max as u64));
        let commit_interval_ms = reader.unsigned(keys::COMMIT_INTERVAL_MS);
        let buffer_bytes_max = reader.unsigned(keys::BUFFER_BYTES_MAX);
        let dedup_span_ms = reader.unsigned(keys::DEDUP_SPAN_MS);
        let producer_overrides = reader.under(keys::PRODUCER_OVERRIDE_PREFIX, &[]);
        match (feed, reader.errors.is_empty()) {
            (Some(feed), true) => {
                let name = name.to_owned();
                let spec = Self {
                    name,
                    redundancy,
                    feed,
                    topic,
                    commit_interval_ms,
                    buffer_bytes_max,
                    dedup_span_ms,
                    producer_overrides,
                };
                Ok((spec, reader.warnings))
            }
            _ => Err(reader.errors),
        }
    }

    /// Whether a pair can change over to `next` while it runs: two subscriptions, one of each, still read the same, and
    /// their records still belong to one topic.
    pub fn rolls_to(&self, next: &Self) -> bool {
        let is_dual = self.redundancy == Redundancy::Dual && next.redundancy == Redundancy::Dual;
        is_dual
            && self.topic.name == next.topic.name
            && self.feed.subscription_messages == next.feed.subscription_messages
    }
}

/// Reads keys one by one and remembers everything that is wrong.
struct Reader<'a> {
    config: &'a Config,
    errors: Vec<FieldError>,
    warnings: Vec<Warning>,
}

impl Reader<'_> {
    fn error(&mut self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.errors.push(FieldError { key: key.into(), message: message.into(), hint: hint.into() });
    }

    /// Kafka's sentence for a bad value. `value` must not be a secret.
    fn invalid(&mut self, key: &str, value: &str, why: &str, hint: &str) {
        self.error(key, format!("Invalid value {value} for configuration {key}: {why}"), hint);
    }

    fn warn(&mut self, key: &str, message: impl Into<String>) {
        self.warnings.push(Warning { key: key.into(), message: message.into() });
    }

    fn check_name(&mut self, name: &str) {
        if let Err(why) = check_connector_name(name) {
            self.error("name", why, "use letters, digits, `-`, `_` and `.`");
        }
        if let Some(inside) = self.config.get("name").filter(|inside| inside.trim() != name) {
            let message = format!("Connector name configuration ({inside}) doesn't match connector name ({name})");
            self.error("name", message, "leave `name` out of the configuration");
        }
    }

    fn check_framework(&mut self) {
        let class = self.config.get(keys::CONNECTOR_CLASS).map(|class| class.trim());
        if let Some(class) = class.filter(|class| !keys::CONNECTOR_CLASSES.contains(class)) {
            let known = keys::CONNECTOR_CLASSES[0];
            let message = format!(
                "Failed to find any class that implements Connector and which name matches {class}, \
                 available connectors are: {known}"
            );
            self.error(keys::CONNECTOR_CLASS, message, format!("use {known}"));
        }
        if let Some(tasks) = self.config.get(keys::TASKS_MAX) {
            match tasks.trim().parse::<i32>() {
                Ok(1) => {}
                Ok(2..) => self.warn(keys::TASKS_MAX, "a connector is one stream; further tasks are not started"),
                Ok(_) => self.invalid(keys::TASKS_MAX, tasks, "Value must be at least 1", "use 1"),
                Err(_) => self.invalid(keys::TASKS_MAX, tasks, "Not a number of type INT", "use 1"),
            }
        }
    }

    /// The trimmed value or the default; checked against a list of choices.
    fn text(&mut self, name: &str) -> Option<String> {
        let definition = keys::definition(name).expect("the caller names a key of the table");
        let value = match self.config.get(name) {
            Some(value) => value.trim().to_owned(),
            None if definition.required => {
                let message = format!("Missing required configuration \"{name}\" which has no default value.");
                self.error(name, message, definition.doc);
                return None;
            }
            None => definition.default?.to_owned(),
        };
        if let Kind::Choice(choices) = definition.kind
            && !choices.contains(&value.as_str())
        {
            let why = format!("String must be one of: {}", choices.join(", "));
            self.invalid(name, &value, &why, definition.doc);
            return None;
        }
        Some(value)
    }

    /// A value that is present and not blank.
    fn present(&mut self, name: &str) -> Option<String> {
        self.text(name).filter(|value| !value.is_empty())
    }

    fn flag(&mut self, name: &str) -> bool {
        let Some(value) = self.text(name) else { return false };
        match value.to_ascii_lowercase().as_str() {
            "true" => true,
            "false" => false,
            _ => {
                self.invalid(name, &value, "Expected value to be either true or false", "");
                false
            }
        }
    }

    fn number(&mut self, name: &str) -> i64 {
        let definition = keys::definition(name).expect("the caller names a key of the table");
        let (Kind::Int { min, max } | Kind::Long { min, max }) = definition.kind else {
            unreachable!("{name} is a number in the table")
        };
        let Some(value) = self.text(name) else { return min };
        let Ok(number) = value.parse::<i64>() else {
            let why = format!("Not a number of type {}", definition.kind.name());
            self.invalid(name, &value, &why, definition.doc);
            return min;
        };
        if (min..=max).contains(&number) {
            return number;
        }
        match definition.outside {
            Outside::Clamped => {
                let taken = number.clamp(min, max);
                self.warn(name, format!("{number} is outside {min}..={max}; {taken} is used"));
                taken
            }
            Outside::Refused => {
                self.invalid(name, &value, &format!("Value must be in {min}..={max}"), definition.doc);
                min
            }
        }
    }

    fn unsigned(&mut self, name: &str) -> u64 {
        u64::try_from(self.number(name)).unwrap_or(0)
    }

    fn feed(&mut self) -> Option<FeedSpec> {
        let primary_url = self.url(keys::WEBSOCKET_URL);
        let secondary_url = self.url(keys::SECONDARY_URL);
        let auth_token = self.present(keys::AUTH_TOKEN).map(Secret::new);
        if let Some(token) = &auth_token {
            let shape = token.with_references_as("x");
            if http::HeaderValue::from_str(&shape).is_err() {
                self.error(keys::AUTH_TOKEN, "The token contains characters a header cannot carry", "");
            }
            self.warn_if_raw(keys::AUTH_TOKEN, token);
        }
        let mut subscription_messages: Vec<Secret> = self
            .config
            .get(keys::SUBSCRIPTION_MESSAGE)
            .filter(|m| !m.is_empty())
            .map(Secret::new)
            .into_iter()
            .collect();
        subscription_messages.extend(self.further_messages());
        let mut spec = FeedSpec {
            primary_url: FeedUrl { text: Secret::default(), public: String::new() },
            secondary_url,
            subscription_messages,
            headers: self.headers(),
            auth_token,
            tls_ca_file: self.present(keys::TLS_CA_FILE),
            reconnect_enabled: self.flag(keys::RECONNECT_ENABLED),
            reconnect_interval_ms: self.unsigned(keys::RECONNECT_INTERVAL_MS),
            reconnect_backoff_max_ms: self.unsigned(keys::RECONNECT_BACKOFF_MAX_MS),
            reconnect_attempts_max: u32::try_from(self.number(keys::RECONNECT_MAX_ATTEMPTS)).ok().filter(|n| *n > 0),
            connect_timeout_ms: self.unsigned(keys::CONNECTION_TIMEOUT_MS),
            upgrade_timeout_ms: self.unsigned(keys::UPGRADE_TIMEOUT_MS),
            idle_timeout_ms: self.unsigned(keys::IDLE_TIMEOUT_MS),
            behind_timeout_ms: self.unsigned(keys::BEHIND_TIMEOUT_MS),
            ping_interval_ms: self.unsigned(keys::PING_INTERVAL_MS),
            pong_timeout_ms: self.unsigned(keys::PONG_TIMEOUT_MS),
            message_bytes_max: self.unsigned(keys::MESSAGE_BYTES_MAX) as usize,
            queue_frames_max: self.unsigned(keys::MESSAGE_QUEUE_SIZE) as usize,
        };
        spec.primary_url = primary_url?;
        Some(spec)
    }

    fn url(&mut self, name: &str) -> Option<FeedUrl> {
        let text = self.text(name)?;
        match FeedUrl::parse(&text) {
            Ok(url) => {
                let user_info = text.split(['/', '?']).nth(2).is_some_and(|authority| authority.contains('@'));
                if user_info {
                    self.warn(name, "user info in the URL is not sent; use websocket.headers with a reference");
                }
                Some(url)
            }
            Err(why) => {
                self.invalid(name, &public_url(&text), &why, "for example wss://example.org/feed");
                None
            }
        }
    }

    fn further_messages(&mut self) -> Vec<Secret> {
        let Some(text) = self.present(keys::SUBSCRIPTION_MESSAGES) else { return Vec::new() };
        let Ok(values) = serde_json::from_str::<Vec<&RawValue>>(&text) else {
            let message = format!("Invalid value for configuration {}: Not a JSON array", keys::SUBSCRIPTION_MESSAGES);
            self.error(keys::SUBSCRIPTION_MESSAGES, message, r#"for example [{"op":"subscribe"},"ping"]"#);
            return Vec::new();
        };
        if values.len() > SUBSCRIPTION_MESSAGES_MAX {
            let message = format!("More than {SUBSCRIPTION_MESSAGES_MAX} subscription messages");
            self.error(keys::SUBSCRIPTION_MESSAGES, message, "combine them");
        }
        let frame = |value: &RawValue| match serde_json::from_str::<String>(value.get()) {
            Ok(text) => Secret::new(text),
            Err(_) => Secret::new(value.get()),
        };
        values.into_iter().map(frame).collect()
    }

    fn under(&self, prefix: &str, except: &[&str]) -> Config {
        let inside = self.config.iter().filter(|(key, _)| !except.contains(&key.as_str()));
        inside
            .filter_map(|(key, value)| Some((key.strip_prefix(prefix)?.to_owned(), value.trim().to_owned())))
            .collect()
    }

    fn warn_if_raw(&mut self, key: &str, secret: &Secret) {
        // `Bearer ${env:TOKEN}` is fine: what counts is that the secret part is not in the configuration.
        if secret.parts().iter().all(|part| matches!(part, SecretPart::Literal(_))) {
            self.warn(key, "a raw secret is stored in the cluster state; use ${env:…} or ${file:…}");
        }
    }
}

/// Checks a connector name: 1..=255 characters, no `/`, no control characters, no blanks around it.
///
/// # Errors
/// Why it is refused.
pub fn check_connector_name(name: &str) -> Result<(), String> {
    if name.trim().is_empty() {
        return Err("Connector name must not be empty".into());
    }
    if name.trim() != name {
        return Err("Connector name must not begin or end with blanks".into());
    }
    if name.chars().count() > 255 {
        return Err("Connector name must have at most 255 characters".into());
    }
    match name.chars().find(|c| c.is_control() || *c == '/') {
        Some(bad) => Err(format!("Connector name must not contain {bad:?}")),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "spec_test.rs"]
mod tests;
