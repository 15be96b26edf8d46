//! What a node asks Kafka about its topics, by one client for all its writers: hundreds that reopen at once must not bring
//! hundreds of connections to a broker that is slow already. `topic`, `tail` and `producer` ask through `Options::topics`.
//!
//! It also remembers how much a topic takes at once, as its configuration or a refusal said last. Everything here blocks:
//! callers have threads of their own.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication},
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode as Code},
};

use super::{
    client::spawn,
    error::{Class, Error, Waited, class, rejected},
    events::Events,
    options::{Options, Target},
    topic::TopicCreation,
};
use crate::model::connector::Config;

/// Clients of different properties that are shared: connectors may log in as somebody else. What comes beyond is not shared.
const SHARED_MAX: usize = 16;
/// A client that nobody asked for so long is closed with the next question to another. A standby asks every few minutes.
const UNUSED_MAX: Duration = Duration::from_secs(600);
/// After a failure a client is replaced, but not a younger one: librdkafka tells the same trouble only once, so an old
/// client would pass a refused login for one that is still refused.
const YOUNG: Duration = Duration::from_secs(10);
/// Topics whose limit is remembered, at most; beyond, all are forgotten and asked for again.
const TOPICS_MAX: usize = 20_000;
/// Asking for the configuration is worth this much of an opening; who may not ask learns nothing.
const RULES_MS_MAX: u64 = 2_000;
/// What was told of a topic is not asked for again sooner: an opening asks, and so does its producer.
const RULES_HOLD: Duration = Duration::from_secs(10);
const EVENTS_PER_DRAIN_MAX: usize = 32;

/// The clients and the knowledge that all writers of a node share. Cheap to clone; made once per node.
#[derive(Clone, Default)]
pub struct Topics {
    shared: Arc<Mutex<Vec<Shared>>>,
    batch_bytes_max: Arc<Mutex<HashMap<String, Learned>>>,
}

/// The largest batch that a topic takes, and when that was said.
struct Learned {
    bytes: usize,
    at: Instant,
}

/// A client, and what it was made from.
struct Shared {
    bootstrap: String,
    properties: Config,
    lookup: Arc<Lookup>,
    used: Instant,
}

/// What a topic's configuration asks of its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    /// The largest batch of records, framing included: `max.message.bytes`.
    pub(super) batch_bytes_max: usize,
    /// Records without a key are refused.
    pub(super) compacted: bool,
}

impl Topics {
    /// The client for these options, shared with whoever has the same.
    pub(super) fn lookup(&self, options: &Options) -> Result<Arc<Lookup>, Error> {
        let mut shared = lock(&self.shared);
        let now = Instant::now();
        let same = |known: &&mut Shared| known.bootstrap == options.bootstrap && known.properties == options.properties;
        if let Some(known) = shared.iter_mut().find(same) {
            known.used = now;
            return Ok(Arc::clone(&known.lookup));
        }
        shared.retain(|known| now - known.used < UNUSED_MAX);
        let lookup = Arc::new(Lookup::create(options)?);
        if shared.len() < SHARED_MAX {
            let (bootstrap, properties) = (options.bootstrap.clone(), options.properties.clone());
            shared.push(Shared { bootstrap, properties, lookup: Arc::clone(&lookup), used: now });
        }
        Ok(lookup)
    }

    /// A question to this client has failed: the next one goes to a new client.
    pub(super) fn failed(&self, lookup: &Arc<Lookup>) {
        if lookup.born.elapsed() >= YOUNG {
            lock(&self.shared).retain(|known| !Arc::ptr_eq(&known.lookup, lookup));
        }
    }

    /// The largest batch that the topic takes, as far as that is known.
    pub(super) fn batch_bytes_max(&self, topic: &str) -> Option<usize> {
        lock(&self.batch_bytes_max).get(topic).map(|learned| learned.bytes)
    }

    /// The topic takes batches of so many bytes.
    pub(super) fn learn(&self, topic: &str, bytes: usize) {
        let mut known = lock(&self.batch_bytes_max);
        if known.len() >= TOPICS_MAX {
            known.clear();
        }
        known.insert(topic.to_owned(), Learned { bytes, at: Instant::now() });
    }

