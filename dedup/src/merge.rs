//! The owner's side: two subscriptions in, one stream of records out, and what the standby must be told.
//!
//! The pipeline's writer feeds frames and connection changes, drains batches and reports their commits; the relay carries
//! the messages. `joins` decides when a newcomer counts, `comparison` which line lacks what the other has, `takeover` builds a
//! merge from what a standby retained.
//! Nothing here waits, sends or looks at a clock.

mod comparison;
mod joins;
mod takeover;

use std::collections::VecDeque;

use crate::bug::Bug;
use crate::joining::Joining;
use crate::ledger::{Ledger, Standing};
use crate::member::{Aligned, Ended, Member, Side, Stage};
use crate::queue::{BatchLimits, Queue};
use crate::ring::Ring;
use crate::slots::SlotSet;
use crate::watch::{Match, Sampler, Watch};
use crate::window::{Sighting, Window};
use crate::{
    Fingerprint, Frame, HeldBytes, Ignored, Notice, Observed, Options, Record, RecordId, Resolved, Shape,
    SubscriptionId, ToStandby,
};

/// Notices kept for a caller that does not take them; the oldest go first.
const NOTICES_MAX: usize = 256;
/// Superseded subscriptions of the standby whose frames are recognised as such.
const SUPERSEDED_MAX: usize = 64;

/// Merges the owner's and the standby's subscription of one stream; `P` is the payload, opaque.
///
/// A message comes out as often as the aligned subscription that delivered it most often delivered it. The
/// caller announces subscriptions ([`Merge::own_subscription`], [`Merge::standby_subscription`]) before their frames, and a
/// standby's in the order in which the standby had them.
#[derive(Debug)]
pub struct Merge<P> {
    options: Options,
    now_ms: u64,
    window: Window,
    queue: Queue<P>,
    ledger: Ledger,
    watch: Watch,
    shape_of: Option<fn(&P) -> Shape>,
    sampler: Sampler,
    /// By [`Side::index`].
    members: [Option<Member<P>>; 2],
    ended: Option<Ended>,
    superseded: VecDeque<(SubscriptionId, u64)>,
    standby_present: bool,
    /// No subscription has been announced in the life of the stream: the first one is aligned by definition.
    is_first: bool,
    /// When an aligned subscription last delivered: where a gap begins.
    last_aligned_frame_ms: Option<u64>,
    /// By [`Side::index`]: it counts and says nothing, while the other one was accepted because of that. Whether it is behind or only
    /// late is found in time; until it speaks it is no half of a redundant pair.
    silent: [bool; 2],
    /// Frames that each subscription had delivered when the younger of the two was announced.
    met_at_frames: [u64; 2],
    /// When the window was last full before the span was over, and how long it had held its oldest entry.
    span_cut: Option<(u64, u64)>,
    notices: VecDeque<Notice>,
}

impl<P> Merge<P> {
    /// Starts a stream that nobody has written before under this assignment: its first subscription is aligned by definition.
    /// `epoch` is at least 1 and has never been used for this stream.
    pub fn new(options: Options, epoch: u64) -> Self {
        let options = options.bounded();
        Self {
            window: Window::new(options.span_ms),
            watch: Watch::new(options.span_ms),
            options,
            now_ms: 0,
            queue: Queue::new(epoch),
            ledger: Ledger::default(),
            shape_of: None,
            sampler: Sampler::default(),
            members: [None, None],
            ended: None,
            superseded: VecDeque::new(),
            standby_present: false,
            is_first: true,
            last_aligned_frame_ms: None,
            silent: [false; 2],
            met_at_frames: [0; 2],
            span_cut: None,
            notices: VecDeque::new(),
        }
    }

    /// Lends the merge a look at the kind of a message, [`Shape::of`] its bytes: what tells a silent channel, however slow, from
    /// what each connection says for itself. Only some messages of a quick feed are looked at.
    pub fn look_at_shapes(&mut self, shape_of: fn(&P) -> Shape) {
        self.shape_of = Some(shape_of);
    }

    /// The owner's connection came up (a new id) or ended (`None`).
    pub fn own_subscription(&mut self, subscription: Option<SubscriptionId>, now_ms: u64) {
        self.advance(now_ms);
        self.announce(Side::Own, subscription);
    }

