//! Who may speak next: each once, in the order in which they asked.

use std::collections::{BTreeSet, VecDeque};

use crate::StreamId;

#[derive(Debug, Default)]
pub(super) struct Turns {
    order: VecDeque<StreamId>,
    waiting: BTreeSet<StreamId>,
}

impl Turns {
    /// Adds one that is not waiting yet, at the end.
    pub(super) fn add(&mut self, stream: StreamId) {
        if self.waiting.insert(stream) {
            self.order.push_back(stream);
        }
    }

    pub(super) fn next(&mut self) -> Option<StreamId> {
        let stream = self.order.pop_front()?;
        self.waiting.remove(&stream);
        Some(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_spoken_waits_for_all_others() {
        let mut turns = Turns::default();
        [1, 2, 1, 3].into_iter().for_each(|n| turns.add(StreamId(n)));
        let mut spoken = Vec::new();
        while let Some(StreamId(n)) = turns.next() {
            spoken.push(n);
            if spoken.len() < 5 {
                turns.add(StreamId(n));
            }
        }
        assert_eq!(spoken, [1, 2, 3, 1, 2, 3, 1]);
    }
}
