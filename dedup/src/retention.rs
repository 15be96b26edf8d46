//! The standby's side: every frame is retained until the owner says, for that very frame, that its content is in the topic.
//!
//! The standby's relay feeds it; [`Merge::take_over`](crate::Merge::take_over) consumes it when the standby becomes the
//! owner. It decides nothing about what is written.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::bug::Bug;
use crate::snapshot::{self, SnapshotError};
use crate::{Ack, Fingerprint, Frame, Options, RecordId, Resolved, SubscriptionId, ToStandby};

/// Earlier subscriptions of this node whose records are recognised in the topic's tail.
const EARLIER_SUBSCRIPTIONS_MAX: usize = 64;

/// Retains the frames of a standby until they are resolved, and knows what else is in the topic.
///
/// How much it holds is bounded by its owner: what waits for a commit, what is under way, and, while the subscription is not
/// aligned, [`Options::joining_bytes_max`](crate::Options) in the owner's buffer. A caller with a limit of its own lets frames go with
/// [`Retention::drop_oldest`].
#[derive(Debug)]
pub struct Retention<P> {
    options: Options,
    /// The last subscription, live or ended.
    current: Option<Current>,
    /// Unresolved frames by index, per subscription, oldest subscription first.
    held: VecDeque<Held<P>>,
    bytes: usize,
    earlier: VecDeque<SubscriptionId>,
    surplus: BTreeMap<RecordId, Fingerprint>,
    aligned: bool,
    redundant: bool,
    owner_gone: bool,
    /// Frames that were dropped though the owner counted on them, and are not resolved: until which index, and how many.
    broken: BTreeMap<SubscriptionId, (u64, u64)>,
}

/// The unresolved frames of one subscription.
#[derive(Debug)]
pub(crate) struct Held<P> {
    pub(crate) id: SubscriptionId,
    /// The owner has aligned it at some time: it counts on these frames.
    pub(crate) was_aligned: bool,
    pub(crate) frames: BTreeMap<u64, Frame<P>>,
}

/// A frame that a full retention has let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped<P> {
    /// The frame.
    pub frame: Frame<P>,
    /// A takeover may lose it: its subscription was aligned, so that the owner counts on this node, or the owner is gone. Else
    /// the owner's own line delivers it.
    pub is_gap: bool,
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
    pub(crate) held: VecDeque<Held<P>>,
    pub(crate) earlier: BTreeSet<SubscriptionId>,
    pub(crate) surplus: BTreeMap<RecordId, Fingerprint>,
}

/// The subscription that becomes the new owner's own.
#[derive(Debug)]
pub(crate) struct RemainingSubscription {
    pub(crate) id: SubscriptionId,
    pub(crate) connected: bool,
    pub(crate) next_index: u64,
    pub(crate) history: VecDeque<(u64, Fingerprint)>,
}

impl<P> Held<P> {
    fn new(id: SubscriptionId) -> Self {
        Self { id, was_aligned: false, frames: BTreeMap::new() }
    }
}

