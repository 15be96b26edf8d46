//! How a newcomer becomes a member that counts: by alignment with a reference, or by fiat when nothing is left to align with.
//!
//! Called whenever a frame arrives, a connection changes or a batch is cut. It marks entries, resolves the newcomer's frames from
//! before the cut, and replays the rest through the window; it writes nothing itself.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;

use smallvec::SmallVec;

use super::Merge;
use crate::alignment::{Cut, LackingCut, find_cut, find_cut_of_lacking};
use crate::bug::Bug;
use crate::fingerprint::Folding;
use crate::joining::Joining;
use crate::member::{Aligned, Member, Side, Stage};
use crate::ring::Ring;
use crate::slots::{Slot, SlotSet};
use crate::watch::Behind;
use crate::window::Entry;
use crate::{Fingerprint, Frame, Notice, RecordId, Resolved, Shape, snapshot};

/// The newcomer's latest frames that say by how much the lines are apart: earlier ones may have come with a backlog.
const SKEWS_MAX: usize = 16;

/// Ordinals of equal entries; mostly there is one.
type Twins = SmallVec<[u64; 2]>;

/// What a newcomer is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The other side's subscription, live or not.
    Other,
    /// The last subscription that was superseded.
    Ended,
}

/// What there is to compare a newcomer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outlook {
    /// The other subscription delivers: waiting for it makes sense.
    Delivers,
    /// Only what subscriptions delivered in the past.
    Past,
    /// Nothing at all.
    Nothing,
}

impl Outlook {
    fn sources(self) -> &'static [Source] {
        match self {
            Self::Delivers => &[Source::Other],
            Self::Past => &[Source::Other, Source::Ended],
            Self::Nothing => &[],
        }
    }
}

/// A newcomer taken out of its place, on its way to being aligned.
struct Newcomer<P> {
    side: Side,
    member: Member<P>,
    joining: Joining<P>,
}

/// The end of the reference's frames that a newcomer is compared with, and how many come before it.
fn compared<P>(joining: &Joining<P>, reference: &Aligned) -> (usize, Vec<Fingerprint>) {
    let skipped = reference.ring.len().saturating_sub(joining.compared_frames());
    (skipped, reference.ring.since(skipped).map(|past| past.fingerprint).collect())
}

/// What the reference has from around the cut.
struct Overlap {
    slot: Slot,
    /// Entries of its frames after the cut, and of those that may only be late on the newcomer: open for it.
    open: HashSet<u64, Folding>,
    /// Entries of its frames before the cut, by fingerprint: what the newcomer's frames before the cut are copies of.
    pool: HashMap<Fingerprint, Twins, Folding>,
    /// The newcomer starts before all that the reference ever got.
    starts_earlier: bool,
    /// When the oldest open entry was made.
    open_from_ms: u64,
    /// One of the two leaves messages out, so nobody can say that the reference was whole. What the newcomer alone has between
    /// the first message in common and the cut.
    missing: Option<HashSet<Fingerprint, Folding>>,
    /// How many messages the newcomer leaves out, and the reference.
    leaves_out: [usize; 2],
}

impl<P> Merge<P> {
    /// Aligns whoever can be aligned by now.
    pub(super) fn settle(&mut self) {
        for side in Side::BOTH {
            self.settle_side(side);
        }
    }

    fn settle_side(&mut self, side: Side) {
        if self.joining(side).is_none_or(|joining| joining.len() == 0) {
            return;
        }
        if self.options.has(Bug::NoAlignment) {
            self.accept_by_fiat(side);
            return;
        }
        let outlook = self.outlook(side);
        let now_ms = self.now_ms;
        let Some(joining) = self.joining_mut(side) else { return };
        let alone_since_ms = if outlook == Outlook::Delivers { None } else { joining.alone_since_ms.or(Some(now_ms)) };
        joining.alone_since_ms = alone_since_ms;
        if joining.is_attempt_due(now_ms) {
            joining.plan_attempt(now_ms);
            if self.try_align(side, outlook, |joining, overlap| joining.is_long_enough(&overlap)) {
                return;
            }
        }
        let lags = self.joining(side).is_some_and(|joining| joining.lags);
        let wait_ms = match outlook {
            // What it delivers first has been delivered before: the end of it is worth waiting for.
            Outlook::Past if lags => self.options.span_ms,
            Outlook::Past => self.options.fiat_wait_ms,
            Outlook::Delivers | Outlook::Nothing => 0,
        };
        if alone_since_ms.is_some_and(|since_ms| since_ms.saturating_add(wait_ms) <= now_ms) {
            self.accept(side, outlook);
        }
    }

