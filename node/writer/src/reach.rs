//! Whether a standby reaches Kafka, found out only when it matters: while the owner's acks stay away. The leader asks
//! this of the reports before it takes a stream from an owner that lives but does not deliver.
//!
//! The question goes over the connection that waits for a takeover anyway, so its answer says that a takeover could
//! read and write there. In quiet times nothing is asked: a thousand standbys cost the brokers nothing.

/// Acks come every commit interval; after this long without one, something is wrong somewhere.
const ACKS_AWAY_MS_MAX: u64 = 500;
/// Between two questions.
const ASK_EVERY_MS: u64 = 250;
/// How long an answer is believed.
const BELIEVED_MS_MAX: u64 = 2_000;

/// What a standby knows of Kafka.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// When the owner last committed, or nothing was left for it to commit.
    progress_at_ms: u64,
    asked_at_ms: u64,
    /// A question is under way.
    asked: bool,
    /// The first and the last answer of an unbroken row.
    answered_ms: Option<(u64, u64)>,
}

impl Reach {
    /// The owner has committed: Kafka is where it was.
    pub(crate) fn progressed(&mut self, now_ms: u64) {
        self.progress_at_ms = now_ms;
    }

    /// Kafka has answered a question, or failed to.
    pub(crate) fn answered(&mut self, reached: bool, now_ms: u64) {
        self.asked = false;
        self.answered_ms = reached.then(|| (self.answered_ms.map_or(now_ms, |(first, _)| first), now_ms));
    }

    /// Whether it is time to ask. `waiting`: frames here are not in the topic yet.
    pub(crate) fn look(&mut self, waiting: bool, now_ms: u64) -> bool {
        if !waiting {
            self.progressed(now_ms);
        }
        let is_old = |(_, last): (u64, u64)| now_ms.saturating_sub(last) > BELIEVED_MS_MAX;
        if !self.acks_stay_away(now_ms) || self.answered_ms.is_some_and(is_old) {
            self.answered_ms = None;
        }
        let due = self.due(now_ms);
        if due {
            (self.asked_at_ms, self.asked) = (now_ms, true);
        }
        due
    }

    /// For how long Kafka has answered every question, in milliseconds; 0 also while nobody asks.
    pub(crate) fn reached_ms(&self, now_ms: u64) -> u64 {
        self.answered_ms.map_or(0, |(first, _)| now_ms.saturating_sub(first))
    }

    fn acks_stay_away(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.progress_at_ms) > ACKS_AWAY_MS_MAX
    }

    fn due(&self, now_ms: u64) -> bool {
        let rested = now_ms.saturating_sub(self.asked_at_ms) >= ASK_EVERY_MS;
        !self.asked && self.acks_stay_away(now_ms) && rested
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafka_is_asked_only_while_acks_stay_away_and_one_question_at_a_time() {
        let mut reach = Reach::default();
        reach.progressed(10_000);
        assert!(!reach.look(true, 10_000 + ACKS_AWAY_MS_MAX));
        assert!(!reach.look(false, 12_000), "nothing waits, so nothing stays away");
        assert!(!reach.look(true, 12_000 + ACKS_AWAY_MS_MAX));
        assert!(reach.look(true, 12_001 + ACKS_AWAY_MS_MAX));
        assert!(!reach.look(true, 20_000), "it has asked and has no answer");
        reach.answered(true, 20_000);
        assert!(reach.look(true, 20_000 + ASK_EVERY_MS));
    }

    /// A look at `now_ms` that finds this answer.
    fn answered(reach: &mut Reach, reached: bool, now_ms: u64) {
        reach.answered(reached, now_ms);
        reach.look(true, now_ms);
    }

    #[test]
    fn reach_grows_with_every_answer_and_ends_with_a_failure_a_silence_or_an_ack() {
        let mut reach = Reach::default();
        answered(&mut reach, true, 5_000);
        answered(&mut reach, true, 5_500);
        assert_eq!(reach.reached_ms(5_600), 600);
        answered(&mut reach, false, 6_000);
        assert_eq!(reach.reached_ms(6_000), 0);
        answered(&mut reach, true, 7_000);
        reach.look(true, 7_000 + BELIEVED_MS_MAX);
        assert_eq!(reach.reached_ms(7_000 + BELIEVED_MS_MAX), BELIEVED_MS_MAX);
        reach.look(true, 7_001 + BELIEVED_MS_MAX);
        assert_eq!(reach.reached_ms(7_001 + BELIEVED_MS_MAX), 0);
        answered(&mut reach, true, 10_000);
        reach.progressed(10_500);
        reach.look(true, 10_600);
        assert_eq!(reach.reached_ms(10_600), 0);
    }
}
