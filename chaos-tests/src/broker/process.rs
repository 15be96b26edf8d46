//! One java process of a broker: formatted, started under a watchdog, killed, frozen, thawed. It knows neither addresses
//! nor whether the broker answers.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Error, process};

const STOPPED_MS_MAX: u64 = 5_000;
/// A controlled shutdown waits for others to lead.
const ENDED_MS_MAX: u64 = 60_000;
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qk";

/// Runs java under a shell that waits on its standard input, whose end comes when the test process is gone, however it
/// died: a child cannot ask for that itself without `unsafe`. A line is the order to kill only; at the end of input
/// nobody is left to remove the directory, so the shell does. Its output carries java's pid.
const WATCHDOG: &str = r#"
"$@" >>broker.log 2>&1 </dev/null &
pid=$!
echo $pid
exec 2>/dev/null
read -r order && ended= || ended=yes
kill -9 $pid
wait $pid
[ -z "$ended" ] || rm -rf "$PWD"
"#;

/// A formatted broker in its own directory, with its process while it runs.
#[derive(Debug)]
pub(super) struct BrokerProcess {
    jars: PathBuf,
    directory: TempDir,
    running: Option<Running>,
}

/// Closing `stdin` is the order to kill; see `WATCHDOG`.
#[derive(Debug)]
struct Running {
    shell: Child,
    stdin: Option<ChildStdin>,
    java: Pid,
}

impl BrokerProcess {
    /// Formats a directory with the properties that `properties` makes for it; nothing runs yet.
    pub(super) fn format(jars: &Path, properties: impl FnOnce(&Path) -> String) -> Result<Self, Error> {
        let directory = tempfile::Builder::new().prefix("twinfeed-broker-").tempdir().map_err(process("prepare"))?;
        let file = directory.path().join("server.properties");
        fs::write(file, properties(directory.path())).map_err(process("prepare"))?;
        format_storage(jars, directory.path())?;
        Ok(Self { jars: jars.to_owned(), directory, running: None })
    }

    /// Starts the process, killing the one that runs.
    pub(super) fn start(&mut self) -> Result<(), Error> {
        self.running = None;
        self.running = Some(Running::start(&self.jars, self.directory.path())?);
        Ok(())
    }

    /// SIGKILL, waited for; the data stays.
    pub(super) fn kill(&mut self) {
        self.running = None;
    }

    /// SIGTERM, waited for: the broker hands over what it leads and ends.
    pub(super) fn stop(&mut self) -> Result<(), Error> {
        self.signal("stop", Signal::TERM)?;
        let deadline = Instant::now() + Duration::from_millis(ENDED_MS_MAX);
        while self.is_alive() {
            if Instant::now() > deadline {
                return Err(process("stop")(std::io::Error::other("it does not end")));
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        self.running = None;
        Ok(())
    }

    /// Whether it has been started and has not ended by itself.
    pub(super) fn is_alive(&self) -> bool {
        // A finished java is a zombie until its shell reaps it, and the shell reads: ask for the state, not the pid.
        self.running.as_ref().is_some_and(|running| running.state().is_some_and(|state| state != 'Z'))
    }

    /// SIGSTOP, proven by the process state.
    pub(super) fn pause(&mut self) -> Result<(), Error> {
        self.signal("pause", Signal::STOP)?;
        // The signal is on its way when kill returns; the fault has happened once the kernel says so.
        let deadline = Instant::now() + Duration::from_millis(STOPPED_MS_MAX);
        while self.running.as_ref().and_then(Running::state) != Some('T') {
            if Instant::now() > deadline {
                return Err(process("pause")(std::io::Error::other("it does not stop")));
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// SIGCONT.
    pub(super) fn resume(&mut self) -> Result<(), Error> {
        self.signal("resume", Signal::CONT)
    }

    /// The last lines of its log.
    pub(super) fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.directory.path().join("broker.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join(" | ")
    }

    fn signal(&self, verb: &'static str, signal: Signal) -> Result<(), Error> {
        match &self.running {
            Some(running) => kill_process(running.java, signal).map_err(|e| process(verb)(e.into())),
            None => Err(process(verb)(std::io::Error::other("it does not run"))),
        }
    }
}

impl Running {
    fn start(jars: &Path, directory: &Path) -> Result<Self, Error> {
        let mut shell = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog", "java", "-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-cp"])
            .arg(jars.join("*"))
            .args(["kafka.Kafka", "server.properties"])
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(process("start"))?;
        let stdin = shell.stdin.take();
        let stdout = shell.stdout.take().expect("stdout was requested as a pipe two lines above");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map_err(process("start"))?;
        match line.trim().parse().ok().and_then(Pid::from_raw) {
            Some(java) => Ok(Self { shell, stdin, java }),
            None => Err(process("start")(std::io::Error::other("the watchdog shell named no pid"))),
        }
    }

    /// State letter of java, from the kernel; None when it is gone.
    fn state(&self) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.java.as_raw_pid())).ok()?;
        stat.rsplit(')').next()?.trim_start().chars().next()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut stdin) = self.stdin.take() {
            // A line, not just the close: the directory stays. A shell that is gone already has killed java.
            let _ = stdin.write_all(b"\n");
        }
        let _ = self.shell.wait();
    }
}

fn format_storage(jars: &Path, directory: &Path) -> Result<(), Error> {
    let output = Command::new("java")
        .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"])
        .arg(jars.join("*"))
        .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", "server.properties"])
        .current_dir(directory)
        .output()
        .map_err(|e| Error::NoKafka { why: format!("cannot run java: {e}") })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::NoKafka {
        why: format!("kafka.tools.StorageTool failed: {}", said.lines().last().unwrap_or("silently")),
    })
}