    /// Keeps the frames of a newcomer that is about to go, if nothing else delivers them.
    pub(super) fn rescue(&mut self, side: Side) {
        let outlook = self.outlook(side);
        if outlook != Outlook::Delivers && self.joining(side).is_some_and(|joining| joining.len() > 0) {
            self.accept(side, outlook);
        }
    }

    /// Nothing that delivers is left: a last look at what there was, then fiat.
    fn accept(&mut self, side: Side, outlook: Outlook) {
        if !self.try_align(side, outlook, |_, overlap| Joining::<P>::is_last_resort(&overlap)) {
            self.accept_by_fiat(side);
        }
    }

    /// Whether something live delivers what a newcomer delivers, or is expected to.
    pub(super) fn has_reference(&self, side: Side) -> bool {
        self.outlook(side) == Outlook::Delivers
    }

    /// Accepts a newcomer whose buffer is full while nothing else delivers.
    pub(super) fn accept_now(&mut self, side: Side) {
        let outlook = self.outlook(side);
        self.accept(side, outlook);
    }

    pub(super) fn joining(&self, side: Side) -> Option<&Joining<P>> {
        self.members[side.index()].as_ref().and_then(Member::joining)
    }

    pub(super) fn joining_mut(&mut self, side: Side) -> Option<&mut Joining<P>> {
        match &mut self.members[side.index()].as_mut()?.stage {
            Stage::Joining(joining) => Some(joining),
            Stage::Aligned(_) => None,
        }
    }

    fn outlook(&self, side: Side) -> Outlook {
        let other = self.members[side.other().index()].as_ref().filter(|other| other.aligned().is_some());
        let unanswered_ms =
            |other: &Member<P>| self.joining(side).and_then(|joining| joining.lasts_ms_since(other.last_frame_ms));
        let is_silent =
            |other| unanswered_ms(other).is_some_and(|lasts_ms| lasts_ms >= self.options.reference_silence_ms_max);
        match (other, &self.ended) {
            (Some(other), _) if other.live && !is_silent(other) => Outlook::Delivers,
            (None, None) => Outlook::Nothing,
            _ => Outlook::Past,
        }
    }

    fn aligned_at(&self, side: Side, source: Source) -> Option<&Aligned> {
        match source {
            Source::Other => self.members[side.other().index()].as_ref().and_then(Member::aligned),
            Source::Ended => self.ended.as_ref().map(|ended| &ended.aligned),
        }
    }

    /// Looks for a cut and, if there is one, makes the newcomer a member that counts.
    fn try_align(
        &mut self,
        side: Side,
        outlook: Outlook,
        is_enough: impl Fn(&Joining<P>, Range<usize>) -> bool,
    ) -> bool {
        let found = outlook.sources().iter().find_map(|source| self.find_overlap(side, *source, &is_enough));
        // What a subscription that has ended leaves out is of the past.
        let found = match outlook {
            Outlook::Delivers => found.or_else(|| self.find_overlap_of_lacking(side, &is_enough)),
            Outlook::Past | Outlook::Nothing => found,
        };
        let Some((cut, overlap)) = found else { return false };
        let Some(newcomer) = self.take_newcomer(side) else { return false };
        self.align(newcomer, cut, overlap);
        true
    }

