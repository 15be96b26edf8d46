//! Whether a standby reaches Kafka, found out only when it matters: while the owner's acks stay away. The leader asks
//! this of the reports before it takes a stream from an owner that lives but does not deliver.
//!
//! The question goes over the connection that waits for a takeover anyway, so its answer says that a takeover could
//! read and write there. In quiet times nothing is asked: a thousand standbys cost the brokers nothing.

use tokio::sync::oneshot::{Receiver, error::TryRecvError};

use super::opening::Warm;
use crate::kafka;

/// Acks come every commit interval; after this long without one, something is wrong somewhere.
const ACKS_AWAY_MS_MAX: u64 = 500;
/// Between two questions.
const ASK_EVERY_MS: u64 = 250;
/// How long an answer is believed.
const BELIEVED_MS_MAX: u64 = 2_000;

/// What a standby knows of Kafka.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// When the owner last committed, or nothing was left for it to commit.
    progress_at_ms: u64,
    asked_at_ms: u64,
    answer: Option<kafka::EndOffsets>,
    /// The first and the last answer of an unbroken row.
    answered_ms: Option<(u64, u64)>,
}

impl Reach {
    /// The owner has committed: Kafka is where it was.
    pub(super) fn progressed(&mut self, now_ms: u64) {
        self.progress_at_ms = now_ms;
    }

    /// Takes an answer that has come and asks again when it is time. `waiting`: frames here are not in the topic yet.
    pub(super) fn look(&mut self, warm: Option<&Warm>, waiting: bool, now_ms: u64) {
        if !waiting {
            self.progressed(now_ms);
        }
        if !self.acks_stay_away(now_ms) {
            self.answered_ms = None;
        }
        match self.answer.as_mut().map(Receiver::try_recv) {
            None | Some(Err(TryRecvError::Empty)) => {}
            Some(Ok(Ok(_))) => {
                self.answer = None;
                let first = self.answered_ms.map_or(now_ms, |(first, _)| first);
                self.answered_ms = Some((first, now_ms));
            }
            Some(Ok(Err(_)) | Err(TryRecvError::Closed)) => {
                self.answer = None;
                self.answered_ms = None;
            }
        }
        if self.answered_ms.is_some_and(|(_, last)| now_ms.saturating_sub(last) > BELIEVED_MS_MAX) {
            self.answered_ms = None;
        }
        if self.due(now_ms) {
            self.asked_at_ms = now_ms;
            self.answer = warm.and_then(|warm| warm.tail.ask_end_offsets().ok());
        }
    }

    /// For how long Kafka has answered every question, in milliseconds; 0 also while nobody asks.
    pub(super) fn reached_ms(&self, now_ms: u64) -> u64 {
        self.answered_ms.map_or(0, |(first, _)| now_ms.saturating_sub(first))
    }

    fn acks_stay_away(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.progress_at_ms) > ACKS_AWAY_MS_MAX
    }

    fn due(&self, now_ms: u64) -> bool {
        let rested = now_ms.saturating_sub(self.asked_at_ms) >= ASK_EVERY_MS;
        self.answer.is_none() && self.acks_stay_away(now_ms) && rested
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn kafka_is_asked_only_while_acks_stay_away() {
        let mut reach = Reach::default();
        reach.progressed(10_000);
        assert!(!reach.due(10_000 + ACKS_AWAY_MS_MAX));
        assert!(reach.due(10_001 + ACKS_AWAY_MS_MAX));
        reach.look(None, false, 12_000);
        assert!(!reach.due(12_500), "nothing waits, so nothing stays away");
        reach.look(None, true, 12_500 + ACKS_AWAY_MS_MAX);
        assert!(!reach.due(12_501 + ACKS_AWAY_MS_MAX), "it has just asked");
        assert!(reach.due(12_500 + ACKS_AWAY_MS_MAX + ASK_EVERY_MS));
    }

    /// A look at `now_ms` that finds this answer.
    fn answered(reach: &mut Reach, answer: Result<Vec<(i32, i64)>, kafka::Error>, now_ms: u64) {
        let (reply, receiver) = oneshot::channel();
        reach.answer = Some(receiver);
        reply.send(answer).unwrap();
        reach.look(None, true, now_ms);
    }

    #[test]
    fn reach_grows_with_every_answer_and_ends_with_a_failure_a_silence_or_an_ack() {
        let mut reach = Reach::default();
        answered(&mut reach, Ok(Vec::new()), 5_000);
        answered(&mut reach, Ok(Vec::new()), 5_500);
        assert_eq!(reach.reached_ms(5_600), 600);
        answered(&mut reach, Err(kafka::Error::Closed), 6_000);
        assert_eq!(reach.reached_ms(6_000), 0);
        answered(&mut reach, Ok(Vec::new()), 7_000);
        let (_reply, unanswered) = oneshot::channel();
        reach.answer = Some(unanswered);
        reach.look(None, true, 7_000 + BELIEVED_MS_MAX);
        assert_eq!(reach.reached_ms(7_000 + BELIEVED_MS_MAX), BELIEVED_MS_MAX);
        reach.look(None, true, 7_001 + BELIEVED_MS_MAX);
        assert_eq!(reach.reached_ms(7_001 + BELIEVED_MS_MAX), 0);
        answered(&mut reach, Ok(Vec::new()), 10_000);
        reach.progressed(10_500);
        reach.look(None, true, 10_600);
        assert_eq!(reach.reached_ms(10_600), 0);
    }
}
