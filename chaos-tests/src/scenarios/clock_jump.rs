//! The wall clock of one node jumps by an hour or a day, back or ahead, as a broken time server makes it; a moment later that
//! of another node, and now and then the owner moves in between. Nothing may depend on it: no takeover, no loss, no
//! doubling. Clocks that only run forward are left alone, as the kernel's are.

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::{
    harness::{metric, wait_for},
    stage::{CONNECTOR, Stage, StageOptions},
    story::{Facts, Story},
};

pub(super) struct ClockJump;

/// Seconds that the clock of a process is moved by.
const JUMPS: &[i64] = &[3_600, -3_600, 86_400, -86_400];
/// Loaded into every node, it moves the clocks; what ready-made tools do to librdkafka's waits, no real clock does.
const SHIM: &str = include_str!("clock_shim.c");
/// Traffic under a wrong clock.
const WRONG_FOR: Duration = Duration::from_secs(3);
/// Further than any clock drifts while it is looked at.
const JUMPED_S_MIN: f64 = 1_800.0;

impl Story for ClockJump {
    fn facts(&self) -> Facts {
        Facts {
            silence_ms_max: Some(500),
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
        let mut rates = Vec::new();
        let since = Instant::now();
        wait_for("traffic under a wrong clock", WRONG_FOR * 4, || {
            rates.extend(stage.cluster.admin.connector(CONNECTOR).ok()?.status.map(|status| status.records_per_second));
            (since.elapsed() > WRONG_FOR).then_some(())
        })?;
        let after = stage.roles()?;
        if (&after.owner, after.epoch) != (&before.owner, before.epoch) {
            stage.found(format!("the jump moved the stream from {before:?} to {after:?}"));
        }
        if rates.last().is_none_or(|rate| *rate < 100.0) {
            stage.found(format!("no traffic under a wrong clock: {rates:?}"));
        }
        // A new owner with a wrong clock, or one after an owner with a wrong clock.
        let other = if victim == before.owner { &before.standby } else { &victim };
        stage.move_to(other)?;
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
