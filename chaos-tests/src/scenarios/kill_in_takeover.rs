//! A second fault in the recovery from the first: the owner dies with a commit that its standby does not know of, the
//! standby takes over and dies on the way, at one point after the other, from the applied assignment to its first
//! commit. Frames that only these two had may be lost, as that is two faults; but nothing is doubled, no epoch goes back,
//! and the third node or one that is started again carries on by itself.

use anyhow::Result;
use rand::rngs::StdRng;

use crate::{
    harness::{Action, Armed},
    invariants::Invariant,
    stage::Stage,
    story::{Facts, Story},
};

pub(super) struct KillInTakeover;

/// In the order in which a takeover meets them.
const POINTS: [&str; 8] = [
    "opening.before_init",
    "opening.after_init",
    "opening.after_check",
    "opening.in_tail",
    "opening.after_tail",
    "owner.before_begin",
    "owner.after_produce",
    "owner.after_commit",
];

impl Story for KillInTakeover {
    fn facts(&self) -> Facts {
        Facts {
            invariants: Invariant::REPORTED,
            needs_faulty_node: true,
            faults_per_stage: 2,
            ..Facts::new("kill-in-takeover", &[5], "the owner dies, then its successor at each step of the takeover")
        }
    }

    fn fault(&self, stage: &mut Stage, _random: &mut StdRng) -> Result<()> {
        for point in POINTS {
            let roles = stage.roles()?;
            stage.wait_traffic()?;
            let second = Armed::new(&stage.cluster, &roles.standby, point, Action::Kill)?;
            stage.fault(&format!("kill {}, then {} at {point}", roles.owner, roles.standby));
            // Committed and not acknowledged: there is a tail to read.
            Armed::new(&stage.cluster, &roles.owner, "owner.after_commit", Action::Kill)?
                .wait_hit(&mut stage.cluster)?;
            second.wait_hit(&mut stage.cluster)?;
            // One of three is left: without a second there is no quorum to name an owner.
            stage.cluster.start_node(&roles.owner)?;
            stage.cluster.start_node(&roles.standby)?;
            stage.wait_new_owner(roles.epoch)?;
            if !stage.converge() {
                break;
            }
        }
        Ok(())
    }
}
