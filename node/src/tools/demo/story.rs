//! The demo's acts, in order: cluster, connector, traffic, kills, verdict.

use std::{path::PathBuf, time::Duration};

use tokio::time::{Instant, sleep};
use tonic::transport::Endpoint;
use twinfeed_proto::admin::{
    ConnectorState, ConnectorStatus, CreateConnectorRequest, GetConnectorRequest, GetStatusRequest, GetStatusResponse,
    cluster_service_client::ClusterServiceClient, connector_service_client::ConnectorServiceClient,
};

use super::{
    Args, Error,
    children::{self, Node},
    kafka::Kafka,
    screen::Screen,
};
use crate::{
    supervise::Supervisor,
    tools::{
        feed::{self, FeedServer},
        pattern::PatternArgs,
        verify,
    },
};

const NODES: usize = 3;
const CONNECTOR: &str = "demo";
const LOOK: Duration = Duration::from_millis(50);
const STEP_MAX: Duration = Duration::from_secs(60);
const CALL_MAX: Duration = Duration::from_secs(2);

struct Stage {
    nodes: Vec<Node>,
    screen: Screen,
    dir: PathBuf,
}

pub(super) async fn tell(args: Args) -> Result<bool, Error> {
    let dir = tempfile::Builder::new()
        .prefix("twinfeed-demo-")
        .tempdir()
        .map_err(|source| Error::Io { what: "no temporary directory".to_owned(), source })?;
    let topic = format!("twinfeed-demo-{}", std::process::id());
    let kafka = Kafka::start(args.bootstrap.clone(), &topic)?;
    let supervisor = Supervisor::default();
    let feed = FeedServer::start(feed_args(&args), &supervisor.spawner()).await?;
    let nodes = children::prepare(dir.path(), NODES, &kafka.bootstrap())?;
    let mut stage = Stage { nodes, screen: Screen::new(), dir: dir.path().to_owned() };
    stage.screen.say(kafka.note());
    stage.screen.say(&format!("feed: {} and {}, {} msg/s", feed.url("a"), feed.url("b"), args.rate));

    let verify_args = verify_args(&kafka.bootstrap(), &topic, &feed);
    let verifying = verify::verify(&verify_args, std::future::pending());
    let playing = async {
        stage.raise_cluster().await?;
        stage.create_connector(&feed, &topic).await?;
        stage.calm(Duration::from_secs(args.calm)).await?;
        for kill in 1..=args.kills {
            stage.kill_owner(kill, args.kills).await?;
            stage.calm(Duration::from_secs(args.calm)).await?;
        }
        stage.screen.say("the feed ends; the verifier reads the rest");
        feed.finish();
        // The verifier ends by itself now.
        std::future::pending::<Result<(), Error>>().await
    };
    let verdict = tokio::select! {
        verdict = verifying => verdict?,
        failed = playing => return failed.map(|()| false),
    };
    stage.screen.verdict(&verdict.line());
    for finding in &verdict.findings {
        stage.screen.verdict(&format!("  {finding}"));
    }
    Ok(verdict.holds())
}

fn feed_args(args: &Args) -> feed::Args {
    let defaults = <FeedDefaults as clap::Parser>::parse_from(["feed"]).args;
    feed::Args {
        rate: args.rate,
        pattern: PatternArgs { repeats: args.repeats, replay: args.replay.clone(), ..defaults.pattern },
        jitter_ms: 3,
        wait_subscribers: 2,
        ..defaults
    }
}

fn verify_args(bootstrap: &str, topic: &str, feed: &FeedServer) -> verify::Args {
    let url = format!("http://{}", feed.address());
    <VerifyDefaults as clap::Parser>::parse_from([
        "verify",
        "--bootstrap",
        bootstrap,
        "--topic",
        topic,
        "--feed",
        &url,
        "--follow",
        "--quiet",
        "--topic-wait-ms",
        "120000",
    ])
    .args
}

/// The tools' own defaults stay the only ones.
#[derive(clap::Parser)]
struct FeedDefaults {
    #[command(flatten)]
    args: feed::Args,
}

#[derive(clap::Parser)]
struct VerifyDefaults {
    #[command(flatten)]
    args: verify::Args,
}

impl Stage {
    async fn raise_cluster(&mut self) -> Result<(), Error> {
        self.screen.say("starting three nodes");
        self.nodes.iter_mut().try_for_each(Node::start)?;
        let status = self.wait_cluster().await?;
        self.screen.say(&format!("cluster of {} nodes, {} leads Raft", status.members.len(), status.leader));
        Ok(())
    }

