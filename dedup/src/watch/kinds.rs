//! Kinds of messages, told apart by their shape: for each, the run of messages that a line lacks in a row.
//!
//! A kind that both lines have delivered messages of is *shared*; one that they have not is what each connection says for itself and
//! proves nothing. The whole stream is a kind, too, of all messages that prove something or whose shape is not known.

use super::Behind;
use crate::{Shape, Side};

/// Kinds that are remembered; the one that has not come for longest goes.
const KINDS_MAX: usize = 128;
/// A run of so many that lasts so long is no loss of single messages.
const RUN_MESSAGES_MIN: u32 = 3;
const RUN_LASTS_MS_MIN: u64 = 500;
/// A kind is shared once both lines have delivered so many messages of it: answers to a subscription come once.
const SHARED_MIN: u32 = 4;
/// A lack of one message is enough if nothing else has come for twice the feed's longest pause of late, within reason.
const PAUSE_BUCKET_MS: u64 = 30_000;
const PAUSE_MS_MAX: u64 = 10_000;
/// The last kinds of shared messages that decide whether a new kind is worth a remark.
const NOVELTY_SAMPLES: u32 = 64;

#[derive(Debug, Clone, Copy, Default)]
struct Kind {
    shape: Shape,
    /// Messages that both lines have delivered, and pairs of messages that each has delivered for itself.
    shared: u32,
    apart: u32,
    /// By side: what it lacks in a row, and since when.
    run: [u32; 2],
    lacks_from_ms: [u64; 2],
    last_ms: u64,
}

impl Kind {
    fn is_shared(&self) -> bool {
        self.shared >= SHARED_MIN && self.shared > self.apart.saturating_mul(2)
    }

    /// The line lacks more in a row than the other does: what each says for itself is no lack.
    fn excess(&self, side: Side) -> u32 {
        self.run[side.index()].saturating_sub(self.run[side.other().index()])
    }

    fn agree(&mut self, messages: u32) {
        self.run = [0; 2];
        self.shared = self.shared.saturating_add(messages);
        if self.shared >= 1_024 {
            (self.shared, self.apart) = (self.shared / 2, self.apart / 2);
        }
    }

    fn lack(&mut self, lacks: [bool; 2], at_ms: u64) {
        let before = self.run[0].min(self.run[1]);
        for side in [0, 1].into_iter().filter(|side| lacks[*side]) {
            if self.run[side] == 0 {
                self.lacks_from_ms[side] = at_ms;
            }
            self.run[side] = self.run[side].saturating_add(1);
        }
        self.apart = self.apart.saturating_add(self.run[0].min(self.run[1]) - before);
    }
}

/// The longest pauses between two messages that count, of this half of a minute and of the one before.
#[derive(Debug, Clone, Copy, Default)]
struct Pauses {
    began_at_ms: u64,
    this_ms: u64,
    last_ms: u64,
    message_ms: u64,
}

impl Pauses {
    fn message(&mut self, at_ms: u64) {
        if self.message_ms > 0 {
            self.this_ms = self.this_ms.max(at_ms.saturating_sub(self.message_ms));
        }
        self.message_ms = at_ms;
        if at_ms >= self.began_at_ms.saturating_add(PAUSE_BUCKET_MS) {
            (self.last_ms, self.this_ms, self.began_at_ms) = (self.this_ms, 0, at_ms);
        }
    }

