//! `twinfeed demo`: the promise shown in one terminal. A numbered A/B feed in this process, three real nodes as child
//! processes, a Kafka (librdkafka's in-process mock, or a real one), a connector, and an owner that is killed with
//! SIGKILL again and again while an independent verifier reads the topic. Everything it starts ends with it.

mod children;
mod kafka;
mod screen;
mod story;

use std::{path::PathBuf, time::Duration};

use super::{feed, verify};

/// Arguments of `twinfeed demo`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  twinfeed demo --kills 1 --calm 3 --bootstrap 10.0.0.11:9092")]
pub struct Args {
    /// How often the owner is killed
    #[arg(long, default_value_t = 3)]
    pub kills: u32,
    /// Messages a second of the feed
    #[arg(long, default_value_t = 5_000.0)]
    pub rate: f64,
    /// Share of messages that repeat an earlier one byte for byte
    #[arg(long, default_value_t = 0.3)]
    pub repeats: f64,
    /// Replay a capture (unix_time TAB payload, a message a line) instead of the numbered feed
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// A real Kafka, host:port; without it an in-process mock is used, which does not fence
    #[arg(long, value_name = "HOST:PORT")]
    pub bootstrap: Option<String>,
    /// Seconds of calm traffic before each kill
    #[arg(long, default_value_t = 10)]
    pub calm: u64,
}

/// Why the demo could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what}")]
    Io {
        what: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the mock Kafka did not start; try --bootstrap with a real one")]
    Mock(#[source] rdkafka::error::KafkaError),
    #[error(transparent)]
    Feed(#[from] feed::Error),
    #[error(transparent)]
    Verify(#[from] verify::Error),
    #[error("the admin API refused: {0}")]
    Admin(String),
    #[error("{what} did not happen within {} s; the nodes' logs are in {}", waited.as_secs(), logs.display())]
    Waited { what: &'static str, waited: Duration, logs: PathBuf },
    #[error("interrupted")]
    Interrupted,
}

/// Shows the demo; true if nothing was lost, doubled or reordered.
///
/// # Errors
/// What kept it from being shown; the children are gone in every case.
pub async fn run(args: Args) -> Result<bool, Error> {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        outcome = story::tell(args) => outcome,
        () = interrupted => Err(Error::Interrupted),
    }
}
