//! Three machines as README.md sets them up, each an address on loopback with the page's own configuration, under a feed
//! and beside a real Kafka. They stand in for what the pages name; `stand_ins` is the whole table of that.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use twinfeed_chaos::{
    broker::Broker,
    harness::{Admin, Feed, FeedOptions, Process, binary, let_pass, wait_for},
};

use crate::page::{Page, Step};

const MACHINES: usize = 3;
const SETTLE_MAX: Duration = Duration::from_secs(60);
/// The longest command of the pages is the demo: a minute, and as much again for a debug build on a busy machine.
const COMMAND_MAX: Duration = Duration::from_secs(150);
/// A command that goes on until Ctrl-C gets one after its first output and so long.
const WATCHED_FOR: Duration = Duration::from_secs(1);
/// What `wsctl connector create --from-file connector.json` reads.
const CONNECTOR_JSON: &str = r#"{
  "name": "btc-trades",
  "config": {
    "connector.class": "io.conduktor.connect.websocket.WebSocketSourceConnector",
    "tasks.max": "1",
    "websocket.url": "wss://feed.example/ws",
    "kafka.topic": "btc-trades"
  }
}
"#;

/// Machines `n1`, `n2`, `n3`, a feed, a Kafka. Dropping it ends all of it.
pub(crate) struct Machines {
    /// First three numbers of their addresses.
    net: String,
    nodes: Vec<Option<Process>>,
    /// Started with `&` on the present page.
    kept: Vec<Running>,
    admin: Admin,
    feed: Feed,
    kafka: String,
    dir: TempDir,
}

