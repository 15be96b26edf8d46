//! What the owner has told its standby and the standby has not confirmed yet.
//!
//! A relay session can break with acks in flight. A lost ack is a lost rule of the protocol (a frame that is never
//! released, a surplus record that is never learnt), so every message is numbered and sent again until confirmed.
//! Pure: the writer moves the messages.

use std::collections::VecDeque;

use crate::model::relay::OwnerMessage;
use twinfeed_dedup::ToStandby;

/// Unconfirmed messages a standby may be behind before the owner gives it up, in messages (100 a second are usual).
pub(super) const UNCONFIRMED_MAX: usize = 6_000;

/// Numbered, unconfirmed messages to one standby incarnation.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    unconfirmed: VecDeque<Message>,
    next_number: u64,
    /// How many of `unconfirmed` this session has been given.
    sent: usize,
}

#[derive(Debug)]
struct Message {
    number: u64,
    committed: Vec<(i32, i64)>,
    body: ToStandby,
}

impl Outbox {
    /// Queues a message with the offsets that Kafka had confirmed when it was made.
    pub(super) fn push(&mut self, body: ToStandby, committed: Vec<(i32, i64)>) {
        self.next_number += 1;
        self.unconfirmed.push_back(Message { number: self.next_number, committed, body });
    }

    /// A new session of the same standby: everything unconfirmed is to be sent again.
    pub(super) fn rewind(&mut self) {
        self.sent = 0;
    }

    /// The standby has received every message up to `number`.
    pub(super) fn confirm(&mut self, number: u64) {
        while self.unconfirmed.front().is_some_and(|m| m.number <= number) {
            self.unconfirmed.pop_front();
            self.sent = self.sent.saturating_sub(1);
        }
    }

    /// The next message this session has not been given, if any.
    pub(super) fn next(&mut self) -> Option<OwnerMessage> {
        let message = self.unconfirmed.get(self.sent)?;
        self.sent += 1;
        Some(OwnerMessage::Merge {
            number: message.number,
            committed: message.committed.clone(),
            message: message.body.clone(),
        })
    }

    /// Whether this session has something to be sent.
    pub(super) fn has_unsent(&self) -> bool {
        self.sent < self.unconfirmed.len()
    }

    /// The standby does not confirm any more; its copy of the protocol's state is lost.
    pub(super) fn overflowed(&self) -> bool {
        self.unconfirmed.len() > UNCONFIRMED_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(n: u8) -> ToStandby {
        ToStandby::Surplus { subscription: twinfeed_dedup::SubscriptionId(1), snapshot: vec![n] }
    }

    fn numbers(outbox: &mut Outbox) -> Vec<u64> {
        std::iter::from_fn(|| outbox.next())
            .map(|m| match m {
                OwnerMessage::Merge { number, .. } => number,
                OwnerMessage::Welcome { .. } => 0,
            })
            .collect()
    }

    #[test]
    fn a_broken_session_repeats_exactly_what_was_not_confirmed() {
        let mut outbox = Outbox::default();
        (1..=4).for_each(|n| outbox.push(message(n), Vec::new()));
        assert_eq!(numbers(&mut outbox), [1, 2, 3, 4]);
        outbox.confirm(2);
        outbox.push(message(5), Vec::new());
        assert_eq!(numbers(&mut outbox), [5], "confirmed or sent messages are not sent twice in one session");
        outbox.rewind();
        assert_eq!(numbers(&mut outbox), [3, 4, 5]);
    }
}