    /// The standby's connection came up (a new id) or ended (`None`), as told by the standby after all frames of the one before.
    /// A broken relay is not an end: the subscription goes on where [`Merge::next_index`] says.
    pub fn standby_subscription(&mut self, subscription: Option<SubscriptionId>, now_ms: u64) {
        self.advance(now_ms);
        self.announce(Side::Standby, subscription);
    }

    /// A standby without memory has arrived: what was known of the last one is forgotten.
    pub fn standby_joined(&mut self) {
        self.forget_standby();
        self.standby_present = true;
    }

    /// The standby is gone for good; until the next one joins there is nobody to tell anything.
    pub fn standby_left(&mut self) {
        self.forget_standby();
        self.standby_present = false;
    }

    fn forget_standby(&mut self) {
        self.supersede(Side::Standby);
        self.superseded.clear();
        self.ledger = Ledger::default();
    }

    /// Takes in a frame and says what became of it.
    pub fn frame(&mut self, frame: Frame<P>, now_ms: u64) -> Observed {
        self.advance(now_ms);
        let (side, member) = match self.recipient(frame.subscription) {
            Ok(found) => found,
            Err(reason) => return Observed::Ignored(reason),
        };
        if frame.index < member.next_index {
            return Observed::Ignored(Ignored::AlreadyReceived);
        }
        // The standby sends again what is missing. What this node has dropped, because it had no room for it, nobody does.
        if frame.index > member.next_index && side == Side::Standby {
            return Observed::Ignored(Ignored::Hole);
        }
        member.next_index = frame.index + 1;
        member.last_frame_ms = now_ms;
        if std::mem::take(&mut self.silent[side.index()]) {
            self.watch.speaks(side, self.now_ms);
        }
        let observed = self.take_in(side, frame, now_ms);
        self.settle();
        self.retire();
        observed
    }

    /// The next index expected from a subscription: where the standby continues after a broken relay. `None` if it is unknown.
    pub fn next_index(&self, subscription: SubscriptionId) -> Option<u64> {
        let member = self.members.iter().flatten().find(|member| member.id == subscription);
        let superseded = || self.superseded.iter().find(|(id, _)| *id == subscription).map(|(_, next)| *next);
        member.map(|member| member.next_index).or_else(superseded)
    }

    /// Every subscription of the standby that is known, with its next index; for the greeting of a relay that starts over.
    pub fn standby_next_indices(&self) -> impl Iterator<Item = (SubscriptionId, u64)> {
        let current = self.members[Side::Standby.index()].as_ref().map(|member| (member.id, member.next_index));
        self.superseded.iter().copied().chain(current)
    }

    /// Hands out the next batch, in order: at most `records_max` records weighing `bytes_max` together, but at least one.
    /// `None` while a batch is in flight, or if nothing is ready.
    pub fn cut(&mut self, now_ms: u64, records_max: usize, bytes_max: usize) -> Option<Vec<Record<P>>> {
        self.advance(now_ms);
        self.settle();
        self.look_if_due();
        self.queue.cut(BatchLimits { records_max, bytes_max })
    }

    /// The batch in flight is in the topic, definitely; queues the ack. Without one in flight nothing happens.
    pub fn committed(&mut self) {
        let Some(ordinals) = self.queue.commit() else { return };
        if let Some(standing) = self.standing() {
            let unseen = ordinals.into_iter().filter_map(|ordinal| self.unseen_by_standby(ordinal)).collect();
            self.ledger.ack(standing, self.queue.committed(), Some(unseen));
        }
        self.retire();
    }

    /// Stands for a commit when there is nothing to commit, so that a quiet feed becomes redundant; queues an ack if there is news.
    pub fn idle_cut(&mut self, now_ms: u64) {
        self.advance(now_ms);
        self.settle();
        self.look_if_due();
        self.queue.commit_idle();
        if let Some(standing) = self.standing() {
            self.ledger.ack(standing, self.queue.committed(), None);
        }
        self.retire();
    }

    /// Whether a batch could be cut once none is in flight.
    pub fn has_ready(&self) -> bool {
        self.ready_records() > 0
    }

    /// Records that wait to be cut: a part of [`Merge::status`] that costs nothing.
    pub fn ready_records(&self) -> usize {
        self.queue.ready_records()
    }

    /// Takes the messages for the standby, to be sent in this order over one ordered channel.
    pub fn take_messages(&mut self) -> Vec<ToStandby> {
        self.ledger.take_messages()
    }

