//! `twinfeed verify`: reads the topic and holds it against what the tool feed sent. The demo and the chaos tests judge by
//! it, so it shares no code with the path it judges except for the pattern of the feed and the layout of the stamp.

mod account;
mod gaps;
mod order;
mod remote;
mod topic;

use std::{path::PathBuf, time::Duration};

use rdkafka::{Message as _, message::BorrowedMessage};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

pub use account::{Record, Silence, Verdict, Verifier};
pub use order::{Provenance, Stream};

use super::{
    feed::{Ledger, Timetable},
    pattern::{Pattern, PatternArgs, PatternError},
};
use crate::clock::wall_ms;
use gaps::Reported;
use topic::{TopicReader, provenance};

/// Between two looks at the ledger.
const LEDGER_INTERVAL: Duration = Duration::from_millis(250);
/// One wait for a record.
const STEP: Duration = Duration::from_millis(50);
/// What was sent before the order to stop may still be on its way for so long. Below the 10 s after which an engine kills.
const LAST_WAIT: Duration = Duration::from_secs(3);
/// Between two looks whether it has come.
const LAST_LOOK: Duration = Duration::from_millis(100);
/// Between two lines of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error("no ledger from {url}: {why}")]
    Feed { url: String, why: String },
    #[error("there is no topic {topic} at {bootstrap}")]
    NoTopic { topic: String, bootstrap: String },
    #[error("cannot read the events in `{}`", path.display())]
    Events {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("kafka refused to be read")]
    Kafka(#[from] rdkafka::error::KafkaError),
}

/// Arguments of `twinfeed verify`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  twinfeed verify --bootstrap 10.0.0.11:9092 --topic numbers --feed http://10.0.0.9:9001 --follow"
)]
pub struct Args {
    /// Kafka's address.
    #[arg(long, default_value = "127.0.0.1:9092")]
    pub bootstrap: String,
    /// Topic to read
    #[arg(long)]
    pub topic: String,
    /// Only this partition.
    #[arg(long)]
    pub partition: Option<i32>,
    /// Only this stream, 16 hexadecimal digits: connectors that share a topic have one each, and a verdict on all of them
    /// lists them. Without it epochs, sequences and order are judged for each stream by itself, messages for all together.
    #[arg(long, value_name = "ID", value_parser = order::parse)]
    pub stream: Option<u64>,
    /// The running feed, http://host:port; its ledger says what was sent.
    #[arg(long, conflicts_with_all = ["first", "last"])]
    pub feed: Option<String>,
    /// Without --feed: what the feed was started with.
    #[command(flatten)]
    pub pattern: PatternArgs,
    /// Without --feed: the first message that was sent.
    #[arg(long, default_value_t = 0)]
    pub first: u64,
    /// Without --feed: the last message that was sent.
    #[arg(long, required_unless_present = "feed")]
    pub last: Option<u64>,
    /// Keep reading while the feed runs, and measure silences.
    #[arg(long)]
    pub follow: bool,
    /// Give up on missing messages when nothing came for so long after the end of the feed, in milliseconds.
    #[arg(long, default_value_t = 15_000)]
    pub idle_ms: u64,
    /// Keep looking for duplicates for so long after the last message has come, in milliseconds.
    #[arg(long, default_value_t = 1_000)]
    pub settle_ms: u64,
    /// How long to wait for the topic to exist, in milliseconds.
    #[arg(long, default_value_t = 30_000)]
    pub topic_wait_ms: u64,
    /// Events as `wsctl events -o jsonl` prints them, read at the end: the promise then holds if whatever is missing,
    /// sent to somebody or not, lies within a gap that the cluster has reported itself.
    #[arg(long, value_name = "FILE", requires = "feed")]
    pub gaps: Option<PathBuf>,
    /// No lines of progress on standard error.
    #[arg(long)]
    pub quiet: bool,
    /// Print the verdict as one line of JSON.
    #[arg(long)]
    pub json: bool,
}

