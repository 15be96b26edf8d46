//! `twinfeed feed`: a WebSocket server whose every message is known. It sends one numbered sequence on several paths,
//! each late by its skew, and keeps a ledger of what was sent to whom; the verifier reads the ledger over HTTP on the
//! same port, where orders make it misbehave. The demo runs it inside its own process. It knows nothing of Twinfeed's nodes.

mod ledger;
mod line;
mod pauses;
mod request;
mod schedule;
mod server;
mod subscriber;
mod voice;

use std::{net::SocketAddr, time::Duration};

pub use ledger::{Ledger, Refusal, SubscriberEntry};
pub use pauses::{Pause, Pauses, Timetable};
pub use server::FeedServer;

use super::pattern::{Pattern, PatternArgs, PatternError};
use crate::supervise::Supervisor;

/// Why the feed cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}")]
    Bind {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error("--{name} must be {bounds}")]
    OutOfBounds { name: &'static str, bounds: &'static str },
}

const EXAMPLES: &str = "\
Orders, by POST to the feed's own address, change it at any time:
  /close/PATH, /reset/PATH             end the path's connections, politely or not
  /down/PATH, /up/PATH                 take nobody (503), or again
  /refuse/PATH/SECONDS                 answer 429 with Retry-After for so long
  /mute/PATH                           send nothing more on the connections that there are now
  /silence/PATH, /silence/PATH/CHANNEL send nothing more, or nothing of a channel
  /drip/PATH/N, /lack/PATH/N           send only one of N messages, or all but one of N
  /speak/PATH                          send everything again
  /pause, /resume                      the whole feed is quiet, and goes on where it was
  /finish                              the schedule ends
Pings are answered all the while. GET /ledger says what was sent to whom.

Examples:
  twinfeed feed --listen 10.0.0.9:9001 --seconds 10 --repeats 0.3 --wait-subscribers 2 &
  wsctl connector create numbers --url ws://10.0.0.9:9001/a --secondary-url ws://10.0.0.9:9001/b --topic numbers --wait";

/// Arguments of `twinfeed feed`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Address to listen on; port 0 takes a free one and prints it.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Paths, separated by commas; the first is on time.
    #[arg(long, value_delimiter = ',', default_value = "a,b")]
    pub paths: Vec<String>,
    /// Messages a second on every path.
    #[arg(long, default_value_t = 1000.0)]
    pub rate: f64,
    #[command(flatten)]
    pub pattern: PatternArgs,
    /// End after so many messages.
    #[arg(long, conflicts_with = "seconds")]
    pub count: Option<u64>,
    /// End after so many seconds.
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Every path is late by so much against the one before, in milliseconds.
    #[arg(long, default_value_t = 20)]
    pub skew_ms: u64,
    /// A further delay between 0 and so much that changes all the time, in milliseconds.
    #[arg(long, default_value_t = 0)]
    pub jitter_ms: u64,
    /// Shuffle messages within so many milliseconds, differently on every path.
    #[arg(long, default_value_t = 0)]
    pub reorder_ms: u64,
    /// Only on this path.
    #[arg(long, value_name = "PATH", requires = "reorder_ms")]
    pub reorder_path: Option<String>,
    /// Send every new subscriber so many of the latest messages first.
    #[arg(long, default_value_t = 0)]
    pub backfill: u64,
    /// Begin when so many subscribers are connected.
    #[arg(long, default_value_t = 1)]
    pub wait_subscribers: usize,
    #[command(flatten)]
    pub faults: Faults,
}

/// What the server does to its subscribers, counted from the connect.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Faults {
    /// Close each connection politely (1001) after so many milliseconds.
    #[arg(long)]
    pub close_every_ms: Option<u64>,
    /// Reset each connection after so many milliseconds.
    #[arg(long)]
    pub drop_every_ms: Option<u64>,
    /// Send and read nothing more after so many milliseconds, without closing.
    #[arg(long)]
    pub hang_after_ms: Option<u64>,
    /// Close each connection (1001) that was sent nothing for so many milliseconds.
    #[arg(long)]
    pub close_idle_ms: Option<u64>,
    /// Send no message from the beginning, and answer pings; /speak/PATH ends it.
    #[arg(long)]
    pub silent: bool,
    /// The same for one channel.
    #[arg(long)]
    pub silent_channel: Option<u32>,
    /// Send only one of so many messages.
    #[arg(long)]
    pub drip: Option<u64>,
    /// Leave one of so many messages out.
    #[arg(long)]
    pub lack: Option<u64>,
    /// Only on this path.
    #[arg(long)]
    pub fault_path: Option<String>,
    #[command(flatten)]
    pub manners: Manners,
}

