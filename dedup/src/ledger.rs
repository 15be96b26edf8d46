//! The ledger: what the standby has to be told, and which of its frames wait for which commit.
//!
//! Owned by the merge, one per standby. Every frame is resolved individually: a later one can be in the topic first. Reporting
//! costs as much as there is to report, never a walk over everything that waits.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::{Ack, Fingerprint, RecordId, Resolved, SubscriptionId, ToStandby};

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Frames by the sequence that has to be committed before they are resolved.
    waiting: BinaryHeap<Reverse<Waiting>>,
    resolved: Vec<Resolved>,
    messages: Vec<ToStandby>,
    told: Option<Standing>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    sequence: u64,
    subscription: SubscriptionId,
    index: u64,
    record: RecordId,
}

/// What an ack says about the standby's subscription as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) subscription: SubscriptionId,
    pub(crate) aligned: bool,
    pub(crate) redundant: bool,
}

impl Ledger {
    /// The frame is resolved as soon as `sequence` is committed.
    pub(crate) fn resolve_after(&mut self, sequence: u64, frame: Resolved) {
        let Resolved { subscription, index, record } = frame;
        self.waiting.push(Reverse(Waiting { sequence, subscription, index, record }));
    }

    /// The frame is resolved now; index 0 takes the record out of the surplus.
    pub(crate) fn resolve(&mut self, frame: Resolved) {
        self.resolved.push(frame);
    }

    pub(crate) fn send_surplus(&mut self, subscription: SubscriptionId, snapshot: Vec<u8>) {
        self.messages.push(ToStandby::Surplus { subscription, snapshot });
    }

    /// Queues an ack; one without news is left out unless `unseen` comes from a commit.
    pub(crate) fn ack(&mut self, standing: Standing, committed: u64, unseen: Option<Vec<(RecordId, Fingerprint)>>) {
        while let Some(Reverse(waiting)) = self.waiting.peek()
            && waiting.sequence <= committed
        {
            let Some(Reverse(Waiting { subscription, index, record, .. })) = self.waiting.pop() else { break };
            self.resolved.push(Resolved { subscription, index, record });
        }
        if unseen.is_none() && self.resolved.is_empty() && self.told == Some(standing) {
            return;
        }
        self.told = Some(standing);
        let Standing { subscription, aligned, redundant } = standing;
        let resolved = std::mem::take(&mut self.resolved);
        let unseen = unseen.unwrap_or_default();
        self.messages.push(ToStandby::Ack(Ack { subscription, unseen, resolved, aligned, redundant }));
    }

    /// Whether the standby was told something else last.
    pub(crate) fn is_news(&self, standing: Standing) -> bool {
        self.told.is_some_and(|told| told != standing)
    }

    pub(crate) fn take_messages(&mut self) -> Vec<ToStandby> {
        std::mem::take(&mut self.messages)
    }

    pub(crate) fn unacked_frames(&self) -> usize {
        self.waiting.len() + self.resolved.len()
    }
}
