//! The channel between a feed's session and its writer: `node/src/feed/mod.rs` and `node/src/queue.rs` for one line.
//!
//! A writer that is busy takes from it now and then, and so much at a time. What waits in it is lost with its process. One that
//! is full is not sent to: the socket is not read meanwhile.

use std::collections::VecDeque;

use twinfeed_writer::frame::FeedEvent;

use super::prng::Prng;

/// Frames that a session hands over at once, if it has read them at once.
const FRAMES_MAX: usize = 8;

/// How a writer takes from its feed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) every_us: u64,
    pub(crate) events_max: usize,
    /// Events that the inbox holds.
    room: usize,
}

impl Pace {
    /// Slower than the feed for moments, and quicker in the long run, or the writer would never catch up.
    pub(crate) fn draw(prng: &mut Prng) -> Self {
        Self {
            every_us: prng.between_ms(2.0, 25.0),
            events_max: [4, 16, 64][prng.below(3)],
            room: [4, 16, 64][prng.below(3)],
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    waiting: VecDeque<FeedEvent>,
}

impl Inbox {
    pub(crate) fn has_room(&self, pace: &Pace) -> bool {
        self.waiting.len() < pace.room
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Neither the beginning of a connection nor an end waits in it.
    pub(crate) fn holds_frames_only(&self) -> bool {
        self.waiting.iter().all(|event| matches!(event, FeedEvent::Frames { .. }))
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn push(&mut self, event: FeedEvent) {
        match (self.waiting.back_mut(), event) {
            (
                Some(FeedEvent::Frames { subscription, frames }),
                FeedEvent::Frames { subscription: of, frames: mut more },
            ) if *subscription == of && frames.len() < FRAMES_MAX => frames.append(&mut more),
            (_, event) => self.waiting.push_back(event),
        }
    }

    pub(crate) fn take(&mut self, events_max: usize) -> Vec<FeedEvent> {
        let taken = self.waiting.len().min(events_max);
        self.waiting.drain(..taken).collect()
    }

    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }
}
