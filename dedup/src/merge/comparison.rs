//! The two lines compared: entries in, and out of it which line is behind, and what one line alone has.
//!
//! The merge calls it when an entry is forgotten and when a line is known to have caught up; the judgement itself is the watch's.
//! It decides what the standby and the operator are told of it, and nothing about what is written.

use super::Merge;
use crate::member::{Member, Side, Stage};
use crate::slots::Slot;
use crate::watch::{Behind, Change, Delivered, Seen, Watch};
use crate::window::Entry;
use crate::{Alone, MergeStatus, Notice, Shape};

/// How long a cut of the span is shown.
const SPAN_CUT_SHOWN_MS: u64 = 60_000;

impl<P> Merge<P> {
    /// Everything that this side's node had read from its connection by `through_ms` has been given to the merge. Only with this
    /// can a line be told from a process that was frozen, an inbox that is never empty, or a relay that is broken or slow.
    ///
    /// For the owner: the last moment of which nothing waits in its inbox any more. For the standby:
    /// the time at which the owner sent the question that the standby, all sent, has answered on the same ordered channel; the time
    /// of the answer would count what a slow channel still holds. Some five times a second; a longer time between
    /// two calls counts as 400 ms.
    pub fn caught_up(&mut self, side: Side, through_ms: u64) {
        self.advance(through_ms);
        self.watch.caught_up(side, through_ms);
        if let Some(joining) = self.joining_mut(side)
            && through_ms >= joining.since_ms
        {
            joining.lags = false;
        }
        self.look_if_due();
    }

    /// The latest messages that a line alone has delivered, oldest first, at most five: by record and fingerprint.
    pub fn alone(&self, side: Side) -> impl Iterator<Item = &Alone> {
        self.watch.samples(side)
    }

    /// The newest frames of a side that is joining, with their indices, oldest first: what to show beside the reference's.
    pub fn samples(&self, side: Side, frames_max: usize) -> impl Iterator<Item = (u64, &P)> {
        let newest = self.joining(side).into_iter().flat_map(move |joining| joining.newest(frames_max));
        newest.map(|frame| (frame.index, &frame.payload))
    }

    /// Returns the state at a glance.
    pub fn status(&self) -> MergeStatus {
        let live = |side: Side| self.members[side.index()].as_ref().filter(|member| member.live);
        let is_aligned = |side: Side| live(side).is_some_and(Member::is_live_and_aligned);
        let joining_since = |side: Side| live(side).and_then(Member::joining).map(|joining| joining.since_ms);
        let (own_aligned, standby_aligned) = (is_aligned(Side::Own), is_aligned(Side::Standby));
        let redundant = self.standing().is_some_and(|standing| standing.redundant);
        let [own_frames, standby_frames] =
            Side::BOTH.map(|side| self.frames_of(side).saturating_sub(self.met_at_frames[side.index()]));
        let (ready_records, in_flight_records) = (self.queue.ready_records(), self.queue.in_flight_records());
        let both_are_up = Side::BOTH.iter().all(|side| live(*side).is_some());
        let is_quiet = own_frames + standby_frames == 0 && ready_records + in_flight_records == 0;
        MergeStatus {
            own_aligned,
            standby_aligned,
            redundant,
            at_risk: !own_aligned || !redundant || self.lacks(Side::Own) || self.is_unmeasured(),
            own_behind_since_ms: self.watch.behind_since_ms(Side::Own),
            standby_behind_since_ms: self.watch.behind_since_ms(Side::Standby),
            own_alone: self.watch.alone(Side::Own, self.now_ms),
            standby_alone: self.watch.alone(Side::Standby, self.now_ms),
            own_joining_since_ms: joining_since(Side::Own),
            standby_joining_since_ms: joining_since(Side::Standby),
            own_frames,
            standby_frames,
            idle: both_are_up && is_quiet && !(own_aligned && standby_aligned),
            skew_ms: self.watch.skew_ms(),
            span_cut_to_ms: self.span_cut_to_ms(),
            entries: self.window.len(),
            joining_frames: self.members.iter().flatten().filter_map(Member::joining).map(|j| j.len()).sum(),
            unacked_frames: self.ledger.unacked_frames(),
            ready_records,
            in_flight_records,
        }
    }

    /// Frames that the side's present subscription has delivered.
    pub(super) fn frames_of(&self, side: Side) -> u64 {
        self.members[side.index()].as_ref().map_or(0, |member| member.next_index - 1)
    }

    /// The two lines, if both count.
    pub(super) fn lines(&self) -> Option<[Slot; 2]> {
        let slot_of = |side: Side| {
            let member = self.members[side.index()].as_ref().filter(|member| member.live)?;
            member.aligned().map(|aligned| aligned.slot)
        };
        Some([slot_of(Side::Own)?, slot_of(Side::Standby)?])
    }

