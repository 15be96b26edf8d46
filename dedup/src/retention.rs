//! The standby's side: every frame is retained until the owner says, for that very frame, that its content is in the topic.
//!
//! The standby's relay feeds it; [`Merge::take_over`](crate::Merge::take_over) consumes it when the standby becomes the
//! owner. It decides nothing about what is written.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::bug::Bug;
use crate::snapshot::{self, SnapshotError};
use crate::{Ack, Fingerprint, Frame, Options, RecordId, SubscriptionId, ToStandby};

/// Earlier subscriptions of this node whose records are recognised in the topic's tail.
const EARLIER_SUBSCRIPTIONS_MAX: usize = 64;

/// Retains the frames of a standby until they are resolved, and knows what else is in the topic.
///
/// A caller that limits bytes can count them in `P` (its drop is the release).
#[derive(Debug)]
pub struct Retention<P> {
    options: Options,
    /// The last subscription, live or ended.
    current: Option<Current>,
    /// Unresolved frames by index, per subscription, oldest subscription first.
    held: VecDeque<(SubscriptionId, BTreeMap<u64, Frame<P>>)>,
    earlier: VecDeque<SubscriptionId>,
    surplus: BTreeMap<RecordId, Fingerprint>,
    aligned: bool,
    redundant: bool,
    bytes: usize,
}

#[derive(Debug)]
struct Current {
    id: SubscriptionId,
    connected: bool,
    /// The owner has aligned it at some time, so surplus and tail are told relative to it.
    was_aligned: bool,
    next_index: u64,
    /// Its recent frames, resolved or not, for the ring that the next newcomer aligns with.
    history: VecDeque<(u64, Fingerprint)>,
}

/// A retention taken apart for a takeover.
#[derive(Debug)]
pub(crate) struct Remains<P> {
    pub(crate) current: Option<RemainingSubscription>,
    pub(crate) held: VecDeque<(SubscriptionId, BTreeMap<u64, Frame<P>>)>,
    pub(crate) earlier: BTreeSet<SubscriptionId>,
    pub(crate) surplus: BTreeMap<RecordId, Fingerprint>,
}

/// The subscription that becomes the new owner's own.
#[derive(Debug)]
pub(crate) struct RemainingSubscription {
    pub(crate) id: SubscriptionId,
    pub(crate) connected: bool,
    pub(crate) was_aligned: bool,
    pub(crate) next_index: u64,
    pub(crate) history: VecDeque<(u64, Fingerprint)>,
}

impl<P> Retention<P> {
    /// Starts without a subscription and without knowledge of the topic.
    pub fn new(options: Options) -> Self {
        Self {
            options: options.bounded(),
            current: None,
            held: VecDeque::new(),
            earlier: VecDeque::new(),
            surplus: BTreeMap::new(),
            aligned: false,
            redundant: false,
            bytes: 0,
        }
    }

    /// A new connection is up. The frames of earlier ones stay retained.
    pub fn subscribed(&mut self, subscription: SubscriptionId) {
        if let Some(previous) = self.current.take() {
            self.earlier.push_back(previous.id);
            if self.earlier.len() > EARLIER_SUBSCRIPTIONS_MAX {
                self.earlier.pop_front();
            }
        }
        self.current = Some(Current {
            id: subscription,
            connected: true,
            was_aligned: false,
            next_index: 1,
            history: VecDeque::new(),
        });
        self.held.push_back((subscription, BTreeMap::new()));
        (self.aligned, self.redundant) = (false, false);
    }

    /// The connection has ended.
    pub fn disconnected(&mut self) {
        if let Some(current) = &mut self.current {
            current.connected = false;
        }
        (self.aligned, self.redundant) = (false, false);
    }

    /// Retains a frame of the current subscription. Frames of others and indices received before are left out.
    pub fn frame(&mut self, frame: Frame<P>) {
        let Some(current) = self.current.as_mut().filter(|current| current.id == frame.subscription) else { return };
        if frame.index < current.next_index {
            return;
        }
        current.next_index = frame.index + 1;
        current.history.push_back((frame.index, frame.fingerprint));
        if current.history.len() > self.options.ring_frames_max {
            current.history.pop_front();
        }
        if self.held.back().is_none_or(|(id, _)| *id != frame.subscription) {
            self.held.push_back((frame.subscription, BTreeMap::new()));
        }
        if let Some((_, frames)) = self.held.back_mut() {
            self.bytes += frame.bytes;
            frames.insert(frame.index, frame);
        }
    }

    /// Takes in the owner's next message.
    ///
    /// # Errors
    /// The surplus snapshot cannot be read; nothing has changed then, and the caller starts the relay over.
    pub fn receive(&mut self, message: ToStandby) -> Result<(), SnapshotError> {
        match message {
            ToStandby::Surplus { subscription, snapshot } => {
                let records = snapshot::decode(&snapshot)?;
                if self.subscription() == Some(subscription) {
                    self.surplus = records.into_iter().collect();
                }
            }
            ToStandby::Ack(ack) => self.acknowledge(ack),
        }
        Ok(())
    }

