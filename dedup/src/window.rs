//! The window: the remembered entries of a stream, one per output record, in the order of their making.
//!
//! The merge asks it whether a frame is the copy of an entry that its subscription has not seen yet; alignment closes entries for
//! newcomers. An entry is forgotten when every live subscription has seen it and it is in the topic, or when the ones that have
//! not are past it by more than the span. It never looks at payloads and knows subscriptions only as slots.

use std::collections::hash_map::Entry as Place;
use std::collections::{HashMap, VecDeque};

use crate::chain::Chain;
use crate::fingerprint::Folding;
use crate::slots::{Slot, SlotSet};
use crate::{Fingerprint, RecordId, Shape};

/// A fresh frame advances its subscription by the time since its last frame, but by no more than this share of the span: a
/// stalled subscription that catches up has not progressed while it stalled.
const STEP_SHARE: u64 = 100;

/// One output record and who has seen it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) record: RecordId,
    pub(crate) created_at_ms: u64,
    pub(crate) shape: Shape,
    pub(crate) seen: SlotSet,
}

/// How far a subscription has come, on the scale of entry creation.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    at_ms: u64,
    last_frame_ms: u64,
}

/// What [`Window::observe`] found; `ordinal` is the entry's number for life.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sighting {
    pub(crate) ordinal: u64,
    pub(crate) record: RecordId,
    pub(crate) created_at_ms: u64,
    pub(crate) shape: Shape,
    pub(crate) fresh: bool,
}

#[derive(Debug)]
pub(crate) struct Window {
    span_ms: u64,
    entries: VecDeque<Entry>,
    /// Ordinal of the front entry.
    base: u64,
    chains: HashMap<Fingerprint, Chain, Folding>,
    /// Slots in use; of subscriptions that still deliver; that were in use before and have to be wiped first.
    taken: SlotSet,
    live: SlotSet,
    stale: SlotSet,
    progress: [Progress; Slot::COUNT],
}

impl Window {
    pub(crate) fn new(span_ms: u64) -> Self {
        Self {
            span_ms,
            entries: VecDeque::new(),
            base: 0,
            chains: HashMap::default(),
            taken: SlotSet::EMPTY,
            live: SlotSet::EMPTY,
            stale: SlotSet::EMPTY,
            progress: [Progress::default(); Slot::COUNT],
        }
    }

    /// Takes a free slot for a subscription whose matches start with entries made at `from_ms` or later.
    pub(crate) fn open_slot(&mut self, from_ms: u64) -> Slot {
        let slot = self.taken.first_missing().expect("at most four of the eight slots are in use");
        if self.stale.contains(slot) {
            self.wipe(slot);
        }
        self.taken = self.taken.with(slot);
        self.live = self.live.with(slot);
        self.progress[slot.index()] = Progress { at_ms: from_ms, last_frame_ms: from_ms };
        slot
    }

    pub(crate) fn close_slot(&mut self, slot: Slot) {
        self.taken = self.taken.without(slot);
        self.live = self.live.without(slot);
        self.stale = self.stale.with(slot);
    }

    /// Says whether the slot's subscription still delivers; entries wait only for those that do.
    pub(crate) fn set_live(&mut self, slot: Slot, live: bool) {
        self.live = if live { self.live.with(slot) } else { self.live.without(slot) };
    }

    fn wipe(&mut self, slot: Slot) {
        for entry in &mut self.entries {
            entry.seen = entry.seen.without(slot);
        }
        for chain in self.chains.values_mut() {
            chain.rewind(slot);
        }
        self.stale = self.stale.without(slot);
    }