    /// Asks how much the topic takes, unless that was said a moment ago, and leaves the client connected
    /// to where a takeover asks.
    pub(super) fn look(&self, options: &Options, target: &Target, within: Duration) {
        let (topic, deadline) = (target.topic.as_str(), Instant::now() + within);
        // Without a client there is no producer either, and that says why.
        let Ok(lookup) = self.lookup(options) else { return };
        if lookup.log_end(topic, target.partition, deadline).is_err() {
            self.failed(&lookup);
        }
        let is_held = |learned: &Learned| learned.at.elapsed() < RULES_HOLD;
        let held = lock(&self.batch_bytes_max).get(topic).is_some_and(is_held);
        if let Some(rules) = (!held).then(|| lookup.rules(topic, deadline)).flatten() {
            self.learn(topic, rules.batch_bytes_max);
        }
    }
}

impl fmt::Debug for Topics {
    // The properties hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topics").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One client for questions. A consumer beside the admin client, since a producer's request for metadata may create the
/// topic that it asks about.
pub(super) struct Lookup {
    consumer: Arc<BaseConsumer<Events>>,
    admin: Arc<AdminClient<Events>>,
    bootstrap: String,
    born: Instant,
}

impl Drop for Lookup {
    fn drop(&mut self) {
        // Destroying joins threads, one of which sleeps 100 ms at a time; and this may be within a takeover.
        let (consumer, admin) = (Arc::clone(&self.consumer), Arc::clone(&self.admin));
        spawn("kafka-drop", move || drop((consumer, admin)));
    }
}

impl Lookup {
    fn create(options: &Options) -> Result<Self, Error> {
        let bad = |_| rejected("the client's configuration", "see the properties passed through");
        Ok(Self {
            consumer: Arc::new(options.for_topics().create_with_context(Events::default()).map_err(bad)?),
            admin: Arc::new(options.for_topics().create_with_context(Events::default()).map_err(bad)?),
            bootstrap: options.bootstrap.clone(),
            born: Instant::now(),
        })
    }

    /// The number of the topic's partitions; `None`: it is missing, or was created a moment ago and has no leader yet.
    pub(super) fn partitions(&self, topic: &str, deadline: Instant) -> Result<Option<usize>, Error> {
        let metadata = self.ask(|within| self.consumer.fetch_metadata(Some(topic), within), deadline)?;
        let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else { return Ok(None) };
        match found.error().map(Code::from) {
            None => Ok(Some(found.partitions().len()).filter(|partitions| *partitions > 0)),
            Some(code) if class(code) == Class::Rejected => {
                Err(rejected(format!("to look at topic {topic}"), code.to_string()))
            }
            Some(_) => Ok(None),
        }
    }

    /// The offset behind the last record of the partition, whether its transaction is closed or not.
    pub(super) fn log_end(&self, topic: &str, partition: i32, deadline: Instant) -> Result<i64, Error> {
        Ok(self.ask(|within| self.consumer.fetch_watermarks(topic, partition, within), deadline)?.1)
    }

    /// The topic's rules; `None` if Kafka does not tell them, as it needs a right (DescribeConfigs) that nothing else does.
    pub(super) fn rules(&self, topic: &str, deadline: Instant) -> Option<Rules> {
        let deadline = deadline.min(Instant::now() + Duration::from_millis(RULES_MS_MAX));
        let leader = self.leader(topic, deadline)?;
        let told = self.wait_for(async {
            let topic = [ResourceSpecifier::Topic(topic)];
            // Else it would go to the controller, and wait for one.
            self.admin.describe_configs(&topic, &admin_options(left(deadline)).broker_id(leader)).await
        });
        let told = told.map(|told| told.map(|resources| resources.into_iter().next()));
        match told {
            Ok(Ok(Some(Ok(resource)))) => Some(rules(&resource)),
            not_told => {
                tracing::debug!(topic, ?not_told, "the topic's configuration is not told");
                None
            }
        }
    }

    /// A broker that leads one of the topic's partitions, and so lives.
    fn leader(&self, topic: &str, deadline: Instant) -> Option<i32> {
        let metadata = self.ask(|within| self.consumer.fetch_metadata(Some(topic), within), deadline).ok()?;
        let found = metadata.topics().iter().find(|t| t.name() == topic)?;
        found.partitions().iter().map(|partition| partition.leader()).find(|leader| *leader >= 0)
    }

