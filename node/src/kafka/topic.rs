//! Topics: whether a stream's topic is there, and its creation when the connector allows it. `worker` calls it before
//! a producer is made; nothing here reads or writes records.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode as Code},
};
use tokio::sync::oneshot;

use super::{
    error::{Class, Error, Waited, class, rejected},
    events::Events,
    options::Options,
};

const TOPIC_BYTES_MAX: usize = 249;
/// Between two looks at whether a topic just created is known everywhere; a condition has no event here.
const LOOK_AGAIN_MS: u64 = 20;

/// How a missing topic may be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicCreation {
    /// False: a missing topic is an error.
    pub create: bool,
    pub partitions: i32,
    /// -1 for the broker's default.
    pub replication_factor: i32,
    /// Topic configuration such as `retention.ms`.
    pub properties: BTreeMap<String, String>,
}

/// A topic that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicInfo {
    pub partitions: usize,
}

/// Looks `topic` up and creates it if it is missing and may be created; bounded by `topic_ms_max`. Existing topics are
/// taken as they are.
pub async fn ensure_topic(options: &Options, topic: &str, creation: &TopicCreation) -> Result<TopicInfo, Error> {
    options.check()?;
    check_name(topic)?;
    let deadline = Instant::now() + Duration::from_millis(options.topic_ms_max);
    if let Some(info) = look_up(options, topic, deadline).await? {
        return Ok(info);
    }
    let missing = |why: &str| Error::TopicMissing { topic: topic.to_owned(), why: why.to_owned() };
    if !creation.create {
        return Err(missing("does not exist and this connector may not create it"));
    }
    create(options, topic, creation, deadline).await?;
    loop {
        if let Some(info) = look_up(options, topic, deadline).await? {
            return Ok(info);
        }
        if Instant::now() >= deadline {
            return Err(missing("was created but is not known to the brokers yet"));
        }
        tokio::time::sleep(Duration::from_millis(LOOK_AGAIN_MS)).await;
    }
}

/// Kafka's own rule for names.
fn check_name(topic: &str) -> Result<(), Error> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if matches!(topic, "" | "." | "..") || topic.len() > TOPIC_BYTES_MAX || !topic.bytes().all(legal) {
        let why =
            format!("a topic name has 1 to {TOPIC_BYTES_MAX} of the characters a-z A-Z 0-9 . _ - and is not . or ..");
        return Err(rejected(format!("topic name {topic:?}"), why));
    }
    Ok(())
}

/// Asks for the topic's metadata on a thread of its own, since librdkafka's call blocks. A reader's metadata request,
/// unlike a producer's, never creates the topic.
async fn look_up(options: &Options, topic: &str, deadline: Instant) -> Result<Option<TopicInfo>, Error> {
    let (options, topic) = (options.clone(), topic.to_owned());
    let (reply, answer) = oneshot::channel();
    thread::Builder::new()
        .name("kafka-topic".to_owned())
        .spawn(move || drop(reply.send(look_up_blocking(&options, &topic, deadline))))
        .map_err(|e| rejected("to start a thread", e.to_string()))?;
    answer.await.unwrap_or(Err(Error::Closed))
}

fn look_up_blocking(options: &Options, topic: &str, deadline: Instant) -> Result<Option<TopicInfo>, Error> {
    let waited = Waited { bootstrap: &options.bootstrap, since: Instant::now() };
    let consumer: BaseConsumer<Events> = options
        .for_topics()
        .create_with_context(Events::default())
        .map_err(|_| rejected("the client's configuration", "see the properties passed through"))?;
    let within = deadline.saturating_duration_since(Instant::now());
    let metadata = consumer.fetch_metadata(Some(topic), within).map_err(|e| {
        // Serves the events that carry the reason, such as a refused login.
        while consumer.poll(Duration::ZERO).is_some() {}
        waited.or_trouble(e.to_string(), consumer.context().take_trouble())
    })?;
    let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else { return Ok(None) };
    match found.error().map(Code::from) {
        None => Ok(Some(TopicInfo { partitions: found.partitions().len() }).filter(|info| info.partitions > 0)),
        Some(code) if class(code) == Class::Rejected => {
            Err(rejected(format!("to look at topic {topic}"), code.to_string()))
        }
        // Missing, or created a moment ago and without a leader yet.
        Some(_) => Ok(None),
    }
}

async fn create(options: &Options, topic: &str, creation: &TopicCreation, deadline: Instant) -> Result<(), Error> {
    let waited = Waited { bootstrap: &options.bootstrap, since: Instant::now() };
    let admin: AdminClient<Events> = options
        .for_topics()
        .create_with_context(Events::default())
        .map_err(|_| rejected("the client's configuration", "see the properties passed through"))?;
    let new = creation.properties.iter().fold(
        NewTopic::new(topic, creation.partitions, TopicReplication::Fixed(creation.replication_factor)),
        |new, (key, value)| new.set(key, value),
    );
    let within = Some(deadline.saturating_duration_since(Instant::now()));
    let admin_options = AdminOptions::new().request_timeout(within).operation_timeout(within);
    let results = admin.create_topics([&new], &admin_options).await;
    let unanswered = |e: KafkaError| waited.or_trouble(e.to_string(), admin.inner().context().take_trouble());
    match results.map_err(unanswered)?.into_iter().next() {
        // Somebody else may have been faster; what is there now is looked up afterwards.
        Some(Ok(_) | Err((_, Code::TopicAlreadyExists))) | None => Ok(()),
        Some(Err((_, code))) if class(code) == Class::Unreachable => {
            Err(waited.or_trouble(code.to_string(), admin.inner().context().take_trouble()))
        }
        Some(Err((_, code))) => Err(rejected(format!("to create topic {topic}"), code.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rule() {
        let longest = "x".repeat(TOPIC_BYTES_MAX);
        for good in ["a", "feed.BTC-USD_1", longest.as_str()] {
            check_name(good).expect(good);
        }
        let too_long = "x".repeat(TOPIC_BYTES_MAX + 1);
        for bad in ["", ".", "..", "a b", "a/b", "é", too_long.as_str()] {
            assert!(matches!(check_name(bad), Err(Error::Rejected { .. })), "{bad}");
        }
    }
}
