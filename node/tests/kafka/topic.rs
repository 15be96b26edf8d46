//! Looking topics up and creating them.

use std::time::Duration;

use twinfeed_node::kafka::{Error, Options, Retry, ensure_topic};

use crate::support::{creation, options, unique};

#[tokio::test]
async fn a_missing_topic_is_created_once_and_then_taken_as_it_is() {
    let topic = unique("created");
    let mut three = creation(true);
    three.partitions = 3;
    assert_eq!(ensure_topic(&options(), &topic, &three).await.expect("created").partitions, 3);
    assert_eq!(ensure_topic(&options(), &topic, &creation(false)).await.expect("found").partitions, 3);
}

#[tokio::test]
async fn the_brokers_default_decides_where_nothing_is_said() {
    let mut defaults = creation(true);
    (defaults.partitions, defaults.replication_factor) = (-1, -1);
    defaults.properties.insert("max.message.bytes".to_owned(), "4259840".to_owned());
    let made = ensure_topic(&options(), &unique("defaults"), &defaults).await.expect("created");
    assert_eq!(made.partitions, 1, "num.partitions of the test broker");
}

#[tokio::test]
async fn a_missing_topic_that_may_not_be_created_is_named() {
    let topic = unique("forbidden");
    for _ in 0..2 {
        let missing = ensure_topic(&options(), &topic, &creation(false)).await.expect_err("no such topic");
        assert!(matches!(&missing, Error::TopicMissing { topic: named, .. } if *named == topic), "{missing}");
        assert_eq!(missing.retry(), Retry::Never);
    }
}

#[tokio::test]
async fn what_the_broker_refuses_is_a_refusal() {
    let mut unknown = creation(true);
    unknown.properties.insert("no.such.property".to_owned(), "1".to_owned());
    let refused = ensure_topic(&options(), &unique("refused"), &unknown).await.expect_err("no such property");
    assert!(matches!(&refused, Error::Rejected { .. }), "{refused}");
    let refused = ensure_topic(&options(), "not a name", &creation(true)).await.expect_err("a bad name");
    assert!(matches!(&refused, Error::Rejected { .. }), "{refused}");
}

#[tokio::test]
async fn an_unreachable_broker_is_an_error_within_its_deadline() {
    let mut options = Options::new(options().cluster, "127.0.0.1:1");
    options.topic_ms_max = 500;
    let waited = tokio::time::timeout(Duration::from_secs(10), ensure_topic(&options, "any", &creation(true))).await;
    let unreachable = waited.expect("a bounded wait").expect_err("nobody listens on port 1");
    assert!(matches!(&unreachable, Error::Unreachable { .. }), "{unreachable}");
}
