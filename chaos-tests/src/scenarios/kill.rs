//! A node is killed with SIGKILL under traffic, then started again, each time after the stream is redundant again.
//! Depending on the story the victim owns the stream, stands by, leads Raft, or leads and owns. Nothing may be lost,
//! doubled or reordered, and the topic is silent only as long as the takeover takes.

use anyhow::{Context as _, Result};
use rand::rngs::StdRng;

use crate::{
    stage::Stage,
    story::{Facts, Story},
};

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kill {
    /// The owner, when it does not lead Raft: the roles are arranged so.
    Owner,
    Standby,
    /// The Raft leader, when it does not own the stream.
    Leader,
    OwnerAndLeader,
}

impl Story for Kill {
    fn facts(&self) -> Facts {
        match self {
            Self::Owner => Facts {
                silence_ms_max: Some(500),
                ..Facts::new("kill-owner", &[1], "kill -9 of the owner, which does not lead Raft")
            },
            Self::Standby => {
                Facts { silence_ms_max: Some(500), ..Facts::new("kill-standby", &[2], "kill -9 of the standby") }
            }
            Self::Leader => Facts {
                silence_ms_max: Some(500),
                ..Facts::new("kill-leader", &[3], "kill -9 of the Raft leader, which owns nothing")
            },
            Self::OwnerAndLeader => Facts {
                silence_ms_max: Some(1_500),
                ..Facts::new("kill-owner-and-leader", &[4], "kill -9 of the node that owns the stream and leads Raft")
            },
        }
    }

    fn fault(&self, stage: &mut Stage, _random: &mut StdRng) -> Result<()> {
        arrange(stage, *self)?;
        let roles = stage.roles()?;
        let victim = match self {
            Self::Owner | Self::OwnerAndLeader => &roles.owner,
            Self::Leader => &stage.cluster.leader()?,
            Self::Standby => &roles.standby,
        };
        stage.wait_traffic()?;
        stage.fault(&format!("kill {victim}"));
        stage.cluster.kill(victim)?;
        if *victim == roles.owner {
            stage.wait_new_owner(roles.epoch)?;
        }
        // Down until the others have noticed: a process that is back at once is a lesser fault.
        stage.wait_down(victim)?;
        stage.cluster.start_node(victim)
    }
}

/// Moves the stream until its owner leads, or does not, as the story wants.
fn arrange(stage: &Stage, story: Kill) -> Result<()> {
    let owner = stage.roles()?.owner;
    let leader = stage.cluster.leader()?;
    let elsewhere = stage.cluster.nodes.iter().map(|n| &n.name).find(|n| **n != leader).context("one node only")?;
    match story {
        Kill::Owner | Kill::Leader if owner == leader => stage.move_to(elsewhere),
        Kill::OwnerAndLeader if owner != leader => stage.move_to(&leader),
        _ => Ok(()),
    }
}
