//! A node is killed and comes back with a store that cannot be believed: bytes of its log are wrong, its log is gone while its
//! identity is still there, or its disk is empty. It must not vote or serve with it. It refuses, or waits outside, and says
//! what to do; removed and started with an empty directory, it is a member again, all under load.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::{
    harness::wait_for,
    stage::Stage,
    story::{Facts, Story},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadStore {
    Corrupt,
    WithoutLog,
    Empty,
}

const END_MAX: Duration = Duration::from_secs(20);
/// Between two wrong bytes: no record of the log escapes.
const WRONG_BYTE_EVERY: usize = 64;

impl Story for BadStore {
    fn facts(&self) -> Facts {
        let facts = match self {
            Self::Corrupt => Facts::new("store-corrupt", &[35], "wrong bytes in a killed node's log, then replaced"),
            Self::WithoutLog => Facts::new("store-without-log", &[37], "a killed node's log is gone, its id is not"),
            Self::Empty => Facts::new("store-empty", &[37], "a killed node's disk is empty; removed, it joins anew"),
        };
        Facts { silence_ms_max: Some(2_500), ..facts }
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        let names: Vec<String> = stage.cluster.nodes.iter().map(|node| node.name.clone()).collect();
        let victim = names.choose(random).context("no nodes")?.clone();
        let roles = stage.roles()?;
        stage.fault(&format!("{self:?} at {victim}, owner {}", roles.owner));
        stage.cluster.kill(&victim)?;
        stage.wait_down(&victim)?;
        let data = stage.cluster.data(&victim);
        let outside = match self {
            Self::Corrupt => {
                corrupt(&data.join("raft/log/db"), random.random_range(0..WRONG_BYTE_EVERY))?;
                ("cannot be trusted", true)
            }
            Self::WithoutLog => {
                fs::remove_dir_all(data.join("raft"))?;
                ("cannot be trusted", true)
            }
            Self::Empty => {
                fs::remove_dir_all(&data)?;
                ("wsctl node remove", false)
            }
        };
        stage.cluster.start_node(&victim)?;
        self.stays_outside(stage, &victim, outside)?;
        stage.cluster.admin.remove_node(&victim)?;
        if *self != Self::Empty {
            fs::remove_dir_all(&data)?;
            stage.cluster.start_node(&victim)?;
        }
        stage.cluster.wait_settled()
    }
}

impl BadStore {
    /// The node says why it does not take part, and does not.
    fn stays_outside(self, stage: &mut Stage, victim: &str, (word, ends): (&str, bool)) -> Result<()> {
        if ends {
            let code = stage.cluster.wait_exit(victim, END_MAX)?;
            ensure!(code != 0, "{victim} ended with 0 on a store that cannot be believed");
        }
        let said = wait_for("the node to say why", END_MAX, || {
            let log = stage.cluster.log_tail(victim);
            log.lines().last().is_some_and(|last| last.contains(word)).then_some(log)
        });
        let last = said.unwrap_or_else(|_| stage.cluster.log_tail(victim));
        for needed in [word, "wsctl node remove"] {
            if !last.contains(needed) {
                stage.found(format!("{victim} does not say `{needed}`: {last}"));
            }
        }
        let status = stage.cluster.admin.status()?;
        if status.members.iter().any(|member| member.name == victim && member.up) {
            stage.found(format!("{victim} takes part with a store that cannot be believed"));
        }
        Ok(())
    }
}

fn corrupt(file: &Path, first: usize) -> Result<()> {
    let mut bytes = fs::read(file)?;
    let before = bytes.clone();
    bytes.iter_mut().skip(first).step_by(WRONG_BYTE_EVERY).for_each(|byte| *byte ^= 0x55);
    ensure!(bytes != before, "{} is too short to be made wrong", file.display());
    Ok(fs::write(file, bytes)?)
}
