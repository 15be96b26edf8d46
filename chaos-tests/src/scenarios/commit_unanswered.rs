//! The only broker dies (SIGKILL) when it has acknowledged every record of a transaction and has not been asked to commit
//! it; it comes back after the owner has given up waiting for the answer. No answer is no outcome: only a new producer and
//! the tail of the topic tell whether the batch is there, and here it is not.

use std::time::{Duration, Instant};

use anyhow::Result;
use rand::rngs::StdRng;

use crate::{
    harness::{Action, Armed, KafkaOptions, wait_for},
    stage::{Stage, StageOptions},
    story::{Facts, Story},
};

pub(super) struct CommitUnanswered;

/// Longer than a commit is waited for (5 s).
const AWAY: Duration = Duration::from_secs(7);

impl Story for CommitUnanswered {
    fn facts(&self) -> Facts {
        Facts {
            needs_faulty_node: true,
            faults_per_stage: 3,
            ..Facts::new(
                "commit-unanswered",
                &[20],
                "the broker dies between the records and the commit of a transaction",
            )
        }
    }

    fn stage(&self, _seed: u64) -> Result<StageOptions> {
        Ok(StageOptions { kafka: KafkaOptions::Own { proxied: false }, ..StageOptions::default() })
    }

    fn fault(&self, stage: &mut Stage, _random: &mut StdRng) -> Result<()> {
        let owner = stage.roles()?.owner;
        stage.fault(&format!("kill the broker before EndTxn of {owner}"));
        let held = Armed::new(&stage.cluster, &owner, "owner.after_produce", Action::Pause)?;
        held.wait_hit(&mut stage.cluster)?;
        stage.kafka.one()?.stop()?;
        held.release(&stage.cluster)?;
        let since = Instant::now();
        wait_for("the owner to give up", AWAY * 2, || (since.elapsed() >= AWAY).then_some(()))?;
        Ok(stage.kafka.one()?.restart()?)
    }
}