/// What was sent, as far as it is known.
#[derive(Debug, Clone)]
struct Truth {
    covered: Vec<(u64, u64)>,
    sent: u64,
    /// Nothing more will be sent.
    finished: bool,
    /// When each message was due; None without a ledger.
    schedule: Option<Timetable>,
}

impl From<&Ledger> for Truth {
    fn from(ledger: &Ledger) -> Self {
        let (covered, sent) = (ledger.covered.clone(), ledger.sent());
        Self { covered, sent, finished: ledger.finished, schedule: ledger.timetable() }
    }
}

/// Verifies and prints: the command line's entry. True if the promise holds.
///
/// # Errors
/// What kept it from verifying at all.
pub async fn run(args: Args) -> Result<bool, Error> {
    let interrupted = async {
        if tokio::signal::ctrl_c().await.is_err() {
            // Signals cannot be listened for: then nothing but the end of the feed ends the verification.
            std::future::pending::<()>().await;
        }
    };
    let mut verdict = verify(&args, interrupted).await?;
    let (mut holds, mut line) = (verdict.holds(), verdict.line());
    if let Some(path) = &args.gaps {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Events { path: path.clone(), source })?;
        let reported = Reported::parse(&text);
        let unreported = reported.lacks(&verdict);
        line.push_str(&format!(" missing_runs={} reported_gaps={}", verdict.missing.len(), reported.count()));
        holds = verdict.is_orderly() && unreported.is_none();
        verdict.findings.extend(unreported);
    }
    if args.json {
        println!("{}", serde_json::to_string(&verdict).expect("a verdict is plain data"));
    } else {
        println!("{line}");
        if verdict.streams.len() > 1 {
            let told = |s: &Stream| println!("  stream {}: records={} epochs={}", s.id, s.records, s.epochs.len());
            verdict.streams.iter().for_each(told);
        }
        verdict.findings.iter().for_each(|finding| println!("  {finding}"));
    }
    Ok(holds)
}

/// Reads until the feed is over and everything has come, until nothing comes any more, or until `stop`.
///
/// # Errors
/// No ledger, no pattern, no topic.
pub async fn verify(args: &Args, stop: impl Future<Output = ()>) -> Result<Verdict, Error> {
    let (pattern, truth) = match &args.feed {
        Some(url) => {
            let ledger = remote::ledger(url).await?;
            (Pattern::new(ledger.pattern.clone())?, Truth::from(&ledger))
        }
        None => {
            let covered = vec![(args.first, args.last.unwrap_or(args.first).saturating_add(1))];
            let sent = covered[0].1.saturating_sub(args.first);
            (Pattern::new(args.pattern.clone())?, Truth { covered, sent, finished: true, schedule: None })
        }
    };
    let wait = Duration::from_millis(args.topic_wait_ms);
    let mut reader = TopicReader::open(&args.bootstrap, &args.topic, args.partition, wait).await?;
    let mut books = Books { verifier: Verifier::new(pattern).only(args.stream), clock: ArrivalClock::new() };
    let known = watch::Sender::new(truth);
    let stopped = tokio::select! {
        () = read(args, &mut reader, &mut books, known.subscribe()) => false,
        () = watch_ledger(args.feed.as_deref(), &known) => false,
        () = stop => true,
    };
    let mut owed = known.borrow().clone();
    let mut sent = owed.clone();
    if stopped && !owed.finished {
        // The feed goes on. What it had sent by now is owed; what it sends until the last record is read may be there.
        owed = look(args, owed).await;
        read_last(&owed, &mut reader, &mut books).await;
        sent = look(args, owed.clone()).await;
    }
    let mut verdict = books.verifier.verdict(&owed.covered, &sent.covered);
    if let Some(table) = owed.schedule {
        for missing in &mut verdict.missing {
            (missing.from_ms, missing.to_ms) = (table.due_ms(missing.first), table.due_ms(missing.last));
        }
    }
    if !args.follow {
        // Records that were all there already arrive as fast as they can be read: their gaps say nothing.
        (verdict.silences, verdict.longest_silence_ms) = (Vec::new(), 0);
    }
    Ok(verdict)
}

