//! A node is killed with SIGKILL at 5,000 messages a second, then started again; as often as asked, each time after the
//! stream is redundant again. Depending on the story the victim owns the stream, stands by, leads Raft, or leads and
//! owns. Nothing may be lost, doubled or reordered, and the topic is silent only as long as the takeover takes.

use anyhow::{Context as _, Result};

use super::{
    Report, Settings,
    stage::{CONNECTOR, Stage},
};
use crate::harness::FeedOptions;

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The owner, when it does not lead Raft: the roles are arranged so.
    Owner,
    Standby,
    /// The Raft leader, when it does not own the stream.
    Leader,
    OwnerAndLeader,
}

pub(super) fn run(victim: Victim, settings: &Settings) -> Result<Report> {
    let feed = FeedOptions { rate: settings.rate, seed: settings.seed, ..FeedOptions::default() };
    let mut stage = Stage::set(settings, feed)?;
    for _ in 0..settings.runs {
        arrange(&stage, victim)?;
        stage.wait_traffic()?;
        let (owner, epoch) = stage.owner()?;
        let name = match victim {
            Victim::Owner | Victim::OwnerAndLeader => owner.clone(),
            Victim::Leader => stage.cluster.leader()?,
            Victim::Standby => {
                stage.cluster.wait_redundant(CONNECTOR)?.status.context("a connector without status")?.standby
            }
        };
        stage.fault();
        stage.cluster.kill(&name)?;
        if name == owner {
            stage.wait_new_owner(epoch)?;
        }
        // Down until the others have noticed: a process that is back at once is a lesser fault.
        stage.wait_down(&name)?;
        let position = stage.cluster.position(&name)?;
        stage.cluster.start_node(position)?;
        stage.cluster.wait_settled()?;
        stage.cluster.wait_redundant(CONNECTOR)?;
    }
    stage.close()
}

/// Moves the stream until its owner leads, or does not, as the story wants.
fn arrange(stage: &Stage, victim: Victim) -> Result<()> {
    let (owner, _) = stage.owner()?;
    let leader = stage.cluster.leader()?;
    let elsewhere = stage.cluster.nodes.iter().map(|n| &n.name).find(|n| **n != leader).context("one node only")?;
    let target = match victim {
        Victim::Owner | Victim::Leader if owner == leader => elsewhere,
        Victim::OwnerAndLeader if owner != leader => &leader,
        _ => return Ok(()),
    };
    stage.cluster.admin.failover(CONNECTOR, target).map_err(|error| stage.cluster.explain(error))?;
    stage.cluster.wait_redundant(CONNECTOR).map(drop)
}
