//! Topics: whether a stream's topic is there, and its creation when the connector allows it. `worker` calls it before
//! a producer is made; nothing here reads or writes records.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    error::{Error, rejected},
    options::Options,
    topics::{Lookup, Rules},
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
    /// The largest payload of a record that client and topic take, in bytes.
    pub record_bytes_max: usize,
}

/// Looks `topic` up and creates it if it is missing and may be created; bounded by `topic_ms_max`. Existing topics are
/// taken as they are, unless they can never take a record of ours.
pub async fn ensure_topic(options: &Options, topic: &str, creation: &TopicCreation) -> Result<TopicInfo, Error> {
    options.check()?;
    check_name(topic)?;
    let (options, topic, creation) = (options.clone(), topic.to_owned(), creation.clone());
    let (reply, answer) = oneshot::channel();
    // librdkafka's calls block.
    thread::Builder::new()
        .name("kafka-topic".to_owned())
        .spawn(move || drop(reply.send(ensure(&options, &topic, &creation))))
        .map_err(|e| rejected("to start a thread", e.to_string()))?;
    answer.await.unwrap_or(Err(Error::Closed))
}

fn ensure(options: &Options, topic: &str, creation: &TopicCreation) -> Result<TopicInfo, Error> {
    let deadline = Instant::now() + Duration::from_millis(options.topic_ms_max);
    let lookup = options.topics.lookup(options)?;
    let found = find(&lookup, topic, creation, deadline);
    let partitions = found.inspect_err(|_| options.topics.failed(&lookup))?;
    if let Some(rules) = lookup.rules(topic, deadline) {
        check_rules(topic, rules)?;
        options.topics.learn(topic, rules.batch_bytes_max);
    }
    Ok(TopicInfo { partitions, record_bytes_max: options.record_bytes_max(topic) })
}

/// Returns the number of partitions of the topic, once it is there.
fn find(lookup: &Lookup, topic: &str, creation: &TopicCreation, deadline: Instant) -> Result<usize, Error> {
    if let Some(partitions) = lookup.partitions(topic, deadline)? {
        return Ok(partitions);
    }
    let missing = |why: &str| Error::TopicMissing { topic: topic.to_owned(), why: why.to_owned() };
    if !creation.create {
        return Err(missing("does not exist and this connector may not create it"));
    }
    lookup.create_topic(topic, creation, deadline)?;
    loop {
        if let Some(partitions) = lookup.partitions(topic, deadline)? {
            return Ok(partitions);
        }
        if Instant::now() >= deadline {
            return Err(missing("was created but is not known to the brokers yet"));
        }
        thread::sleep(Duration::from_millis(LOOK_AGAIN_MS));
    }
}

/// Refuses a topic that takes no record without a key: trying again would change nothing.
pub(super) fn check_rules(topic: &str, rules: Rules) -> Result<(), Error> {
    if rules.compacted {
        return Err(rejected(format!("topic {topic}"), NO_KEY));
    }
    Ok(())
}

/// Why a compacted topic is of no use, and what to do.
pub(super) const NO_KEY: &str = "it is compacted (cleanup.policy), and takes no record without a key, which records of a \
     feed do not have; name a topic with cleanup.policy=delete";

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