    async fn create_connector(&mut self, feed: &FeedServer, topic: &str) -> Result<(), Error> {
        let config = [
            ("websocket.url", feed.url("a")),
            ("twinfeed.websocket.secondary.url", feed.url("b")),
            ("kafka.topic", topic.to_owned()),
        ];
        let request = CreateConnectorRequest {
            name: CONNECTOR.to_owned(),
            config: config.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            ..CreateConnectorRequest::default()
        };
        let channel = self.channel(0)?;
        let created = ConnectorServiceClient::new(channel).create_connector(request).await;
        created.map_err(|status| Error::Admin(status.message().to_owned()))?;
        let status = self.wait("a redundant stream", |s| !s.at_risk && delivers(s)).await?;
        self.screen.say(&format!(
            "connector `{CONNECTOR}`: {} owns it, {} stands by, both subscriptions aligned",
            status.owner, status.standby
        ));
        Ok(())
    }

    /// Traffic, watched.
    async fn calm(&mut self, time: Duration) -> Result<(), Error> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            if let Some(status) = self.connector().await {
                self.screen.status(&status);
            }
            sleep(LOOK * 4).await;
        }
        Ok(())
    }

    async fn kill_owner(&mut self, kill: u32, kills: u32) -> Result<(), Error> {
        let before = self.wait("a redundant stream", |s| !s.at_risk && delivers(s)).await?;
        let Some(victim) = self.nodes.iter().position(|node| node.name == before.owner) else {
            return Err(Error::Admin(format!("the owner {} is not a node of this demo", before.owner)));
        };
        let at = Instant::now();
        let pid = self.nodes[victim].kill().await?;
        self.screen.say(&format!("kill -9 {pid}: {} is gone, the owner ({kill} of {kills})", before.owner));
        let after = self.wait("a takeover", |s| s.epoch > before.epoch && delivers(s)).await?;
        self.screen.say(&format!(
            "{} took over: epoch {} -> {}, known to deliver after {} ms",
            after.owner,
            before.epoch,
            after.epoch,
            at.elapsed().as_millis()
        ));
        self.nodes[victim].start()?;
        let again = self.wait("redundancy after the takeover", |s| !s.at_risk && delivers(s)).await?;
        self.screen.say(&format!(
            "redundant again: {} stands by; {} has been started anew",
            again.standby, self.nodes[victim].name
        ));
        Ok(())
    }

    async fn wait_cluster(&mut self) -> Result<GetStatusResponse, Error> {
        let deadline = Instant::now() + STEP_MAX;
        while Instant::now() < deadline {
            let channel = self.channel(0)?;
            let answer = ClusterServiceClient::new(channel).get_status(GetStatusRequest {}).await;
            if let Ok(status) = answer.map(tonic::Response::into_inner)
                && !status.leader.is_empty()
                && status.members.iter().filter(|m| m.up).count() == NODES
            {
                return Ok(status);
            }
            sleep(LOOK).await;
        }
        Err(self.waited("a cluster"))
    }

    async fn wait(
        &mut self,
        what: &'static str,
        holds: impl Fn(&ConnectorStatus) -> bool,
    ) -> Result<ConnectorStatus, Error> {
        let deadline = Instant::now() + STEP_MAX;
        while Instant::now() < deadline {
            if let Some(status) = self.connector().await {
                self.screen.status(&status);
                if holds(&status) {
                    return Ok(status);
                }
            }
            sleep(LOOK).await;
        }
        Err(self.waited(what))
    }

    fn waited(&self, what: &'static str) -> Error {
        Error::Waited { what, waited: STEP_MAX, logs: self.dir.clone() }
    }

    /// The connector's status from the first node that answers.
    async fn connector(&self) -> Option<ConnectorStatus> {
        for n in 0..self.nodes.len() {
            let Ok(channel) = self.channel(n) else { continue };
            let mut client = ConnectorServiceClient::new(channel);
            let asking = client.get_connector(GetConnectorRequest { name: CONNECTOR.to_owned() });
            if let Ok(Ok(answer)) = tokio::time::timeout(CALL_MAX, asking).await
                && let Some(status) = answer.into_inner().connector.and_then(|c| c.status)
            {
                return Some(status);
            }
        }
        None
    }

    fn channel(&self, n: usize) -> Result<tonic::transport::Channel, Error> {
        Endpoint::from_shared(format!("http://{}", self.nodes[n].admin))
            .map(|endpoint| endpoint.connect_timeout(Duration::from_millis(300)).connect_lazy())
            .map_err(|error| Error::Admin(error.to_string()))
    }
}

fn delivers(status: &ConnectorStatus) -> bool {
    status.state() == ConnectorState::Running && !status.owner.is_empty()
}
