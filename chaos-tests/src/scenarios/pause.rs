//! A node is frozen with SIGSTOP for shorter or longer than the leader's patience (1.5 s) and Kafka's transaction timeout
//! (10 s), then continued. A frozen owner becomes a zombie: its standby takes over meanwhile, and once awake it must write
//! nothing more, and notice. A frozen standby or Raft leader is missed by nobody who reads the topic.

use std::time::{Duration, Instant};

use anyhow::Result;
use rand::{Rng as _, rngs::StdRng};

use crate::{
    harness::let_pass,
    stage::{Roles, Stage},
    story::{Facts, Story},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    Owner,
    Standby,
    Leader,
}

const FROZEN_MS: std::ops::RangeInclusive<u64> = 1_000..=20_000;
/// Frozen for longer than this, with a margin for a loaded machine, an owner must have been replaced.
const REPLACED_AFTER: Duration = Duration::from_millis(4_000);

impl Story for Pause {
    fn facts(&self) -> Facts {
        match self {
            Self::Owner => Facts {
                silence_ms_max: Some(2_500),
                ..Facts::new("pause-owner", &[6], "SIGSTOP of the owner for 1 to 20 s, then SIGCONT: a zombie")
            },
            Self::Standby => Facts {
                silence_ms_max: Some(200),
                ..Facts::new("pause-standby", &[9], "SIGSTOP of the standby for 1 to 20 s, then SIGCONT")
            },
            Self::Leader => Facts {
                silence_ms_max: Some(200),
                ..Facts::new("pause-leader", &[9], "SIGSTOP of the Raft leader, not the owner, for 1 to 20 s")
            },
        }
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        let roles = self.cast(stage)?;
        let victim = match self {
            Self::Owner => roles.owner.clone(),
            Self::Standby => roles.standby.clone(),
            Self::Leader => stage.cluster.leader()?,
        };
        let frozen = Duration::from_millis(random.random_range(FROZEN_MS));
        stage.fault(&format!("pause {victim} for {} ms, owner {}", frozen.as_millis(), roles.owner));
        let frozen_at = Instant::now();
        stage.cluster.pause(&victim)?;
        if *self == Self::Owner && frozen >= REPLACED_AFTER {
            stage.wait_new_owner(roles.epoch)?;
        }
        let_pass(frozen.saturating_sub(frozen_at.elapsed()));
        stage.cluster.resume(&victim)?;
        // Else the next fault would begin within the silence of this one.
        stage.wait_going_on()
    }
}

impl Pause {
    /// Sees to it that the leader owns nothing where it is to be frozen.
    fn cast(self, stage: &Stage) -> Result<Roles> {
        let roles = stage.roles()?;
        let leader = stage.cluster.leader()?;
        if self != Self::Leader || roles.owner != leader {
            return Ok(roles);
        }
        stage.move_to(&roles.standby)?;
        stage.roles()
    }
}
