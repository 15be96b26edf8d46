//! A ring: the recent frames of one aligned subscription, in order, that newcomers are compared with.
//!
//! Bounded by frames and, above a minimum, by age. Alignment reads it; the merge pushes into it.

use std::collections::VecDeque;

use crate::{Fingerprint, Options};

/// A frame of the past and the entry it belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Past {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) ordinal: u64,
    pub(crate) at_ms: u64,
}

#[derive(Debug)]
pub(crate) struct Ring {
    frames: VecDeque<Past>,
    /// Ordinals below all that come behind them: the front is the lowest. A frame may belong to an entry that is older
    /// than its neighbours', above all after a takeover, where the tail of the topic was there before any frame.
    lows: VecDeque<u64>,
    frames_max: usize,
    span_ms: u64,
    /// It holds every frame since the stream's very first one.
    whole: bool,
}

impl Ring {
    /// `whole` only for the first subscription of a stream: nothing was in the topic before its first frame.
    pub(crate) fn new(options: &Options, whole: bool) -> Self {
        Self {
            frames: VecDeque::new(),
            lows: VecDeque::new(),
            frames_max: options.ring_frames_max,
            span_ms: options.span_ms,
            whole,
        }
    }

    pub(crate) fn push(&mut self, fingerprint: Fingerprint, ordinal: u64, now_ms: u64) {
        self.frames.push_back(Past { fingerprint, ordinal, at_ms: now_ms });
        while self.lows.pop_back_if(|low| *low > ordinal).is_some() {}
        self.lows.push_back(ordinal);
        // At most two leave per push: an old ring shrinks without a pause.
        for _ in 0..2 {
            let Some(front) = self.frames.front() else { return };
            let is_old = front.at_ms.saturating_add(self.span_ms) < now_ms;
            if self.frames.len() > self.frames_max || (is_old && self.frames.len() > Options::RING_FRAMES_MIN) {
                self.lows.pop_front_if(|low| *low == front.ordinal);
                self.frames.pop_front();
                self.whole = false;
            }
        }
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }

    /// The frames from position `from` on.
    pub(crate) fn since(&self, from: usize) -> impl Iterator<Item = &Past> {
        self.frames.range(from.min(self.frames.len())..)
    }

    /// Entries older than this are not needed by the ring.
    pub(crate) fn floor(&self) -> Option<u64> {
        self.lows.front().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FrameKind;

    #[test]
    fn the_floor_is_the_lowest_ordinal_at_every_moment() {
        let options = Options { ring_frames_max: Options::RING_FRAMES_MIN, ..Options::default() };
        let mut ring = Ring::new(&options, true);
        let fingerprint = Fingerprint::of(FrameKind::Text, b"x");
        // Scattered without repetition: 7 and 1,000 have no common divisor.
        for step in 0..1_000 {
            ring.push(fingerprint, step * 7 % 1_000, step);
            let lowest = ring.since(0).map(|past| past.ordinal).min();
            assert_eq!(ring.floor(), lowest, "after {step} steps");
        }
    }
}
