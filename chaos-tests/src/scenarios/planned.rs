//! The owner is moved with `failover`, back and forth, under traffic: make before break, hardly a silence.

use anyhow::Result;
use rand::rngs::StdRng;

use crate::{
    stage::{CONNECTOR, Stage},
    story::{Facts, Story},
};

pub(super) struct PlannedMove;

impl Story for PlannedMove {
    fn facts(&self) -> Facts {
        Facts {
            silence_ms_max: Some(200),
            ..Facts::new("planned-move", &[36], "the owner is moved on request, make before break")
        }
    }

    fn fault(&self, stage: &mut Stage, _random: &mut StdRng) -> Result<()> {
        let roles = stage.roles()?;
        stage.fault(&format!("move off {}", roles.owner));
        stage.cluster.admin.failover(CONNECTOR, "")?;
        stage.wait_new_owner(roles.epoch).map(drop)
    }
}
