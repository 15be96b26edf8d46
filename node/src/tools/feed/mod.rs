//! `twinfeed feed`: a WebSocket server whose every message is known. It sends one numbered sequence on several paths,
//! each late by its skew, and keeps a ledger of what was sent to whom; the verifier reads the ledger over HTTP on the
//! same port. The demo runs it inside its own process. It knows nothing of Twinfeed's nodes.

mod ledger;
mod request;
mod schedule;
mod server;
mod subscriber;

use std::{net::SocketAddr, time::Duration};

pub use ledger::{Ledger, SubscriberEntry};
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
    /// Only on this path.
    #[arg(long)]
    pub fault_path: Option<String>,
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
