//! A real Kafka broker for tests: one KRaft process on loopback with its own directory, or one that is already there.
//!
//! Looked for in this order: the address in `TWINFEED_TEST_KAFKA`, jars in the user's cache, Maven. Tests of any crate
//! may use it. It never outlives the test: dropping a `Broker` kills the process, and a watchdog shell kills it when
//! the test process itself disappears, SIGKILL included.

use std::{
    fs,
    io::{BufRead, BufReader, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::jars;

/// Address of a broker to use instead of starting one.
pub const ADDRESS_VARIABLE: &str = "TWINFEED_TEST_KAFKA";
const READY_MS_MAX: u64 = 60_000;
const STOPPED_MS_MAX: u64 = 5_000;
const PORT_ATTEMPTS_MAX: usize = 5;
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qk";

/// Runs java under a shell that waits on its standard input, whose end comes when the test process is gone, however it
/// died: a child cannot ask for that itself without `unsafe`. A line is the order to kill only; at the end of input
/// nobody is left to remove the directory, so the shell does. Its output carries java's pid.
const WATCHDOG: &str = r#"
"$@" >broker.log 2>&1 </dev/null &
pid=$!
echo $pid
exec 2>/dev/null
read -r order && ended= || ended=yes
kill -9 $pid
wait $pid
[ -z "$ended" ] || rm -rf "$PWD"
"#;

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no Kafka for this test: {why}; set {ADDRESS_VARIABLE}=host:port, or install java 17 and mvn")]
    NoKafka { why: String },
    #[error("the test broker did not become ready within {READY_MS_MAX} ms: {log}")]
    NotReady { log: String },
    #[error("this broker was not started here, so it cannot be {verb}; unset {ADDRESS_VARIABLE}")]
    NotOurs { verb: &'static str },
    #[error("cannot {verb} the test broker")]
    Process {
        verb: &'static str,
        #[source]
        source: std::io::Error,
    },
}

/// A broker that answers. Dropping it kills the process, if it was started here, and removes its directory.
#[derive(Debug)]
pub struct Broker {
    bootstrap: String,
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
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

impl Broker {
    /// Finds or starts a broker and waits until it answers a metadata request, at most 60 s.
    pub fn start() -> Result<Self, Error> {
        if let Some(bootstrap) = std::env::var(ADDRESS_VARIABLE).ok().filter(|address| !address.is_empty()) {
            let broker = Self { bootstrap, own: None };
            return if broker.answers(Duration::from_millis(READY_MS_MAX)) {
                Ok(broker)
            } else {
                Err(Error::NotReady { log: format!("no answer from {}", broker.bootstrap) })
            };
        }
        let jars = jars::directory()?;
        let mut last = None;
        for _ in 0..PORT_ATTEMPTS_MAX {
            // The ports are free now, but not reserved: another process may take one before java does.
            match Self::start_on(&jars, free_port()?, free_port()?) {
                Err(Error::NotReady { log }) if log.contains("Address already in use") => {
                    last = Some(Error::NotReady { log });
                }
                result => return result,
            }
        }
        Err(last.expect("a loop of at least one attempt ends with its error or returns"))
    }

    /// Returns the broker of this test process, started at the first call. It ends with the process.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(|| Self::start().unwrap_or_else(|error| panic!("{error}")))
    }

    /// Returns `host:port` for `bootstrap.servers`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Kills the process (SIGKILL); its data stays for `restart`.
    pub fn stop(&mut self) -> Result<(), Error> {
        self.own("stopped")?.running = None;
        Ok(())
    }

    /// Starts the process again on the same port and data, killing it first when it runs; waits until it answers.
    pub fn restart(&mut self) -> Result<(), Error> {
        let own = self.own("restarted")?;
        own.running = None;
        own.running = Some(Running::start(&own.jars, own.directory.path())?);
        self.wait_ready()
    }

    /// Freezes the process (SIGSTOP): its connections stay open and silent.
    pub fn pause(&mut self) -> Result<(), Error> {
        self.signal("paused", Signal::STOP)?;
        // The signal is on its way when kill returns; the fault has happened once the kernel says so.
        let stat =
            self.own("paused")?.running.as_ref().map(|running| format!("/proc/{}/stat", running.java.as_raw_pid()));
        let deadline = Instant::now() + Duration::from_millis(STOPPED_MS_MAX);
        while let Some(stat) = &stat {
            let state = fs::read_to_string(stat).map_err(process("pause"))?;
            if state.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')) {
                break;
            }
            if Instant::now() > deadline {
                return Err(Error::Process { verb: "pause", source: std::io::Error::other("it does not stop") });
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Thaws the process (SIGCONT).
    pub fn resume(&mut self) -> Result<(), Error> {
        self.signal("resumed", Signal::CONT)
    }

    fn start_on(jars: &Path, port: u16, controller_port: u16) -> Result<Self, Error> {
        let directory = tempfile::Builder::new().prefix("twinfeed-broker-").tempdir().map_err(process("prepare"))?;
        fs::write(
            directory.path().join("server.properties"),
            server_properties(directory.path(), port, controller_port),
        )
        .map_err(process("prepare"))?;
        format_storage(jars, directory.path())?;
        let running = Running::start(jars, directory.path())?;
        let own = Own { jars: jars.to_owned(), directory, running: Some(running) };
        let mut broker = Self { bootstrap: format!("127.0.0.1:{port}"), own: Some(own) };
        broker.wait_ready()?;
        Ok(broker)
    }

    fn own(&mut self, verb: &'static str) -> Result<&mut Own, Error> {
        self.own.as_mut().ok_or(Error::NotOurs { verb })
    }

    fn signal(&mut self, verb: &'static str, signal: Signal) -> Result<(), Error> {
        match &self.own(verb)?.running {
            Some(running) => kill_process(running.java, signal).map_err(|e| process(verb)(e.into())),
            None => Err(Error::Process { verb, source: std::io::Error::other("it does not run") }),
        }
    }

    /// Polls for readiness: each attempt is a metadata request with its own deadline, so there is no blind sleep.
    fn wait_ready(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + Duration::from_millis(READY_MS_MAX);
        while Instant::now() < deadline {
            if self.answers(Duration::from_millis(500)) {
                return Ok(());
            }
            let own = self.own("awaited")?;
            let log = own.directory.path().join("broker.log");
            if own.running.as_ref().is_none_or(|running| !running.is_alive()) {
                return Err(Error::NotReady { log: tail_of(&log) });
            }
        }
        Err(Error::NotReady { log: tail_of(&self.own("awaited")?.directory.path().join("broker.log")) })
    }

    fn answers(&self, within: Duration) -> bool {
        let consumer: Result<BaseConsumer, _> = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "50")
            // Refused connections are what waiting looks like here, not news.
            .set("log_level", "0")
            .create();
        consumer.is_ok_and(|consumer| consumer.fetch_metadata(None, within).is_ok_and(|m| !m.brokers().is_empty()))
    }
}

impl Running {
    fn start(jars: &Path, directory: &Path) -> Result<Self, Error> {
        let mut shell = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog", "java", "-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-cp"])
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

    fn is_alive(&self) -> bool {
        // A finished java is a zombie until its shell reaps it, and the shell reads: ask for the state, not the pid.
        fs::read_to_string(format!("/proc/{}/stat", self.java.as_raw_nonzero()))
            .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z')))
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

/// One process as broker and controller, with everything that a quick single-node start wants: replication factor 1,
/// no rebalance delay, and a short session, since a restarted broker is let in only when that of its killed predecessor
/// has expired.
fn server_properties(directory: &Path, port: u16, controller_port: u16) -> String {
    let logs = directory.join("data");
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller_port}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs={logs}\n\
         auto.create.topics.enable=false\n\
         num.partitions=1\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n\
         broker.session.timeout.ms=2000\n\
         broker.heartbeat.interval.ms=400\n\
         log.cleaner.enable=false\n",
        logs = logs.display(),
    )
}

fn free_port() -> Result<u16, Error> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(process("find a port for"))?;
    Ok(listener.local_addr().map_err(process("find a port for"))?.port())
}

fn process(verb: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Process { verb, source }
}

fn tail_of(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join(" | ")
}
