//! Six clients create, change, delete and read connectors through all nodes at once, while the leader of Raft is killed or
//! frozen and comes back. Every answer must fit one order of effects (I5); a call without an answer may have taken effect at
//! any later time, or never. The stream itself goes on.

use std::time::Duration;

use anyhow::Result;
use rand::{Rng as _, rngs::StdRng};

use crate::{
    harness::{Recorder, wait_for},
    stage::Stage,
    story::{Facts, Story},
};

pub(super) struct AdminLinearizable;

const CLIENTS: usize = 6;
/// Elections begin 400 to 800 ms after the leader's last word.
const FROZEN_MS: std::ops::RangeInclusive<u64> = 1_000..=3_000;
/// Calls answered before the fault, and again after it: fewer prove nothing.
const ANSWERED_MIN: usize = 60;
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

impl Story for AdminLinearizable {
    fn facts(&self) -> Facts {
        let tells = "six clients at the admin API of all nodes while the Raft leader is killed or frozen";
        Facts { faults_per_stage: 5, ..Facts::new("admin-linearizable", &[3], tells) }
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        let endpoints = stage.cluster.nodes.iter().map(|node| node.admin.clone()).collect();
        let recorder = Recorder::start(endpoints, CLIENTS, random.random())?;
        wait_answered(&recorder)?;
        let leader = stage.cluster.leader()?;
        if random.random_bool(0.5) {
            stage.fault(&format!("kill the leader {leader}"));
            stage.cluster.kill(&leader)?;
            stage.wait_down(&leader)?;
            stage.cluster.start_node(&leader)?;
        } else {
            let frozen = Duration::from_millis(random.random_range(FROZEN_MS));
            stage.fault(&format!("freeze the leader {leader} for {} ms", frozen.as_millis()));
            let since = std::time::Instant::now();
            stage.cluster.pause(&leader)?;
            wait_for("the freeze to last", frozen * 2, || (since.elapsed() >= frozen).then_some(()))?;
            stage.cluster.resume(&leader)?;
        }
        stage.cluster.wait_settled()?;
        wait_answered(&recorder)?;
        let history = recorder.stop()?;
        let (known, all) = (history.known(), history.operations.len());
        *stage.seen.figures.entry("admin_calls".to_owned()).or_default() += all as f64;
        *stage.seen.figures.entry("admin_calls_unknown".to_owned()).or_default() += (all - known) as f64;
        if let Err(violation) = history.check() {
            stage.found(format!("I5: {violation}"));
        }
        Ok(())
    }
}

/// Waits until the clients have been answered as often again.
fn wait_answered(recorder: &Recorder) -> Result<()> {
    let before = recorder.answered();
    wait_for("answered admin calls", ANSWERED_WITHIN, || (recorder.answered() >= before + ANSWERED_MIN).then_some(()))
}
