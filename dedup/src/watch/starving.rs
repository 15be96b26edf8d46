//! A line that has no place yet and delivers next to nothing, while the other goes on: there is nothing to compare message by
//! message, so their numbers are compared.
//!
//! A line that was connected anew because it was silent, and is silent again, is found here.

use super::clock::Clock;
use super::{Behind, Verdict};

/// Messages of the other line from which on a judgement makes sense, and also one about a line that drips.
const OTHER_MESSAGES_MIN: u64 = 3;
const DRIPS_MESSAGES_MIN: u64 = 32;
/// A line that delivers less than one in so many of the other's messages starves, and one in so many is enough to end it.
const STARVES_BELOW: u64 = 10;
const FED_FROM: u64 = 2;
/// What the other delivers in the first moments may be older than this subscription.
const BEGINS_AFTER_MS: u64 = 5_000;
/// And what it delivers then is counted for so long, so that a line that says a little for itself is told from one that lags.
const COUNTED_MS: u64 = 2_000;

/// What a line's present subscription has delivered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivered {
    pub(crate) is_aligned: bool,
    pub(crate) frames: u64,
}

/// Counts from a moment on.
#[derive(Debug, Default)]
pub(crate) struct Starving {
    began: Option<Began>,
}

#[derive(Debug, Clone, Copy)]
struct Began {
    at_ms: u64,
    mine: u64,
    other: u64,
    /// When the other had delivered enough to judge by, and how much it was.
    enough: Option<(u64, u64)>,
}

impl Starving {
    /// `patience_ms` is how long it may take for the other's messages to come here: no skew is known yet.
    pub(crate) fn look(
        &mut self,
        (mine, other): (Delivered, Delivered),
        clock: &Clock,
        patience_ms: u64,
        now_ms: u64,
    ) -> Verdict {
        let fresh = Began { at_ms: now_ms, mine: mine.frames, other: other.frames, enough: None };
        let began = self.began.get_or_insert(fresh);
        if now_ms < began.at_ms.saturating_add(BEGINS_AFTER_MS) {
            (began.mine, began.other) = (mine.frames, other.frames);
            return Verdict::Unclear;
        }
        let came = mine.frames.saturating_sub(began.mine);
        let there = other.frames.saturating_sub(began.other);
        if there < OTHER_MESSAGES_MIN || now_ms < began.at_ms.saturating_add(BEGINS_AFTER_MS + COUNTED_MS) {
            return Verdict::Unclear;
        }
        // What came until now is compared with what was there some time ago.
        let (enough_at_ms, was_there) = *began.enough.get_or_insert((now_ms, there));
        if clock.counted_since(enough_at_ms) < patience_ms {
            return Verdict::Unclear;
        }
        let drips = was_there >= DRIPS_MESSAGES_MIN && came.saturating_mul(STARVES_BELOW) < was_there;
        if came == 0 || drips {
            return Verdict::Lacks(Behind { since_ms: began.at_ms, lacks: there - came });
        }
        if came.saturating_mul(STARVES_BELOW) < there {
            began.enough = Some((now_ms, there));
            return Verdict::Unclear;
        }
        self.began = Some(fresh);
        if came.saturating_mul(FED_FROM) >= there { Verdict::KeepsUp } else { Verdict::Unclear }
    }
}
