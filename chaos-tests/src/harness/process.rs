//! A child process with its log file, ended by its pid.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::faults::{self, FAULTY_NODE};

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its standard error in `<dir>/<name>.log` and its standard output piped.
    pub fn start(name: &str, dir: &Path, command: &mut Command) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let file =
            File::options().create(true).append(true).open(&log).with_context(|| format!("{}", log.display()))?;
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}: {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("cannot send {signal:?} to {}", self.name))
    }

    /// SIGKILL, and waits until the process is gone: the proof that the fault happened.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.child.wait()?;
        Ok(())
    }

    /// State letter of the process (`R`, `S`, `T`, ...), from the kernel.
    pub fn state(&self) -> Result<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()).context("no state in /proc")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for the exit within `limit`; the exit code, -1 when it was a signal.
    pub fn wait(&mut self, limit: Duration) -> Result<i32> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code().unwrap_or(-1));
            }
            if Instant::now() > deadline {
                bail!("{} still runs after {limit:?}; its log ends with:\n{}", self.name, self.log_tail());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// The next line of its standard output that starts with `prefix`, without it.
    pub fn stdout_line(&mut self, prefix: &str) -> Result<String> {
        let stdout = self.child.stdout.take().context("standard output was taken before")?;
        let mut lines = BufReader::new(stdout).lines();
        for line in &mut lines {
            if let Some(rest) = line?.strip_prefix(prefix) {
                let rest = rest.trim().to_owned();
                // Keep reading, so that the child never blocks on a full pipe.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(rest);
            }
        }
        bail!("{} ended without a line `{prefix}…`; its log ends with:\n{}", self.name, self.log_tail())
    }

    /// Waits for the exit within `limit`; the exit code, -1 when it was a signal, and all of its standard output. Read while
    /// it runs: a child with more to say than a pipe holds would never end.
    pub fn wait_with_stdout(&mut self, limit: Duration) -> Result<(i32, String)> {
        let stdout = self.child.stdout.take().context("standard output was taken before")?;
        let reading = std::thread::spawn(move || std::io::read_to_string(stdout));
        let code = self.wait(limit)?;
        let text = reading.join().map_err(|_| anyhow::anyhow!("the reader of {}'s output panicked", self.name))??;
        Ok((code, text))
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The path of one of our binaries, next to the running test's own.
///
/// # Errors
/// When it has not been built, or not since its sources have changed.
pub fn binary(name: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(format!("TWINFEED_BIN_{}", name.to_uppercase().replace('-', "_"))) {
        return Ok(path.into());
    }
    let me = std::env::current_exe()?;
    // A binary of ours lies beside them, a test one directory below.
    let candidates = me.ancestors().skip(1).take(2).map(|dir| dir.join(name));
    let command = if name == FAULTY_NODE { faults::build_command() } else { "cargo build --workspace".to_owned() };
    let found = candidates.into_iter().find(|path| path.is_file());
    let path = found.with_context(|| format!("`{name}` is not built: run `{command}` with the same profile first"))?;
    if let Some(newer) = newer_source(&path)? {
        bail!("`{name}` is older than {}: run `{command}` with the same profile first", newer.display());
    }
    Ok(path)
}

/// A source that was changed after the binary was made of it. `cargo test -p` of the tests alone builds no binary, and a
/// story would judge what nobody wrote any more. Cargo lists the sources beside the binary; a copy elsewhere has no list.
fn newer_source(binary: &Path) -> Result<Option<PathBuf>> {
    let Ok(list) = std::fs::read_to_string(binary.with_extension("d")) else { return Ok(None) };
    let built = binary.metadata()?.modified()?;
    // `binary: source source`, blanks in a path escaped.
    let escaped = list.replace("\\ ", "\0");
    let sources = escaped.split_whitespace().skip(1).map(|source| PathBuf::from(source.replace('\0', " ")));
    // What a build script makes is made again for other profiles and features.
    let made = binary.parent().context("a directory of binaries")?;
    Ok(sources.filter(|source| !source.starts_with(made)).find(|source| {
        // One that is gone is another working copy's, or removed since.
        source.metadata().and_then(|meta| meta.modified()).is_ok_and(|changed| changed > built)
    }))
}

/// Waits until `condition` gives a value; asks again every 20 ms. The error names what was waited for.
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if Instant::now() > deadline {
            bail!("{what}: not within {limit:?}");
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Lets time pass where the length of a fault is what the story is about; never to wait for something.
pub fn let_pass(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}
