//! The owner is killed while the two sides of the feed differ in time or order, repeat themselves, or send every new
//! subscriber their latest messages again. What the stages differ in comes from their seed.

use anyhow::Result;
use rand::rngs::StdRng;

use super::kill::Kill;
use crate::{
    harness::FeedOptions,
    stage::{Stage, StageOptions},
    story::{Facts, Story},
};

/// What is unusual about the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FeedShape {
    /// One side is late, by nothing up to almost the whole span within which messages are matched.
    Skewed,
    /// A new subscriber gets the latest messages first, which others have had.
    Backfilling,
    /// Few payloads make up most of the messages, or a constant one every other; in bursts.
    Repeating,
    /// Messages come in any order within `REORDER_MS`, in another one on each side.
    Shuffled,
}

/// Of the stories about skew, milliseconds.
const SPAN_MS: u64 = 2_000;
/// A stage begins with a redundant stream, and alignment needs places that no message crosses: dozens among the latest 8,192
/// messages. Two hundred milliseconds of disorder leave too few of them; such a stream says that it is at risk.
const REORDER_MS: u64 = 20;

impl Story for FeedShape {
    fn facts(&self) -> Facts {
        let (name, rows, tells): (_, &'static [u8], _) = match self {
            Self::Skewed => ("skewed-feeds", &[27], "kill -9 of the owner; one side late by 0 to 90 % of the span"),
            Self::Backfilling => ("backfilling-feed", &[28], "kill -9 of the owner; reconnects get the latest again"),
            Self::Repeating => {
                ("repeating-feed", &[29], "kill -9 of the owner; up to 95 % repeats, bursts, heartbeats")
            }
            Self::Shuffled => ("shuffled-feeds", &[30], "kill -9 of the owner; order differs within 20 ms"),
        };
        Facts { faults_per_stage: 2, ..Facts::new(name, rows, tells) }
    }

    fn stage(&self, seed: u64) -> Result<StageOptions> {
        let pick = |choices: &[u64]| choices[(seed as usize) % choices.len()];
        let usual = FeedOptions::default();
        let (feed, span_ms) = match self {
            Self::Skewed => {
                let skew_ms = pick(&[SPAN_MS / 2, SPAN_MS * 9 / 10, 0]);
                (FeedOptions { skew_ms, ..usual }, Some(SPAN_MS))
            }
            Self::Backfilling => {
                let more = vec!["--backfill".to_owned(), pick(&[500, 10, 5_000]).to_string()];
                (FeedOptions { more, ..usual }, None)
            }
            Self::Repeating => {
                // A heartbeat between any two messages; a thousand payloads; hardly a message that is no repeat.
                let (repeats, hot) = [(0.5, 1), (0.7, 1_000), (0.95, 20)][(seed as usize) % 3];
                let more = vec!["--hot".to_owned(), hot.to_string()];
                (FeedOptions { repeats, more, jitter_ms: 50, ..usual }, None)
            }
            Self::Shuffled => {
                let more = vec!["--reorder-ms".to_owned(), REORDER_MS.to_string()];
                (FeedOptions { repeats: 0.1, more, ..usual }, None)
            }
        };
        let connector = span_ms.map(|ms| ("twinfeed.dedup.span.ms", ms.to_string())).into_iter().collect();
        Ok(StageOptions { feed, connector, ..StageOptions::default() })
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        Kill::Owner.fault(stage, random)
    }
}