impl<P> Retention<P> {
    /// Starts without a subscription and without knowledge of the topic.
    pub fn new(options: Options) -> Self {
        Self {
            options: options.bounded(),
            current: None,
            held: VecDeque::new(),
            bytes: 0,
            earlier: VecDeque::new(),
            surplus: BTreeMap::new(),
            aligned: false,
            redundant: false,
            owner_gone: false,
            broken: BTreeMap::new(),
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
        self.held.push_back(Held::new(subscription));
        (self.aligned, self.redundant) = (false, false);
    }

    /// The connection has ended.
    pub fn disconnected(&mut self) {
        if let Some(current) = &mut self.current {
            current.connected = false;
        }
        (self.aligned, self.redundant) = (false, false);
    }

    /// The owner is gone, and this node is to take over: from here on every frame that is dropped may be lost.
    pub fn owner_gone(&mut self) {
        self.owner_gone = true;
        (self.aligned, self.redundant) = (false, false);
    }

    /// Another owner, or the same one anew, knows nothing of what the last one promised.
    pub fn new_owner(&mut self) {
        self.disconnected();
        self.forgotten();
        self.owner_gone = false;
    }

    /// The owner knows none of these subscriptions any more: what it acknowledges from here on is said of others.
    pub fn forgotten(&mut self) {
        self.held.iter_mut().for_each(|held| held.was_aligned = false);
        if let Some(current) = &mut self.current {
            current.was_aligned = false;
        }
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
        if self.held.back().is_none_or(|held| held.id != frame.subscription) {
            let was_aligned = current.was_aligned;
            self.held.push_back(Held { was_aligned, ..Held::new(frame.subscription) });
        }
        if let Some(held) = self.held.back_mut() {
            self.bytes += frame.bytes;
            held.frames.insert(frame.index, frame);
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
            if let Some(held) = self.held.back_mut().filter(|held| held.id == ack.subscription) {
                held.was_aligned |= ack.aligned;
            }
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
            self.release(&resolved);
        }
        self.held.retain(|held| !held.frames.is_empty());
    }

    fn release(&mut self, resolved: &Resolved) {
        if let Some(held) = self.held.iter_mut().find(|held| held.id == resolved.subscription) {
            let frame = held.frames.remove(&resolved.index);
            self.bytes -= frame.as_ref().map_or(0, |frame| frame.bytes);
            if self.options.has(Bug::PrefixAcks) {
                let rest = held.frames.split_off(&resolved.index);
                let released = std::mem::replace(&mut held.frames, rest);
                self.bytes -= released.into_values().map(|frame| frame.bytes).sum::<usize>();
            }
            if frame.is_some() {
                return;
            }
        }
        if let Some((through, open)) = self.broken.get_mut(&resolved.subscription)
            && (1..=*through).contains(&resolved.index)
        {
            *open -= 1;
            if *open == 0 {
                self.broken.remove(&resolved.subscription);
            }
        }
    }

    /// Lets go of the frames of all subscriptions but the current one and those that `keep` names: for a standby that is
    /// redundant, frames of ended subscriptions that its owner never knew cannot be resolved and are not needed.
    pub fn forget_except(&mut self, keep: impl Fn(SubscriptionId) -> bool) {
        let current = self.subscription();
        let (needed, bytes) = (|id| Some(id) == current || keep(id), &mut self.bytes);
        // Called with every ack: what stays is not counted again, as that may be a long backlog.
        self.held.retain(|held| {
            if !needed(held.id) {
                *bytes -= held.frames.values().map(|frame| frame.bytes).sum::<usize>();
            }
            needed(held.id)
        });
        self.broken.retain(|id, _| needed(*id));
    }

    /// Whether the current subscription is this one and has delivered a frame.
    pub fn has_numbered(&self, subscription: SubscriptionId) -> bool {
        self.current.as_ref().is_some_and(|current| current.id == subscription && current.next_index > 1)
    }

    /// The last subscription, live or ended, and the index of its next frame.
    pub fn received(&self) -> Option<(SubscriptionId, u64)> {
        self.current.as_ref().map(|current| (current.id, current.next_index))
    }

    /// The last subscription, live or ended.
    pub fn subscription(&self) -> Option<SubscriptionId> {
        self.current.as_ref().map(|current| current.id)
    }

    /// The retained frames in the order they were received.
    pub fn retained(&self) -> impl Iterator<Item = &Frame<P>> {
        self.held.iter().flat_map(|held| held.frames.values())
    }

    /// The retained frames of one subscription from an index on, to continue a broken relay.
    pub fn retained_from(&self, subscription: SubscriptionId, index: u64) -> impl Iterator<Item = &Frame<P>> {
        self.held
            .iter()
            .filter(move |held| held.id == subscription)
            .flat_map(move |held| held.frames.range(index..).map(|(_, frame)| frame))
    }

    /// The subscriptions with retained frames, oldest first: the order in which a broken relay is continued.
    pub fn subscriptions(&self) -> impl Iterator<Item = SubscriptionId> {
        self.held.iter().map(|held| held.id)
    }

    /// Whether the owner has said that the live subscription is aligned.
    pub fn is_aligned(&self) -> bool {
        self.aligned
    }

    /// Whether losing the owner now would lose nothing: the owner says so, and no frame that it counts on had to go.
    pub fn is_redundant(&self) -> bool {
        self.redundant && self.broken.is_empty()
    }

    /// Whether it holds frames of a subscription that the owner has never aligned: what it acknowledged was said of other lines, and
    /// every recent record of the topic may be among them.
    pub fn has_unplaced(&self) -> bool {
        self.held.iter().any(|held| !held.was_aligned && !held.frames.is_empty())
    }

    /// Bytes retained, as the frames weigh.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Frames retained.
    pub fn retained_frames(&self) -> usize {
        self.held.iter().map(|held| held.frames.len()).sum()
    }

    /// The frame that has been retained longest.
    pub fn oldest_retained(&self) -> Option<&Frame<P>> {
        self.retained().next()
    }

    /// Gives up the frame that has been retained longest, and says whether that is a gap.
    pub fn drop_oldest(&mut self) -> Option<Dropped<P>> {
        let held = self.held.iter_mut().find(|held| !held.frames.is_empty())?;
        let (index, frame) = held.frames.pop_first()?;
        self.bytes -= frame.bytes;
        let is_gap = held.was_aligned || self.owner_gone;
        if is_gap {
            let (through, open) = self.broken.entry(held.id).or_default();
            (*through, *open) = (index, *open + 1);
        }
        Some(Dropped { frame, is_gap })
    }

    /// Its frames, oldest subscription first, for a first start: with nothing in the topic there is nothing to take over.
    pub fn into_retained(self) -> impl Iterator<Item = Frame<P>> {
        self.held.into_iter().flat_map(|held| held.frames.into_values())
    }

    /// Takes it apart for a takeover.
    pub(crate) fn into_remains(self) -> Remains<P> {
        let current = self.current.map(|Current { id, connected, next_index, history, .. }| RemainingSubscription {
            id,
            connected,
            next_index,
            history,
        });
        let earlier = self.earlier.into_iter().collect();
        Remains { current, held: self.held, earlier, surplus: self.surplus }
    }
}
