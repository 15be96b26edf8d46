//! Both feeds are down for 1 to 10 s. What they would have sent is lost, and no cluster can help it: but the cluster must
//! say so, with bounds that contain the whole time, and lose nothing of what was sent before and after.

use std::time::Duration;

use anyhow::{Result, ensure};
use rand::{Rng as _, rngs::StdRng};

use crate::{
    harness::{EventLine, let_pass},
    stage::{Stage, wall_ms},
    story::{Facts, Story},
};

pub(super) struct FeedsDown;

const DOWN_MS: std::ops::RangeInclusive<u64> = 1_000..=10_000;

impl Story for FeedsDown {
    fn facts(&self) -> Facts {
        Facts::new("feeds-down", &[26], "both feeds are down for 1 to 10 s: the loss is reported with its bounds")
    }

    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()> {
        let down = Duration::from_millis(random.random_range(DOWN_MS));
        let ended = stage.feed.ended_connections()?;
        stage.fault(&format!("both feeds are down for {} ms", down.as_millis()));
        ["a", "b"].iter().try_for_each(|path| stage.feed.down(path))?;
        let from_ms = wall_ms();
        let_pass(down);
        ensure!(stage.feed.ended_connections()? >= ended + 2, "a subscription outlived its feed");
        let to_ms = wall_ms();
        ["a", "b"].iter().try_for_each(|path| stage.feed.up(path))?;
        // Looked for when the stream is redundant again: a gap is told by the subscription that ends it.
        stage.cluster.wait_redundant(crate::stage::CONNECTOR)?;
        let events = stage.cluster.admin.events()?;
        let gaps: Vec<&EventLine> = events.iter().filter(|e| e.kind == "gap" && e.at_ms >= from_ms).collect();
        if !gaps.iter().filter_map(|gap| bounds(&gap.message)).any(|(from, to)| from <= from_ms && to_ms <= to) {
            let told: Vec<String> = gaps.iter().map(ToString::to_string).collect();
            stage.found(format!("no gap contains {from_ms} to {to_ms}; told were: {}", told.join("; ")));
        }
        Ok(())
    }
}

/// The first two numbers of a message that can be milliseconds since 1970.
fn bounds(message: &str) -> Option<(u64, u64)> {
    let mut times = message.split(|c: char| !c.is_ascii_digit()).filter(|digits| digits.len() == 13);
    Some((times.next()?.parse().ok()?, times.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_found_among_other_numbers() {
        let message =
            "subscription 00ab12 has nothing: messages between 1763712000123 and 1763712004567 (ms since 1970)";
        assert_eq!(bounds(message), Some((1_763_712_000_123, 1_763_712_004_567)));
        assert_eq!(bounds("since the former owner's last commit"), None);
    }
}