    fn find_overlap(
        &self,
        side: Side,
        source: Source,
        is_enough: impl Fn(&Joining<P>, Range<usize>) -> bool,
    ) -> Option<(Cut, Overlap)> {
        let (joining, aligned) = (self.joining(side)?, self.aligned_at(side, source)?);
        let (skipped, ring) = compared(joining, aligned);
        let cut = find_cut(&joining.fingerprints(), &ring, |overlap| is_enough(joining, overlap))?;
        let cut = Cut { ring: skipped + cut.ring, ..cut };
        Some((cut, self.overlap(aligned, cut, cut)?))
    }

    /// The same where one of the two leaves messages out. In a backlog, or behind a process that was frozen, what one line lacks may
    /// only not have been read yet: it has to go on for a while.
    fn find_overlap_of_lacking(
        &mut self,
        side: Side,
        is_enough: impl Fn(&Joining<P>, Range<usize>) -> bool,
    ) -> Option<(Cut, Overlap)> {
        let (joining, aligned) = (self.joining(side)?, self.aligned_at(side, Source::Other)?);
        let ((skipped, ring), newcomer) = (compared(joining, aligned), joining.fingerprints());
        let interleave = self.options.interleave_frames_max;
        let found = find_cut_of_lacking(&newcomer, &ring, interleave, |overlap| is_enough(joining, overlap));
        let seen = found.map(|LackingCut { first, .. }| {
            let arrived_ms = joining.arrived_ms(first.newcomer);
            let reference_ms = aligned.ring.since(skipped + first.ring).next().map_or(arrived_ms, |past| past.at_ms);
            (arrived_ms, arrived_ms.abs_diff(reference_ms))
        });
        // The buffer of a quick feed holds less than that while, so the first one seen counts.
        let joining = self.joining_mut(side)?;
        let since_ms = seen.map(|(arrived_ms, _)| *joining.lacking_since_ms.get_or_insert(arrived_ms));
        joining.lacking_since_ms = since_ms;
        if !self.watch.has_matched_since(since_ms?, seen?.1) {
            return None;
        }
        let LackingCut { cut, first, leaves_out } = found?;
        let aligned = self.aligned_at(side, Source::Other)?;
        let late = self.late(aligned, (skipped + first.ring, skipped + cut.ring), &newcomer);
        let (before, between) = (&newcomer[..first.newcomer], &newcomer[first.newcomer..cut.newcomer]);
        let known: HashSet<Fingerprint, Folding> = ring.iter().chain(before).copied().collect();
        let missing = Some(between.iter().filter(|one| !known.contains(one)).copied().collect());
        let [cut, first] = [cut, first].map(|cut| Cut { ring: skipped + cut.ring, ..cut });
        let mut overlap = Overlap { starts_earlier: false, missing, leaves_out, ..self.overlap(aligned, cut, first)? };
        let made_ms = late.iter().filter_map(|ordinal| self.window.get(*ordinal)).map(|entry| entry.created_at_ms);
        overlap.open_from_ms = made_ms.fold(overlap.open_from_ms, u64::min);
        overlap.open.extend(late);
        Some((cut, overlap))
    }

    /// Entries of the reference's frames between two positions that a newcomer has not delivered, or not yet.
    fn late(&self, reference: &Aligned, (from, until): (usize, usize), newcomer: &[Fingerprint]) -> Vec<u64> {
        let known: HashSet<Fingerprint, Folding> = newcomer.iter().copied().collect();
        let between = reference.ring.since(from).take(until - from);
        between.filter(|past| !known.contains(&past.fingerprint)).map(|past| past.ordinal).collect()
    }

    /// `common` is a place that both have passed, at or before the cut.
    fn overlap(&self, reference: &Aligned, cut: Cut, common: Cut) -> Option<Overlap> {
        let ring = &reference.ring;
        let first = common.ring as i64 - common.newcomer as i64 - self.options.interleave_frames_max as i64;
        let oldest = usize::try_from(first).unwrap_or(0);
        let mut pool: HashMap<Fingerprint, Twins, Folding> = HashMap::default();
        for past in ring.since(oldest).take(cut.ring.checked_sub(oldest)?) {
            pool.entry(past.fingerprint).or_default().push(past.ordinal);
        }
        let open: HashSet<u64, Folding> = ring.since(cut.ring).map(|past| past.ordinal).collect();
        let made_ms = open.iter().filter_map(|ordinal| self.window.get(*ordinal)).map(|entry| entry.created_at_ms);
        let open_from_ms = made_ms.min().unwrap_or(self.now_ms);
        let starts_earlier = first < 0 && ring.is_whole();
        Some(Overlap {
            slot: reference.slot,
            open,
            pool,
            starts_earlier,
            open_from_ms,
            missing: None,
            leaves_out: [0; 2],
        })
    }