impl Faults {
    /// Those of a path; none of them elsewhere.
    fn on(&self, path: &str) -> Self {
        let here = self.fault_path.as_ref().is_none_or(|only| only == path);
        if here { self.clone() } else { Self { manners: self.manners.clone(), ..Self::default() } }
    }
}

/// What each connection says for itself, on every path. Such messages are unlike all others: the verifier counts them apart
/// and does not miss them.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Manners {
    /// Greet each connection with its number after so many milliseconds.
    #[arg(long)]
    pub greet_after_ms: Option<u64>,
    /// Answer each text of a subscriber, such as a subscription, with the number of the connection.
    #[arg(long)]
    pub answer: bool,
    /// Send nothing of the feed before the subscriber has sent a text; one that comes before the greeting is ignored.
    #[arg(long)]
    pub await_subscription: bool,
    /// A heartbeat with the number of the connection every so many milliseconds.
    #[arg(long)]
    pub heartbeat_every_ms: Option<u64>,
    /// An empty text every so many milliseconds.
    #[arg(long)]
    pub keep_alive_every_ms: Option<u64>,
}

impl Args {
    fn checked(&self) -> Result<(), Error> {
        if !(self.rate > 0.0 && self.rate <= 10_000_000.0) {
            return Err(Error::OutOfBounds { name: "rate", bounds: "above 0 and at most 10000000" });
        }
        if self.paths.is_empty() || self.paths.len() > 64 {
            return Err(Error::OutOfBounds { name: "paths", bounds: "1 to 64 names" });
        }
        if self.seconds.is_some_and(|seconds| !(0.0..=31_536_000.0).contains(&seconds)) {
            return Err(Error::OutOfBounds { name: "seconds", bounds: "between 0 and 31536000" });
        }
        let Faults { silent_channel, drip, lack, .. } = self.faults;
        if silent_channel.is_some_and(|channel| channel >= self.pattern.channels) {
            return Err(Error::OutOfBounds { name: "silent-channel", bounds: "below the number of --channels" });
        }
        for (name, many) in [("drip", drip), ("lack", lack)] {
            if many.is_some_and(|many| many < 2) {
                return Err(Error::OutOfBounds { name, bounds: "at least 2" });
            }
        }
        Ok(())
    }

    /// Number of messages after which the feed ends by itself.
    fn end(&self) -> Option<u64> {
        self.count.or_else(|| self.seconds.map(|seconds| (seconds * self.rate) as u64))
    }

    fn schedule(&self, path: usize) -> schedule::Schedule {
        let shuffled = self.reorder_path.as_ref().is_none_or(|only| self.paths.get(path) == Some(only));
        let reorder_ms = if shuffled { self.reorder_ms } else { 0 };
        schedule::Schedule {
            messages_per_second: self.rate,
            skew: Duration::from_millis(self.skew_ms.saturating_mul(path as u64)),
            jitter: Duration::from_millis(self.jitter_ms),
            block: ((self.rate * reorder_ms as f64 / 1000.0) as u64).max(1),
            seed: super::pattern::mix(self.pattern.seed ^ (path as u64 + 1)),
        }
    }
}

/// Runs the feed until an interrupt: the command line's entry. Prints `listening <address>` and, when the last message
/// has been sent to all, `finished <count>`; the ledger stays readable until the interrupt.
///
/// # Errors
/// Bad arguments, an unusable capture, or an address that cannot be listened on.
pub async fn run(args: Args) -> Result<(), Error> {
    let supervisor = Supervisor::default();
    let server = FeedServer::start(args, &supervisor.spawner()).await?;
    println!("listening {}", server.address());
    tokio::select! {
        () = server.finished() => println!("finished {}", server.ledger().sent()),
        _ = tokio::signal::ctrl_c() => {
            supervisor.stop(Duration::from_secs(1)).await;
            return Ok(());
        }
    }
    // The same outcome whether the signal came or cannot be listened for: there is nothing left to do.
    let _ = tokio::signal::ctrl_c().await;
    supervisor.stop(Duration::from_secs(1)).await;
    Ok(())
}

fn pattern(args: &Args) -> Result<Pattern, Error> {
    args.checked()?;
    Ok(Pattern::new(args.pattern.clone())?)
}
