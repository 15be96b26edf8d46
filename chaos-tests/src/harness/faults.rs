//! Failpoints of `twinfeed-faulty` nodes, from outside: arm a point of a node, wait for the proof that it was met and did
//! what was ordered, let the node go on. Stories use it; how a node obeys is in node/src/faults.rs.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{cluster::Cluster, process::wait_for};

/// The node's binary with failpoints and seeded bugs.
pub(super) const FAULTY_NODE: &str = "twinfeed-faulty";
/// The build of it, beside the tests of a debug build and beside the binaries of a release: Cargo must unify the features
/// of dependencies as it did for these, or all of them would be compiled again for the sake of one feature of tokio's.
/// There are no examples; asking for them makes it count what tests need.
const BUILD_DEBUG: &[&str] = &["-p", "twinfeed-node", "--features", "faults", "--examples"];
const BUILD_RELEASE: &[&str] = &["--workspace", "--features", "twinfeed-node/faults", "--release"];
/// A point on the way of every batch or takeover is met within this, also on a loaded machine.
const HIT_MAX: Duration = Duration::from_secs(30);
/// A signal to oneself is obeyed within this.
const OBEYED_MAX: Duration = Duration::from_secs(5);

/// What a node does to itself at a point, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Stop,
    /// It waits there, and goes on with everything else.
    Pause,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Pause => "pause",
        }
    }
}

/// An order to a node, carried out or not.
#[derive(Debug)]
#[must_use = "an armed point proves nothing before it was met"]
pub struct Armed {
    node: String,
    point: &'static str,
    action: Action,
    directory: PathBuf,
}

impl Armed {
    /// Orders the node to do this at a point, such as `opening.after_init`, the next time it comes by.
    ///
    /// # Errors
    /// When the node has no such point, or no points at all.
    pub fn new(cluster: &Cluster, node: &str, point: &'static str, action: Action) -> Result<Self> {
        let directory = directory(cluster.dir(), node);
        let known =
            fs::read_to_string(directory.join("points")).with_context(|| format!("{node} has no failpoints"))?;
        ensure!(known.lines().any(|line| line == point), "{node} has no point {point}; it has\n{known}");
        let armed = Self { node: node.to_owned(), point, action, directory };
        let _ = fs::remove_file(armed.proof());
        armed.order()?;
        Ok(armed)
    }

    /// Lets a pausing node go on, with something else to do the next time it comes by.
    pub fn then(self, action: Action) -> Result<Self> {
        let next = Self { action, ..self };
        next.order()?;
        fs::remove_file(next.proof())?;
        Ok(next)
    }

    fn order(&self) -> Result<()> {
        // Complete before it can be seen.
        let draft = self.directory.join(format!("{}.draft", self.point));
        fs::write(&draft, self.action.word())?;
        Ok(fs::rename(&draft, self.directory.join(self.point))?)
    }

    /// Waits until the node has met the point and, as the kernel says, is dead or stopped.
    ///
    /// # Errors
    /// When it did not happen: then the fault is not proven.
    pub fn wait_hit(&self, cluster: &mut Cluster) -> Result<()> {
        let Self { node, point, action, .. } = self;
        let what = format!("{node} to meet {point}");
        let pid = wait_for(&what, HIT_MAX, || fs::read_to_string(self.proof()).ok())?;
        let process = cluster.process(node)?;
        ensure!(pid.trim() == process.pid().to_string(), "{point} was met by process {pid}, not by {node}");
        match action {
            Action::Kill => {
                let code = cluster.wait_exit(node, OBEYED_MAX)?;
                ensure!(code == -1, "{node} ended with exit code {code} at {point} instead of by a signal");
                Ok(())
            }
            Action::Pause => Ok(()),
            Action::Stop => {
                wait_for("the process to stop", OBEYED_MAX, || (process.state().ok()? == 'T').then_some(()))
            }
        }
    }

    /// Lets a stopped or pausing node go on from the point.
    pub fn release(self, cluster: &Cluster) -> Result<()> {
        fs::remove_file(self.proof())?;
        if self.action == Action::Stop { cluster.resume(&self.node) } else { Ok(()) }
    }

    fn proof(&self) -> PathBuf {
        self.directory.join(format!("{}.hit", self.point))
    }
}

/// Where a node finds its orders.
pub(super) fn directory(cluster: &Path, node: &str) -> PathBuf {
    cluster.join(format!("{node}.faults"))
}

/// Builds `twinfeed-faulty` beside the running test, once per process. Nothing to do costs Cargo half a second; after
/// `cargo test` only three crates are compiled.
///
/// # Errors
/// When Cargo fails; with what it said.
pub fn build_faulty_node() -> Result<()> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}"))).clone().map_err(anyhow::Error::msg)
}

fn build() -> Result<()> {
    let me = env::current_exe()?;
    let profile = me.ancestors().find(|dir| dir.ends_with("debug") || dir.ends_with("release"));
    let profile = profile.with_context(|| format!("{} is in no target directory", me.display()))?;
    let target = profile.parent().context("a target directory")?;
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
    let selection = if profile.ends_with("release") { BUILD_RELEASE } else { BUILD_DEBUG };
    command.args(["build", "--locked", "--bin", FAULTY_NODE]).args(selection);
    command.arg("--target-dir").arg(target).current_dir(env!("CARGO_MANIFEST_DIR"));
    // What Cargo tells a test about its package is none of a build's environment.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") || text.starts_with("CARGO_BIN_") {
            command.env_remove(&name);
        }
    }
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// How a person builds it.
pub(super) fn build_command() -> String {
    format!("cargo build -p twinfeed-node --features faults --bin {FAULTY_NODE}")
}