    fn take_newcomer(&mut self, side: Side) -> Option<Newcomer<P>> {
        let mut member = self.members[side.index()].take()?;
        let placeholder = Stage::Joining(Joining::new(&self.options, self.now_ms));
        match std::mem::replace(&mut member.stage, placeholder) {
            Stage::Joining(joining) => Some(Newcomer { side, member, joining }),
            aligned @ Stage::Aligned(_) => {
                member.stage = aligned;
                self.members[side.index()] = Some(member);
                None
            }
        }
    }

    /// Everything up to the cut is settled between the two subscriptions; from the cut on, the newcomer counts.
    fn align(&mut self, newcomer: Newcomer<P>, cut: Cut, mut overlap: Overlap) {
        let Newcomer { side, member, joining } = newcomer;
        let subscription = member.id;
        let missing = overlap.missing.take().unwrap_or_default();
        self.notify(Notice::Aligned { subscription, after_frames: joining.received() });
        let slot = self.window.open_slot(overlap.open_from_ms);
        self.window
            .close_for(slot, |ordinal, entry| entry.seen.contains(overlap.slot) && !overlap.open.contains(&ordinal));
        let compared_from = overlap.open.iter().copied().min().unwrap_or_else(|| self.window.next_ordinal());
        self.seat(side, member, slot, compared_from);
        // Not all of what the reference lacks from before the cut can be told from copies.
        self.count(self.now_ms);
        let mut frames = joining.into_frames();
        let after_cut = frames.split_off(cut.newcomer);
        // Which occurrence a repeat is a copy of does not matter for what is written, and says nothing of the skew.
        let repeated = overlap.pool.iter().filter(|(_, twins)| twins.len() > 1).map(|(fingerprint, _)| *fingerprint);
        let repeated: HashSet<Fingerprint, Folding> = repeated.collect();
        let mut skews = VecDeque::with_capacity(SKEWS_MAX);
        for (at_ms, frame) in frames {
            let fingerprint = frame.fingerprint;
            if missing.contains(&fingerprint) {
                self.take_in(side, frame, at_ms);
            } else if let Some(skew_ms) = self.settle_before_cut(side, slot, (at_ms, frame), &mut overlap)
                && !repeated.contains(&fingerprint)
            {
                skews.truncate(SKEWS_MAX - 1);
                skews.push_front(skew_ms);
            }
        }
        // Two thirds of them, as some are repeats of what the other line never got.
        let mut skews = Vec::from(skews);
        skews.sort_unstable();
        self.watch.usual_skew(skews.get(skews.len() * 2 / 3).copied(), self.now_ms);
        self.replay(side, after_cut);
        let [mine, theirs] = overlap.leaves_out;
        if mine + theirs > 0 {
            let lacking = if mine > theirs { side } else { side.other() };
            self.found_behind(lacking, Behind { since_ms: self.now_ms, lacks: mine.max(theirs) as u64 });
        }
        // What the reference never got is in the topic only after a commit: until then its side could not take over.
        let found = self.queue.assigned();
        if overlap.starts_earlier
            && let Some(Member { stage: Stage::Aligned(aligned), .. }) = &mut self.members[side.other().index()]
        {
            aligned.redundant_from = aligned.redundant_from.max(found);
        }
    }