/// Keeps the truth up to date. Never returns: the reader decides when it is over.
async fn watch_ledger(url: Option<&str>, known: &watch::Sender<Truth>) {
    let Some(url) = url else { return std::future::pending().await };
    loop {
        sleep(LEDGER_INTERVAL).await;
        match remote::ledger(url).await {
            Ok(ledger) => {
                known.send_replace(Truth::from(&ledger));
            }
            Err(error) => tracing::debug!(%error, "the ledger is as old as the last look"),
        }
    }
}

/// The ledger as it is now, or as it was known.
async fn look(args: &Args, known: Truth) -> Truth {
    match &args.feed {
        Some(url) => remote::ledger(url).await.map_or(known, |ledger| Truth::from(&ledger)),
        None => known,
    }
}

/// Reads on until all that is owed has come, or for the last wait.
async fn read_last(owed: &Truth, reader: &mut TopicReader, books: &mut Books) {
    let began = Instant::now();
    // A look at every message only when there are enough.
    let lacks = |verifier: &Verifier| verifier.written() < owed.sent || verifier.lost(&owed.covered) > 0;
    while lacks(&books.verifier) && began.elapsed() < LAST_WAIT {
        let look = Instant::now();
        while look.elapsed() < LAST_LOOK {
            if let Some(message) = reader.next(STEP).await {
                books.record(&message);
            }
        }
    }
}

async fn read(args: &Args, reader: &mut TopicReader, books: &mut Books, truth: watch::Receiver<Truth>) {
    let (mut last_arrival, mut last_progress) = (Instant::now(), Instant::now());
    // Closing the books costs a look at every message: once per number of records is enough.
    let mut closed_at = None;
    loop {
        if let Some(message) = reader.next(STEP).await {
            let written = books.verifier.written();
            books.record(&message);
            // What connections say for themselves goes on when the feed is over.
            if books.verifier.written() > written {
                last_arrival = Instant::now();
            }
        }
        let verifier = &books.verifier;
        let quiet = last_arrival.elapsed();
        if quiet >= STEP {
            let truth = truth.borrow();
            let settled = quiet >= Duration::from_millis(args.settle_ms);
            // Without --follow the end of the topic is the end, whatever is missing.
            let read_all = !args.follow && reader.is_at_end();
            let idle = quiet >= Duration::from_millis(args.idle_ms);
            if truth.finished && ((settled && read_all) || idle) {
                return;
            }
            // As many records as messages may still be one doubled and one to come.
            let enough = verifier.written() >= truth.sent && closed_at != Some(verifier.written());
            if truth.finished && settled && enough {
                closed_at = Some(verifier.written());
                if verifier.lost(&truth.covered) == 0 {
                    return;
                }
            }
        }
        if args.follow && !args.quiet && last_progress.elapsed() >= PROGRESS_INTERVAL {
            last_progress = Instant::now();
            eprintln!("sent={} written={}", truth.borrow().sent, verifier.written());
        }
    }
}

/// The books, and the clock that dates what is entered.
struct Books {
    verifier: Verifier,
    clock: ArrivalClock,
}

impl Books {
    fn record(&mut self, message: &BorrowedMessage<'_>) {
        self.verifier.record(&Record {
            partition: message.partition(),
            offset: message.offset(),
            payload: message.payload().unwrap_or_default(),
            provenance: provenance(message),
            arrived_at_ms: self.clock.now_ms(),
        });
    }
}

/// Wall-clock times that never step: a clock jump is one of the faults that are watched.
struct ArrivalClock {
    began: Instant,
    began_at_ms: u64,
}

impl ArrivalClock {
    fn new() -> Self {
        Self { began: Instant::now(), began_at_ms: wall_ms() }
    }

    fn now_ms(&self) -> u64 {
        self.began_at_ms + self.began.elapsed().as_millis() as u64
    }
}
