//! The demo's nodes: child processes of this very binary with a directory each. A child ends when it is killed, when it
//! is dropped, and when this process is gone, because its standard input ends then.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::{Child, ChildStdin, Command};

use super::Error;
use crate::config;

/// One node and how to start it again.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) admin: String,
    config: PathBuf,
    log: PathBuf,
    running: Option<(Child, Option<ChildStdin>)>,
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    |source| Error::Io { what, source }
}

/// Writes the configurations of `count` nodes that write to `bootstrap`.
pub(super) fn prepare(dir: &Path, count: usize, bootstrap: &str) -> Result<Vec<Node>, Error> {
    let listeners: Vec<TcpListener> = (0..count * 3)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()
        .map_err(io("no free port on 127.0.0.1"))?;
    let address = |n: usize| listeners[n].local_addr().map(|a| a.to_string()).map_err(io("a port without address"));
    let members: Vec<String> =
        (0..count).map(|n| Ok(format!("\"n{}={}\"", n + 1, address(n * 3)?))).collect::<Result<_, Error>>()?;
    (0..count)
        .map(|n| {
            let name = format!("n{}", n + 1);
            let (config, log) = (dir.join(format!("{name}.toml")), dir.join(format!("{name}.log")));
            let (internal, admin, http) = (address(n * 3)?, address(n * 3 + 1)?, address(n * 3 + 2)?);
            let text = format!(
                "name = \"{name}\"\ndata_dir = \"{}\"\n[cluster]\nname = \"demo\"\nmembers = [{}]\n\
                 [listen]\ninternal = \"{internal}\"\nadmin = \"{admin}\"\nhttp = \"{http}\"\n\
                 [kafka]\nbootstrap = \"{bootstrap}\"\n[log]\nformat = \"text\"\n",
                dir.join(&name).display(),
                members.join(", "),
            );
            std::fs::write(&config, text).map_err(io(format!("cannot write {}", config.display())))?;
            Ok(Node { name, admin, config, log, running: None })
        })
        .collect()
}

impl Node {
    pub(super) fn start(&mut self) -> Result<(), Error> {
        let log = std::fs::File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(io(format!("cannot write {}", self.log.display())))?;
        let me = std::env::current_exe().map_err(io("this binary cannot find itself"))?;
        let mut command = Command::new(me);
        // What this shell sets for a node of its own is not for these.
        for variable in config::variables() {
            command.env_remove(variable);
        }
        let mut child = command
            .arg("node")
            .arg("--config")
            .arg(&self.config)
            .arg("--exit-with-stdin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(io(format!("cannot start node {}", self.name)))?;
        let stdin = child.stdin.take();
        self.running = Some((child, stdin));
        Ok(())
    }

    /// SIGKILL; returns the pid once the process is gone.
    pub(super) async fn kill(&mut self) -> Result<u32, Error> {
        let Some((mut child, _stdin)) = self.running.take() else { return Ok(0) };
        let pid = child.id().unwrap_or(0);
        child.kill().await.map_err(io(format!("cannot kill node {}", self.name)))?;
        Ok(pid)
    }
}
