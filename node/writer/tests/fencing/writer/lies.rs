//! The seeded bugs that lie between owner and standby: what a writer without the rule would have said or heard.

use std::collections::HashMap;

use twinfeed_dedup::{RecordId, Resolved, SubscriptionId, ToStandby};
use twinfeed_writer::relay::{OwnerMessage, StandbyMessage};

use super::Bug;

pub(crate) struct Lies {
    bug: Bug,
    /// [`Bug::ReleaseBeforeCommit`]: frames that the owner has and has not resolved too early yet.
    merged: Vec<Resolved>,
    /// [`Bug::LateStamps`]: what waits for the next commit, to be said with its offset.
    held_back: Vec<OwnerMessage>,
    /// [`Bug::PrefixAcks`]: up to where the frames of a subscription count as resolved.
    prefixes: HashMap<SubscriptionId, u64>,
}

impl Lies {
    pub(crate) fn new(bug: Bug) -> Self {
        Self { bug, merged: Vec::new(), held_back: Vec::new(), prefixes: HashMap::new() }
    }

    /// The owner hears its standby.
    pub(crate) fn heard(&mut self, said: &StandbyMessage) {
        if self.bug == Bug::ReleaseBeforeCommit
            && let StandbyMessage::Frames { subscription, first_index, frames } = said
        {
            let resolved =
                |index| Resolved { subscription: SubscriptionId(*subscription), index, record: RecordId::UNKNOWN };
            self.merged.extend((*first_index..).take(frames.len()).map(resolved));
        }
    }

    /// What the owner says; `None` while it is held back.
    pub(crate) fn say(&mut self, said: OwnerMessage) -> Option<OwnerMessage> {
        match said {
            OwnerMessage::Merge { .. } if self.bug == Bug::LateStamps => {
                self.held_back.push(said);
                None
            }
            OwnerMessage::Merge { number, committed, message: ToStandby::Ack(mut ack) } => {
                ack.resolved.append(&mut self.merged);
                Some(OwnerMessage::Merge { number, committed, message: ToStandby::Ack(ack) })
            }
            other => Some(other),
        }
    }

    /// A commit is known: what was held back is said with its offset.
    pub(crate) fn committed(&mut self, next_offset: i64) -> Vec<OwnerMessage> {
        let stamped = |said| match said {
            OwnerMessage::Merge { number, message, .. } => {
                OwnerMessage::Merge { number, committed: vec![(0, next_offset)], message }
            }
            other => other,
        };
        std::mem::take(&mut self.held_back).into_iter().map(stamped).collect()
    }

    /// What the standby makes of what its owner says.
    pub(crate) fn believe(&mut self, said: OwnerMessage) -> OwnerMessage {
        match said {
            // As if the owner remembered something: the numbers go on.
            OwnerMessage::Welcome { next } if self.bug == Bug::OldNumbers && next.is_empty() => {
                OwnerMessage::Welcome { next: vec![(0, 1)] }
            }
            OwnerMessage::Merge { number, committed, message: ToStandby::Ack(mut ack) }
                if self.bug == Bug::PrefixAcks =>
            {
                for resolved in ack.resolved.clone() {
                    let through = self.prefixes.entry(resolved.subscription).or_insert(1);
                    let before = *through..resolved.index;
                    *through = (*through).max(resolved.index);
                    let record = RecordId::UNKNOWN;
                    ack.resolved.extend(before.map(|index| Resolved { index, record, ..resolved }));
                }
                OwnerMessage::Merge { number, committed, message: ToStandby::Ack(ack) }
            }
            other => other,
        }
    }
}
