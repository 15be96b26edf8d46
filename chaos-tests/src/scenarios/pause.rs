//! The owner is frozen with SIGSTOP for longer or shorter than Kafka's transaction timeout (10 s), then continued: a
//! zombie. Its standby takes over meanwhile; once awake it must write nothing more, and notice.

use std::time::{Duration, Instant};

use anyhow::Result;
use rand::{Rng as _, rngs::StdRng};

use crate::{
    harness::wait_for,
    stage::Stage,
    story::{Facts, Story},
};

pub(super) struct PauseOwner;

const FROZEN_MS: std::ops::RangeInclusive<u64> = 3_000..=15_000;

impl Story for PauseOwner {
    fn facts(&self) -> Facts {
        Facts {
            silence_ms_max: Some(2_500),
            ..Facts::new("pause-owner", &[6], "SIGSTOP of the owner for 3 to 15 s, then SIGCONT: a zombie")
        }
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        let roles = stage.roles()?;
        let frozen = Duration::from_millis(random.random_range(FROZEN_MS));
        stage.fault(&format!("pause {} for {} ms", roles.owner, frozen.as_millis()));
        let frozen_at = Instant::now();
        stage.cluster.pause(&roles.owner)?;
        stage.wait_new_owner(roles.epoch)?;
        wait_for("the freeze to last", frozen * 2, || (frozen_at.elapsed() >= frozen).then_some(()))?;
        stage.cluster.resume(&roles.owner)
    }
}
