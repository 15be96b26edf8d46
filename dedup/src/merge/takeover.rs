//! Takeover: a standby's retention and the tail of the topic become the merge of the new owner.
//!
//! Called once, by the pipeline, after the new producer has fenced the old one and the assignment has been confirmed. The order
//! matters: surplus, tail, frames of earlier subscriptions, then the current one's history in index order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Merge;
use crate::alignment::{CLEAN_CUTS_MIN, LackingCut, find_cut, find_cut_of_lacking};
use crate::bug::Bug;
use crate::joining::Joining;
use crate::member::{Aligned, Member, Side, Stage};
use crate::retention::{Held, RemainingSubscription, Remains};
use crate::ring::Ring;
use crate::slots::{Slot, SlotSet};
use crate::window::{Entry, Window};
use crate::{Fingerprint, Frame, Options, RecordId, Retention, Shape, SubscriptionId, TailRecord};

/// An overlap of more frames than this is found by its clean cuts.
const NEAR_MAX: usize = CLEAN_CUTS_MIN as usize;

impl<P> Merge<P> {
    /// Becomes the owner with everything the standby retained. `tail` holds the records of the topic from the last acknowledged
    /// offsets to the end; records that the retention knows already may be among them. What turns out to be missing in the topic is
    /// ready for the first batch. `epoch` is above every epoch of the records.
    pub fn take_over(
        options: Options,
        epoch: u64,
        retention: Retention<P>,
        tail: impl IntoIterator<Item = TailRecord>,
        now_ms: u64,
    ) -> Self {
        let mut merge = Self::new(options, epoch);
        merge.advance(now_ms);
        // Something may be in the topic: a first subscription that comes only now is a newcomer.
        merge.is_first = false;
        let Remains { current, mut held, earlier, surplus } = retention.into_remains();
        let mut mine: BTreeSet<SubscriptionId> = held.iter().map(|held| held.id).chain(earlier).collect();
        mine.extend(current.as_ref().map(|current| current.id));
        let known: BTreeSet<RecordId> = surplus.keys().copied().collect();
        let tail: Vec<TailRecord> = tail.into_iter().collect();
        let mut places = Places::default();
        for held in held.iter_mut().filter(|held| !held.was_aligned) {
            let overlap = overlap(&tail, &mut held.frames, merge.options.interleave_frames_max);
            places.overlaps.insert(held.id, overlap);
        }
        for (record, fingerprint) in surplus {
            merge.insert_known(record, fingerprint, SlotSet::EMPTY);
        }
        for record in tail {
            if mine.contains(&record.subscription) {
                if let Some(held) = held.iter_mut().find(|held| held.id == record.subscription) {
                    held.frames.remove(&record.index);
                }
            } else if !known.contains(&record.id) && (!record.acknowledged || places.overlaps(record.id)) {
                merge.insert_known(record.id, record.fingerprint, SlotSet::EMPTY);
                places.acknowledged.extend(record.acknowledged.then_some(record.id));
            }
        }
        merge.replay_held(current, held, &places);
        merge
    }

    fn replay_held(&mut self, current: Option<RemainingSubscription>, held: VecDeque<Held<P>>, places: &Places) {
        let current_id = current.as_ref().map(|current| current.id);
        let mut own = BTreeMap::new();
        for Held { id, frames, .. } in held {
            if Some(id) == current_id {
                own = frames;
                continue;
            }
            let slot = self.open_slot(id, places);
            for frame in frames.into_values() {
                self.replay_one(slot, frame);
            }
            self.window.close_slot(slot);
        }
        if let Some(current) = current {
            self.replay_own(current, own, places);
        }
    }

    /// A slot for a subscription of this node: what its frames can be no copies of is closed to it.
    fn open_slot(&mut self, subscription: SubscriptionId, places: &Places) -> Slot {
        let slot = self.window.open_slot(self.now_ms);
        self.window.close_for(slot, |_, entry| !places.are_open_to(subscription, entry.record));
        slot
    }

    fn replay_own(&mut self, current: RemainingSubscription, mut frames: BTreeMap<u64, Frame<P>>, places: &Places) {
        let slot = self.open_slot(current.id, places);
        let mut ring = Ring::new(&self.options, false);
        let history_from = current.history.front().map_or(u64::MAX, |(index, _)| *index);
        let recent = frames.split_off(&history_from);
        for frame in frames.into_values() {
            self.replay_one(slot, frame);
        }
        let mut recent = recent;
        for (index, fingerprint) in current.history {
            let ordinal = match recent.remove(&index) {
                Some(frame) => self.replay_one(slot, frame),
                // In the topic already: known, for the next newcomer's alignment.
                None => self.insert_known(RecordId::UNKNOWN, fingerprint, SlotSet::of(slot)),
            };
            ring.push(fingerprint, ordinal, self.now_ms);
        }
        self.window.set_live(slot, current.connected);
        // Should the connection be away now, a gap begins here at the latest.
        self.last_aligned_frame_ms = Some(self.now_ms);
        self.members[Side::Own.index()] = Some(Member {
            id: current.id,
            next_index: current.next_index,
            live: current.connected,
            last_frame_ms: self.now_ms,
            stage: Stage::Aligned(Aligned { slot, ring, redundant_from: 0 }),
        });
        self.count(self.now_ms);
    }