impl Machines {
    /// Sets them up by README.md and waits until they are a cluster.
    pub(crate) fn start(readme: &Page) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("twinfeed-documents-").tempdir()?;
        // Addresses that no other run of this test has, as the ports are those of the pages.
        let pid = std::process::id();
        let net = format!("127.{}.{}", 64 + pid / 256 % 128, pid % 256);
        let admin = Admin::new((1..=MACHINES).map(|n| format!("{net}.{n}:9090")).collect())?;
        let options = FeedOptions { rate: Some(200), ..FeedOptions::default() };
        let feed = Feed::start(dir.path(), IpAddr::V4(Ipv4Addr::LOCALHOST), &options)?;
        let kafka = Broker::shared().bootstrap().to_owned();
        let mut machines =
            Self { net, nodes: (0..MACHINES).map(|_| None).collect(), kept: Vec::new(), admin, feed, kafka, dir };
        let toml = readme.blocks.iter().find(|block| block.language == "toml").context("README.md shows no node")?;
        for n in 1..=MACHINES {
            std::fs::create_dir(machines.home(n))?;
            // The page shows the first machine; name and own addresses are what another one changes.
            let own = toml.lines.join("\n").replace("\"n1\"", &format!("\"n{n}\""));
            let own = own.replace("\"10.0.0.1:", &format!("\"10.0.0.{n}:"));
            std::fs::write(machines.home(n).join("node.toml"), machines.stand_in(&own))?;
            machines.start_node(n, "twinfeed node --config node.toml")?;
        }
        std::fs::write(machines.home(1).join("connector.json"), machines.stand_in(CONNECTOR_JSON))?;
        machines.wait_settled()?;
        Ok(machines)
    }

    /// What stands in for what the pages name.
    fn stand_ins(&self) -> [(&'static str, String); 7] {
        [
            ("cargo run --release --bin twinfeed --", "twinfeed".to_owned()),
            ("10.0.0.11:9092,10.0.0.12:9092,10.0.0.13:9092", self.kafka.clone()),
            ("10.0.0.11:9092", self.kafka.clone()),
            ("10.0.0.", format!("{}.", self.net)),
            ("wss://feed.example/ws", self.feed.url("a")),
            ("wss://a.example/ws", self.feed.url("a")),
            ("wss://b.example/ws", self.feed.url("b")),
        ]
    }

    fn stand_in(&self, text: &str) -> String {
        self.stand_ins().iter().fold(text.to_owned(), |text, (there, here)| text.replace(there, here))
    }

    /// Where a page begins: three nodes, and the connector `trades`, unless the page makes it itself.
    pub(crate) fn begin(&mut self, page: &Page) -> Result<()> {
        self.kept.clear();
        for n in 1..=MACHINES {
            if self.nodes[n - 1].is_none() {
                self.renew(n, "twinfeed node --config node.toml")?;
            }
        }
        self.wait_settled()?;
        let names = self.succeed("wsctl -q connector ls -o name")?;
        for name in names.lines().filter_map(|line| line.strip_prefix("connector/")) {
            self.succeed(&format!("wsctl connector delete {name} --yes"))?;
        }
        let makes_it = |step: &Step| step.command.starts_with("wsctl connector create trades ");
        if !page.blocks.iter().filter(|block| block.runs()).flat_map(|block| block.steps()).any(|step| makes_it(&step))
        {
            self.succeed("wsctl connector create trades --url wss://feed.example/ws --topic trades --wait")?;
            self.succeed("wsctl wait connector/trades --for=redundant")?;
        }
        Ok(())
    }

    /// Types a command at the first machine as its reader would. The code it ended with and everything it printed.
    pub(crate) fn type_in(&mut self, command: &str) -> Result<(i32, String)> {
        let bare = command.split(" #").next().unwrap_or(command).trim();
        if bare.starts_with("twinfeed node ") {
            // A removed machine is replaced by a new one. Else the first is started once more: it runs by the same line.
            let n = self.nodes.iter().position(Option::is_none).map_or(1, |index| index + 1);
            self.renew(n, bare)?;
            self.wait_settled()?;
            return Ok((0, String::new()));
        }
        if let Some(dead) = bare.strip_prefix("wsctl node remove n") {
            let n: usize = dead.split(' ').next().unwrap_or_default().parse().context("which node?")?;
            drop(self.nodes[n - 1].take());
            wait_for("a dead node", SETTLE_MAX, || {
                let status = self.admin.status().ok()?;
                status.members.iter().any(|member| member.name == format!("n{n}") && !member.up).then_some(())
            })?;
        }
        if bare.starts_with("wsctl connector restart ") {
            // It is refused while only one line is up, as it is for a moment after the example before it.
            self.succeed("wsctl wait connector/trades --for=redundant")?;
        }
        if let Some(bare) = bare.strip_suffix('&') {
            let running = self.spawn(bare.trim())?;
            self.kept.push(running);
            return Ok((0, String::new()));
        }
        let mut running = self.spawn(bare)?;
        if bare.starts_with("wsctl events -f") {
            wait_for("an event", SETTLE_MAX, || running.printed().is_ok_and(|text| !text.is_empty()).then_some(()))?;
            let_pass(WATCHED_FOR);
            kill_process_group(Pid::from_child(&running.child), Signal::INT)?;
            let code = running.wait(COMMAND_MAX)?;
            ensure!(code == 130 || code == -1, "after Ctrl-C it ended with {code}: {}", running.printed()?);
            return Ok((0, running.printed()?));
        }
        Ok((running.wait(COMMAND_MAX)?, running.printed()?))
    }

    /// What was started with `&` has not failed.
    pub(crate) fn end(&mut self) -> Result<()> {
        for mut running in self.kept.drain(..) {
            if let Some(status) = running.child.try_wait()?.filter(|status| !status.success()) {
                bail!("what was started with & ended with {status}: {}", running.printed()?);
            }
        }
        Ok(())
    }

    /// Where Kafka is.
    pub(crate) fn kafka(&self) -> &str {
        &self.kafka
    }

    fn home(&self, n: usize) -> PathBuf {
        self.dir.path().join(format!("n{n}"))
    }

    fn start_node(&mut self, n: usize, line: &str) -> Result<()> {
        let mut shell = self.shell(n, &format!("exec {} --exit-with-stdin", self.stand_in(line)))?;
        self.nodes[n - 1] = Some(Process::start(&format!("n{n}"), self.dir.path(), &mut shell)?);
        Ok(())
    }

    /// Starts a node anew: with the disk it had, or with an empty one where it was removed.
    fn renew(&mut self, n: usize, line: &str) -> Result<()> {
        if self.nodes[n - 1].take().is_none() {
            std::fs::remove_dir_all(self.home(n).join("twinfeed-data"))?;
        }
        self.start_node(n, line)
    }

    fn wait_settled(&self) -> Result<()> {
        let settled = || {
            let status = self.admin.status().ok()?;
            let up = status.members.iter().filter(|member| member.up).count();
            (!status.leader.is_empty() && up == MACHINES && status.members.len() == MACHINES).then_some(())
        };
        // The others do not notice a start that is quicker than their probes, so each speaks for itself as well.
        let ready = |n: usize| {
            let http = format!("{}.{n}:9464", self.net);
            let asked = ask("twinfeed", &["healthcheck", "--http", &http].map(str::to_owned), self.dir.path());
            asked.is_ok_and(|(fine, _)| fine)
        };
        let logs = || self.nodes.iter().flatten().map(|node| node.log_tail() + "\n").collect::<String>();
        wait_for("three nodes and a leader", SETTLE_MAX, settled).with_context(logs)?;
        wait_for("three ready nodes", SETTLE_MAX, || (1..=MACHINES).all(ready).then_some(())).with_context(logs)
    }

    fn shell(&self, machine: usize, line: &str) -> Result<Command> {
        let binaries = binary("twinfeed")?.parent().context("a directory of binaries")?.to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(binaries).chain(std::env::split_paths(&path)))?;
        let endpoints: Vec<String> = (1..=MACHINES).map(|n| format!("{}.{n}:9090", self.net)).collect();
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(self.home(machine)).env("PATH", path);
        shell.env("WSCTL_ENDPOINTS", endpoints.join(","));
        // Each machine has a loopback of its own, where these two listen by default.
        shell.env("TWINFEED_LISTEN__ADMIN", format!("{}.{machine}:9090", self.net));
        shell.env("TWINFEED_LISTEN__HTTP", format!("{}.{machine}:9464", self.net));
        Ok(shell)
    }

    fn spawn(&self, line: &str) -> Result<Running> {
        let output = self.dir.path().join("output");
        let _ = std::fs::remove_file(&output);
        Running::start(self.shell(1, &self.stand_in(line))?, output)
    }

    fn succeed(&self, line: &str) -> Result<String> {
        let mut running = self.spawn(line)?;
        let code = running.wait(COMMAND_MAX)?;
        let printed = running.printed()?;
        ensure!(code == 0, "`{line}` ended with {code}: {printed}");
        Ok(printed)
    }
}

