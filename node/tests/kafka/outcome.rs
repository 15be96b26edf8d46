//! Each way a write can end, on rdkafka's mock broker, which can be told to answer badly or late. The mock does not
//! fence and shows aborted records, so safety is not tested here: only which answer leads to which outcome.

use std::time::Duration;

use rdkafka::{
    mocking::{MockCluster, MockCoordinator},
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey as Request, RDKafkaRespErr as Answer},
};
use twinfeed_node::{
    kafka::{Committed, Error, FencedProducer, Options, TailReader, Target, ensure_topic},
    model::ids::ClusterId,
};

use crate::support::{STREAM, creation, records};

const ID: &str = "writer";
const LEADER: i32 = 1;
const COORDINATOR: i32 = 2;

/// A mock of two brokers: one leads the topic's partition, the other coordinates transactions.
struct Mock {
    cluster: MockCluster<'static, DefaultProducerContext>,
    options: Options,
    target: Target,
}

impl Mock {
    fn new() -> Self {
        let cluster = MockCluster::new(2).expect("a mock cluster");
        cluster.create_topic("t", 1, 1).expect("a topic");
        cluster.partition_leader("t", 0, Some(LEADER)).expect("a leader");
        cluster.coordinator(MockCoordinator::Transaction(ID.to_owned()), COORDINATOR).expect("a coordinator");
        let options = Options::new(ClusterId("test".to_owned()), cluster.bootstrap_servers());
        Self { cluster, options, target: Target::new("t", STREAM) }
    }

    async fn open(&self) -> FencedProducer {
        FencedProducer::warm(&self.options, ID, &self.target).expect("warm").open().await.expect("open")
    }

    /// Opens a producer, makes the next `request` fail with `answer` (more often than librdkafka retries), and writes.
    async fn write_against(&self, request: Request, answer: Answer) -> Error {
        let mut producer = self.open().await;
        self.cluster.request_errors(request, &[answer; 3]);
        let error = producer.write(records(1, 1, 3)).await.expect_err("the broker refused");
        let after = producer.write(records(1, 4, 1)).await;
        assert!(matches!(after, Err(Error::Closed)), "a producer lived on after: {error}");
        error
    }
}

#[tokio::test]
async fn a_write_and_a_tail_read_work_without_a_real_broker() {
    let mock = Mock::new();
    assert_eq!(ensure_topic(&mock.options, "t", &creation(false)).await.expect("there").partitions, 1);
    let mut producer = mock.open().await;
    let committed = producer.write(records(1, 1, 20)).await.expect("write");
    assert_eq!((committed.records, committed.recycle), (20, false));
    let tail = TailReader::warm(&mock.options, &mock.target).expect("warm").read(&[(0, 5)]).await.expect("tail");
    assert_eq!(tail.records.iter().map(|r| r.sequence).collect::<Vec<_>>(), (6..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn fencing_is_recognised_at_every_request() {
    let mock = Mock::new();
    for (request, answer) in [
        (Request::EndTxn, Answer::RD_KAFKA_RESP_ERR_PRODUCER_FENCED),
        (Request::EndTxn, Answer::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH),
        (Request::AddPartitionsToTxn, Answer::RD_KAFKA_RESP_ERR_PRODUCER_FENCED),
        (Request::Produce, Answer::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH),
    ] {
        let error = mock.write_against(request, answer).await;
        assert!(matches!(error, Error::Fenced { .. }), "{answer:?}: {error}");
        mock.cluster.clear_request_errors(request);
    }
}

#[tokio::test]
async fn a_commit_that_fails_otherwise_is_no_outcome() {
    let mock = Mock::new();
    for answer in [Answer::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE, Answer::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING] {
        let error = mock.write_against(Request::EndTxn, answer).await;
        assert!(matches!(error, Error::OutcomeUnknown { .. }), "{answer:?}: {error}");
        mock.cluster.clear_request_errors(Request::EndTxn);
    }
}

#[tokio::test]
async fn a_commit_that_times_out_is_no_outcome() {
    let mut mock = Mock::new();
    mock.options.commit_ms_max = 300;
    let mut producer = mock.open().await;
    producer.write(records(1, 1, 1)).await.expect("a write while the coordinator is quick");
    mock.cluster.broker_round_trip_time(COORDINATOR, Duration::from_millis(600)).expect("a slow coordinator");
    let error = producer.write(records(1, 2, 1)).await.expect_err("too slow");
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
}

#[tokio::test]
async fn a_slow_commit_is_one_but_ends_its_producer() {
    let mock = Mock::new();
    let mut producer = mock.open().await;
    mock.cluster.broker_round_trip_time(COORDINATOR, Duration::from_millis(450)).expect("a slow coordinator");
    let Committed { recycle, records: written, .. } = producer.write(records(1, 1, 2)).await.expect("slow, not lost");
    assert!(recycle, "a commit that may hide a second attempt was followed by another transaction");
    assert_eq!(written, 2);
    assert!(matches!(producer.write(records(1, 3, 1)).await, Err(Error::Closed)));
}

#[tokio::test]
async fn records_that_fail_before_the_commit_are_aborted_not_unknown() {
    let mock = Mock::new();
    let error = mock.write_against(Request::AddPartitionsToTxn, Answer::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING);
    let error = error.await;
    assert!(matches!(error, Error::Aborted { .. }), "{error}");
}

/// What names a record is left out of the stream by the caller: a right that was revoked, or a clock that is an hour ahead,
/// must not cost one message for each attempt.
#[tokio::test]
async fn only_a_size_names_the_record() {
    let mock = Mock::new();
    // Three in a batch: it may be the batch that is too large.
    let error = mock.write_against(Request::Produce, Answer::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE).await;
    assert!(matches!(&error, Error::Aborted { .. }), "{error}");
    mock.cluster.clear_request_errors(Request::Produce);
    let mut producer = mock.open().await;
    mock.cluster.request_errors(Request::Produce, &[Answer::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 3]);
    let error = producer.write(records(1, 1, 1)).await.expect_err("alone in its batch");
    assert!(matches!(&error, Error::Rejected { record: Some((_, 1)), .. }), "{error}");
    mock.cluster.clear_request_errors(Request::Produce);
    let error = mock.write_against(Request::Produce, Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).await;
    assert!(matches!(&error, Error::Rejected { record: None, .. }), "{error}");
    mock.cluster.clear_request_errors(Request::Produce);
    let error = mock.write_against(Request::Produce, Answer::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP).await;
    assert!(matches!(&error, Error::InvalidRecords { .. }), "{error}");
    mock.cluster.clear_request_errors(Request::Produce);
    // Also when it is asked about one record alone: nothing that a timestamp could mend.
    let error = mock.write_against(Request::Produce, Answer::RD_KAFKA_RESP_ERR_INVALID_RECORD).await;
    assert!(matches!(&error, Error::Rejected { record: None, .. }), "{error}");
}

#[tokio::test]
async fn a_refused_transactional_id_cannot_be_opened() {
    let mock = Mock::new();
    mock.cluster
        .request_errors(Request::InitProducerId, &[Answer::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED; 8]);
    let refused = FencedProducer::warm(&mock.options, ID, &mock.target).expect("warm").open().await;
    assert!(matches!(refused, Err(Error::Rejected { .. })), "{refused:?}");
}
