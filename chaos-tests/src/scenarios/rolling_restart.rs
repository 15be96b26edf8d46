//! All nodes are restarted one after the other with SIGTERM, as an upgrade does, whatever roles they have: owner, standby,
//! Raft leader. Each is awaited to end by itself with code 0, and the next one goes only when the stream is redundant
//! again. A node that leaves hands its streams over first, so the topic hardly notices.

use anyhow::{Result, ensure};
use rand::{rngs::StdRng, seq::SliceRandom as _};

use crate::{
    stage::{CONNECTOR, Stage},
    story::{Facts, Story},
};

pub(super) struct RollingRestart;

impl Story for RollingRestart {
    fn facts(&self) -> Facts {
        Facts {
            silence_ms_max: Some(300),
            faults_per_stage: 3,
            ..Facts::new("rolling-restart", &[36], "SIGTERM and start of every node, one after the other")
        }
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        let mut names: Vec<String> = stage.cluster.nodes.iter().map(|node| node.name.clone()).collect();
        names.shuffle(random);
        for name in names {
            let roles = stage.roles()?;
            let leads = stage.cluster.leader()? == name;
            stage.fault(&format!("SIGTERM of {name}, owner {}, leads: {leads}", roles.owner));
            let code = stage.cluster.terminate(&name)?;
            ensure!(code == 0, "{name} ended with {code} after SIGTERM");
            stage.cluster.start_node(&name)?;
            stage.cluster.wait_settled()?;
            stage.cluster.wait_redundant(CONNECTOR)?;
        }
        Ok(())
    }
}
