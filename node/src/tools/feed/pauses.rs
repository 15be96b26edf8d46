//! When the whole feed was quiet. A pause stops the common schedule: what is late by its skew still comes out of it. The
//! verifier needs the same arithmetic backwards, to say when a message was due. Pure: time is an argument.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Pauses that are remembered; further ones are refused.
const PAUSES_MAX: usize = 1_000;

/// A pause, in milliseconds since message 0 was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    pub from_ms: u64,
    /// None while it lasts.
    pub to_ms: Option<u64>,
}

/// All pauses so far, in order and apart from each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pauses(Vec<Pause>);

impl Pauses {
    /// Begins a pause; false if one lasts or there were too many.
    pub(super) fn begin(&mut self, elapsed: Duration) -> bool {
        let may = self.0.len() < PAUSES_MAX && self.0.last().is_none_or(|last| last.to_ms.is_some());
        if may {
            self.0.push(Pause { from_ms: elapsed.as_millis() as u64, to_ms: None });
        }
        may
    }

    /// Ends the pause; false if there is none.
    pub(super) fn end(&mut self, elapsed: Duration) -> bool {
        let open = self.0.last_mut().filter(|last| last.to_ms.is_none());
        open.is_some_and(|last| last.to_ms.replace(elapsed.as_millis() as u64).is_none())
    }

    /// How much of the time until `elapsed` was no pause.
    pub(super) fn active(&self, elapsed: Duration) -> Duration {
        let quiet = |pause: &Pause| {
            let from = Duration::from_millis(pause.from_ms);
            let to = pause.to_ms.map_or(elapsed, Duration::from_millis).min(elapsed);
            to.saturating_sub(from)
        };
        elapsed.saturating_sub(self.0.iter().map(quiet).sum())
    }

    /// When so much time had been no pause, pauses included: milliseconds.
    fn wall_ms(&self, active_ms: u64) -> u64 {
        self.0.iter().fold(active_ms, |ms, pause| match pause.to_ms {
            Some(to_ms) if pause.from_ms <= ms => ms + (to_ms - pause.from_ms),
            _ => ms,
        })
    }
}

/// When each message was due.
#[derive(Debug, Clone, PartialEq)]
pub struct Timetable {
    /// Of message 0, milliseconds since 1970.
    pub began_at_ms: u64,
    pub messages_per_second: f64,
    pub pauses: Pauses,
}

impl Timetable {
    /// When message `n` was due, milliseconds since 1970.
    pub fn due_ms(&self, n: u64) -> u64 {
        let active_ms = (n as f64 * 1_000.0 / self.messages_per_second) as u64;
        self.began_at_ms + self.pauses.wall_ms(active_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_schedule_stands_still_in_a_pause_and_goes_on_where_it_was() {
        let mut pauses = Pauses::default();
        assert!(!pauses.end(ms(50)));
        assert!(pauses.begin(ms(100)) && !pauses.begin(ms(110)));
        assert_eq!((pauses.active(ms(90)), pauses.active(ms(500))), (ms(90), ms(100)));
        assert!(pauses.end(ms(400)) && pauses.begin(ms(600)));
        // A line that is late looks back: at 350 the pause lasted.
        assert_eq!([350, 450, 700].map(|at| pauses.active(ms(at))), [ms(100), ms(150), ms(300)]);
    }

    #[test]
    fn a_message_is_due_when_the_schedule_gets_there() {
        let mut pauses = Pauses::default();
        assert!(pauses.begin(ms(100)) && pauses.end(ms(400)) && pauses.begin(ms(600)) && pauses.end(ms(1_000)));
        let table = Timetable { began_at_ms: 10_000, messages_per_second: 1_000.0, pauses };
        assert_eq!([0, 99, 150, 350].map(|n| table.due_ms(n)), [10_000, 10_099, 10_450, 11_050]);
    }

    #[test]
    fn pauses_are_bounded() {
        let mut pauses = Pauses::default();
        let began = (0..2_000).filter(|n| pauses.begin(ms(*n)) && pauses.end(ms(*n))).count();
        assert_eq!(began, PAUSES_MAX);
    }
}
