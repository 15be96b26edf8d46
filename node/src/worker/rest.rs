//! How long a writer whose task ended unasked rests before it is started again: the first time not at all, then longer and
//! longer, so that one that cannot live costs a start a minute and not a start a second. Pure: time is an argument.

use std::collections::BTreeMap;

use crate::model::ids::WriterId;

/// The first pause, doubled by each further end.
const PAUSE_MS_MIN: u64 = 1_000;
const PAUSE_MS_MAX: u64 = 60_000;
/// A writer that lived for this long after its last end begins with no pause again.
const FORGIVEN_AFTER_MS: u64 = 10 * PAUSE_MS_MAX;

#[derive(Debug, Clone, Copy)]
struct Ends {
    count: u32,
    last_ms: u64,
    rests_until_ms: u64,
}

/// The writers that have ended unasked.
#[derive(Debug, Default)]
pub(super) struct Rests(BTreeMap<WriterId, Ends>);

impl Rests {
    /// A writer has ended unasked; for how long it rests.
    pub(super) fn ended(&mut self, writer: &WriterId, now_ms: u64) -> u64 {
        self.0.retain(|_, ends| now_ms.saturating_sub(ends.last_ms) < FORGIVEN_AFTER_MS);
        let count = self.0.get(writer).map_or(0, |ends| ends.count);
        let pause_ms = match count {
            0 => 0,
            _ => PAUSE_MS_MIN.saturating_mul(1 << (count - 1).min(16)).min(PAUSE_MS_MAX),
        };
        let ends = Ends { count: count + 1, last_ms: now_ms, rests_until_ms: now_ms + pause_ms };
        self.0.insert(writer.clone(), ends);
        pause_ms
    }

    /// Whether it may not be started yet.
    pub(super) fn rests(&self, writer: &WriterId, now_ms: u64) -> bool {
        self.0.get(writer).is_some_and(|ends| now_ms < ends.rests_until_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_cannot_live_is_started_once_a_minute_and_a_healthy_one_at_once() {
        let (mut rests, writer, other) = (Rests::default(), WriterId("a".to_owned()), WriterId("b".to_owned()));
        let mut now_ms = 5;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let pause_ms = rests.ended(&writer, now_ms);
            assert_eq!(rests.rests(&writer, now_ms), pause_ms > 0);
            now_ms += pause_ms;
            assert!(!rests.rests(&writer, now_ms));
            pauses.push(pause_ms);
        }
        assert_eq!(pauses, [0, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(rests.ended(&other, now_ms), 0, "each on its own");
        assert_eq!(rests.ended(&writer, now_ms + FORGIVEN_AFTER_MS), 0);
        assert_eq!(rests.0.len(), 1, "what was forgiven is forgotten");
    }
}