    fn usual_ms(&self) -> u64 {
        self.last_ms.max(self.this_ms).saturating_mul(2).min(PAUSE_MS_MAX)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Kinds {
    /// All messages that count.
    whole: Kind,
    pauses: Pauses,
    kinds: Vec<Kind>,
    /// Shared messages of late, of `NOVELTY_SAMPLES`, whose kind was new.
    novel: u32,
    samples: u32,
    novelty_is_usual: bool,
}

impl Kinds {
    /// What the lines share is remembered, what a line lacks is not.
    pub(crate) fn forget_runs(&mut self) {
        self.whole = Kind::default();
        self.pauses = Pauses::default();
        self.kinds.iter_mut().for_each(|kind| kind.run = [0; 2]);
    }

    /// Takes in a message; returns whether a line that lacks it lacks anything, as far as its kind says.
    pub(crate) fn compare(&mut self, shape: Shape, lacks: [bool; 2], at_ms: u64) -> bool {
        let is_shared_now = lacks == [false; 2];
        if shape == Shape::UNKNOWN {
            self.pauses.message(at_ms);
            if is_shared_now {
                self.whole.agree(1);
            } else {
                self.whole.lack(lacks, at_ms);
            }
            return true;
        }
        let (position, is_new) = self.place(shape);
        let kind = &mut self.kinds[position];
        kind.last_ms = at_ms;
        if is_shared_now {
            kind.agree(1);
            self.pauses.message(at_ms);
            self.whole.agree(1);
            self.count_novelty(is_new);
            return true;
        }
        // Where hardly a kind comes twice, a new one may well be lacking.
        let counts = kind.is_shared() || (is_new && self.novelty_is_usual);
        kind.lack(lacks, at_ms);
        if counts {
            self.pauses.message(at_ms);
            self.whole.lack(lacks, at_ms);
        }
        counts
    }

    /// Takes in messages of no known shape that both lines have delivered, all within a second.
    pub(crate) fn agree(&mut self, messages: u32, first_ms: u64, last_ms: u64) {
        self.pauses.message(first_ms);
        self.pauses.message(last_ms);
        self.whole.agree(messages);
    }

    fn count_novelty(&mut self, is_new: bool) {
        self.samples += 1;
        self.novel += u32::from(is_new);
        if self.samples >= NOVELTY_SAMPLES {
            self.novelty_is_usual = self.novel * 4 >= self.samples;
            (self.samples, self.novel) = (0, 0);
        }
    }

    fn place(&mut self, shape: Shape) -> (usize, bool) {
        if let Some(known) = self.kinds.iter().position(|kind| kind.shape == shape) {
            return (known, false);
        }
        let kind = Kind { shape, ..Kind::default() };
        if self.kinds.len() < KINDS_MAX {
            self.kinds.push(kind);
            return (self.kinds.len() - 1, true);
        }
        let oldest = (0..KINDS_MAX).min_by_key(|position| self.kinds[*position].last_ms).unwrap_or(0);
        self.kinds[oldest] = kind;
        (oldest, true)
    }

    /// A message that was lacking has come after all; returns whether it had counted, as far as is known.
    pub(crate) fn matched_late(&mut self, shape: Shape, side: Side) -> bool {
        self.whole.run[side.index()] = 0;
        let Some(kind) = self.kinds.iter_mut().find(|kind| kind.shape == shape) else { return true };
        let counted = kind.is_shared() || self.novelty_is_usual;
        kind.run[side.index()] = 0;
        kind.shared += 1;
        counted
    }

    /// The run that shows that the line is silent, in one kind or altogether. Of a line that delivers nothing that the lines
    /// share, one message of a shared kind is enough.
    pub(crate) fn longest_run(&self, side: Side, ripe_ms: u64) -> Option<Behind> {
        let lasts_ms = |kind: &Kind| ripe_ms.saturating_sub(kind.lacks_from_ms[side.index()]);
        let is_long = |kind: &&Kind| kind.excess(side) >= RUN_MESSAGES_MIN && lasts_ms(kind) >= RUN_LASTS_MS_MIN;
        let is_mute =
            self.whole.excess(side) > 0 && lasts_ms(&self.whole) >= self.pauses.usual_ms().max(RUN_LASTS_MS_MIN);
        let shared = || self.kinds.iter().filter(|kind| kind.is_shared() && kind.excess(side) > 0);
        let in_kinds = shared().filter(|kind| is_mute || is_long(kind));
        let longest = in_kinds.chain(Some(&self.whole).filter(is_long)).map(|kind| kind.excess(side)).max()?;
        let first_ms = shared().chain(Some(&self.whole).filter(|whole| whole.excess(side) > 0));
        let since_ms = first_ms.map(|kind| kind.lacks_from_ms[side.index()]).min()?;
        Some(Behind { since_ms, lacks: u64::from(longest) })
    }

    /// In each kind that the lines share, the line has delivered the latest message, or no fewer than the other.
    pub(crate) fn has_no_run(&self, side: Side) -> bool {
        self.whole.excess(side) == 0 && self.kinds.iter().all(|kind| !kind.is_shared() || kind.excess(side) == 0)
    }
}
