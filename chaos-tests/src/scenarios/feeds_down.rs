//! Both feeds are down for 1 to 10 s. What they would have sent is lost, and no cluster can help it: but the cluster must
//! say so, with bounds that contain the whole time, and lose nothing that lies outside of them.

use std::time::Duration;

use anyhow::{Result, ensure};
use rand::{Rng as _, rngs::StdRng};

use crate::{
    harness::let_pass,
    invariants::Invariant,
    stage::{Stage, StageOptions},
    story::{Facts, Story},
};

pub(super) struct FeedsDown;

const DOWN_MS: std::ops::RangeInclusive<u64> = 1_000..=10_000;

impl Story for FeedsDown {
    fn facts(&self) -> Facts {
        Facts {
            // Two faults at once: what is missing lies in the gaps that the nodes told. That includes the few messages that the
            // second subscription got before the first one's first: whether they are older than the gap, nobody can tell.
            invariants: Invariant::REPORTED,
            ..Facts::new("feeds-down", &[26], "both feeds are down for 1 to 10 s: the loss is reported with its bounds")
        }
    }

    fn stage(&self, _seed: u64) -> Result<StageOptions> {
        // The outage is what counts here, not how long a doubled pause outlasts it.
        let connector = vec![("websocket.reconnect.backoff.max.ms", "500".to_owned())];
        Ok(StageOptions { connector, ..StageOptions::default() })
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        let down = Duration::from_millis(random.random_range(DOWN_MS));
        let ended = stage.feed.ended_connections()?;
        stage.fault(&format!("both feeds are down for {} ms", down.as_millis()));
        ["a", "b"].iter().try_for_each(|path| stage.feed.down(path))?;
        let_pass(down);
        ensure!(stage.feed.ended_connections()? >= ended + 2, "a subscription outlived its feed");
        ["a", "b"].iter().try_for_each(|path| stage.feed.up(path))
    }
}
