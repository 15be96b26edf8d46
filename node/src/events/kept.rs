//! The events that are kept: two shelves, each bounded in entries and bytes, so that a storm of everyday events cannot push
//! out one that says that messages are missing. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::model::event::{EventId, Numbered, Through};

/// Everyday events: as many as the admin API gives at once.
pub(super) const PASSING_MAX: usize = 1_000;
const PASSING_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Events that say that messages may be missing: a thousand streams that fail at once, four times.
pub(super) const LOSSES_MAX: usize = 4_000;
pub(super) const LOSSES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How many events are not kept any more. Persisted in the journal: never rename a field.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// Everyday ones, since this process started.
    #[serde(skip)]
    pub passing: u64,
    /// Ones that said that messages may be missing.
    pub losses: u64,
    /// When the latest of them happened, milliseconds since 1970.
    pub until_ms: u64,
}

/// What is kept, and what has been heard.
#[derive(Debug)]
pub(super) struct Kept {
    passing: Shelf,
    losses: Shelf,
    ids: BTreeSet<EventId>,
    through: Through,
    /// The latest of each node, kept still or not.
    latest: Through,
    forgotten: Forgotten,
    arrivals: u64,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            passing: Shelf::new(PASSING_MAX, PASSING_BYTES_MAX),
            losses: Shelf::new(LOSSES_MAX, LOSSES_BYTES_MAX),
            ids: BTreeSet::new(),
            through: Through::default(),
            latest: Through::default(),
            forgotten: Forgotten::default(),
            arrivals: 0,
        }
    }
}

impl Kept {
    /// Adds an event that is new here.
    pub(super) fn add(&mut self, event: Arc<Numbered>) {
        if !self.ids.insert(event.id) {
            return;
        }
        self.arrivals += 1;
        self.latest.note(event.id);
        let says_loss = event.event.says_loss();
        let shelf = if says_loss { &mut self.losses } else { &mut self.passing };
        for gone in shelf.put(self.arrivals, event) {
            self.ids.remove(&gone.id);
            self.forgotten.until_ms = self.forgotten.until_ms.max(gone.event.at_ms);
            *(if says_loss { &mut self.forgotten.losses } else { &mut self.forgotten.passing }) += 1;
        }
    }

    /// Another node tells of this one. False: it is known.
    pub(super) fn is_news(&mut self, id: EventId) -> bool {
        let known = self.through.covers(id) || self.ids.contains(&id);
        self.through.note(id);
        !known
    }

    pub(super) fn through(&self) -> &Through {
        &self.through
    }

    pub(super) fn latest(&self) -> &Through {
        &self.latest
    }

    pub(super) fn forgotten(&self) -> Forgotten {
        self.forgotten
    }

    /// What a former life knew of.
    pub(super) fn forgot_before(&mut self, before: Forgotten) {
        self.forgotten.losses += before.losses;
        self.forgotten.until_ms = self.forgotten.until_ms.max(before.until_ms);
    }

    /// All, as they came.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Numbered>> {
        self.losses.entries.values().chain(self.passing.entries.values())
    }

    /// Those that say that messages may be missing, as they came.
    pub(super) fn losses(&self) -> impl Iterator<Item = &Arc<Numbered>> {
        self.losses.entries.values()
    }
}

#[derive(Debug)]
struct Shelf {
    /// By arrival here: clocks differ.
    entries: BTreeMap<u64, Arc<Numbered>>,
    by_connector: BTreeMap<String, usize>,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
}

impl Shelf {
    fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self { entries: BTreeMap::new(), by_connector: BTreeMap::new(), bytes: 0, entries_max, bytes_max }
    }

    /// Returns what had to go.
    fn put(&mut self, arrival: u64, event: Arc<Numbered>) -> Vec<Arc<Numbered>> {
        self.bytes += event.event.bytes();
        *self.by_connector.entry(event.event.connector.clone()).or_default() += 1;
        self.entries.insert(arrival, event);
        let mut gone = Vec::new();
        while self.entries.len() > self.entries_max || self.bytes > self.bytes_max {
            gone.extend(self.evict());
        }
        gone
    }

    /// The oldest one of the connector that has most: one stream that fails again and again must not push out the only
    /// word of another.
    fn evict(&mut self) -> Option<Arc<Numbered>> {
        let most = self.by_connector.iter().max_by_key(|(_, count)| **count).map(|(name, _)| name.clone())?;
        let oldest = self.entries.iter().find(|(_, event)| event.event.connector == most).map(|(at, _)| *at)?;
        let gone = self.entries.remove(&oldest)?;
        self.bytes -= gone.event.bytes();
        if let Some(count) = self.by_connector.get_mut(&most) {
            *count -= 1;
            if *count == 0 {
                self.by_connector.remove(&most);
            }
        }
        Some(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::log::tests::event;

    fn numbered(number: u64, kind: &str, connector: &str) -> Arc<Numbered> {
        let event = event(kind, connector, number);
        Arc::new(Numbered { id: EventId { node: 1, life: 1, number }, event })
    }

    #[test]
    fn a_storm_of_everyday_events_pushes_out_no_gap() {
        let mut kept = Kept::default();
        kept.add(numbered(1, "gap", "btc"));
        (2..10_000).for_each(|number| kept.add(numbered(number, "subscription.lost", "btc")));
        assert_eq!(kept.losses().count(), 1);
        assert_eq!(kept.all().count(), PASSING_MAX + 1);
        assert_eq!(kept.forgotten(), Forgotten { passing: 8_998, losses: 0, until_ms: 8_999 });
        assert_eq!(kept.ids.len(), PASSING_MAX + 1, "what is forgotten costs nothing");
    }

    #[test]
    fn a_stream_that_fails_again_and_again_pushes_out_its_own_words_first() {
        let mut kept = Kept::default();
        (1..=10).for_each(|number| kept.add(numbered(number, "gap", &format!("quiet{number}"))));
        (11..10_011).for_each(|number| kept.add(numbered(number, "gap", "loud")));
        let quiet = kept.losses().filter(|event| event.event.connector.starts_with("quiet")).count();
        assert_eq!((quiet, kept.losses().count()), (10, LOSSES_MAX));
        assert_eq!(kept.forgotten().losses, 10_010 - LOSSES_MAX as u64);
    }

    #[test]
    fn a_thousand_long_events_stay_within_the_bytes() {
        let mut kept = Kept::default();
        for number in 1..5_000 {
            let mut event = Arc::unwrap_or_clone(numbered(number, "gap", "btc"));
            event.event.message = "x".repeat(8_000);
            kept.add(Arc::new(event));
        }
        let bytes: usize = kept.losses().map(|event| event.event.bytes()).sum();
        assert!(bytes <= LOSSES_BYTES_MAX && bytes == kept.losses.bytes, "{bytes}");
    }
}
