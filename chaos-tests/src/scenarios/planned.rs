//! What an operator does on purpose, under traffic: the owner is moved, a connector is restarted, and configured anew, well
//! and badly. Make before break: nothing is lost, and the topic hardly falls silent.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::{Rng as _, rngs::StdRng};

use crate::{
    harness::{let_pass, wait_for},
    invariants::Invariant,
    stage::{CONNECTOR, Roles, Stage},
    story::{Facts, Story},
};

/// Nothing listens there.
const NOWHERE: &str = "ws://127.0.0.1:1/";
const INTERVAL_KEY: &str = "twinfeed.commit.interval.ms";
/// For how long a stream with a bad configuration is watched.
const WATCHED: Duration = Duration::from_secs(2);

/// A changeover takes about half a second.
const DIES_AFTER_MS: std::ops::Range<u64> = 0..900;

pub(super) enum Planned {
    /// `failover`, back and forth.
    Move,
    /// Asked for without a cause: both nodes begin anew.
    Restart,
    /// A new configuration that works: both nodes run it in the end.
    Configuration,
    /// A node dies on the way: two faults at once, as the stream is at risk while its standby begins anew.
    KillInChangeover,
    /// One that cannot work, corrected later: the owner goes on with the old one.
    BadConfiguration,
}

impl Story for Planned {
    fn facts(&self) -> Facts {
        let facts = match self {
            Self::Move => Facts::new("planned-move", &[36], "the owner is moved on request, make before break"),
            Self::Restart => Facts::new("restart-connector", &[36], "the connector is restarted, the standby first"),
            Self::Configuration => {
                Facts::new("new-configuration", &[36], "the connector is configured anew, the standby first")
            }
            Self::KillInChangeover => {
                let tells = "the connector is configured anew, and a moment later owner or standby dies";
                return Facts { invariants: Invariant::REPORTED, ..Facts::new("kill-in-changeover", &[5], tells) };
            }
            Self::BadConfiguration => {
                Facts::new("bad-configuration", &[36], "the connector gets URLs where nobody listens, and back the old")
            }
        };
        Facts { silence_ms_max: Some(200), ..facts }
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        let roles = stage.roles()?;
        match self {
            Self::Move => {
                stage.fault(&format!("move off {}", roles.owner));
                stage.cluster.admin.failover(CONNECTOR, "")?;
                stage.wait_new_owner(roles.epoch).map(drop)
            }
            Self::Restart => {
                stage.fault(&format!("restart, owner {}", roles.owner));
                stage.cluster.admin.restart(CONNECTOR)?;
                wait_changeover(stage, &roles)
            }
            Self::Configuration => {
                configure(stage, random, &roles.owner)?;
                wait_changeover(stage, &roles)
            }
            Self::KillInChangeover => {
                configure(stage, random, &roles.owner)?;
                let_pass(Duration::from_millis(random.random_range(DIES_AFTER_MS)));
                let victim = if random.random() { roles.owner } else { roles.standby };
                stage.cluster.kill(&victim)?;
                stage.wait_down(&victim)?;
                stage.cluster.start_node(&victim)
            }
            Self::BadConfiguration => {
                let urls = |a: String, b: String| [("websocket.url", a), ("twinfeed.websocket.secondary.url", b)];
                let good = urls(stage.feed.url("a"), stage.feed.url("b"));
                stage.fault(&format!("both URLs lead nowhere, owner {}", roles.owner));
                stage.cluster.admin.configure(CONNECTOR, &urls(NOWHERE.to_owned(), NOWHERE.to_owned()))?;
                wait_for("the new configuration to be found bad", Duration::from_secs(20), || {
                    let status = stage.cluster.admin.connector(CONNECTOR).ok()?.status?;
                    status.message.contains("goes on with the old one").then_some(())
                })?;
                let_pass(WATCHED);
                let status = stage.cluster.admin.connector(CONNECTOR)?.status.context("a connector without status")?;
                ensure!(status.owner == roles.owner && status.epoch == roles.epoch, "the owner was replaced");
                if status.records_per_second < 1.0 {
                    stage.found("the stream stopped for a configuration that cannot work".to_owned());
                }
                stage.cluster.admin.configure(CONNECTOR, &good)?;
                stage.wait_new_owner(roles.epoch).map(drop)
            }
        }
    }
}

/// Owner and standby change places.
fn wait_changeover(stage: &Stage, before: &Roles) -> Result<()> {
    let now = stage.wait_new_owner(before.epoch)?;
    ensure!(now.owner == before.standby, "{} was reopened in place", before.owner);
    Ok(())
}

/// A configuration that works as well as the present one.
fn configure(stage: &mut Stage, random: &mut StdRng, owner: &str) -> Result<()> {
    let config = &stage.cluster.admin.connector(CONNECTOR)?.config;
    let present: u64 = config.get(INTERVAL_KEY).map_or(Ok(10), |ms| ms.parse())?;
    let next = if present == 10 { random.random_range(5..10) } else { 10 };
    stage.fault(&format!("commit every {next} ms instead of {present} ms, owner {owner}"));
    stage.cluster.admin.configure(CONNECTOR, &[(INTERVAL_KEY, next.to_string())])
}
