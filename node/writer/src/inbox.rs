//! Until when everything that the own connection had brought has been given to the writer: the clock of the line stands still while
//! something older waits. A quick feed's inbox is hardly ever empty when somebody looks, so emptiness is no measure.

use std::collections::VecDeque;

/// Looks that are remembered while the writer lags, some seconds; later ones are forgotten until it has caught up with these.
const LOOKS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// Events that the writer has been given.
    given: u64,
    /// When somebody looked, and how many events the connection had brought by then; oldest first.
    looks: VecDeque<(u64, u64)>,
    through_ms: u64,
}

impl Inbox {
    pub(crate) fn given(&mut self) {
        self.given += 1;
    }

    /// So many events wait now. Returns the moment through which the writer has been given all that there was.
    pub(crate) fn look(&mut self, waiting: u64, now_ms: u64) -> u64 {
        if self.looks.len() < LOOKS_MAX {
            self.looks.push_back((now_ms, self.given + waiting));
        }
        while let Some((at_ms, _)) = self.looks.pop_front_if(|(_, brought)| *brought <= self.given) {
            self.through_ms = at_ms;
        }
        self.through_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_that_is_never_empty_is_read_as_late_as_its_events_wait() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.look(0, 1_000), 1_000, "nothing waits");
        // Fifty events between two looks, of which the last three wait.
        let through: Vec<u64> = (1..=4)
            .map(|n| {
                (0..50).for_each(|_| inbox.given());
                inbox.look(3, 1_000 + n * 50)
            })
            .collect();
        assert_eq!(through, [1_000, 1_050, 1_100, 1_150]);
        assert_eq!(inbox.look(3, 9_000), 1_150, "nothing was given meanwhile");
        (0..3).for_each(|_| inbox.given());
        assert_eq!(inbox.look(0, 9_050), 9_050);
    }

    #[test]
    fn a_writer_that_lags_for_long_remembers_the_oldest() {
        let mut inbox = Inbox::default();
        for n in 0..2 * LOOKS_MAX as u64 {
            assert_eq!(inbox.look(n + 1, n * 50), 0);
        }
        (0..LOOKS_MAX).for_each(|_| inbox.given());
        assert_eq!(inbox.look(LOOKS_MAX as u64, 60_000), (LOOKS_MAX as u64 - 1) * 50);
    }
}
