//! A server that has had enough answers 429 and says when to come again. Whoever comes earlier makes it worse, for all streams
//! of that host; whoever waits as told is back in time, and says meanwhile what it waits for.

use std::time::Duration;

use anyhow::{Result, ensure};
use rand::rngs::StdRng;

use super::give_up::four_lines;
use crate::{
    harness::wait_for,
    stage::{Stage, StageOptions},
    story::{Facts, Story},
};

pub(super) struct RetryAfter;

const NAME: &str = "patient";
/// Its own two lines of the feed.
const LINES: [&str; 2] = ["c", "d"];
/// After the time that was told, milliseconds: pauses are spread, but nobody stays away for ever.
const LATE_MS_MAX: u64 = 10_000;
/// Clocks are read on both sides of a request.
const EARLY_MS_MAX: u64 = 20;

impl Story for RetryAfter {
    fn facts(&self) -> Facts {
        Facts { faults_per_stage: 2, ..Facts::new("retry-after", &[45], "the server answers 429 with Retry-After") }
    }

    fn stage(&self, _seed: u64) -> Result<StageOptions> {
        Ok(StageOptions { feed: four_lines(), ..StageOptions::default() })
    }

    fn fault(&self, stage: &mut Stage, _random: &mut StdRng) -> Result<()> {
        let seconds = stage.scale.pick(6, 20);
        let config = [
            ("websocket.url", stage.feed.url(LINES[0])),
            ("twinfeed.websocket.secondary.url", stage.feed.url(LINES[1])),
            ("kafka.topic", format!("{}-{NAME}", stage.topic)),
            ("websocket.reconnect.interval.ms", "200".to_owned()),
        ];
        stage.cluster.admin.create(NAME, &config)?;
        stage.cluster.wait_redundant(NAME)?;
        stage.fault(&format!("429 for {seconds} s, then everybody is welcome"));
        LINES.iter().try_for_each(|line| stage.feed.refuse(line, seconds))?;
        LINES.iter().try_for_each(|line| stage.feed.reset(line))?;
        let limit = Duration::from_secs(seconds) + Duration::from_millis(LATE_MS_MAX);
        let mut told = [false; 2];
        let back = wait_for("both lines to be back", limit, || {
            // What is said while the lines wait.
            let status = stage.cluster.admin.connector(NAME).ok()?.status?;
            for (line, told) in LINES.iter().zip(&mut told) {
                let its = status.subscriptions.iter().find(|s| s.url.ends_with(&format!("/{line}")));
                *told |= its.is_some_and(|s| s.last_error.contains("429"));
            }
            let ledger = stage.feed.ledger().ok()?;
            LINES.iter().all(|line| ledger.live(line) > 0).then_some(())
        });
        let ledger = stage.feed.ledger()?;
        for (line, told) in LINES.iter().zip(told) {
            let attempts = ledger.attempts(line);
            let refused: Vec<u64> = attempts.iter().filter_map(|(_, wait_s)| *wait_s).collect();
            ensure!(!refused.is_empty(), "nobody was refused on {line}");
            if let Some(early) = early(&attempts) {
                stage.found(format!("{line}: {early}; {} attempts were refused", refused.len()));
            }
            if !told {
                stage.found(format!("the status of {line} does not say that the server answered 429"));
            }
        }
        match back {
            Err(error) => stage.found(format!("{}", error.root_cause())),
            Ok(()) => drop(stage.cluster.wait_redundant(NAME)?),
        }
        stage.cluster.admin.delete(NAME)
    }
}

/// The first attempt that came earlier than the one before was told.
fn early(attempts: &[(u64, Option<u64>)]) -> Option<String> {
    attempts.windows(2).find_map(|pair| {
        let [(refused_at_ms, Some(wait_s)), (next_at_ms, _)] = pair else { return None };
        let after_ms = next_at_ms - refused_at_ms;
        (after_ms + EARLY_MS_MAX < wait_s * 1_000)
            .then(|| format!("told to wait {wait_s} s, and tried again after {after_ms} ms"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_before_the_time_is_early() {
        assert_eq!(early(&[(0, None), (1_000, Some(2)), (3_000, None), (3_100, None)]), None);
        assert!(early(&[(1_000, Some(2)), (2_900, Some(1))]).is_some_and(|text| text.contains("1900 ms")));
        assert_eq!(early(&[]), None);
    }
}