    pub(super) fn create_topic(&self, topic: &str, creation: &TopicCreation, deadline: Instant) -> Result<(), Error> {
        let waited = Waited { bootstrap: &self.bootstrap, since: Instant::now() };
        let new = creation.properties.iter().fold(
            NewTopic::new(topic, creation.partitions, TopicReplication::Fixed(creation.replication_factor)),
            |new, (key, value)| new.set(key, value),
        );
        let options = admin_options(left(deadline));
        let results = self.wait_for(async { self.admin.create_topics([&new], &options).await })?;
        let unanswered = |e: String| waited.or_trouble(e, self.admin.inner().context().trouble());
        match results.map_err(|e| unanswered(e.to_string()))?.into_iter().next() {
            // Somebody else may have been faster; what is there now is looked up afterwards.
            Some(Ok(_) | Err((_, Code::TopicAlreadyExists))) | None => Ok(()),
            Some(Err((_, code))) if class(code) == Class::Unreachable => Err(unanswered(code.to_string())),
            Some(Err((_, code))) => Err(rejected(format!("to create topic {topic}"), code.to_string())),
        }
    }

    fn ask<T>(&self, ask: impl FnOnce(Duration) -> Result<T, KafkaError>, deadline: Instant) -> Result<T, Error> {
        let waited = Waited { bootstrap: &self.bootstrap, since: Instant::now() };
        let answer = ask(left(deadline));
        // Serves the events that carry the reason, such as a refused login; nobody else does.
        for _ in 0..EVENTS_PER_DRAIN_MAX {
            if self.consumer.poll(Duration::ZERO).is_none() {
                break;
            }
        }
        answer.map_err(|e| waited.or_trouble(e.to_string(), self.consumer.context().trouble()))
    }

    /// Waits for an answer of the admin client, which comes from a thread of its own.
    fn wait_for<T>(&self, answer: impl Future<Output = T>) -> Result<T, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        Ok(runtime.map_err(|e| rejected("to wait for Kafka's answer", e.to_string()))?.block_on(answer))
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

fn admin_options(within: Duration) -> AdminOptions {
    AdminOptions::new().request_timeout(Some(within)).operation_timeout(Some(within))
}

fn rules(resource: &ConfigResource) -> Rules {
    let value = |key| resource.get(key).and_then(|entry| entry.value.as_deref());
    Rules {
        batch_bytes_max: value("max.message.bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(usize::MAX),
        compacted: value("cleanup.policy").is_some_and(|policy| policy.split(',').any(|p| p.trim() == "compact")),
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::admin::{ConfigEntry, ConfigSource, OwnedResourceSpecifier};

    use super::*;
    use crate::model::ids::ClusterId;

    fn resource(entries: &[(&str, &str)]) -> ConfigResource {
        let entry = |(name, value): &(&str, &str)| ConfigEntry {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
            source: ConfigSource::Default,
            is_read_only: false,
            is_default: true,
            is_sensitive: false,
        };
        let specifier = OwnedResourceSpecifier::Topic("t".to_owned());
        ConfigResource { specifier, entries: entries.iter().map(entry).collect() }
    }

    #[test]
    fn a_topic_is_compacted_whatever_else_it_is() {
        let policy = |policy| rules(&resource(&[("cleanup.policy", policy)])).compacted;
        assert_eq!(["delete", "compact", "compact,delete", "delete, compact"].map(policy), [false, true, true, true]);
        let silent = Rules { batch_bytes_max: usize::MAX, compacted: false };
        assert_eq!(rules(&resource(&[])), silent, "a Kafka that does not name them has no such rules");
        assert_eq!(rules(&resource(&[("max.message.bytes", "1048588")])).batch_bytes_max, 1_048_588);
    }

    #[test]
    fn writers_of_the_same_properties_share_a_client_and_others_have_their_own() {
        let options = Options::new(ClusterId("c".to_owned()), "127.0.0.1:1");
        let lookup = options.topics.lookup(&options).expect("a client");
        let second = options.clone();
        assert!(Arc::ptr_eq(&lookup, &second.topics.lookup(&second).expect("the same")));
        let mut other = options.clone();
        other.properties.insert("sasl.username".to_owned(), "feeds".to_owned());
        assert!(!Arc::ptr_eq(&lookup, &other.topics.lookup(&other).expect("another")));
        for n in 0..2 * SHARED_MAX {
            other.properties.insert("sasl.username".to_owned(), n.to_string());
            other.topics.lookup(&other).expect("a client");
        }
        assert_eq!(lock(&options.topics.shared).len(), SHARED_MAX);
    }

    #[test]
    fn what_is_remembered_of_topics_is_bounded() {
        let topics = Topics::default();
        (0..=TOPICS_MAX).for_each(|n| topics.learn(&n.to_string(), n));
        assert_eq!(lock(&topics.batch_bytes_max).len(), 1);
        assert_eq!(topics.batch_bytes_max(&TOPICS_MAX.to_string()), Some(TOPICS_MAX));
    }
}
