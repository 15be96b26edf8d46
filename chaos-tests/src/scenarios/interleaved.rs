//! The two connections deliver in a different order, by up to 200 ms, as feeds do whose servers fan out in parallel. The
//! standby has then sent messages that the owner's connection has not, between others that it has, when the owner dies
//! with a transaction that is not committed. What the topic has is resolved frame by frame, never up to a mark.

use anyhow::Result;
use rand::rngs::StdRng;

use crate::{
    harness::{Action, Armed, FeedOptions},
    stage::{Stage, StageOptions},
    story::{Facts, Story},
};

pub(super) struct KillOwnerInterleaved;

/// Long enough that a block of messages is spread over many transactions of 10 ms.
const REORDER_MS: u64 = 200;

impl Story for KillOwnerInterleaved {
    fn facts(&self) -> Facts {
        Facts {
            silence_ms_max: Some(1_500),
            needs_faulty_node: true,
            ..Facts::new("kill-owner-interleaved", &[30], "both connections deliver in another order; the owner dies")
        }
    }

    fn stage(&self, _seed: u64) -> Result<StageOptions> {
        let more = vec!["--reorder-ms".to_owned(), REORDER_MS.to_string()];
        // Repeats between two orders are the stated limit of the merge, not this story's question.
        let feed = FeedOptions { repeats: 0.0, skew_ms: 20, more, ..FeedOptions::default() };
        Ok(StageOptions { feed, ..StageOptions::default() })
    }

    fn fault(&self, stage: &mut Stage, _random: &mut StdRng) -> Result<()> {
        let roles = stage.roles()?;
        stage.fault(&format!("kill {} before EndTxn", roles.owner));
        Armed::new(&stage.cluster, &roles.owner, "owner.after_produce", Action::Kill)?.wait_hit(&mut stage.cluster)?;
        stage.wait_new_owner(roles.epoch)?;
        stage.wait_down(&roles.owner)?;
        stage.cluster.start_node(&roles.owner)
    }
}
