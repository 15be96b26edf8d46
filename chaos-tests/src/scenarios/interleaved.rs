//! One connection is in order, the other shuffled within what the merge is made for (16 frames): when a batch is cut in the
//! middle of a shuffled block, the standby's later frames are copies of what is written and earlier ones are not. The
//! transaction is held open until that is sure; then the owner dies in the next one. What the topic has must be resolved
//! frame by frame, never up to a mark.

use std::time::{Duration, Instant};

use anyhow::Result;
use rand::rngs::StdRng;

use crate::{
    harness::{Action, Armed, FeedOptions, wait_for},
    stage::{Stage, StageOptions},
    story::{Facts, Story},
};

pub(super) struct KillOwnerInterleaved;

/// Blocks of 16 messages come shuffled, each at once.
const RATE: u64 = 2_000;
const REORDER_MS: u64 = 8;
/// Many times longer than it takes for a block to come.
const HELD: Duration = Duration::from_millis(100);

impl Story for KillOwnerInterleaved {
    fn facts(&self) -> Facts {
        Facts {
            silence_ms_max: Some(1_500),
            needs_faulty_node: true,
            ..Facts::new("kill-owner-interleaved", &[30], "both connections deliver in another order; the owner dies")
        }
    }

    fn stage(&self, _seed: u64) -> Result<StageOptions> {
        let reorder = REORDER_MS.to_string();
        let more = ["--reorder-path", "b", "--reorder-ms", &reorder].map(str::to_owned).to_vec();
        // Repeats between two orders are the stated limit of the merge, not this story's question.
        let feed =
            FeedOptions { rate: Some(RATE), repeats: 0.0, skew_ms: 0, jitter_ms: 0, more, ..FeedOptions::default() };
        Ok(StageOptions { feed, ..StageOptions::default() })
    }

    fn fault(&self, stage: &mut Stage, _random: &mut StdRng) -> Result<()> {
        let roles = stage.roles()?;
        stage.fault(&format!("kill {} in the transaction behind a long one", roles.owner));
        let held = Armed::new(&stage.cluster, &roles.owner, "owner.after_produce", Action::Pause)?;
        held.wait_hit(&mut stage.cluster)?;
        let since = Instant::now();
        wait_for("a block to come", HELD * 2, || (since.elapsed() >= HELD).then_some(()))?;
        held.then(Action::Kill)?.wait_hit(&mut stage.cluster)?;
        stage.wait_new_owner(roles.epoch)?;
        stage.wait_down(&roles.owner)?;
        stage.cluster.start_node(&roles.owner)
    }
}
