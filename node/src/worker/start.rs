//! From a connector's configuration and a role to the options of its writer.

use std::{sync::Arc, time::Duration};

use crate::{
    control::{RoleSpec, State},
    faults::{self, Bug},
    feed, kafka,
    model::{
        connector::{Config, Line, Redundancy},
        ids::{Epoch, WriterId},
        spec::{ConnectorSpec, TopicSpec},
    },
    pipeline::{self, Confirm, ConfirmError, Emit},
    raft::RaftHandle,
    relay,
    supervise::Spawner,
};

/// What all writers of this node have in common.
#[derive(Clone)]
pub struct Settings {
    pub node: String,
    /// `host:port`, comma-separated, and librdkafka properties for all writers, references resolved.
    pub bootstrap: String,
    pub kafka_properties: Config,
    /// Largest message between nodes.
    pub message_bytes_max: usize,
    /// What all writers ask Kafka about topics by.
    pub topics: kafka::Topics,
    /// The places of this node for openings.
    pub openings: kafka::Openings,
    pub dial: feed::DialOptions,
    pub emit: Emit,
}

/// Looking up what references name takes no longer: a file may lie on a network that does not answer.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Makes the options of a writer; the error says why it cannot run here.
pub(super) async fn options(
    settings: &Settings,
    raft: &RaftHandle,
    spawner: &Spawner,
    state: &State,
    (writer, role): (&WriterId, &RoleSpec),
) -> Result<pipeline::Options, String> {
    let connector = state
        .writers()
        .get(writer)
        .and_then(|w| w.connectors.first())
        .and_then(|name| state.connectors().get(name))
        .ok_or_else(|| format!("writer `{writer}` has no connector"))?;
    let (spec, _) = ConnectorSpec::parse(&connector.name, &connector.config).map_err(|errors| {
        let list: Vec<String> = errors.iter().map(|e| format!("{}: {}", e.key, e.message)).collect();
        format!("the stored configuration is not valid for this version: {}", list.join("; "))
    })?;
    check_relay(settings, &spec)?;
    let kafka = kafka(settings, state, &spec).await?;
    kafka.check().map_err(|error| error.to_string())?;
    let message_bytes_max = spec.feed.message_bytes_max;
    let stream = kafka::record::stream_id(state.cluster_id(), &connector.name, connector.created);
    let feed = Arc::new(spec.feed);
    let url = match (role.line, &feed.secondary_url) {
        (Line::Secondary, Some(url)) => url.clone(),
        (Line::Primary | Line::Secondary, _) => feed.primary_url.clone(),
    };
    Ok(pipeline::Options {
        id: writer.clone(),
        settings: twinfeed_writer::Settings {
            connector: connector.name.clone(),
            topic: spec.topic.name.clone(),
            feeds: match spec.redundancy {
                Redundancy::Dual => 2,
                Redundancy::Single => 1,
            },
            stream: twinfeed_writer::StreamId(stream),
            // Its writer began with it.
            since: Epoch(0),
            node: settings.node.clone(),
            revision: role.revision,
            merge: faults::seeded(twinfeed_dedup::Options { span_ms: spec.dedup_span_ms, ..Default::default() }),
            commit_interval_us: spec.commit_interval_ms * 1_000,
            behind_ms_max: feed.behind_timeout_ms,
            buffer_bytes_max: usize::try_from(spec.buffer_bytes_max).unwrap_or(usize::MAX),
        },
        feed: feed::Subscription { url, spec: feed, dial: settings.dial.clone() },
        kafka,
        transactional_id: transactional_id(settings, state, writer),
        target: kafka::Target::new(&spec.topic.name, stream),
        openings: settings.openings.clone(),
        creation: creation(&spec.topic, message_bytes_max),
        confirm: confirm(raft.clone()),
        emit: settings.emit.clone(),
        spawner: spawner.clone(),
    })
}

/// The same on every node and for every epoch: that is what fences.
fn transactional_id(settings: &Settings, state: &State, writer: &WriterId) -> String {
    let id = writer.transactional_id(state.cluster_id());
    if faults::bug(Bug::NoFencing) { format!("{id}.{}", settings.node) } else { id }
}

