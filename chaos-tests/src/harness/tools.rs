//! The numbered A/B feed and the independent verifier, as processes of the product's own binary.

use std::{
    fmt,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::{
    ledger::Ledger,
    process::{Process, binary, wait_for},
    streams::StreamId,
};

/// Messages a second where nobody says otherwise.
const RATE: u64 = 5_000;

/// The two sides of a dual stream.
const SUBSCRIBERS: usize = 2;

/// What the feed sends.
#[derive(Debug, Clone)]
pub struct FeedOptions {
    /// Messages a second on each path; None leaves it to whoever runs the story.
    pub rate: Option<u64>,
    pub size_bytes: u64,
    pub repeats: f64,
    pub skew_ms: u64,
    pub jitter_ms: u64,
    pub seed: u64,
    /// The schedule begins when so many are connected.
    pub subscribers: usize,
    /// Further arguments of `twinfeed feed`.
    pub more: Vec<String>,
}

impl Default for FeedOptions {
    fn default() -> Self {
        Self {
            rate: None,
            size_bytes: 200,
            repeats: 0.3,
            skew_ms: 20,
            jitter_ms: 3,
            seed: 1,
            subscribers: SUBSCRIBERS,
            more: Vec::new(),
        }
    }
}

/// A running feed with its two paths.
#[derive(Debug)]
pub struct Feed {
    pub address: String,
    process: Process,
}

impl Feed {
    /// Starts a feed that listens on a free port of `host`.
    pub fn start(dir: &Path, host: IpAddr, options: &FeedOptions) -> Result<Self> {
        let mut command = Command::new(binary("twinfeed")?);
        command.args(["feed", "--listen", &SocketAddr::new(host, 0).to_string()]);
        for (flag, value) in [
            ("--rate", options.rate.unwrap_or(RATE).to_string()),
            ("--size", options.size_bytes.to_string()),
            ("--repeats", options.repeats.to_string()),
            ("--skew-ms", options.skew_ms.to_string()),
            ("--jitter-ms", options.jitter_ms.to_string()),
            ("--seed", options.seed.to_string()),
            // Nobody is ahead of the others at the start: what one of them got alone before the stream was ever redundant
            // is not what a story is about.
            ("--wait-subscribers", options.subscribers.to_string()),
        ] {
            command.args([flag, &value]);
        }
        command.args(&options.more);
        let mut process = Process::start("feed", dir, &mut command)?;
        let address = process.stdout_line("listening")?;
        Ok(Self { address, process })
    }

    pub fn url(&self, path: &str) -> String {
        format!("ws://{}/{path}", self.address)
    }

    /// Ends the feed's schedule: no further messages; the ledger stays readable until the process is dropped.
    pub fn finish(&self) -> Result<()> {
        self.order("finish")
    }

    /// Closes all connections of a path politely: everything sent has arrived.
    pub fn close(&self, path: &str) -> Result<()> {
        self.order(&format!("close/{path}"))
    }

    /// Resets all connections of a path: what was under way is gone.
    pub fn reset(&self, path: &str) -> Result<()> {
        self.order(&format!("reset/{path}"))
    }

    /// Closes all connections of a path and accepts none until `up`.
    pub fn down(&self, path: &str) -> Result<()> {
        self.order(&format!("down/{path}"))
    }

    pub fn up(&self, path: &str) -> Result<()> {
        self.order(&format!("up/{path}"))
    }

    /// Sends nothing more on a path, on the connections to come neither; pings are answered.
    pub fn silence(&self, path: &str) -> Result<()> {
        self.order(&format!("silence/{path}"))
    }

    /// The same for one channel of a path.
    pub fn silence_channel(&self, path: &str, channel: u32) -> Result<()> {
        self.order(&format!("silence/{path}/{channel}"))
    }

    /// Leaves one of so many messages of a path out.
    pub fn lack(&self, path: &str, one_of: u64) -> Result<()> {
        self.order(&format!("lack/{path}/{one_of}"))
    }

    /// Sends everything again.
    pub fn speak(&self, path: &str) -> Result<()> {
        self.order(&format!("speak/{path}"))
    }

    /// Answers 429 with Retry-After to whoever wants the path, for so many seconds.
    pub fn refuse(&self, path: &str, seconds: u64) -> Result<()> {
        self.order(&format!("refuse/{path}/{seconds}"))
    }

    /// The whole feed is quiet until `resume`.
    pub fn pause(&self) -> Result<()> {
        self.order("pause")
    }

    pub fn resume(&self) -> Result<()> {
        self.order("resume")
    }

    /// Connections that have ended so far, as the ledger lists them (the latest two hundred).
    pub fn ended_connections(&self) -> Result<usize> {
        Ok(self.ledger()?.connections.iter().filter(|connection| connection.ended.is_some()).count())
    }

    fn order(&self, order: &str) -> Result<()> {
        let mut stream = std::net::TcpStream::connect(&self.address)?;
        let head = format!("POST /{order} HTTP/1.1\r\nhost: feed\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        anyhow::ensure!(answer.starts_with("HTTP/1.1 2"), "the feed refused `{order}`: {answer}");
        Ok(())
    }

    /// Waits until the schedule is over by itself (`--count`) and everybody has got everything.
    pub fn wait_finished(&self, limit: Duration) -> Result<()> {
        wait_for("the end of the feed", limit, || self.ledger().ok()?.finished.then_some(()))
    }

    /// What was sent to whom so far.
    pub fn ledger(&self) -> Result<Ledger> {
        let mut stream = std::net::TcpStream::connect(&self.address)?;
        stream.write_all(b"GET /ledger HTTP/1.1\r\nhost: feed\r\nconnection: close\r\n\r\n")?;
        let answer = std::io::read_to_string(stream)?;
        let body = answer.split_once("\r\n\r\n").context("an answer without a body")?.1;
        serde_json::from_str(body).context("unreadable ledger")
    }

    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// What the verifier found; the fields of `twinfeed verify --json`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ReaderBooks {
    pub sent: u64,
    pub written: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub longest_silence_ms: u64,
    /// Records of an older epoch behind records of a newer one.
    pub zombies: u64,
    /// Holes and repetitions in the sequence within an epoch.
    pub sequence_breaks: u64,
    /// Silences of the topic, the longest first.
    pub silences: Vec<Silence>,
    /// What is not in the topic, whether anybody was sent it or not.
    #[serde(default)]
    pub missing: Vec<Missing>,
    /// Lost repeats that lie in none of them.
    #[serde(default)]
    pub missing_elsewhere: u64,
    /// Records that nobody should have written: keep-alives taken for messages.
    #[serde(default)]
    pub empty: u64,
    /// The first things that are wrong, in words.
    #[serde(default)]
    pub findings: Vec<String>,
}

impl ReaderBooks {
    /// These books and those of another stream of the same stage; silences stay those of the first.
    pub fn and(mut self, other: Self) -> Self {
        self.sent += other.sent;
        self.written += other.written;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.zombies += other.zombies;
        self.sequence_breaks += other.sequence_breaks;
        self.missing.extend(other.missing);
        self.missing_elsewhere += other.missing_elsewhere;
        self.empty += other.empty;
        self.findings.extend(other.findings);
        self
    }
}

/// Neighbouring messages that are not in the topic, and when the feed sent them, milliseconds since 1970.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Missing {
    pub first: u64,
    pub last: u64,
    pub from_ms: u64,
    pub to_ms: u64,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, from_ms, to_ms } = self;
        write!(f, "messages {first} to {last}, sent from {from_ms} to {to_ms} ms, are missing")
    }
}

