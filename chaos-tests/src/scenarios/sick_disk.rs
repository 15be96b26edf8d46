//! The disk of one node fails under it: it is full, or syncing it returns an error. The node must end with a word on its disk
//! instead of acknowledging what it cannot keep; its streams go on elsewhere; once the disk is well again it comes back
//! by itself, and every acknowledged admin write is there. The node is any of the three, and the owner half of the time.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result};
use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::{
    harness::{Disk, Process, Writes, wait_for},
    stage::Stage,
    story::{Facts, Story},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SickDisk {
    Full,
    SyncError,
}

/// Room for a few writes beside a node's store, which grows with those of every fault of a stage.
const ROOM_MIB: u64 = 32;
const END_MAX: Duration = Duration::from_secs(30);

impl Story for SickDisk {
    fn facts(&self) -> Facts {
        let facts = match self {
            Self::Full => Facts::new("disk-full", &[32], "one node's disk is full, then has room again"),
            Self::SyncError => Facts::new("fsync-error", &[33], "fdatasync fails with EIO under one node"),
        };
        Facts { needs_root: true, silence_ms_max: Some(2_500), ..facts }
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        let names: Vec<String> = stage.cluster.nodes.iter().map(|node| node.name.clone()).collect();
        let victim = names.choose(random).context("no nodes")?.clone();
        let disk = match self {
            Self::Full => Some(on_small_disk(stage, &victim)?),
            Self::SyncError => None,
        };
        if random.random() && stage.roles()?.owner != victim {
            stage.move_to(&victim)?;
        }
        let roles = stage.roles()?;
        stage.fault(&format!("{self:?} at {victim}, owner {}", roles.owner));
        let injected = match &disk {
            Some(disk) => disk.fill().map(|()| None),
            None => fail_syncs(stage, &victim).map(Some),
        }?;
        let mut writes = Writes::new(format!("w{}", stage.faults()));
        writes.until(&mut stage.cluster, END_MAX, |cluster| cluster.has_ended(&victim))?;
        let code = stage.cluster.wait_exit(&victim, END_MAX)?;
        drop(injected);
        self.judge_end(stage, &victim, code);
        if let Some(disk) = &disk {
            self.start_without_room(stage, &victim)?;
            disk.make_room()?;
        }
        stage.cluster.start_node(&victim)?;
        stage.cluster.wait_settled()?;
        let lost = writes.lost(&stage.cluster.admin);
        if !lost.is_empty() {
            stage.found(format!("I6: acknowledged and gone: {lost:?}"));
        }
        match disk {
            Some(disk) => back_on_own_disk(stage, &victim, disk),
            None => Ok(()),
        }
    }
}

impl SickDisk {
    fn judge_end(self, stage: &mut Stage, victim: &str, code: i32) {
        let log = stage.cluster.log_tail(victim);
        let word = match self {
            Self::Full => "No space left on device",
            Self::SyncError => "fdatasync of the raft log failed",
        };
        let last = log.lines().last().unwrap_or_default();
        if code == 0 || !last.contains(word) {
            stage.found(format!("{victim} ended with {code}; its last word does not say `{word}`: {last}"));
        }
    }

    /// A node without any room refuses to start, with a reason, and breaks nothing by trying.
    fn start_without_room(self, stage: &mut Stage, victim: &str) -> Result<()> {
        stage.cluster.start_node(victim)?;
        let code = stage.cluster.wait_exit(victim, END_MAX)?;
        self.judge_end(stage, victim, code);
        Ok(())
    }
}

fn on_small_disk(stage: &mut Stage, victim: &str) -> Result<Disk> {
    stage.cluster.terminate(victim)?;
    let disk = Disk::small(&stage.cluster.data(victim), ROOM_MIB)?;
    stage.cluster.start_node(victim)?;
    stage.cluster.wait_settled()?;
    Ok(disk)
}

fn back_on_own_disk(stage: &mut Stage, victim: &str, disk: Disk) -> Result<()> {
    stage.roles()?;
    stage.cluster.terminate(victim)?;
    disk.give_back()?;
    stage.cluster.start_node(victim)
}

/// Makes every sync of the running node fail from now on; proven by the kernel, which names the tracer.
fn fail_syncs(stage: &Stage, victim: &str) -> Result<Process> {
    let pid = stage.cluster.pid(victim)?;
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-q",
        "-o",
        "/dev/null",
        "-e",
        "trace=fdatasync,fsync",
        "-e",
        "inject=fdatasync:error=EIO",
        "-p",
    ]);
    let tracer = Process::start("strace", stage.cluster.dir(), command.arg(pid.to_string()))?;
    wait_for("strace to attach", Duration::from_secs(10), || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let traced = |path: std::path::PathBuf| {
            let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
            !status.contains("TracerPid:\t0\n")
        };
        threads.flatten().all(|thread| traced(thread.path())).then_some(())
    })?;
    Ok(tracer)
}
