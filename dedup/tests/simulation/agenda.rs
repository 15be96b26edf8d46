//! What happens when: events by their time, and among those of one instant in the order in which they were entered. Both
//! simulations live by it; the order depends on nothing else, so that a seed repeats a run.

use std::collections::BTreeMap;

#[derive(Debug)]
pub(crate) struct Agenda<E> {
    entered: u64,
    /// By time in microseconds and number of entry.
    events: BTreeMap<(u64, u64), E>,
}

impl<E> Default for Agenda<E> {
    fn default() -> Self {
        Self { entered: 0, events: BTreeMap::new() }
    }
}

impl<E> Agenda<E> {
    pub(crate) fn enter(&mut self, at_us: u64, event: E) {
        self.entered += 1;
        self.events.insert((at_us, self.entered), event);
    }

    /// The next event and its time.
    pub(crate) fn pop(&mut self) -> Option<(u64, E)> {
        self.events.pop_first().map(|((at_us, _), event)| (at_us, event))
    }
}