/// Time without a record for the follower, in milliseconds since 1970 and of length.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Silence {
    pub from_ms: u64,
    pub ms: u64,
}

/// A running `twinfeed verify --follow`.
#[derive(Debug)]
pub struct Verifier {
    process: Process,
}

impl Verifier {
    /// `patience`: what has not come so long after the feed's end, with nothing else coming, counts as lost.
    pub fn start(dir: &Path, bootstrap: &str, topic: &str, feed: &Feed, patience: Duration) -> Result<Self> {
        let patience = patience.as_millis().to_string();
        Self::start_with(dir, bootstrap, topic, feed, &["--follow", "--idle-ms", &patience])
    }

    /// Judges one of the streams that share a topic, by what is in it now.
    pub fn start_stream(dir: &Path, bootstrap: &str, topic: &str, feed: &Feed, stream: StreamId) -> Result<Self> {
        Self::start_with(dir, bootstrap, topic, feed, &["--stream", &stream.argument()])
    }

    fn start_with(dir: &Path, bootstrap: &str, topic: &str, feed: &Feed, more: &[&str]) -> Result<Self> {
        let mut command = Command::new(binary("twinfeed")?);
        command.args(["verify", "--bootstrap", bootstrap, "--topic", topic, "--json", "--feed"]);
        command.arg(format!("http://{}", feed.address)).args(more);
        Ok(Self { process: Process::start("verify", dir, &mut command)? })
    }

    /// Waits for the end of the feed and everything that is still on its way.
    pub fn verdict(mut self, limit: Duration) -> Result<ReaderBooks> {
        let (code, text) = self.process.wait_with_stdout(limit)?;
        let line = text.lines().rfind(|line| line.starts_with('{')).with_context(|| {
            format!("the verifier ended with {code} and without a verdict: {text}\n{}", self.process.log_tail())
        })?;
        serde_json::from_str(line).with_context(|| format!("unreadable verdict: {line}"))
    }
}