    /// Takes the oldest record out of the waiting ones, for the overflow policy: its sequence becomes a hole, its message a gap.
    /// Only [`HeldBytes::ready`] gets smaller by it, so nothing else is a reason to do so.
    pub fn drop_oldest(&mut self) -> Option<Record<P>> {
        self.queue.drop_oldest()
    }

    /// Takes the events since the last call, at most the latest 256.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        self.notices.drain(..).collect()
    }

    /// What is held in bytes, as the frames weigh.
    pub fn bytes(&self) -> HeldBytes {
        HeldBytes {
            ready: self.queue.ready_bytes(),
            in_flight: self.queue.in_flight_bytes(),
            joining: self.members.iter().flatten().filter_map(Member::joining).map(Joining::bytes).sum(),
        }
    }

    /// Heap bytes of the window, for capacity planning; the rings add 40 bytes per frame they hold.
    pub fn window_heap_bytes(&self) -> usize {
        self.window.heap_bytes()
    }

    /// Time never runs backwards in here, whatever the caller's clock does.
    fn advance(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    fn recipient(&mut self, subscription: SubscriptionId) -> Result<(Side, &mut Member<P>), Ignored> {
        let is_superseded = self.superseded.iter().any(|(id, _)| *id == subscription);
        for (side, member) in Side::BOTH.into_iter().zip(&mut self.members) {
            if let Some(member) = member
                && member.id == subscription
            {
                return Ok((side, member));
            }
        }
        Err(if is_superseded { Ignored::Superseded } else { Ignored::UnknownSubscription })
    }

    fn announce(&mut self, side: Side, subscription: Option<SubscriptionId>) {
        let is_current = |member: &&mut Member<P>| subscription.is_none_or(|id| member.id == id);
        if let Some(member) = self.members[side.index()].as_mut().filter(is_current) {
            member.live = subscription.is_some();
            let at_ms = if member.live { self.now_ms } else { member.last_frame_ms };
            if let Stage::Aligned(aligned) = &member.stage {
                self.window.set_live(aligned.slot, member.live);
            }
            self.count(at_ms);
        } else if let Some(id) = subscription
            && self.superseded.iter().all(|(known, _)| *known != id)
        {
            self.supersede(side);
            let stage = self.first_stage();
            self.members[side.index()] =
                Some(Member { id, next_index: 1, live: true, last_frame_ms: self.now_ms, stage });
            self.count(self.now_ms);
            self.met_at_frames = Side::BOTH.map(|side| self.frames_of(side));
        }
        self.silent[side.index()] = false;
        self.watch.forget(side);
        self.settle();
    }

    fn first_stage(&mut self) -> Stage<P> {
        if !std::mem::take(&mut self.is_first) {
            return Stage::Joining(Joining::new(&self.options, self.now_ms));
        }
        let slot = self.window.open_slot(self.now_ms);
        Stage::Aligned(Aligned { slot, ring: Ring::new(&self.options, true), redundant_from: 0 })
    }

    /// Ends a side's subscription for good. Its ring stays as the last thing a newcomer can be compared with.
    fn supersede(&mut self, side: Side) {
        self.rescue(side);
        if let Some(since_ms) = self.watch.lacking_alone_since_ms(side) {
            // What is accepted next without a match begins a gap there: this line was no proof that nothing is missing.
            self.last_aligned_frame_ms = self.last_aligned_frame_ms.map(|last_ms| last_ms.min(since_ms));
        }
        let Some(Member { id, next_index, last_frame_ms, stage, .. }) = self.members[side.index()].take() else {
            return;
        };
        if side == Side::Standby {
            self.superseded.push_back((id, next_index));
            if self.superseded.len() > SUPERSEDED_MAX {
                self.superseded.pop_front();
            }
        }
        match stage {
            Stage::Aligned(aligned) => {
                self.window.set_live(aligned.slot, false);
                self.keep_ended(Ended { aligned, last_frame_ms });
            }
            // The other subscription has delivered these: they are done when everything found so far is committed.
            Stage::Joining(joining) if side == Side::Standby => {
                for (_, frame) in joining.into_frames() {
                    self.resolve_after_all(id, frame.index);
                }
            }
            Stage::Joining(_) => {}
        }
        self.count(last_frame_ms);
    }

    fn keep_ended(&mut self, ended: Ended) {
        let loser = match &self.ended {
            Some(kept) if kept.last_frame_ms > ended.last_frame_ms => Some(ended),
            _ => self.ended.replace(ended),
        };
        if let Some(loser) = loser {
            self.window.close_slot(loser.aligned.slot);
        }
    }

    /// One frame of a member, in its turn; it came at `at_ms`.
    #[inline]
    fn take_in(&mut self, side: Side, frame: Frame<P>, at_ms: u64) -> Observed {
        let Some(member) = &mut self.members[side.index()] else {
            return Observed::Ignored(Ignored::UnknownSubscription);
        };
        let aligned = match &mut member.stage {
            Stage::Aligned(aligned) => aligned,
            Stage::Joining(joining) if joining.has_room(frame.bytes) => {
                joining.push(frame, self.now_ms);
                return Observed::Joining;
            }
            Stage::Joining(_) => return self.take_in_crowded(side, frame, at_ms),
        };
        // A newcomer's frames are taken in later than they came, some long after its end.
        self.last_aligned_frame_ms = self.last_aligned_frame_ms.max(Some(at_ms));
        let observe = if self.options.has(Bug::DedupOff) { Window::append } else { Window::observe };
        let record = self.queue.next_record();
        let sighting = observe(&mut self.window, aligned.slot, frame.fingerprint, record, self.now_ms);
        aligned.ring.push(frame.fingerprint, sighting.ordinal, self.now_ms);
        if side == Side::Standby {
            let resolved = Resolved { subscription: frame.subscription, index: frame.index, record: sighting.record };
            self.resolve_with_record(resolved);
        }
        if sighting.fresh {
            if let Some(shape_of) = self.shape_of
                && self.sampler.picks(frame.fingerprint.as_u128() as u64, self.now_ms)
            {
                self.window.note_shape(shape_of(&frame.payload));
            }
            self.queue.push(frame, sighting.ordinal);
            return Observed::Fresh;
        }
        let Sighting { ordinal, created_at_ms, shape, .. } = sighting;
        self.watch.matched(Match { side, ordinal, created_at_ms, at_ms, shape });
        Observed::Duplicate
    }

    #[cold]
    #[inline(never)]
    fn take_in_crowded(&mut self, side: Side, frame: Frame<P>, at_ms: u64) -> Observed {
        self.make_room(side, frame.bytes);
        self.take_in(side, frame, at_ms)
    }

    /// Lets the oldest frames of a newcomer go for the next one. With a reference that delivers, they are copies; without
    /// one they are all there is: the newcomer counts from now on.
    fn make_room(&mut self, side: Side, frame_bytes: usize) {
        while self.joining(side).is_some_and(|joining| !joining.has_room(frame_bytes)) {
            if !self.has_reference(side) {
                self.accept_now(side);
                continue;
            }
            let Some(member) = &mut self.members[side.index()] else { return };
            let subscription = member.id;
            let Stage::Joining(joining) = &mut member.stage else { return };
            if let Some(index) = joining.evict()
                && side == Side::Standby
            {
                self.resolve_after_all(subscription, index);
            }
        }
    }

    /// The frame is resolved when its record is committed.
    fn resolve_with_record(&mut self, resolved: Resolved) {
        if self.queue.is_committed(resolved.record) || self.options.has(Bug::ReleaseBeforeCommit) {
            self.ledger.resolve(resolved);
        } else {
            self.ledger.resolve_after(resolved.record.sequence, resolved);
        }
    }

    /// The frame is a copy of something found before now, nobody knows of what: it is resolved when all of that is committed.
    fn resolve_after_all(&mut self, subscription: SubscriptionId, index: u64) {
        let resolved = Resolved { subscription, index, record: RecordId::UNKNOWN };
        self.ledger.resolve_after(self.queue.assigned(), resolved);
    }

    /// A live line with a place that is known to lack messages, or has said nothing beside one that speaks.
    pub(in crate::merge) fn lacks(&self, side: Side) -> bool {
        self.watch.is_behind(side) || self.silent[side.index()]
    }

    /// Both lines count, but too few copies have come to say how late they usually are: a silent one would not be found yet.
    pub(in crate::merge) fn is_unmeasured(&self) -> bool {
        self.lines().is_some() && self.watch.is_unmeasured()
    }

    /// What an ack says of the standby's subscription; `None` if there is nobody to tell, or nothing to speak of.
    fn standing(&self) -> Option<Standing> {
        let member = self.members[Side::Standby.index()].as_ref().filter(|_| self.standby_present)?;
        let aligned = member.aligned().filter(|_| member.live);
        let is_covered = |aligned: &Aligned| aligned.redundant_from <= self.queue.committed();
        // A line of the owner that may have begun before the standby's holds what nobody else has, until it has its place.
        let may_begin_earlier =
            self.joining(Side::Own).is_some() && aligned.is_some_and(|aligned| aligned.ring.is_whole());
        // If the owner's has not spoken, all that there is came from the standby's.
        let is_unproven = self.is_unmeasured() && !self.silent[Side::Own.index()];
        let is_whole = !may_begin_earlier && !is_unproven && !self.lacks(Side::Standby);
        let redundant = aligned.is_some_and(is_covered) && is_whole;
        Some(Standing { subscription: member.id, aligned: aligned.is_some(), redundant })
    }

    fn unseen_by_standby(&self, ordinal: u64) -> Option<(RecordId, Fingerprint)> {
        let entry = self.window.get(ordinal)?;
        let aligned = self.members[Side::Standby.index()].as_ref()?.aligned();
        let is_seen = aligned.is_some_and(|aligned| entry.seen.contains(aligned.slot));
        (!is_seen).then_some((entry.record, entry.fingerprint))
    }

    /// Forgets entries that nobody needs any more, and the oldest ones if there are too many.
    fn retire(&mut self) {
        let floor = self.rings_floor();
        while let Some((ordinal, entry, missing)) = self.window.front() {
            let record = entry.record;
            let is_committed = self.queue.is_committed(record);
            let is_spent = is_committed && ordinal < floor && self.window.front_is_spent(self.now_ms);
            let is_full = self.window.len() > self.options.entries_max;
            if !is_spent {
                if !is_full {
                    return;
                }
                self.unalign_laggards(missing);
            }
            self.compare_front();
            if is_committed && let Some(standby) = self.members[Side::Standby.index()].as_ref() {
                let is_missing = standby.aligned().is_some_and(|aligned| missing.contains(aligned.slot));
                if is_missing && self.standby_present {
                    self.ledger.resolve(Resolved { subscription: standby.id, index: 0, record });
                }
            }
            self.window.forget_front();
        }
    }

    /// Entries from here on may be needed by a newcomer. What ended a span ago will not be compared with any more.
    fn rings_floor(&mut self) -> u64 {
        let oldest_ms = self.now_ms.saturating_sub(self.options.span_ms);
        if let Some(ended) = self.ended.take_if(|ended| ended.last_frame_ms < oldest_ms) {
            self.window.close_slot(ended.aligned.slot);
        }
        let members = self.members.iter().flatten().filter(|member| member.live || member.last_frame_ms >= oldest_ms);
        let aligned = members.filter_map(Member::aligned).chain(self.ended.as_ref().map(|ended| &ended.aligned));
        aligned.filter_map(|aligned| aligned.ring.floor()).min().unwrap_or(u64::MAX)
    }

    /// The window is full and the front entry must go: who still needs it, while the other subscription is past it,
    /// starts over.
    fn unalign_laggards(&mut self, missing: SlotSet) {
        self.note_span_cut();
        for side in Side::BOTH {
            let slot_of = |side: Side| {
                let member = self.members[side.index()].as_ref().filter(|member| member.live)?;
                member.aligned().map(|aligned| aligned.slot)
            };
            let (Some(slot), Some(other)) = (slot_of(side), slot_of(side.other())) else { return };
            if missing.contains(slot)
                && !missing.contains(other)
                && let Some(member) = &mut self.members[side.index()]
            {
                let joining = Joining::new(&self.options, self.now_ms).lagging();
                member.stage = Stage::Joining(joining);
                let subscription = member.id;
                self.window.close_slot(slot);
                self.watch.lost(side);
                self.notify(Notice::AlignmentLost { subscription });
                let proven_ms = self.window.front().map_or(self.now_ms, |(_, entry, _)| entry.created_at_ms);
                self.count(proven_ms);
            }
        }
    }

    fn notify(&mut self, notice: Notice) {
        if self.notices.len() >= NOTICES_MAX {
            self.notices.pop_front();
        }
        self.notices.push_back(notice);
    }
}