    /// A newcomer's frame from before the cut: a copy, unless it is older than all that the reference ever got. Returns by how much
    /// the two copies were apart.
    fn settle_before_cut(
        &mut self,
        side: Side,
        slot: Slot,
        (at_ms, frame): (u64, Frame<P>),
        overlap: &mut Overlap,
    ) -> Option<u64> {
        let (subscription, index) = (frame.subscription, frame.index);
        let twin = overlap.pool.get_mut(&frame.fingerprint).and_then(Twins::pop);
        let twin = twin.and_then(|ordinal| self.window.get(ordinal)).copied();
        let record = if twin.is_none() && overlap.starts_earlier {
            // Surely new, and not for the window to match: a later repeat would be taken for it.
            let record = self.queue.next_record();
            let seen = SlotSet::of(slot).with(overlap.slot);
            let (created_at_ms, shape) = (self.now_ms, Shape::UNKNOWN);
            let entry = Entry { fingerprint: frame.fingerprint, record, created_at_ms, shape, seen };
            let ordinal = self.window.insert(entry);
            self.queue.push(frame, ordinal);
            Some(record)
        } else {
            twin.map(|entry| entry.record)
        };
        if side == Side::Standby {
            match record {
                Some(record) => self.resolve_with_record(Resolved { subscription, index, record }),
                None => self.resolve_after_all(subscription, index),
            }
        }
        twin.map(|entry| at_ms.abs_diff(entry.created_at_ms))
    }

    /// Accepts a newcomer without a match. Entries from before its frames are closed for it, so that what it delivers is written;
    /// entries made since then may be copies and stay open.
    fn accept_by_fiat(&mut self, side: Side) {
        let Some(first_ms) = self.joining(side).and_then(Joining::first_ms) else { return };
        let Some(Newcomer { member, joining, .. }) = self.take_newcomer(side) else { return };
        // Its first frame may be older than the last one of what it could not be matched with: the bounds hold both.
        let subscription = member.id;
        let last_before_ms = self.last_aligned_frame_ms.map(|last_ms| last_ms.min(first_ms));
        let first_after_ms = self.last_aligned_frame_ms.map_or(first_ms, |last_ms| last_ms.max(first_ms));
        self.notify(if self.options.has(Bug::NoAlignment) {
            Notice::Aligned { subscription, after_frames: joining.received() }
        } else {
            Notice::AlignedByFiat { subscription, last_before_ms, first_after_ms }
        });
        let slot = self.window.open_slot(first_ms);
        self.window.close_for(slot, |_, entry| entry.created_at_ms < first_ms);
        self.watch.usual_skew(None, self.now_ms);
        let compared_from = self.window.next_ordinal();
        // A live one beside it has been silent for as long as this one speaks.
        let other = self.members[side.other().index()].as_ref();
        let is_silent = other.is_some_and(Member::is_live_and_aligned) && self.watch.has_read_since(first_ms);
        self.seat(side, member, slot, compared_from);
        self.count(first_ms);
        self.replay(side, joining.into_frames());
        self.silent[side.other().index()] = is_silent;
    }

    /// Puts a newcomer in its place as aligned, and tells the standby its surplus before any frame is replayed.
    fn seat(&mut self, side: Side, mut member: Member<P>, slot: Slot, compared_from: u64) {
        self.window.set_live(slot, member.live);
        self.watch.start(side, compared_from, self.now_ms);
        if side == Side::Standby && self.standby_present {
            let unseen = self.window.unseen_by(slot).filter(|entry| self.queue.is_committed(entry.record));
            let mut surplus: Vec<(RecordId, Fingerprint)> =
                unseen.map(|entry| (entry.record, entry.fingerprint)).collect();
            surplus.sort_unstable();
            self.ledger.send_surplus(member.id, snapshot::encode(&surplus));
        }
        let ring = Ring::new(&self.options, false);
        member.stage = Stage::Aligned(Aligned { slot, ring, redundant_from: u64::MAX });
        self.members[side.index()] = Some(member);
    }

    fn replay(&mut self, side: Side, frames: VecDeque<(u64, Frame<P>)>) {
        for (at_ms, frame) in frames {
            self.take_in(side, frame, at_ms);
        }
        let found = self.queue.assigned();
        if let Some(Member { stage: Stage::Aligned(aligned), .. }) = &mut self.members[side.index()] {
            aligned.redundant_from = found;
        }
    }
}
