//! What a stream leaves behind besides the topic: who delivered what, who wrote under which epoch, what the system said of itself.
//!
//! Writers and the world write it; the verdict reads it.

use std::collections::{BTreeMap, HashMap, HashSet};

use twinfeed_dedup::{Fingerprint, FrameKind, Resolved, SubscriptionId};
use twinfeed_writer::frame::Frame;

use super::net::NodeId;

/// What the system itself reports as a possible loss or repeat, at the moment it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    /// `takeover.started` with `redundant=false`.
    TakeoverBeforeRedundancy,
    /// The event `gap`.
    Gap,
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Content of each frame that a standby has relayed, by its index.
    pub(crate) frames: HashMap<SubscriptionId, BTreeMap<u64, Fingerprint>>,
    /// Subscriptions that an owner has aligned.
    pub(crate) aligned: HashSet<SubscriptionId>,
    pub(crate) writers: BTreeMap<u64, NodeId>,
    pub(crate) reports: Vec<Report>,
    /// `subscription.gave_up`: a loss only if nobody else reads the feed to its end.
    pub(crate) has_given_up: bool,
    pub(crate) violations: Vec<String>,
    /// I8: frames that a standby was told to release too early, and the first of them.
    pub(crate) released_early: (u64, Option<Resolved>),
    pub(crate) takeovers: u32,
    pub(crate) recoveries: u32,
    pub(crate) fenced: u32,
}

impl Journal {
    /// A standby relays frames.
    pub(crate) fn sent(&mut self, subscription: SubscriptionId, first_index: u64, frames: &[Frame]) {
        let known = self.frames.entry(subscription).or_default();
        let fingerprints = frames.iter().map(|frame| Fingerprint::of(FrameKind::Text, &frame.payload));
        known.extend((first_index..).zip(fingerprints));
    }

    pub(crate) fn live(&mut self, node: NodeId, epoch: u64) {
        let first = *self.writers.entry(epoch).or_insert(node);
        if first != node {
            self.violations.push(format!("epoch {epoch} is used by node {first} and by node {node}"));
        }
    }
}