/// How a missing topic is made; -1 is the broker's default.
fn creation(topic: &TopicSpec, message_bytes_max: usize) -> kafka::TopicCreation {
    kafka::TopicCreation {
        create: topic.create,
        partitions: topic.partitions.unwrap_or(-1),
        replication_factor: topic.replication_factor.map_or(-1, i32::from),
        properties: topic.creation_properties(message_bytes_max),
    }
}

/// The connector's own properties win over the node's, with what references in them name on this node now.
async fn kafka(settings: &Settings, state: &State, spec: &ConnectorSpec) -> Result<kafka::Options, String> {
    let mut options = kafka::Options::new(state.cluster_id().clone(), &settings.bootstrap);
    options.topics = settings.topics.clone();
    options.message_bytes_max = spec.feed.message_bytes_max;
    options.properties.clone_from(&settings.kafka_properties);
    let resolved = settings.dial.secrets.resolve_all(&spec.producer_overrides);
    let resolved = tokio::time::timeout(RESOLVE_TIMEOUT, resolved).await;
    let resolved = resolved.unwrap_or_else(|_| Err("what references name does not come in time".to_owned()));
    let given = resolved.map_err(|why| format!("producer.override.*: {why}"))?;
    let judged = kafka::overrides(&given, spec.feed.message_bytes_max).map_err(|errors| {
        let list: Vec<String> = errors.iter().map(|e| format!("{} ({})", e.message, e.hint)).collect();
        list.join("; ")
    })?;
    options.properties.extend(judged.properties);
    Ok(options)
}

/// A frame that the relay cannot carry would end the session again and again.
fn check_relay(settings: &Settings, spec: &ConnectorSpec) -> Result<(), String> {
    let bytes_max = settings.message_bytes_max;
    if spec.redundancy == Redundancy::Single || spec.feed.message_bytes_max + relay::OVERHEAD_BYTES_MAX <= bytes_max {
        return Ok(());
    }
    Err(format!(
        "twinfeed.websocket.message.bytes.max is {}: the nodes exchange at most {bytes_max} bytes, {} of them for framing; \
         lower it, or raise limits.internal_message_bytes_max on every node",
        spec.feed.message_bytes_max,
        relay::OVERHEAD_BYTES_MAX,
    ))
}