    fn acknowledge(&mut self, ack: Ack) {
        let speaks_of_current = self.subscription() == Some(ack.subscription);
        if let Some(current) = self.current.as_mut().filter(|_| speaks_of_current) {
            current.was_aligned |= ack.aligned;
            let connected = current.connected;
            self.aligned = ack.aligned && connected;
            self.redundant = ack.redundant && connected;
            self.surplus.extend(ack.unseen);
            while self.surplus.len() > self.options.entries_max {
                self.surplus.pop_first();
            }
        }
        for resolved in ack.resolved {
            if self.subscription() == Some(resolved.subscription) {
                self.surplus.remove(&resolved.record);
            }
            if let Some((_, frames)) = self.held.iter_mut().find(|(id, _)| *id == resolved.subscription) {
                self.bytes -= frames.remove(&resolved.index).map_or(0, |frame| frame.bytes);
                if self.options.has(Bug::PrefixAcks) {
                    *frames = frames.split_off(&resolved.index);
                    self.bytes =
                        self.held.iter().flat_map(|(_, frames)| frames.values()).map(|frame| frame.bytes).sum();
                }
            }
        }
        self.held.retain(|(_, frames)| !frames.is_empty());
    }

    /// Lets go of the frames of all subscriptions but the current one and those that `keep` names: for a standby that is
    /// redundant, frames of ended subscriptions that its owner never knew cannot be resolved and are not needed.
    pub fn forget_except(&mut self, keep: impl Fn(SubscriptionId) -> bool) {
        let current = self.subscription();
        let before = self.held.len();
        self.held.retain(|(id, _)| Some(*id) == current || keep(*id));
        if self.held.len() != before {
            self.bytes = self.retained().map(|frame| frame.bytes).sum();
        }
    }

    /// Whether the current subscription is this one and has delivered a frame.
    pub fn has_numbered(&self, subscription: SubscriptionId) -> bool {
        self.current.as_ref().is_some_and(|current| current.id == subscription && current.next_index > 1)
    }

    /// The last subscription, live or ended.
    pub fn subscription(&self) -> Option<SubscriptionId> {
        self.current.as_ref().map(|current| current.id)
    }

    /// The retained frames in the order they were received.
    pub fn retained(&self) -> impl Iterator<Item = &Frame<P>> {
        self.held.iter().flat_map(|(_, frames)| frames.values())
    }

    /// The retained frames of one subscription from an index on, to continue a broken relay.
    pub fn retained_from(&self, subscription: SubscriptionId, index: u64) -> impl Iterator<Item = &Frame<P>> {
        self.held
            .iter()
            .filter(move |(id, _)| *id == subscription)
            .flat_map(move |(_, frames)| frames.range(index..).map(|(_, frame)| frame))
    }

    /// The subscriptions with retained frames, oldest first: the order in which a broken relay is continued.
    pub fn subscriptions(&self) -> impl Iterator<Item = SubscriptionId> {
        self.held.iter().map(|(id, _)| *id)
    }

    /// Whether the owner has said that the live subscription is aligned.
    pub fn is_aligned(&self) -> bool {
        self.aligned
    }

    /// Whether losing the owner now would lose nothing.
    pub fn is_redundant(&self) -> bool {
        self.redundant
    }

    /// What the retained frames weigh.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Another owner, or the same one anew: what the former one said of the subscription holds no more.
    pub fn owner_changed(&mut self) {
        (self.aligned, self.redundant) = (false, false);
    }

    /// Frames retained.
    pub fn retained_frames(&self) -> usize {
        self.held.iter().map(|(_, frames)| frames.len()).sum()
    }

    /// Records in the topic that the subscription has not delivered yet.
    pub fn surplus_records(&self) -> usize {
        self.surplus.len()
    }

    /// The frame that has been retained longest.
    pub fn oldest_retained(&self) -> Option<&Frame<P>> {
        self.retained().next()
    }

    /// Gives up the frame that has been retained longest: a takeover may now lose it, which the caller reports as a gap.
    pub fn drop_oldest(&mut self) -> Option<Frame<P>> {
        let (_, frames) = self.held.iter_mut().find(|(_, frames)| !frames.is_empty())?;
        let (_, frame) = frames.pop_first()?;
        self.bytes -= frame.bytes;
        Some(frame)
    }

    /// Its frames, oldest subscription first, for a first start: with nothing in the topic there is nothing to take over.
    pub fn into_retained(self) -> impl Iterator<Item = Frame<P>> {
        self.held.into_iter().flat_map(|(_, frames)| frames.into_values())
    }

    /// Takes it apart for a takeover.
    pub(crate) fn into_remains(self) -> Remains<P> {
        let current = self.current.map(|Current { id, connected, was_aligned, next_index, history }| {
            RemainingSubscription { id, connected, was_aligned, next_index, history }
        });
        let earlier = self.earlier.into_iter().collect();
        Remains { current, held: self.held, earlier, surplus: self.surplus }
    }
}
