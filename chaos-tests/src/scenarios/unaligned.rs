//! Two lines that carry the same messages in different bytes, as feeds do that put a number of the connection into each
//! message: they never align, and nothing is wrong with that. The owner's line is whole, Kafka is well; whatever the limits
//! of memory are, nothing may be lost, and nothing may be told as lost.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use twinfeed_proto::admin::{ConnectorState, ConnectorStatus};

use crate::{
    harness::{Feed, FeedOptions, Verifier, let_pass, wait_for},
    stage::{PATIENCE, Stage, StageOptions},
    story::{Facts, Scale, Story},
};

pub(super) enum Unaligned {
    /// Small messages, and the least memory that can be configured.
    LeastMemory,
    /// Messages of 40 KB at defaults; in the quick form a smaller limit takes the place of time.
    LargeMessages,
}

const NAME: &str = "unaligned";
const BUFFER_KEY: &str = "twinfeed.buffer.bytes.max";
const STEP_MAX: Duration = Duration::from_secs(30);
const VERDICT_MAX: Duration = Duration::from_secs(120);

/// What one of the two is made of.
struct Shape {
    rate: u64,
    size_bytes: u64,
    buffer_bytes_max: Option<u64>,
    lasts: Duration,
}

impl Unaligned {
    fn shape(&self, scale: Scale) -> Shape {
        let (rate, size_bytes, buffer_bytes_max, quick_s, full_s) = match self {
            Self::LeastMemory => (2_000, 200, Some(1_048_576), 7, 60),
            Self::LargeMessages => (100, 40_000, scale.pick(Some(16 * 1_048_576), None), 7, 600),
        };
        Shape { rate, size_bytes, buffer_bytes_max, lasts: Duration::from_secs(scale.pick(quick_s, full_s)) }
    }
}

impl Story for Unaligned {
    fn facts(&self) -> Facts {
        let (name, tells) = match self {
            Self::LeastMemory => {
                ("unaligned-with-limits", "no fault: lines that carry different bytes, a buffer of 1 MiB")
            }
            Self::LargeMessages => {
                ("unaligned-large-messages", "no fault: lines that carry different bytes, messages of 40 KB")
            }
        };
        Facts { faults_per_stage: 1, ..Facts::new(name, &[43], tells) }
    }

    fn stage(&self, _seed: u64) -> Result<StageOptions> {
        // Beside it runs a stream that aligns, at a rate that leaves the machine to the other.
        Ok(StageOptions { feed: FeedOptions { rate: Some(300), ..FeedOptions::default() }, ..StageOptions::default() })
    }

    fn fault(&self, stage: &mut Stage, _random: &mut StdRng) -> Result<()> {
        let shape = self.shape(stage.scale);
        let options = FeedOptions {
            rate: Some(shape.rate),
            size_bytes: shape.size_bytes,
            repeats: 0.0,
            more: vec!["--mark-connections".to_owned()],
            ..FeedOptions::default()
        };
        let host = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
        let feed = Feed::start(stage.cluster.dir(), host, &options)?;
        let topic = format!("{}-{NAME}", stage.topic);
        let mut config = vec![
            ("websocket.url", feed.url("a")),
            ("twinfeed.websocket.secondary.url", feed.url("b")),
            ("kafka.topic", topic.clone()),
        ];
        config.extend(shape.buffer_bytes_max.map(|bytes| (BUFFER_KEY, bytes.to_string())));
        stage.fault(&format!("none; {} messages of {} B a second that differ", shape.rate, shape.size_bytes));
        stage.cluster.admin.create(NAME, &config)?;
        let verifier = Verifier::start(stage.cluster.dir(), stage.kafka.direct(), &topic, &feed, PATIENCE)?;
        wait_for("both lines of the unaligned stream", STEP_MAX, || {
            let is_up = |status: &ConnectorStatus| status.state() == ConnectorState::Running;
            let ledger = feed.ledger().ok()?;
            let up = stage.cluster.admin.connector(NAME).ok()?.status.as_ref().is_some_and(is_up);
            (up && ledger.live("a") > 0 && ledger.live("b") > 0 && ledger.sent() > shape.rate).then_some(())
        })?;
        let_pass(shape.lasts);
        let status = stage.cluster.admin.connector(NAME)?.status.context("a connector without status")?;
        ensure!(!status.aligned, "lines that carry different bytes are called aligned");
        feed.finish()?;
        let books = verifier.verdict(VERDICT_MAX)?;
        let wanted = shape.rate as f64 * shape.lasts.as_secs_f64();
        ensure!(books.sent as f64 > wanted / 2.0, "only {} messages were sent: the machine is too slow", books.sent);
        stage.seen.books = std::mem::take(&mut stage.seen.books).and(books);
        let gaps: Vec<String> = gap_events(stage)?;
        if let Some(first) = gaps.first() {
            stage.found(format!("nothing was missing, and {} gaps were told, such as: {first}", gaps.len()));
        }
        stage.cluster.admin.delete(NAME)
    }
}

fn gap_events(stage: &Stage) -> Result<Vec<String>> {
    let events = stage.cluster.admin.events()?;
    Ok(events.into_iter().filter(|e| e.kind == "gap" && e.connector == NAME).map(|e| e.to_string()).collect())
}
