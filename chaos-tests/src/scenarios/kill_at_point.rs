//! A node dies between two steps of its work on a message, by its own hand (SIGKILL at a failpoint), at one point after the
//! other; then it is started again. The owner dies with a batch cut and no transaction, with every record acknowledged and
//! no commit, and with a commit that nobody has been told of. The standby dies with frames read and not retained,
//! retained and not sent, resolved and not released. Nothing may be lost or doubled.

use anyhow::Result;
use rand::rngs::StdRng;

use crate::{
    harness::{Action, Armed},
    stage::Stage,
    story::{Facts, Story},
};

/// Who dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KillAtPoint {
    Owner,
    Standby,
}

impl KillAtPoint {
    fn points(self) -> &'static [&'static str] {
        match self {
            Self::Owner => &["owner.before_begin", "owner.after_produce", "owner.after_commit"],
            Self::Standby => &["standby.before_retain", "standby.before_send", "standby.before_release"],
        }
    }
}

impl Story for KillAtPoint {
    fn facts(&self) -> Facts {
        let facts = match self {
            Self::Owner => {
                Facts::new("kill-owner-at-points", &[1], "the owner dies around its transaction, at each point")
            }
            Self::Standby => {
                Facts::new("kill-standby-at-points", &[2], "the standby dies around its retention, at each point")
            }
        };
        Facts { silence_ms_max: Some(1_500), needs_faulty_node: true, faults_per_stage: 4, ..facts }
    }

    fn fault(&self, stage: &mut Stage, _random: &mut StdRng) -> Result<()> {
        for point in self.points() {
            let roles = stage.roles()?;
            stage.wait_traffic()?;
            let victim = if *self == Self::Owner { &roles.owner } else { &roles.standby };
            stage.fault(&format!("kill {victim} at {point}"));
            Armed::new(&stage.cluster, victim, point, Action::Kill)?.wait_hit(&mut stage.cluster)?;
            if *self == Self::Owner {
                stage.wait_new_owner(roles.epoch)?;
            }
            stage.wait_down(victim)?;
            stage.cluster.start_node(victim)?;
            if !stage.converge() {
                break;
            }
        }
        Ok(())
    }
}
