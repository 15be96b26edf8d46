//! The watch over the two lines: which of them lacks what the other has delivered, since when, and how much of it.
//!
//! The merge shows it each entry once, in order, as soon as the entry is older than the lines' usual skew (`clock`, `skew`), and
//! every late copy. It never looks at payloads and decides nothing about what is written. Its three answers: a line is *behind*
//! (it lacks a run of messages, or a good part of them: `kinds`, `recent`), how much of the last minute one line alone has
//! (`shares`), and a few of these messages for showing. What a connection says for itself is told apart by its kind, or cancels
//! out: both lines have as much of it.

mod clock;
mod kinds;
mod recent;
mod sampler;
mod shares;
mod skew;
mod solo;
mod starving;

use std::collections::VecDeque;

use self::clock::Clock;
use self::kinds::Kinds;
use self::recent::Recent;
pub(crate) use self::sampler::Sampler;
use self::shares::Shares;
use self::skew::Skew;
use self::solo::Solo;
pub(crate) use self::starving::Delivered;
use self::starving::Starving;
use crate::{Alone, Shape, Share, Side};

/// Messages of one line alone that are kept for showing.
const SAMPLES_MAX: usize = 5;
/// How often the rules are applied; what they speak of lasts far longer.
const LOOK_EVERY_MS: u64 = 50;
/// A line without a place may be late by the span, and this much.
const PATIENCE_MARGIN_MS: u64 = 1_000;
/// What has not come by then was not only waiting to be read.
const READ_MS_MIN: u64 = 1_000;
/// A copy tells nothing of the skew if its node has not said for so long that it had shown all it had.
const UNHEARD_MS_MAX: u64 = 500;

/// One entry of the window, as far as the watch cares.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) message: Alone,
    pub(crate) shape: Shape,
    /// By [`Side::index`]: this side's subscription has not delivered it.
    pub(crate) lacks: [bool; 2],
}

/// A copy that came after its entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Match {
    pub(crate) side: Side,
    pub(crate) ordinal: u64,
    pub(crate) created_at_ms: u64,
    pub(crate) at_ms: u64,
    pub(crate) shape: Shape,
}

/// A line that lacks messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Behind {
    pub(crate) since_ms: u64,
    pub(crate) lacks: u64,
}

/// What has changed since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Behind(Side, Behind),
    CaughtUp(Side, Behind),
    /// The side, which lacks messages, was the only one between these times: nobody delivered what it lacked.
    Unproven(Side, u64, u64),
    /// The side lacks this share of the other's messages.
    Differs(Side, Share),
    Agrees {
        side: Side,
        since_ms: u64,
    },
}

/// Entries of one second, in a row, that both lines have delivered and of whose shape nothing is known: most of a quick
/// feed, so they are counted here and taken in at once.
#[derive(Debug, Default)]
struct Agreed {
    entries: u32,
    first_ms: u64,
    last_ms: u64,
    second_ends_ms: u64,
}

#[derive(Debug)]
pub(crate) struct Watch {
    clocks: [Clock; 2],
    skew: Skew,
    kinds: Kinds,
    recent: Recent,
    shares: Shares,
    starving: [Starving; 2],
    samples: [VecDeque<Alone>; 2],
    agreed: Agreed,
    behind: [Option<Behind>; 2],
    /// Messages older than this are no proof that the side has caught up.
    judged_from_ms: [u64; 2],
    /// The side lacked some of the older entries: what is taken for its copy of one may be a repeat.
    measured_from_ms: [u64; 2],
    solo: [Solo; 2],
    differs_since_ms: [Option<u64>; 2],
    /// The entries from `from` on are compared; those below `next` have been.
    from: u64,
    next: u64,
    looked_at_ms: u64,
}

impl Watch {
    pub(crate) fn new(span_ms: u64) -> Self {
        Self {
            clocks: Default::default(),
            skew: Skew::new(span_ms),
            kinds: Kinds::default(),
            recent: Recent::default(),
            shares: Shares::default(),
            starving: Default::default(),
            samples: Default::default(),
            agreed: Agreed::default(),
            behind: [None; 2],
            judged_from_ms: [0; 2],
            measured_from_ms: [0; 2],
            solo: Default::default(),
            differs_since_ms: [None; 2],
            from: 0,
            next: 0,
            looked_at_ms: 0,
        }
    }

