//! The last minute: how many of its messages one line alone has. What a fault would cost, and whether the feeds differ.
//!
//! Everything counts here, also what a connection says for itself: a takeover would not have it.

use crate::{Share, Side};

const BUCKETS: usize = 12;
const BUCKET_MS: u64 = 5_000;
/// A difference is reported from this share on, in messages of a thousand, and gone below the other.
const DIFFERS_PER_MILLE: u64 = 5;
const AGREES_PER_MILLE: u64 = 1;
/// Fewer messages are no difference between feeds.
const DIFFERS_MESSAGES_MIN: u64 = 5;

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    number: u64,
    messages: u64,
    lacks: [u64; 2],
}

#[derive(Debug, Default)]
pub(crate) struct Shares {
    buckets: [Bucket; BUCKETS],
}

impl Shares {
    fn bucket(&mut self, at_ms: u64) -> &mut Bucket {
        let number = at_ms / BUCKET_MS;
        let bucket = &mut self.buckets[number as usize % BUCKETS];
        if bucket.number != number {
            *bucket = Bucket { number, ..Bucket::default() };
        }
        bucket
    }

    /// Takes in messages of one second that no line lacks.
    pub(crate) fn agree(&mut self, messages: u64, at_ms: u64) {
        self.bucket(at_ms).messages += messages;
    }

    pub(crate) fn compare(&mut self, lacks: [bool; 2], at_ms: u64) {
        let bucket = self.bucket(at_ms);
        bucket.messages += 1;
        for side in [0, 1] {
            bucket.lacks[side] += u64::from(lacks[side]);
        }
    }

    pub(crate) fn matched_late(&mut self, side: Side, created_at_ms: u64) {
        let number = created_at_ms / BUCKET_MS;
        let bucket = &mut self.buckets[number as usize % BUCKETS];
        if bucket.number == number {
            let lacks = &mut bucket.lacks[side.index()];
            *lacks = lacks.saturating_sub(1);
        }
    }

    /// What the side lacks of the last minute's messages.
    pub(crate) fn lacks(&self, side: Side, now_ms: u64) -> Share {
        let oldest = (now_ms / BUCKET_MS).saturating_sub(BUCKETS as u64 - 1);
        let mut share = Share::default();
        for bucket in self.buckets.iter().filter(|bucket| bucket.number >= oldest) {
            share.messages += bucket.lacks[side.index()];
            share.of += bucket.messages;
        }
        share
    }
}

pub(crate) fn is_difference(lacks: Share) -> bool {
    lacks.messages >= DIFFERS_MESSAGES_MIN && lacks.messages * 1_000 >= lacks.of * DIFFERS_PER_MILLE
}

pub(crate) fn is_agreement(lacks: Share) -> bool {
    lacks.messages * 1_000 <= lacks.of * AGREES_PER_MILLE
}
