//! The wall clock of one node jumps by an hour or a day, back or ahead, as a broken time server makes it; then the owner is
//! moved under the wrong clock, and the clock jumps back. Nothing of the product depends on it: nothing is lost or doubled.
//! librdkafka, though, waits until wall clock times, so a wait that is under way when a clock jumps back lasts an hour
//! longer unless something ends it; such an owner is replaced like any that does not deliver, within a few seconds. Clocks
//! that only run forward are left alone, as the kernel's are.

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::{
    harness::{let_pass, metric, wait_for},
    stage::{Stage, StageOptions},
    story::{Facts, Story},
};

pub(super) struct ClockJump;

/// Seconds that the clock of a process is moved by.
const JUMPS: &[i64] = &[3_600, -3_600, 86_400, -86_400];
/// Loaded into every node, it moves the clocks; what ready-made tools do to librdkafka's waits, no real clock does.
const SHIM: &str = include_str!("clock_shim.c");
/// Traffic under a wrong clock.
const WRONG_FOR: Duration = Duration::from_secs(6);
/// Further than any clock drifts while it is looked at.
const JUMPED_S_MIN: f64 = 1_800.0;

impl Story for ClockJump {
    fn facts(&self) -> Facts {
        Facts {
            silence_ms_max: Some(5_000),
            // A second owner that waits for its clock would be held by damping.
            faults_per_stage: 1,
            ..Facts::new("clock-jump", &[31], "wall clocks jump by an hour or a day, back or ahead")
        }
    }

    fn stage(&self, _seed: u64) -> Result<StageOptions> {
        fs::create_dir_all(clocks())?;
        let (source, library) = (clocks().join("shim.c"), clocks().join("shim.so"));
        fs::write(&source, SHIM)?;
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .arg(&library)
            .arg(&source)
            .arg("-ldl")
            .output()?;
        ensure!(built.status.success(), "cc: {}", String::from_utf8_lossy(&built.stderr));
        for n in 1..=StageOptions::default().nodes {
            fs::write(clocks().join(format!("n{n}")), 0_i64.to_ne_bytes())?;
        }
        let environment = [
            ("LD_PRELOAD", library.display().to_string()),
            ("CLOCK_OFFSET", clocks().join("{node}").display().to_string()),
        ];
        let environment = environment.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Ok(StageOptions { environment, ..StageOptions::default() })
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        let before = stage.roles()?;
        let victim = if random.random() { before.owner.clone() } else { before.standby.clone() };
        let jump = *JUMPS.choose(random).context("no jumps")?;
        stage.fault(&format!("clock of {victim} {jump:+} s, owner {}", before.owner));
        set_clock(&victim, jump)?;
        prove(stage, &victim)?;
        let_pass(WRONG_FOR);
        stage.wait_traffic()?;
        // A new owner with a wrong clock, or one after an owner with a wrong clock.
        let roles = stage.roles()?;
        stage.move_to(&roles.standby)?;
        set_clock(&victim, 0)
    }
}

/// In place: the node has mapped the file.
fn set_clock(node: &str, seconds: i64) -> Result<()> {
    let file = fs::File::options().write(true).open(clocks().join(node))?;
    Ok(file.write_all_at(&seconds.to_ne_bytes(), 0)?)
}

fn clocks() -> PathBuf {
    std::env::temp_dir().join(format!("twinfeed-clocks-{}", std::process::id()))
}

/// The node's own metrics name a time that is far from ours.
fn prove(stage: &Stage, victim: &str) -> Result<()> {
    let node = stage.cluster.nodes.iter().find(|node| node.name == victim).context("no such node")?;
    wait_for("the node's clock to jump", Duration::from_secs(10), || {
        let theirs = metric(&node.http, "twinfeed_feed_last_message_timestamp_seconds").ok()?;
        let ours = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
        theirs.iter().any(|theirs| *theirs > 0.0 && (theirs - ours).abs() > JUMPED_S_MIN).then_some(())
    })
}