    /// A subscription has found its place: the comparison starts afresh with the entry `from`.
    pub(crate) fn start(&mut self, side: Side, from: u64, now_ms: u64) {
        self.behind[side.index()] = None;
        self.starving[side.index()] = Starving::default();
        self.measured_from_ms[side.index()] = now_ms;
        self.kinds.forget_runs();
        self.recent = Recent::default();
        for clock in &mut self.clocks {
            clock.restart(now_ms);
        }
        (self.from, self.next) = (from, from);
    }

    /// A side that had been silent speaks again.
    pub(crate) fn speaks(&mut self, side: Side, now_ms: u64) {
        self.measured_from_ms[side.index()] = now_ms;
    }

    /// The newcomer's frames from before its place was found have this much to say about the skew.
    pub(crate) fn usual_skew(&mut self, skew_ms: Option<u64>, now_ms: u64) {
        self.skew = Skew::of(self.skew.span_ms(), skew_ms, now_ms);
    }

    /// The side's connection ended or is another one: what it lacked is of the past.
    pub(crate) fn forget(&mut self, side: Side) {
        self.behind[side.index()] = None;
        self.starving = Default::default();
    }

    /// The side has lost its place: whether it is behind is judged by numbers now.
    pub(crate) fn lost(&mut self, side: Side) {
        self.starving[side.index()] = Starving::default();
    }

    /// Which lines count now, live and with a place. At this moment the one that counts no more had delivered last, or the one that
    /// counts again first.
    pub(crate) fn count(&mut self, counts: [bool; 2], at_ms: u64) -> Option<Change> {
        let mut found = None;
        for side in Side::BOTH {
            let solo = &mut self.solo[side.index()];
            match (counts[side.index()], counts[side.other().index()]) {
                (true, false) => solo.begin(at_ms),
                (true, true) => {
                    solo.end(at_ms);
                    if self.behind[side.index()].is_some() {
                        // Known to lack messages before, and all the time.
                        let unproven = solo.lacks(at_ms, 0);
                        found = found.or(unproven.map(|(from, to)| Change::Unproven(side, from, to)));
                    }
                }
                (false, _) => *solo = Solo::default(),
            }
        }
        found
    }

    /// If the side is all there is, it has been so since then at the latest.
    pub(crate) fn alone_since(&mut self, side: Side, at_ms: u64) {
        self.solo[side.index()].back_to(at_ms);
    }

    /// Since when the side is all there is though it is known to lack messages.
    pub(crate) fn lacking_alone_since_ms(&self, side: Side) -> Option<u64> {
        self.solo[side.index()].since_ms().filter(|_| self.is_behind(side))
    }

    /// Everything that the side had read by `through_ms` has been shown.
    pub(crate) fn caught_up(&mut self, side: Side, through_ms: u64) {
        self.clocks[side.index()].caught_up(through_ms);
    }

    /// Nothing has told yet how far apart the lines are: a line could be silent for the whole span unnoticed.
    pub(crate) fn is_unmeasured(&self) -> bool {
        self.skew.is_guess()
    }

    /// Both lines have been read for long enough since a moment to say that one that has brought nothing is silent.
    pub(crate) fn has_read_since(&self, moment_ms: u64) -> bool {
        self.clocks.iter().all(|clock| clock.counted_since(moment_ms) >= READ_MS_MIN)
    }

    /// The same to say that what one lacks of then it will not bring any more, as far as the usual skew goes; while nothing is known
    /// of that, the one that was seen.
    pub(crate) fn has_matched_since(&self, moment_ms: u64, seen_skew_ms: u64) -> bool {
        let late_ms = if self.skew.is_guess() {
            Skew::of(self.skew.span_ms(), Some(seen_skew_ms), moment_ms).late_ms()
        } else {
            self.skew.late_ms()
        };
        self.has_read_since(moment_ms.saturating_add(late_ms))
    }

    /// Whether the next look is due.
    pub(crate) fn is_due(&self, now_ms: u64) -> bool {
        now_ms >= self.looked_at_ms.saturating_add(LOOK_EVERY_MS)
    }

    /// The first entry that has not been compared.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Entries made until then are older than the usual skew on both lines; `None` if there are none.
    pub(crate) fn ripe_until_ms(&self) -> Option<u64> {
        let late_ms = self.skew.late_ms();
        let [own, standby] = &self.clocks;
        Some(own.counted_back(late_ms)?.min(standby.counted_back(late_ms)?))
    }

