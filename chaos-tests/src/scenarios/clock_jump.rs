//! The wall clock of one node jumps by an hour or a day, back or ahead, as a broken time server makes it; a moment later that
//! of another node, and now and then the owner moves in between. Nothing may depend on it: no takeover, no loss, no
//! doubling. Clocks that only run forward are left alone, as the kernel's are.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::{
    harness::{metric, wait_for},
    stage::{CONNECTOR, Stage, StageOptions},
    story::{Facts, Story},
};

pub(super) struct ClockJump;

/// What libfaketime adds to the clock of a process.
const JUMPS: &[&str] = &["+3600", "-3600", "+86400", "-86400"];
/// Where Debian and others put it.
const LIBRARIES: &[&str] = &[
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];
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
        let library = LIBRARIES.iter().find(|path| fs::exists(path).unwrap_or(false));
        let library = library.context("no libfaketime: install the package `libfaketime`")?;
        fs::create_dir_all(clocks())?;
        for n in 1..=StageOptions::default().nodes {
            fs::write(clocks().join(format!("n{n}")), "+0")?;
        }
        let environment = [
            ("LD_PRELOAD", (*library).to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", clocks().join("{node}").display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_DONT_RESET", "1".to_owned()),
        ];
        let environment = environment.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Ok(StageOptions { environment, ..StageOptions::default() })
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        let before = stage.roles()?;
        let victim = if random.random() { before.owner.clone() } else { before.standby.clone() };
        let jump = *JUMPS.choose(random).context("no jumps")?;
        stage.fault(&format!("clock of {victim} {jump} s, owner {}", before.owner));
        fs::write(clocks().join(&victim), jump)?;
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
        fs::write(clocks().join(&victim), "+0").map_err(Into::into)
    }
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
