//! What the owner has told its standby and the standby has not confirmed yet.
//!
//! A relay session can break with acks in flight. A lost ack is a lost rule of the protocol (a frame that is never
//! released, a surplus record that is never learnt), so every message is numbered and sent again until confirmed.
//! Pure: the writer moves the messages.

use std::{collections::VecDeque, sync::Arc};

use twinfeed_dedup::ToStandby;

use crate::{
    port::Offsets,
    relay::{OwnerMessage, merge_bytes},
};

/// Unconfirmed messages a standby may be behind before the owner gives it up (100 a second are usual), and what they may weigh:
/// an ack of a large batch names every frame of it.
const UNCONFIRMED_MAX: usize = 6_000;
const UNCONFIRMED_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Numbered, unconfirmed messages to one standby incarnation.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    unconfirmed: VecDeque<Message>,
    next_number: u64,
    /// How many of `unconfirmed` this session has been given.
    sent: usize,
    /// What they weigh, roughly.
    bytes: usize,
}

#[derive(Debug)]
struct Message {
    number: u64,
    committed: Arc<Offsets>,
    body: ToStandby,
}

impl Outbox {
    /// Queues a message with the offsets that Kafka had confirmed when it was made.
    pub(crate) fn push(&mut self, body: ToStandby, committed: Arc<Offsets>) {
        self.next_number += 1;
        self.bytes += merge_bytes(&body);
        self.unconfirmed.push_back(Message { number: self.next_number, committed, body });
    }

    /// A new session of the same standby: everything unconfirmed is to be sent again.
    pub(crate) fn rewind(&mut self) {
        self.sent = 0;
    }

    /// The standby has received every message up to `number`.
    pub(crate) fn confirm(&mut self, number: u64) {
        while let Some(message) = self.unconfirmed.pop_front_if(|message| message.number <= number) {
            self.bytes -= merge_bytes(&message.body);
            self.sent = self.sent.saturating_sub(1);
        }
    }

    /// The next message this session has not been given, if any.
    pub(crate) fn next(&mut self) -> Option<OwnerMessage> {
        let message = self.unconfirmed.get(self.sent)?;
        self.sent += 1;
        Some(OwnerMessage::Merge {
            number: message.number,
            committed: message.committed.iter().map(|(&partition, &offset)| (partition, offset)).collect(),
            message: message.body.clone(),
        })
    }

    /// The standby does not confirm any more; its copy of the protocol's state is lost.
    pub(crate) fn overflowed(&self) -> bool {
        self.unconfirmed.len() > UNCONFIRMED_MAX || self.bytes > UNCONFIRMED_BYTES_MAX
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
                OwnerMessage::Welcome { .. } | OwnerMessage::Greet | OwnerMessage::Question { .. } => 0,
            })
            .collect()
    }

    #[test]
    fn a_broken_session_repeats_exactly_what_was_not_confirmed() {
        let mut outbox = Outbox::default();
        (1..=4).for_each(|n| outbox.push(message(n), Arc::default()));
        assert_eq!(numbers(&mut outbox), [1, 2, 3, 4]);
        outbox.confirm(2);
        outbox.push(message(5), Arc::default());
        assert_eq!(numbers(&mut outbox), [5], "confirmed or sent messages are not sent twice in one session");
        outbox.rewind();
        assert_eq!(numbers(&mut outbox), [3, 4, 5]);
    }
}