    /// Compares the front entry, which is about to be forgotten, if that has not been done.
    pub(super) fn compare_front(&mut self) {
        let Some((ordinal, entry, _)) = self.window.front() else { return };
        if ordinal < self.watch.next() {
            return;
        }
        match self.lines() {
            Some(lines) => compare(&mut self.watch, ordinal, entry, lines),
            None => self.watch.pass(ordinal),
        }
    }

    /// Compares what is ripe, and applies the rules.
    pub(super) fn look_if_due(&mut self) {
        if !self.watch.is_due(self.now_ms) {
            return;
        }
        if let Some(lines) = self.lines()
            && let Some(ripe_ms) = self.watch.ripe_until_ms()
        {
            let mut ordinal = self.watch.next();
            while let Some(entry) = self.window.get(ordinal).filter(|entry| entry.created_at_ms <= ripe_ms) {
                compare(&mut self.watch, ordinal, entry, lines);
                ordinal += 1;
            }
        }
        let delivered = Side::BOTH.map(|side| {
            let member = self.members[side.index()].as_ref().filter(|member| member.live)?;
            Some(Delivered { is_aligned: member.aligned().is_some(), frames: member.next_index - 1 })
        });
        for change in self.watch.look(delivered, self.now_ms) {
            self.tell(change);
        }
        // A batch that is long under way is no reason for the standby to believe what is no more.
        if let Some(standing) = self.standing().filter(|standing| self.ledger.is_news(*standing)) {
            self.ledger.ack(standing, self.queue.committed(), None);
        }
    }

    /// A line counts from now on, or no more; `at_ms` is when it delivered first, or last.
    pub(super) fn count(&mut self, at_ms: u64) {
        let counts =
            Side::BOTH.map(|side| self.members[side.index()].as_ref().is_some_and(Member::is_live_and_aligned));
        if let Some(change) = self.watch.count(counts, at_ms) {
            self.tell(change);
        }
    }

    /// A line was seen to lack messages when its twin, or itself, found its place.
    pub(super) fn found_behind(&mut self, side: Side, behind: Behind) {
        for change in self.watch.found(side, behind, self.now_ms) {
            self.tell(change);
        }
    }

    fn tell(&mut self, change: Change) {
        let side = match change {
            Change::Behind(side, _) | Change::CaughtUp(side, _) | Change::Differs(side, _) => side,
            Change::Agrees { side, .. } | Change::Unproven(side, ..) => side,
        };
        let found = self.queue.assigned();
        let Some(member) = &mut self.members[side.index()] else { return };
        let subscription = member.id;
        let lasted_ms = |since_ms: u64| self.now_ms.saturating_sub(since_ms);
        let notice = match change {
            Change::Behind(_, behind) => {
                Notice::Behind { subscription, side, since_ms: behind.since_ms, lacks: behind.lacks }
            }
            Change::CaughtUp(_, behind) => {
                if let Stage::Aligned(aligned) = &mut member.stage {
                    // What it lacked may not be in the topic yet: redundant only after a commit, as after alignment.
                    aligned.redundant_from = found;
                }
                Notice::CaughtUp { subscription, side, lasted_ms: lasted_ms(behind.since_ms) }
            }
            Change::Unproven(_, from_ms, to_ms) => Notice::Unproven { subscription, side, from_ms, to_ms },
            Change::Differs(_, lacks) => {
                Notice::FeedsDiffer { subscription, unmatched: lacks.messages, messages: lacks.of }
            }
            Change::Agrees { since_ms, .. } => Notice::FeedsAgree { subscription, lasted_ms: lasted_ms(since_ms) },
        };
        self.notify(notice);
    }

    /// The front entry goes because the window is full, though the span is not over.
    pub(super) fn note_span_cut(&mut self) {
        let Some((_, entry, _)) = self.window.front() else { return };
        let held_ms = self.now_ms.saturating_sub(entry.created_at_ms);
        if held_ms < self.options.span_ms {
            self.span_cut = Some((self.now_ms, held_ms));
        }
    }

    fn span_cut_to_ms(&self) -> Option<u64> {
        let is_recent = |(at_ms, _): &(u64, u64)| self.now_ms.saturating_sub(*at_ms) < SPAN_CUT_SHOWN_MS;
        self.span_cut.filter(is_recent).map(|(_, held_ms)| held_ms)
    }
}

/// Shows an entry to the watch. One from neither of the two present subscriptions tells nothing of them.
#[inline]
fn compare(watch: &mut Watch, ordinal: u64, entry: &Entry, lines: [Slot; 2]) {
    let lacks = lines.map(|slot| !entry.seen.contains(slot));
    if lacks == [false; 2] && entry.shape == Shape::UNKNOWN {
        watch.agree(ordinal, entry.created_at_ms);
    } else if lacks == [true; 2] {
        watch.pass(ordinal);
    } else {
        let message = Alone { record: entry.record, fingerprint: entry.fingerprint, at_ms: entry.created_at_ms };
        watch.compare(ordinal, &Seen { message, shape: entry.shape, lacks });
    }
}