    /// Compares an entry, the next in order, that both lines have delivered and whose shape is not known.
    #[inline]
    pub(crate) fn agree(&mut self, ordinal: u64, at_ms: u64) {
        self.next = ordinal + 1;
        if at_ms >= self.agreed.second_ends_ms {
            self.take_in_agreed();
            self.agreed.first_ms = at_ms;
            self.agreed.second_ends_ms = recent::second_end_ms(at_ms);
        }
        self.agreed.entries += 1;
        self.agreed.last_ms = at_ms;
    }

    fn take_in_agreed(&mut self) {
        let Agreed { entries, first_ms, last_ms, .. } = std::mem::take(&mut self.agreed);
        if entries > 0 {
            self.kinds.agree(entries, first_ms, last_ms);
            self.recent.agree(u64::from(entries), first_ms);
            self.shares.agree(u64::from(entries), first_ms);
        }
    }

    /// Compares an entry, the next in order.
    pub(crate) fn compare(&mut self, ordinal: u64, seen: &Seen) {
        self.take_in_agreed();
        self.next = ordinal + 1;
        let at_ms = seen.message.at_ms;
        let counts = self.kinds.compare(seen.shape, seen.lacks, at_ms);
        self.recent.compare(seen.lacks.map(|lacks| lacks && counts), at_ms);
        self.shares.compare(seen.lacks, at_ms);
        for side in Side::BOTH.into_iter().filter(|side| seen.lacks[side.index()]) {
            let samples = &mut self.samples[side.other().index()];
            if samples.len() >= SAMPLES_MAX {
                samples.pop_front();
            }
            samples.push_back(seen.message);
        }
    }

    /// An entry that no live line has delivered, or that is not to be compared.
    pub(crate) fn pass(&mut self, ordinal: u64) {
        self.next = self.next.max(ordinal + 1);
    }

    /// A line has delivered its copy of an entry.
    #[inline]
    pub(crate) fn matched(&mut self, found: Match) {
        let skew_ms = found.at_ms.abs_diff(found.created_at_ms);
        if skew_ms <= self.skew.usual_ms() || self.clocks[found.side.index()].is_good(found.created_at_ms, found.at_ms)
        {
            let was_guess = self.skew.is_guess();
            if self.was_whole(found) {
                self.skew.sample(skew_ms, found.at_ms);
            } else {
                self.skew.sample_of_lacking(skew_ms, found.at_ms);
            }
            if was_guess && !self.skew.is_guess() {
                self.measured(found.ordinal + 1);
            }
        }
        if found.ordinal < self.next && found.ordinal >= self.from {
            self.matched_late(found);
        }
    }

    /// The side lacked nothing when the entry was made: this is its copy, and no later repeat.
    #[inline]
    fn was_whole(&self, found: Match) -> bool {
        self.behind[found.side.index()].is_none() && found.created_at_ms >= self.measured_from_ms[found.side.index()]
    }

    /// Both lines speak, and how far apart they are is known. What one of them lacks from before was told when the other was
    /// accepted without it, and is no reason to end a line that delivers now.
    #[cold]
    fn measured(&mut self, from: u64) {
        self.take_in_agreed();
        self.kinds.forget_runs();
        self.recent = Recent::default();
        (self.from, self.next) = (from.max(self.from), from.max(self.next));
    }

    #[cold]
    fn matched_late(&mut self, found: Match) {
        let Match { side, created_at_ms, shape, .. } = found;
        let counted = self.kinds.matched_late(shape, side);
        if counted {
            self.recent.matched_late(side, created_at_ms);
        }
        self.shares.matched_late(side, created_at_ms);
    }

