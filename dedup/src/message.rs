//! What an owner says to its standby, in order, over one ordered channel.
//!
//! [`Merge`](crate::Merge) makes these, [`Retention`](crate::Retention) takes them in; the relay only carries them.
//! Sending a suffix again after a broken relay is harmless, as long as the order stays.

use crate::{Fingerprint, RecordId, SubscriptionId};

/// One message from the owner to the standby.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToStandby {
    /// Replaces the standby's surplus: its subscription has just been aligned.
    Surplus {
        /// The subscription that the snapshot speaks of.
        subscription: SubscriptionId,
        /// [`snapshot`](crate::snapshot) bytes.
        snapshot: Vec<u8>,
    },
    /// Reports a commit, or what changed while there was nothing to commit.
    Ack(Ack),
}

/// Tells the standby what is in the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The subscription that `unseen`, `aligned` and `redundant` speak of; an ack from before a reconnect must
    /// not make the new subscription redundant.
    pub subscription: SubscriptionId,
    /// Newly committed records that this subscription has not delivered yet: they join the surplus.
    pub unseen: Vec<(RecordId, Fingerprint)>,
    /// Frames that need not be retained any longer, each by its index, of this or an earlier subscription.
    pub resolved: Vec<Resolved>,
    /// Whether the subscription has been matched to the owner's, position by position.
    pub aligned: bool,
    /// Whether everything the owner held when the subscription aligned is in the topic: losing the owner loses nothing.
    pub redundant: bool,
}

/// One frame of the standby whose content is in the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    /// The standby's subscription that delivered the frame.
    pub subscription: SubscriptionId,
    /// The frame's index; 0 when there is no frame: the record can no longer be matched and leaves the surplus.
    pub index: u64,
    /// The record that holds it, or [`RecordId::UNKNOWN`].
    pub record: RecordId,
}