    /// Right after a takeover: when the own line had delivered last, and until when all that the former owner's delivered is in the
    /// topic. What may be missing began then, and not with the takeover. `None` for what is not known.
    pub fn delivered_until(&mut self, own_ms: Option<u64>, twins_ms: Option<u64>) {
        if let Some(last_ms) = own_ms.max(twins_ms).filter(|last_ms| *last_ms < self.now_ms) {
            self.last_aligned_frame_ms = self.last_aligned_frame_ms.map(|_| last_ms);
        }
        if let Some(twins_ms) = twins_ms {
            self.watch.alone_since(Side::Own, twins_ms);
        }
    }

    fn replay_one(&mut self, slot: Slot, frame: Frame<P>) -> u64 {
        let observe = if self.options.has(Bug::DedupOff) { Window::append } else { Window::observe };
        let sighting = observe(&mut self.window, slot, frame.fingerprint, self.queue.next_record(), self.now_ms);
        if sighting.fresh {
            self.queue.push(frame, sighting.ordinal);
        }
        sighting.ordinal
    }

    /// Adds an entry that is in the topic. Where the record is unknown, the entry gets a name that no other has.
    fn insert_known(&mut self, record: RecordId, fingerprint: Fingerprint, seen: SlotSet) -> u64 {
        let record =
            if record.epoch == 0 { RecordId { epoch: 0, sequence: self.window.next_ordinal() + 1 } } else { record };
        self.window.insert(Entry { fingerprint, record, created_at_ms: self.now_ms, shape: Shape::UNKNOWN, seen })
    }
}

/// Which records of the topic the frames of this node may be copies of.
#[derive(Default)]
struct Places {
    /// Told to this standby by the former owner, which resolved the frames of aligned subscriptions with them.
    acknowledged: BTreeSet<RecordId>,
    /// Per subscription that has no place: what of the tail it overlaps with.
    overlaps: BTreeMap<SubscriptionId, BTreeSet<RecordId>>,
}

impl Places {
    fn overlaps(&self, record: RecordId) -> bool {
        self.overlaps.values().any(|overlap| overlap.contains(&record))
    }

    /// The frames of a subscription without a place are compared with what it overlaps with and with nothing else: what the ones
    /// before it alone have is older.
    fn are_open_to(&self, subscription: SubscriptionId, record: RecordId) -> bool {
        match self.overlaps.get(&subscription) {
            Some(overlap) => overlap.contains(&record),
            None => !self.acknowledged.contains(&record),
        }
    }
}

/// What of the tail the frames of a subscription without a place may be matched with. Where it stands is not known, so the tail is
/// what a newcomer is compared with: everything before the cut is settled, in the topic and among the frames.
///
/// Without a cut the frames begin after the tail, or so shortly before its end that nothing can be told: see `settle_near`.
fn overlap<P>(tail: &[TailRecord], frames: &mut BTreeMap<u64, Frame<P>>, interleave: usize) -> BTreeSet<RecordId> {
    let newcomer: Vec<Fingerprint> = frames.values().map(|frame| frame.fingerprint).collect();
    let topic: Vec<Fingerprint> = tail.iter().map(|record| record.fingerprint).collect();
    if let Some(cut) = find_cut(&newcomer, &topic, |overlap| Joining::<P>::is_last_resort(&overlap)) {
        for _ in 0..cut.newcomer {
            frames.pop_first();
        }
        return tail[cut.ring..].iter().map(|record| record.id).collect();
    }
    if let Some(LackingCut { cut, first, .. }) = find_cut_of_lacking(&newcomer, &topic, interleave, |_| true) {
        let mut settled = times(&topic[first.ring.saturating_sub(interleave)..cut.ring]);
        let before: Vec<u64> = frames.keys().take(cut.newcomer).copied().collect();
        for (index, fingerprint) in before.into_iter().zip(newcomer) {
            if let Some(times) = settled.get_mut(&fingerprint).filter(|times| **times > 0) {
                *times -= 1;
                frames.remove(&index);
            }
        }
        return tail[cut.ring..].iter().map(|record| record.id).collect();
    }
    settle_near(&topic, frames);
    BTreeSet::new()
}

/// An overlap that is too short to be found: of the first frames those go whose payload the end of the tail holds once. No further
/// ones, as a repeat would be taken for an older message, and be lost untold; what is doubled instead is told.
fn settle_near<P>(topic: &[Fingerprint], frames: &mut BTreeMap<u64, Frame<P>>) {
    let mut times = times(&topic[topic.len().saturating_sub(NEAR_MAX)..]);
    let first: Vec<(u64, Fingerprint)> =
        frames.iter().take(NEAR_MAX).map(|(index, frame)| (*index, frame.fingerprint)).collect();
    for (index, fingerprint) in first {
        if times.get(&fingerprint) == Some(&1) {
            times.remove(&fingerprint);
            frames.remove(&index);
        }
    }
}

fn times(fingerprints: &[Fingerprint]) -> BTreeMap<Fingerprint, u32> {
    let mut times = BTreeMap::new();
    for fingerprint in fingerprints {
        *times.entry(*fingerprint).or_default() += 1;
    }
    times
}
