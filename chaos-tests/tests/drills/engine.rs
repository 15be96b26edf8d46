//! A Docker engine for the drills: the one that answers, or one of our own, started as root where `dockerd` is installed
//! and ended with the tests; its data is in `target/`. Builds the images around the binaries of this build.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::process::Signal;
use tempfile::TempDir;
use twinfeed_chaos::harness::{self, Process, wait_for};

pub(super) const IMAGE: &str = "twinfeed:test";
pub(super) const BASE: &str = "debian:bookworm-slim";
const STARTS_WITHIN: Duration = Duration::from_secs(30);
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// What deploy/images.sh says where an image can neither be pulled nor made on this machine (EX_UNAVAILABLE).
const UNAVAILABLE: i32 = 69;

/// Why there is nothing to drill in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The machine has no engine, or no way to its images.
    #[error("{0}")]
    Unavailable(String),
    /// We have, and our part of it does not work.
    #[error("{0}")]
    Broken(String),
}

/// An engine that answers, with all images.
#[derive(Debug)]
pub(super) struct Engine {
    /// Of our own engine.
    socket: Option<PathBuf>,
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    daemon: Process,
    /// An engine has the firewall drop what is forwarded; before it started, that passed.
    forwarded: bool,
    dir: TempDir,
}

impl Engine {
    /// Finds or starts an engine and builds the images.
    pub(super) fn ready() -> Result<Self, Error> {
        if !has("docker", &["--version"]) {
            return Err(Error::Unavailable("docker is not installed".to_owned()));
        }
        if !has("docker", &["compose", "version"]) && !has("docker-compose", &["version"]) {
            return Err(Error::Unavailable("neither `docker compose` nor docker-compose is installed".to_owned()));
        }
        let found = Self { socket: None, own: None };
        let engine = if found.answers() { found } else { Self::start()? };
        engine.build_images()?;
        Ok(engine)
    }

    /// A script of deploy/, for this engine.
    pub(super) fn command(&self, script: &Path) -> Command {
        self.aimed(super::script(script))
    }

    /// Runs the engine's client; what it prints.
    pub(super) fn docker(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.aimed(Command::new("docker")).args(arguments).output()?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        anyhow::ensure!(output.status.success(), "docker {}: {said}", arguments.join(" "));
        Ok(said)
    }

    fn aimed(&self, mut command: Command) -> Command {
        if let Some(socket) = &self.socket {
            command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
        }
        command
    }

    fn answers(&self) -> bool {
        self.docker(&["version"]).is_ok()
    }

    fn start() -> Result<Self, Error> {
        let unavailable = |why: String| Error::Unavailable(why);
        if std::env::var_os("DOCKER_HOST").is_some() {
            return Err(unavailable("the engine in DOCKER_HOST does not answer".to_owned()));
        }
        if !rustix::process::geteuid().is_root() || !has("dockerd", &["--version"]) {
            return Err(unavailable("no engine answers, and starting one needs root and dockerd".to_owned()));
        }
        let failed = |error: anyhow::Error| unavailable(format!("no engine starts: {error:#}"));
        let dir = tempfile::Builder::new().prefix("twinfeed-engine-").tempdir().map_err(|e| failed(e.into()))?;
        let data = harness::binary("twinfeed").map_err(failed)?.with_file_name("engine");
        let socket = dir.path().join("docker.sock");
        let mut command = Command::new("dockerd");
        command.arg("--data-root").arg(data).arg("--exec-root").arg(dir.path().join("exec"));
        command.arg("--pidfile").arg(dir.path().join("pid")).arg("--host").arg(format!("unix://{}", socket.display()));
        // Every network of the drills is its own; the default one would meet that of another engine.
        command.args(["--bridge", "none"]);
        let forwarded = forwards();
        let daemon = Process::start("dockerd", dir.path(), &mut command).map_err(failed)?;
        let engine = Self { socket: Some(socket), own: Some(Own { daemon, forwarded, dir }) };
        match wait_for("an engine of our own", STARTS_WITHIN, || engine.answers().then_some(())) {
            Ok(()) => Ok(engine),
            Err(error) => {
                let log = engine.own.as_ref().map(|own| own.daemon.log_tail()).unwrap_or_default();
                let last = log.lines().next_back().unwrap_or("no log").to_owned();
                Err(failed(error.context(last)))
            }
        }
    }

    fn build_images(&self) -> Result<(), Error> {
        let binaries = harness::binary("twinfeed").and_then(|_| harness::binary("wsctl"));
        let binaries = binaries.map_err(|error| Error::Broken(format!("{error:#}")))?;
        let mut command = self.command(&super::deploy("images.sh"));
        let output = command.arg("--binaries").arg(binaries.with_file_name("")).output();
        let output = output.map_err(|error| Error::Broken(format!("cannot run deploy/images.sh: {error}")))?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned();
        match output.status.code() {
            Some(0) => Ok(()),
            Some(UNAVAILABLE) => Err(Error::Unavailable(said.lines().next_back().unwrap_or_default().to_owned())),
            _ => Err(Error::Broken(said)),
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // A daemon that does not end by itself is killed when it is dropped.
        let _ = self.daemon.signal(Signal::TERM);
        let _ = self.daemon.wait(ENDS_WITHIN);
        // The one mount that a daemon leaves behind; its directory could not be removed.
        let _ = Command::new("umount").arg(self.dir.path().join("exec/netns/default")).status();
        if self.forwarded {
            let _ = Command::new("iptables").args(["-w", "-P", "FORWARD", "ACCEPT"]).status();
        }
    }
}

/// Whether the firewall lets through what it is asked to forward.
fn forwards() -> bool {
    let rules = Command::new("iptables").args(["-w", "-S", "FORWARD"]).output();
    rules.is_ok_and(|rules| String::from_utf8_lossy(&rules.stdout).contains("-P FORWARD ACCEPT"))
}

fn has(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}
