//! One stream of a run: what its server sends, and how far behind each node's connection to it is.

use bytes::Bytes;
use twinfeed_dedup::{Fingerprint, FrameKind};

use super::feed::{Message, make_feed};
use super::plan::{Content, NODES, Plan};
use super::prng::Prng;

const SKEW_MS_MAX: f64 = 20.0;

pub(crate) struct Stream {
    pub(crate) feed: Vec<Message>,
    pub(crate) payloads: Vec<Bytes>,
    pub(crate) skews_us: [u64; NODES],
    /// When its first line was connected.
    pub(crate) covered_from_us: u64,
    /// A line of its owner or standby has read its last message. A gap that goes on beyond it cannot be told.
    pub(crate) is_read_to_end: bool,
}

impl Stream {
    pub(crate) fn draw_all(plan: &Plan, prng: &mut Prng) -> Vec<Self> {
        let mut streams: Vec<Self> = Vec::with_capacity(plan.streams);
        for number in 0..plan.streams {
            let same = streams.first().filter(|_| plan.content == Content::Same);
            let (feed, payloads) = match same {
                Some(first) => (first.feed.clone(), first.payloads.clone()),
                None => {
                    let tag = if plan.content == Content::Own { number as u8 } else { 0 };
                    with_payloads(make_feed(plan.feed, prng), tag)
                }
            };
            let skews_us = [0; NODES].map(|_| prng.between_ms(1.0, SKEW_MS_MAX));
            streams.push(Self { feed, payloads, skews_us, covered_from_us: u64::MAX, is_read_to_end: false });
        }
        streams
    }

    pub(crate) fn ends_us(&self) -> u64 {
        self.feed.last().map_or(0, |message| message.sent_us)
    }
}

/// The writer recognises a frame by its payload, so each message gets one, and the fingerprint that follows from it.
fn with_payloads(feed: Vec<Message>, tag: u8) -> (Vec<Message>, Vec<Bytes>) {
    let payload = |message: &Message| {
        let mut bytes = message.fingerprint.as_u128().to_be_bytes().to_vec();
        bytes.push(tag);
        Bytes::from(bytes)
    };
    let payloads: Vec<Bytes> = feed.iter().map(payload).collect();
    let named = |(message, payload): (Message, &Bytes)| Message {
        fingerprint: Fingerprint::of(FrameKind::Text, payload),
        ..message
    };
    (feed.into_iter().zip(&payloads).map(named).collect(), payloads)
}