/// A command with everything it has started. Dropping it kills all of that.
struct Running {
    child: Child,
    output: File,
    path: PathBuf,
}

impl Running {
    fn start(mut command: Command, path: PathBuf) -> Result<Self> {
        let output = File::options().create(true).append(true).read(true).open(&path)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?)
            .process_group(0)
            .spawn()?;
        Ok(Self { child, output, path })
    }

    /// The exit code, -1 for a signal.
    fn wait(&mut self, limit: Duration) -> Result<i32> {
        let ended = wait_for("its end", limit, || self.child.try_wait().ok().flatten());
        Ok(ended.with_context(|| self.printed().unwrap_or_default())?.code().unwrap_or(-1))
    }

    fn printed(&self) -> Result<String> {
        use std::os::unix::fs::FileExt as _;
        let length = usize::try_from(self.output.metadata()?.len())?;
        let mut bytes = vec![0; length];
        self.output.read_exact_at(&mut bytes, 0).with_context(|| self.path.display().to_string())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whatever it has left behind belongs to its group; already gone is as good.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

/// Runs a binary of ours for its word on arguments.
pub(crate) fn ask(program: &str, arguments: &[String], directory: &Path) -> Result<(bool, String)> {
    let output = Command::new(binary(program)?).args(arguments).current_dir(directory).output()?;
    let printed = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&printed).into_owned()))
}