fn confirm(raft: RaftHandle) -> Confirm {
    Arc::new(move |writer, epoch| {
        let raft = raft.clone();
        Box::pin(async move {
            if faults::bug(Bug::SelfPromotion) {
                return Ok(true);
            }
            let me = raft.status().borrow().node_id;
            raft.confirm_assignment(&writer, epoch, me).await.map_err(|error| ConfirmError(error.to_string()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        command::{Command, Proposal},
        connector::{NodeRecord, TargetState},
        ids::ClusterId,
    };

    fn spec(pairs: &[(&str, &str)]) -> ConnectorSpec {
        let least = [("websocket.url", "ws://h/x"), ("kafka.topic", "t")];
        let pairs = least.iter().chain(pairs);
        let config: Config = pairs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        ConnectorSpec::parse("c", &config).expect("valid").0
    }

    fn settings() -> Settings {
        Settings {
            node: "n".to_owned(),
            bootstrap: "127.0.0.1:1".to_owned(),
            kafka_properties: Config::from([("client.id".to_owned(), "node".to_owned())]),
            topics: kafka::Topics::default(),
            openings: kafka::Openings::default(),
            message_bytes_max: 16 << 20,
            dial: feed::DialOptions {
                secrets: feed::SecretSources { env_prefix: "CARGO_PKG_N".to_owned(), ..Default::default() },
                ..Default::default()
            },
            emit: Arc::new(drop),
        }
    }

    async fn properties(pairs: &[(&str, &str)]) -> Result<Config, String> {
        kafka(&settings(), &State::default(), &spec(pairs)).await.map(|options| options.properties)
    }

    /// A node alone, whose cluster runs the connector `c`.
    async fn cluster(directory: &std::path::Path, pairs: &[(&str, &str)]) -> (RaftHandle, State) {
        let started = RaftHandle::start(crate::raft::Options {
            data_dir: directory.to_owned(),
            name: "n".to_owned(),
            internal_address: "127.0.0.1:1".to_owned(),
            ..Default::default()
        });
        let raft = started.await.expect("an empty directory").handle;
        let mut state = State::default();
        let node = NodeRecord { id: raft.node_id(), name: "n".to_owned(), ..NodeRecord::default() };
        let config = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let commands = [
            Command::InitCluster { id: ClusterId("k".to_owned()), name: "k".to_owned() },
            Command::PutNode { node },
            Command::CreateConnector { name: "c".to_owned(), config, target: TargetState::Running },
        ];
        for (index, command) in (1..).zip(commands) {
            let proposal = Proposal { request_id: String::new(), proposed_at_ms: 0, asked: 0, command };
            state.apply(index, &proposal);
        }
        (raft, state)
    }

    #[tokio::test]
    async fn every_key_of_a_stream_reaches_its_writer() {
        let directory = tempfile::tempdir().expect("a directory");
        let pairs = [
            ("websocket.url", "ws://one/x"),
            ("twinfeed.websocket.secondary.url", "ws://two/x"),
            ("kafka.topic", "ticks"),
            ("twinfeed.redundancy", "dual"),
            ("twinfeed.commit.interval.ms", "7"),
            ("twinfeed.buffer.bytes.max", "2097152"),
            ("twinfeed.dedup.span.ms", "12345"),
        ];
        let (raft, state) = cluster(directory.path(), &pairs).await;
        let supervisor = crate::supervise::Supervisor::default();
        let role = |line| RoleSpec {
            role: crate::model::report::Role::Standby,
            epoch: Default::default(),
            peer: None,
            line,
            reopened: Default::default(),
            revision: 3,
        };
        let made = async |line| {
            let writer = WriterId("c".to_owned());
            options(&settings(), &raft, &supervisor.spawner(), &state, (&writer, &role(line))).await
        };
        let first = made(Line::Primary).await.expect("valid");
        assert_eq!((first.feed.url.public.as_str(), first.target.topic.as_str()), ("ws://one/x", "ticks"));
        assert_eq!((first.settings.commit_interval_us, first.settings.buffer_bytes_max), (7_000, 2 << 20));
        assert_eq!((first.settings.merge.span_ms, first.settings.feeds), (12_345, 2));
        let second = made(Line::Secondary).await.expect("valid");
        assert_eq!(second.feed.url.public, "ws://two/x");
    }

    #[test]
    fn what_is_not_said_about_a_topic_is_the_brokers_default() {
        let made = creation(&spec(&[]).topic, 4 << 20);
        assert_eq!((made.partitions, made.replication_factor), (-1, -1));
        let pairs = [("topic.creation.default.partitions", "3"), ("topic.creation.default.replication.factor", "2")];
        let made = creation(&spec(&pairs).topic, 4 << 20);
        assert_eq!((made.partitions, made.replication_factor, made.create), (3, 2, true));
        assert_eq!(made.properties["max.message.bytes"], "4259840");
        assert!(!creation(&spec(&[("twinfeed.topic.create", "false")]).topic, 0).create);
    }

    #[tokio::test]
    async fn overrides_are_resolved_and_win_and_what_is_not_used_stays_out() {
        let pairs = [
            ("producer.override.client.id", "x-${env:CARGO_PKG_NAME}"),
            ("producer.override.buffer.memory", "67108864"),
            ("producer.override.linger.ms", "10"),
        ];
        let found = properties(&pairs).await.expect("all are accepted");
        assert_eq!(found["client.id"], "x-twinfeed-node");
        assert_eq!(found["queue.buffering.max.kbytes"], "65536");
        assert_eq!(found.get("linger.ms"), None);
        let missing = properties(&[("producer.override.client.id", "${env:CARGO_PKG_NONE}")]).await;
        assert!(missing.expect_err("unset").contains("is not set on this node"));
    }

    #[tokio::test]
    async fn what_was_stored_before_it_was_refused_fails_with_the_reason_and_without_the_value() {
        let why = properties(&[("producer.override.ssl.key.pem", "hunter2")]).await.expect_err("the node's");
        assert!(why.contains("node.toml under [kafka.properties]") && !why.contains("hunter2"), "{why}");
    }

    #[test]
    fn messages_that_the_relay_cannot_carry_are_refused_unless_nothing_is_relayed() {
        let large = ("twinfeed.websocket.message.bytes.max", "16777216");
        assert!(check_relay(&settings(), &spec(&[large])).expect_err("too large").contains("limits.internal"));
        assert!(check_relay(&settings(), &spec(&[large, ("twinfeed.redundancy", "single")])).is_ok());
        assert!(check_relay(&settings(), &spec(&[])).is_ok());
    }
}