    /// Matches a frame with the oldest entry of its fingerprint that `slot` has not seen, or makes a new entry
    /// for `record`.
    pub(crate) fn observe(&mut self, slot: Slot, fingerprint: Fingerprint, record: RecordId, now_ms: u64) -> Sighting {
        let ordinal = self.next_ordinal();
        let progress = &mut self.progress[slot.index()];
        match self.chains.entry(fingerprint) {
            Place::Vacant(place) => {
                place.insert(Chain::One(ordinal));
            }
            Place::Occupied(mut place) => {
                let (base, entries) = (self.base, &mut self.entries);
                let oldest_ms = progress.at_ms.saturating_sub(self.span_ms);
                let matches = |ordinal: u64| {
                    let entry = &entries[(ordinal - base) as usize];
                    !entry.seen.contains(slot) && entry.created_at_ms >= oldest_ms
                };
                if let Some(ordinal) = place.get_mut().first_match(slot, matches) {
                    let entry = &mut entries[(ordinal - base) as usize];
                    entry.seen = entry.seen.with(slot);
                    progress.at_ms = progress.at_ms.max(entry.created_at_ms);
                    progress.last_frame_ms = now_ms;
                    let Entry { record, created_at_ms, shape, .. } = *entry;
                    return Sighting { ordinal, record, created_at_ms, shape, fresh: false };
                }
                place.get_mut().push(ordinal);
            }
        }
        let step_ms = now_ms.saturating_sub(progress.last_frame_ms).min(self.span_ms / STEP_SHARE);
        *progress = Progress { at_ms: now_ms.min(progress.at_ms + step_ms), last_frame_ms: now_ms };
        let (shape, seen) = (Shape::UNKNOWN, SlotSet::of(slot));
        self.entries.push_back(Entry { fingerprint, record, created_at_ms: now_ms, shape, seen });
        Sighting { ordinal, record, created_at_ms: now_ms, shape, fresh: true }
    }

    /// Notes the shape of the entry that was made last.
    pub(crate) fn note_shape(&mut self, shape: Shape) {
        if let Some(entry) = self.entries.back_mut() {
            entry.shape = shape;
        }
    }

    /// Makes a new entry of a frame, whatever there is to match it with.
    pub(crate) fn append(&mut self, slot: Slot, fingerprint: Fingerprint, record: RecordId, now_ms: u64) -> Sighting {
        let (shape, seen) = (Shape::UNKNOWN, SlotSet::of(slot));
        let ordinal = self.insert(Entry { fingerprint, record, created_at_ms: now_ms, shape, seen });
        Sighting { ordinal, record, created_at_ms: now_ms, shape, fresh: true }
    }

    /// Adds an entry that no frame is matched for; returns its ordinal.
    pub(crate) fn insert(&mut self, entry: Entry) -> u64 {
        let ordinal = self.next_ordinal();
        self.chains.entry(entry.fingerprint).and_modify(|chain| chain.push(ordinal)).or_insert(Chain::One(ordinal));
        self.entries.push_back(entry);
        ordinal
    }

    /// The ordinal of the next entry.
    pub(crate) fn next_ordinal(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    pub(crate) fn get(&self, ordinal: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(ordinal.checked_sub(self.base)?).ok()?)
    }

    /// Marks every entry that `is_closed` picks as seen by `slot`.
    pub(crate) fn close_for(&mut self, slot: Slot, is_closed: impl Fn(u64, &Entry) -> bool) {
        for (ordinal, entry) in (self.base..).zip(&mut self.entries) {
            if is_closed(ordinal, entry) {
                entry.seen = entry.seen.with(slot);
            }
        }
    }

    pub(crate) fn unseen_by(&self, slot: Slot) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| !entry.seen.contains(slot))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the front entry and the live slots that have not seen it.
    pub(crate) fn front(&self) -> Option<(u64, &Entry, SlotSet)> {
        self.entries.front().map(|entry| (self.base, entry, self.live.minus(entry.seen)))
    }

    /// Whether the front entry is of no use to any subscription. Without a live one, entries wait for the span.
    pub(crate) fn front_is_spent(&self, now_ms: u64) -> bool {
        let Some((_, entry, missing)) = self.front() else { return false };
        let is_past = |at_ms: u64| at_ms > entry.created_at_ms.saturating_add(self.span_ms);
        if self.live.is_empty() {
            return is_past(now_ms);
        }
        missing.is_empty() || missing.iter().all(|slot| is_past(self.progress[slot.index()].at_ms))
    }

    pub(crate) fn forget_front(&mut self) {
        let Some(entry) = self.entries.pop_front() else { return };
        self.base += 1;
        if let Place::Occupied(mut place) = self.chains.entry(entry.fingerprint)
            && place.get_mut().pop_is_empty()
        {
            place.remove();
        }
    }

    /// Bytes of heap per entry it has room for, for the benchmark's report.
    pub(crate) fn heap_bytes(&self) -> usize {
        // A bucket of the standard map: the pair and one control byte, at a load of 7/8.
        let bucket = size_of::<(Fingerprint, Chain)>() + 1;
        self.entries.capacity() * size_of::<Entry>() + self.chains.capacity() * bucket * 8 / 7
    }
}
