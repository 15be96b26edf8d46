//! The topic of one connector is deleted under it. That connector becomes FAILED and says what to do; its neighbour on the
//! same nodes and brokers writes on. Once the topic is there again and the connector restarted, it delivers.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use twinfeed_proto::admin::{ConnectorState, ConnectorStatus};

use crate::{
    broker::Broker,
    harness::wait_for,
    stage::{CONNECTOR, Stage},
    story::{Facts, Story},
};

pub(super) struct TopicDeleted;

const DOOMED: &str = "doomed";
const STEP_MAX: Duration = Duration::from_secs(40);

impl Story for TopicDeleted {
    fn facts(&self) -> Facts {
        Facts {
            silence_ms_max: Some(500),
            ..Facts::new("topic-deleted", &[24], "a connector's topic is deleted, made again, the connector restarted")
        }
    }

    fn fault(&self, stage: &mut Stage, _random: &mut StdRng) -> Result<()> {
        let topic = format!("{}-doomed-{}", stage.topic, stage.faults());
        let config = [
            ("websocket.url", stage.feed.url("a")),
            ("twinfeed.websocket.secondary.url", stage.feed.url("b")),
            ("kafka.topic", topic.clone()),
        ];
        stage.cluster.admin.create(DOOMED, &config)?;
        stage.cluster.wait_redundant(DOOMED)?;
        let before = stage.roles()?;

        stage.fault(&format!("topic {topic} is deleted"));
        delete(&topic)?;
        let failed = reached(stage, "the connector to fail", |status| status.state() == ConnectorState::Failed)?;
        for word in [topic.as_str(), "wsctl connector restart doomed"] {
            if !failed.message.contains(word) {
                stage.found(format!("the failure does not say `{word}`: {}", failed.message));
            }
        }
        let neighbour = stage.cluster.admin.connector(CONNECTOR)?.status.context("a connector without status")?;
        if neighbour.state() != ConnectorState::Running || neighbour.epoch != before.epoch {
            stage.found(format!("the neighbour suffered: {neighbour:?}"));
        }
        ensure!(neighbour.records_per_second > 0.0, "no traffic beside the fault");

        create(&topic)?;
        stage.cluster.admin.restart(DOOMED)?;
        reached(stage, "the connector to deliver again", |status| {
            status.state() == ConnectorState::Running && status.records_per_second > 0.0
        })?;
        stage.cluster.wait_redundant(DOOMED)?;
        stage.cluster.admin.delete(DOOMED)
    }
}

fn reached(stage: &Stage, what: &str, is_it: impl Fn(&ConnectorStatus) -> bool) -> Result<ConnectorStatus> {
    wait_for(what, STEP_MAX, || stage.cluster.admin.connector(DOOMED).ok()?.status.filter(|status| is_it(status)))
}

fn admin() -> Result<AdminClient<DefaultClientContext>> {
    Ok(ClientConfig::new().set("bootstrap.servers", Broker::shared().bootstrap()).create()?)
}

fn delete(topic: &str) -> Result<()> {
    let outcome = wait(admin()?.delete_topics(&[topic], &AdminOptions::new()))??;
    outcome.into_iter().try_for_each(|each| each.map(drop)).map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))
}

fn create(topic: &str) -> Result<()> {
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    let outcome = wait(admin()?.create_topics([&new], &AdminOptions::new()))??;
    outcome.into_iter().try_for_each(|each| each.map(drop)).map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))
}

fn wait<T>(future: impl Future<Output = T>) -> Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future))
}
