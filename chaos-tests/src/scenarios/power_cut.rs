//! The power of one node, or of all at once, is cut a moment after admin writes: what was not synced to the disk is gone. No
//! acknowledged write may be missing and no store broken. With one node nothing of the stream is lost; with all of them
//! both subscriptions are gone, so what the feed sent meanwhile may be missing, within the bounds of a reported gap.

use anyhow::{Context as _, Result};
use rand::{rngs::StdRng, seq::IndexedRandom as _};

use crate::{
    harness::{Disk, Writes},
    invariants::Invariant as I,
    stage::Stage,
    story::{Facts, Story},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PowerCut {
    One,
    All,
}

/// Writes just before the cut; each is 100 KiB.
const WRITES: usize = 8;

impl Story for PowerCut {
    fn facts(&self) -> Facts {
        let facts = match self {
            Self::One => Facts {
                silence_ms_max: Some(2_500),
                ..Facts::new("power-cut", &[34], "the power of one node is cut after writes, then comes back")
            },
            Self::All => Facts {
                invariants: I::REPORTED,
                ..Facts::new("power-cut-all", &[34], "the power of all nodes is cut at once, then comes back")
            },
        };
        Facts { needs_root: true, ..facts }
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        let mut names: Vec<String> = stage.cluster.nodes.iter().map(|node| node.name.clone()).collect();
        if *self == Self::One {
            names = vec![names.choose(random).context("no nodes")?.clone()];
        }
        let mut disks = Vec::new();
        for name in &names {
            stage.roles()?;
            stage.cluster.terminate(name)?;
            disks.push(Disk::with_power(&stage.cluster.data(name))?);
            stage.cluster.start_node(name)?;
            stage.cluster.wait_settled()?;
        }
        let roles = stage.roles()?;
        let mut writes = Writes::new(format!("w{}", stage.faults()));
        writes.some(&mut stage.cluster, WRITES)?;
        let acknowledged = writes.acknowledged();
        anyhow::ensure!(acknowledged > 0, "no write was acknowledged before the cut");
        stage.fault(&format!("power cut at {names:?}, owner {}, {acknowledged} writes before", roles.owner));
        disks.iter().try_for_each(Disk::cut)?;
        for name in &names {
            stage.cluster.kill(name)?;
        }
        if *self == Self::One {
            stage.wait_down(&names[0])?;
        }
        disks.iter().try_for_each(Disk::restore)?;
        for name in &names {
            stage.cluster.start_node(name)?;
        }
        // The cut is proven: a node that cannot live on what is left of its store is the answer, not a failed run.
        if stage.cluster.wait_settled().is_err() {
            stage.found(format!("I6: not all nodes are back on the stores of {names:?}"));
            return Ok(());
        }
        let lost = writes.lost(&stage.cluster.admin);
        if !lost.is_empty() {
            stage.found(format!("I6: acknowledged and gone: {lost:?}"));
        }
        for (name, disk) in names.iter().zip(disks) {
            stage.roles()?;
            stage.cluster.terminate(name)?;
            disk.give_back()?;
            stage.cluster.start_node(name)?;
            stage.cluster.wait_settled()?;
        }
        Ok(())
    }
}
