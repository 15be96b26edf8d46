//! Zombies at the two moments that fencing is about. In the first story the owner is stopped when Kafka has acknowledged
//! every record of its transaction and EndTxn has not been sent; another node takes over, which frees the readers from the
//! open transaction; then the zombie goes on and sends its commit. In the second the owner dies, its standby is stopped
//! with the assignment applied and before its `init_transactions`; a third takes over under a later epoch and writes; then
//! the zombie goes on, cut off from its peers, and initialises last. Kafka lets the last init win, so only the check behind the init keeps it from
//! writing at its old epoch.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rand::{Rng as _, rngs::StdRng};

use crate::{
    harness::{Action, Armed, firewall::Cut, let_pass, wait_for},
    invariants::Invariant,
    stage::{Stage, StageOptions},
    story::{Facts, Story},
};

/// When the zombie was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zombie {
    MidTransaction,
    BeforeInit,
}

/// Stopped for so long after the other owner delivers: still within Kafka's transaction timeout (10 s), as only then the
/// zombie's transaction could be committed by it.
const OUTLIVED_MS: std::ops::RangeInclusive<u64> = 0..=2_000;
/// The cluster has lost two of three nodes and got one back.
const TAKEN_OVER_MAX: Duration = Duration::from_secs(30);
/// A zombie that may write reads the topic's tail and writes within this.
const WRITES_MAX: Duration = Duration::from_secs(4);
/// The zombie's init is felt by the rightful owner within this.
const FELT_MAX: Duration = Duration::from_secs(20);

impl Story for Zombie {
    fn facts(&self) -> Facts {
        match self {
            Self::MidTransaction => Facts {
                silence_ms_max: Some(2_500),
                needs_faulty_node: true,
                ..Facts::new(
                    "zombie-mid-transaction",
                    &[7],
                    "the owner is stopped before EndTxn and goes on after a takeover",
                )
            },
            Self::BeforeInit => Facts {
                invariants: Invariant::REPORTED,
                needs_root: true,
                needs_faulty_node: true,
                ..Facts::new(
                    "zombie-before-init",
                    &[8],
                    "a successor is stopped before its init and goes on after another's",
                )
            },
        }
    }

    fn stage(&self, _seed: u64) -> Result<StageOptions> {
        Ok(StageOptions { network: *self == Self::BeforeInit, ..StageOptions::default() })
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        let outlived = Duration::from_millis(random.random_range(OUTLIVED_MS));
        match self {
            Self::MidTransaction => mid_transaction(stage, outlived),
            Self::BeforeInit => before_init(stage, outlived),
        }
    }
}

fn mid_transaction(stage: &mut Stage, outlived: Duration) -> Result<()> {
    let roles = stage.roles()?;
    stage.fault(&format!("stop {} before EndTxn", roles.owner));
    let zombie = Armed::new(&stage.cluster, &roles.owner, "owner.after_produce", Action::Stop)?;
    zombie.wait_hit(&mut stage.cluster)?;
    stage.wait_new_owner(roles.epoch)?;
    let_pass(outlived);
    zombie.release(&stage.cluster)
}

fn before_init(stage: &mut Stage, outlived: Duration) -> Result<()> {
    let roles = stage.roles()?;
    let zombie = Armed::new(&stage.cluster, &roles.standby, "opening.before_init", Action::Stop)?;
    stage.fault(&format!("kill {}, stop {} before its init", roles.owner, roles.standby));
    stage.cluster.kill(&roles.owner)?;
    zombie.wait_hit(&mut stage.cluster)?;
    // One of three is left: without a second there is no quorum to name another owner.
    stage.cluster.start_node(&roles.owner)?;
    let rightful = wait_for("an owner other than the zombie", TAKEN_OVER_MAX, || {
        let rightful = stage.wait_new_owner(roles.epoch).ok()?.owner;
        (rightful != roles.standby).then_some(rightful)
    })?;
    let_pass(outlived);
    // Only Kafka is left to it: word of its successor must not come before its init, nor its successor's next init before
    // it has written what it has.
    let network = stage.network()?;
    let host = network.host(&roles.standby)?;
    for peer in network.hosts().iter().filter(|peer| peer.name() != roles.standby) {
        host.cut(Cut::both(peer))?;
    }
    // Their logs, not their events: those of a node that is cut off reach nobody.
    let read =
        |node: &str| std::fs::read_to_string(stage.cluster.dir().join(format!("{node}.log"))).unwrap_or_default();
    let (zombies, rightfuls) = (read(&roles.standby).len(), read(&rightful).len());
    stage.cluster.pause(&rightful)?;
    zombie.release(&stage.cluster)?;
    // A node that confirms as it should is held up by the cut; one that does not writes within moments.
    let since = Instant::now();
    wait_for("the zombie to write, or its time to pass", WRITES_MAX * 2, || {
        let wrote = read(&roles.standby).get(zombies..).is_some_and(|new| new.contains("event=writer.live"));
        (wrote || since.elapsed() >= WRITES_MAX).then_some(())
    })?;
    stage.cluster.resume(&rightful)?;
    let felt = wait_for("the rightful owner to be fenced by the zombie's init", FELT_MAX, || {
        read(&rightful).get(rightfuls..)?.contains("event=writer.interrupted").then_some(())
    });
    ensure!(host.heal()? > 0, "no packet was dropped: nothing was cut");
    felt
}
