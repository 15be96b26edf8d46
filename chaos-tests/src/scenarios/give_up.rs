//! A connector that is told not to connect again, or not more often than so, does as it is told: it becomes FAILED, each node
//! says so and why, its neighbour goes on, and `resume` begins anew.

use std::time::Duration;

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use twinfeed_proto::admin::{ConnectorState, ConnectorStatus};

use crate::{
    harness::{FeedOptions, wait_for},
    stage::{Stage, StageOptions},
    story::{Facts, Story},
};

pub(super) struct GiveUp;

const NAME: &str = "quitter";
/// Its own two lines of the feed.
const LINES: [&str; 2] = ["c", "d"];
const STEP_MAX: Duration = Duration::from_secs(20);
/// What the leader knows is at every node after its next view, many times a second.
const HEARD_MAX: Duration = Duration::from_secs(2);
const ATTEMPTS_MAX: &str = "3";

impl Story for GiveUp {
    fn facts(&self) -> Facts {
        Facts {
            faults_per_stage: 3,
            ..Facts::new("give-up", &[44], "a connector may not connect again: FAILED, and why")
        }
    }

    fn stage(&self, _seed: u64) -> Result<StageOptions> {
        Ok(StageOptions { feed: four_lines(), ..StageOptions::default() })
    }

    fn fault(&self, stage: &mut Stage, _random: &mut StdRng) -> Result<()> {
        let once = ("websocket.reconnect.enabled", "false".to_owned());
        let attempts = ("websocket.reconnect.max.attempts", ATTEMPTS_MAX.to_owned());
        // The server closes, and that is the end.
        create(stage, once)?;
        stage.fault("the server closes; no reconnect is allowed");
        LINES.iter().try_for_each(|line| stage.feed.close(line))?;
        failed(stage, "the feed restarts")?;
        resumed(stage)?;

        // A connection that worked, and then nobody there.
        create(stage, attempts.clone())?;
        stage.fault("the server is down for longer than the attempts last");
        LINES.iter().try_for_each(|line| stage.feed.down(line))?;
        failed(stage, "503")?;
        LINES.iter().try_for_each(|line| stage.feed.up(line))?;
        resumed(stage)?;

        // Connections that bring nothing are attempts too.
        create(stage, attempts)?;
        stage.fault("the server takes everybody and closes without a message");
        LINES.iter().try_for_each(|line| stage.feed.silence(line))?;
        let closing = wait_failed(stage, || LINES.iter().try_for_each(|line| stage.feed.close(line)));
        if let Err(error) = closing {
            stage.found(format!("connections that bring nothing never count: {}", error.root_cause()));
        }
        LINES.iter().try_for_each(|line| stage.feed.speak(line))?;
        stage.cluster.admin.delete(NAME)
    }
}

/// The feed with two more lines than the stage's own connector needs.
pub(super) fn four_lines() -> FeedOptions {
    FeedOptions { more: vec!["--paths".to_owned(), "a,b,c,d".to_owned()], ..FeedOptions::default() }
}

fn create(stage: &Stage, more: (&'static str, String)) -> Result<()> {
    let config = [
        ("websocket.url", stage.feed.url(LINES[0])),
        ("twinfeed.websocket.secondary.url", stage.feed.url(LINES[1])),
        ("kafka.topic", format!("{}-{NAME}", stage.topic)),
        ("websocket.reconnect.interval.ms", "200".to_owned()),
        ("websocket.reconnect.backoff.max.ms", "400".to_owned()),
        more,
    ];
    stage.cluster.admin.create(NAME, &config)?;
    stage.cluster.wait_redundant(NAME).map(drop)
}

/// Waits for FAILED, with `again` done each time that it is not so yet.
fn wait_failed(stage: &Stage, again: impl Fn() -> Result<()>) -> Result<ConnectorStatus> {
    let mut last = String::new();
    let failed = wait_for("the connector to fail", STEP_MAX, || {
        again().ok()?;
        let status = stage.cluster.admin.connector(NAME).ok()?.status?;
        last = format!("{:?}, `{}`", status.state(), status.message);
        (status.state() == ConnectorState::Failed).then_some(status)
    });
    failed.map_err(|error| anyhow::anyhow!("{error}; it is {last}"))
}

/// The connector has failed, and every node that is asked says so with the reason. Whatever is not so is a finding.
fn failed(stage: &mut Stage, why: &str) -> Result<()> {
    let live =
        |stage: &Stage| stage.feed.ledger().map(|ledger| LINES.iter().map(|line| ledger.live(line)).sum::<usize>());
    match wait_failed(stage, || Ok(())) {
        Err(error) => stage.found(format!("{}, {} connections of it live", error.root_cause(), live(stage)?)),
        Ok(_) => {
            let nodes: Vec<(String, String)> =
                stage.cluster.nodes.iter().map(|node| (node.name.clone(), node.admin.clone())).collect();
            for (node, address) in nodes {
                // The others hear it from the leader, a moment later.
                let mut told = String::new();
                let says = wait_for("a node to say that it has failed", HEARD_MAX, || {
                    let status = stage.cluster.admin.connector_at(&address, NAME).ok()?.status?;
                    told = format!("{:?}, `{}`", status.state(), status.message);
                    (status.state() == ConnectorState::Failed && status.message.contains(why)).then_some(())
                });
                if says.is_err() {
                    stage.found(format!("{node} does not say FAILED and `{why}`: {told}"));
                }
            }
            ensure!(live(stage)? == 0, "a connection of a failed connector lives on");
        }
    }
    Ok(())
}

/// `resume` begins anew: redundant, and delivering. The connector is gone after that.
fn resumed(stage: &mut Stage) -> Result<()> {
    stage.cluster.admin.resume(NAME)?;
    let redundant = wait_for("redundancy after resume", STEP_MAX, || stage.cluster.is_redundant(NAME));
    if let Err(error) = redundant {
        stage.found(format!("{}", error.root_cause()));
    }
    stage.cluster.admin.delete(NAME)
}
