//! Whether a standby reaches Kafka, found out only when it matters: while the owner's acks stay away. The leader asks
//! this of the reports before it takes a stream from an owner that lives but does not deliver.
//!
//! The question goes over the connection that waits for a takeover anyway, so its answer says that a takeover could
//! read and write there. In quiet times nothing is asked: a thousand standbys cost the brokers nothing.

use tokio::sync::oneshot::{Receiver, error::TryRecvError};

use super::opening::Warm;
use crate::kafka;

/// Acks come every commit interval; after this long without one, something is wrong somewhere.
const ACKS_AWAY_MS_MAX: u64 = 1_000;
/// Between two questions.
const ASK_EVERY_MS: u64 = 500;
/// How long an answer is believed.
const BELIEVED_MS_MAX: u64 = 2_000;

pub(super) type Answer = Receiver<Result<Vec<(i32, i64)>, kafka::Error>>;

/// What a standby knows of Kafka.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// When the owner last committed, or nothing was left for it to commit.
    progress_at_ms: u64,
    asked_at_ms: u64,
    answer: Option<Answer>,
    answered_at_ms: Option<u64>,
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
        match self.answer.as_mut().map(Receiver::try_recv) {
            None | Some(Err(TryRecvError::Empty)) => {}
            Some(Ok(Ok(_))) => {
                self.answer = None;
                self.answered_at_ms = Some(now_ms);
            }
            Some(Ok(Err(_)) | Err(TryRecvError::Closed)) => self.answer = None,
        }
        if self.due(now_ms) {
            self.asked_at_ms = now_ms;
            self.answer = warm.and_then(|warm| warm.tail.ask_end_offsets().ok());
        }
    }

    /// Whether Kafka answered a moment ago. False also while nobody asks.
    pub(super) fn reaches(&self, now_ms: u64) -> bool {
        self.answered_at_ms.is_some_and(|at| now_ms.saturating_sub(at) <= BELIEVED_MS_MAX)
    }

    fn due(&self, now_ms: u64) -> bool {
        self.answer.is_none()
            && now_ms.saturating_sub(self.progress_at_ms) > ACKS_AWAY_MS_MAX
            && now_ms.saturating_sub(self.asked_at_ms) >= ASK_EVERY_MS
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

    #[test]
    fn an_answer_is_believed_for_a_moment_and_a_failure_is_none() {
        let mut reach = Reach::default();
        let (reply, answer) = oneshot::channel();
        reach.answer = Some(answer);
        reach.look(None, true, 5_000);
        assert!(!reach.reaches(5_000) && !reach.due(5_500), "one question at a time");
        reply.send(Ok(Vec::new())).unwrap();
        reach.look(None, true, 5_100);
        assert!(reach.reaches(5_100) && reach.reaches(5_100 + BELIEVED_MS_MAX));
        assert!(!reach.reaches(5_101 + BELIEVED_MS_MAX));
        let (reply, answer) = oneshot::channel();
        reach.answer = Some(answer);
        reply.send(Err(kafka::Error::Closed)).unwrap();
        reach.look(None, true, 9_000);
        assert!(!reach.reaches(9_000));
    }
}