    /// Applies the rules. `delivered` holds what each line has delivered by now; `None` for one that is down.
    pub(crate) fn look(&mut self, delivered: [Option<Delivered>; 2], now_ms: u64) -> Vec<Change> {
        self.looked_at_ms = now_ms;
        self.take_in_agreed();
        let mut changes = Vec::new();
        let [Some(own), Some(standby)] = delivered else { return changes };
        let both = [own, standby];
        for side in Side::BOTH {
            let (mine, other) = (both[side.index()], both[side.other().index()]);
            let found = if own.is_aligned && standby.is_aligned {
                self.compare_lines(side)
            } else if mine.is_aligned {
                continue;
            } else {
                let clock = &self.clocks[side.index()];
                let patience_ms = self.skew.span_ms() + PATIENCE_MARGIN_MS;
                self.starving[side.index()].look((mine, other), clock, patience_ms, now_ms)
            };
            let was = self.behind[side.index()];
            match (was, found) {
                (None, Verdict::Lacks(behind)) => {
                    self.behind[side.index()] = Some(behind);
                    changes.extend(self.said_behind(side, behind, now_ms));
                }
                (Some(behind), Verdict::KeepsUp) if self.has_judged(side) => {
                    self.behind[side.index()] = None;
                    self.measured_from_ms[side.index()] = now_ms;
                    changes.push(Change::CaughtUp(side, behind));
                }
                (None, Verdict::KeepsUp) if mine.is_aligned && other.is_aligned => {
                    if let Some(ripe_ms) = self.ripe_until_ms() {
                        self.solo[side.index()].proven(ripe_ms);
                    }
                }
                _ => {}
            }
        }
        self.look_at_shares(now_ms, &mut changes);
        changes
    }

    fn has_judged(&self, side: Side) -> bool {
        self.ripe_until_ms().is_some_and(|ripe_ms| ripe_ms >= self.judged_from_ms[side.index()])
    }

    /// The side lacks messages, as was seen before anything could be compared one by one: it is judged by what comes from now on.
    pub(crate) fn found(&mut self, side: Side, behind: Behind, now_ms: u64) -> Vec<Change> {
        self.judged_from_ms[side.index()] = now_ms + READ_MS_MIN;
        if self.behind[side.index()].replace(behind).is_some() {
            return Vec::new();
        }
        self.said_behind(side, behind, now_ms)
    }

    fn said_behind(&mut self, side: Side, behind: Behind, now_ms: u64) -> Vec<Change> {
        let every_ms = now_ms.saturating_sub(behind.since_ms) / behind.lacks.max(1);
        let unproven = self.solo[side.index()].lacks(behind.since_ms, every_ms);
        let unproven = unproven.map(|(from_ms, to_ms)| Change::Unproven(side, from_ms, to_ms));
        [Change::Behind(side, behind)].into_iter().chain(unproven).collect()
    }

    fn compare_lines(&self, side: Side) -> Verdict {
        let Some(ripe_ms) = self.ripe_until_ms() else { return Verdict::Unclear };
        // First, as what it lacked some seconds ago is of the past by then.
        if self.kinds.has_no_run(side) && self.recent.is_clean(side, ripe_ms) {
            return Verdict::KeepsUp;
        }
        match (self.kinds.longest_run(side, ripe_ms), self.recent.part(side, ripe_ms)) {
            (None, None) => Verdict::Unclear,
            (Some(behind), None) | (None, Some(behind)) => Verdict::Lacks(behind),
            (Some(one), Some(other)) => {
                Verdict::Lacks(Behind { since_ms: one.since_ms.min(other.since_ms), lacks: one.lacks.max(other.lacks) })
            }
        }
    }

    fn look_at_shares(&mut self, now_ms: u64, changes: &mut Vec<Change>) {
        for side in Side::BOTH {
            let lacks = self.shares.lacks(side, now_ms);
            match self.differs_since_ms[side.index()] {
                None if shares::is_difference(lacks) => {
                    self.differs_since_ms[side.index()] = Some(now_ms);
                    changes.push(Change::Differs(side, lacks));
                }
                Some(since_ms) if shares::is_agreement(lacks) => {
                    self.differs_since_ms[side.index()] = None;
                    changes.push(Change::Agrees { side, since_ms });
                }
                _ => {}
            }
        }
    }

    pub(crate) fn is_behind(&self, side: Side) -> bool {
        self.behind[side.index()].is_some()
    }

    pub(crate) fn behind_since_ms(&self, side: Side) -> Option<u64> {
        self.behind[side.index()].map(|behind| behind.since_ms)
    }

    /// What `side` alone has delivered of the last minute's messages.
    pub(crate) fn alone(&self, side: Side, now_ms: u64) -> Share {
        self.shares.lacks(side.other(), now_ms)
    }

    /// The latest messages that `side` alone has delivered.
    pub(crate) fn samples(&self, side: Side) -> impl Iterator<Item = &Alone> {
        self.samples[side.index()].iter()
    }

    pub(crate) fn skew_ms(&self) -> u64 {
        self.skew.usual_ms()
    }
}

/// What one look at one line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Lacks(Behind),
    KeepsUp,
    /// Not enough to change an opinion.
    Unclear,
}
