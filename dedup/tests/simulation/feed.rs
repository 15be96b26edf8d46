//! The feed of a simulated run: what a server sends, and when. Every simulation of this crate draws its feed here.

use twinfeed_dedup::{Fingerprint, FrameKind};

use super::prng::Prng;

/// What a feed is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) messages: usize,
    /// Mean time between two messages.
    pub(crate) gap_ms: f64,
    /// Share of messages that repeat an earlier payload.
    pub(crate) repeats: f64,
}

/// One message of the feed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message {
    pub(crate) sent_us: u64,
    pub(crate) fingerprint: Fingerprint,
}

/// Makes the feed: unique payloads, and a share drawn from a few hot ones.
pub(crate) fn make_feed(shape: Shape, prng: &mut Prng) -> Vec<Message> {
    let hot = [1, 3, 20][prng.below(3)];
    let mut sent_us = 0;
    (0..shape.messages)
        .map(|number| {
            sent_us += prng.exponential_ms(shape.gap_ms);
            let is_hot = prng.chance(shape.repeats);
            let payload = if is_hot { format!("hot {}", prng.below(hot)) } else { format!("message {number}") };
            Message { sent_us, fingerprint: Fingerprint::of(FrameKind::Text, payload.as_bytes()) }
        })
        .collect()
}
