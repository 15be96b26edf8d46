//! Two or three faults at once, drawn by the seed: nodes are killed, frozen, stopped and the stream is moved, each a
//! moment after the other and without waiting for recovery, quorum losses included. Then everything is healed. Several
//! faults may lose what they report; they may never double, reorder, mix writers, or keep the cluster from converging.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result};
use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::{
    harness::let_pass,
    invariants::Invariant,
    stage::{CONNECTOR, Stage},
    story::{Facts, Story},
};

pub(super) struct Composition;

const FAULTS: std::ops::RangeInclusive<usize> = 2..=3;
const APART_MS: std::ops::RangeInclusive<u64> = 0..=1_500;
const LASTS_MS: std::ops::RangeInclusive<u64> = 200..=6_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Kill,
    Pause,
    Terminate,
    Move,
}

const ACTS: &[Act] = &[Act::Kill, Act::Kill, Act::Pause, Act::Pause, Act::Terminate, Act::Move];

impl Story for Composition {
    fn facts(&self) -> Facts {
        Facts {
            invariants: Invariant::REPORTED,
            ..Facts::new("composition", &[5, 40], "two or three random faults at once, then everything is healed")
        }
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        let names: Vec<String> = stage.cluster.nodes.iter().map(|node| node.name.clone()).collect();
        let (mut down, mut frozen) = (BTreeSet::new(), BTreeSet::new());
        let mut story = Vec::new();
        for _ in 0..random.random_range(FAULTS) {
            let act = *ACTS.choose(random).context("no acts")?;
            let node = names.choose(random).context("no nodes")?.clone();
            let apart = Duration::from_millis(random.random_range(APART_MS));
            if down.contains(&node) || frozen.contains(&node) {
                continue;
            }
            story.push(format!("{act:?} {node}, then {} ms", apart.as_millis()));
            if story.len() == 1 {
                stage.fault("");
            }
            match act {
                Act::Kill => {
                    stage.cluster.kill(&node)?;
                    down.insert(node);
                }
                Act::Pause => {
                    stage.cluster.pause(&node)?;
                    frozen.insert(node);
                }
                Act::Terminate => {
                    // Its exit is waited for: it may want to move its stream to nodes that are gone.
                    stage.cluster.terminate(&node)?;
                    down.insert(node);
                }
                // May be refused by a cluster without quorum or redundancy: then nothing happens, which is right.
                Act::Move => drop(stage.cluster.admin.failover(CONNECTOR, "")),
            }
            let_pass(apart);
        }
        let lasts = Duration::from_millis(random.random_range(LASTS_MS));
        let_pass(lasts);
        stage.seen.faults.last_mut().context("no fault")?.what =
            format!("{}; healed after {lasts:?}", story.join("; "));
        frozen.iter().try_for_each(|node| stage.cluster.resume(node))?;
        down.iter().try_for_each(|node| stage.cluster.start_node(node))
    }
}
