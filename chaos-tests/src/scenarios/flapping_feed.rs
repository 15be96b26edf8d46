//! One side's feed closes or resets its connections every 0.2 to 10 s, for a quarter of a minute, while the other side's
//! stays. Every reconnect is a new subscription that must be aligned anew; nothing may be lost or doubled meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rand::{Rng as _, rngs::StdRng};

use crate::{
    harness::let_pass,
    stage::Stage,
    story::{Facts, Story},
};

pub(super) struct FlappingFeed;

const LASTS: Duration = Duration::from_secs(15);
/// Doubled a random number of times, up to 10 s: as many short pauses as long ones.
const PAUSE_MS_MIN: u64 = 200;
const PAUSE_DOUBLINGS: f64 = 5.6;

impl Story for FlappingFeed {
    fn facts(&self) -> Facts {
        Facts {
            silence_ms_max: Some(1_000),
            ..Facts::new("flapping-feed", &[25], "one side's feed closes or resets every 0.2 to 10 s")
        }
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        let path = if random.random_bool(0.5) { "a" } else { "b" };
        let ended = stage.feed.ended_connections()?;
        stage.fault(&format!("the feed of path {path} flaps"));
        let (began, mut times) = (Instant::now(), 0);
        while began.elapsed() < LASTS {
            if random.random_bool(0.5) {
                stage.feed.close(path)?
            } else {
                stage.feed.reset(path)?
            }
            times += 1;
            let pause = PAUSE_MS_MIN as f64 * random.random_range(0.0..PAUSE_DOUBLINGS).exp2();
            let_pass(Duration::from_millis(pause as u64).min(LASTS.saturating_sub(began.elapsed())));
        }
        let ended = stage.feed.ended_connections()? - ended;
        ensure!(ended > 0, "{times} times the feed was told to end connections, and none ended");
        Ok(())
    }
}
