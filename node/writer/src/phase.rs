//! The phases of a stream on this node.

use twinfeed_dedup::{Frame, Retention, SubscriptionId};

use crate::{Epoch, owner::Owner, payload::Payload, port::TailFrom, standby::Standby};

/// What a stream is at a time; all streams of a writer are the same.
#[derive(Debug)]
pub(crate) enum Phase {
    Standing(Box<Standby>),
    Opening(Opening),
    Owning(Box<Owner>),
    Deposed,
}

/// On the way to the producer: frames are retained until it is open.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) epoch: Epoch,
    pub(crate) retention: Box<Retention<Payload>>,
    pub(crate) tail_from: TailFrom,
    /// Everything that the former owner had is here or in the topic.
    pub(crate) redundant: bool,
    /// When the own connection was lost meanwhile, first: nobody is left to match the next one with.
    pub(crate) lost_at_ms: Option<u64>,
    /// When the former owner was heard last.
    pub(crate) heard_ms: Option<u64>,
    /// The own subscription that lacked what the former owner's delivered. Nobody delivers it now.
    pub(crate) lacking: Option<SubscriptionId>,
}

impl Opening {
    pub(crate) fn new(epoch: Epoch, retention: Retention<Payload>, (tail_from, redundant): (TailFrom, bool)) -> Self {
        let retention = Box::new(retention);
        Self { epoch, retention, tail_from, redundant, lost_at_ms: None, heard_ms: None, lacking: None }
    }

    /// The own connection is gone.
    pub(crate) fn disconnected(&mut self, wall_ms: u64) {
        self.retention.disconnected();
        self.lost_at_ms.get_or_insert(wall_ms);
    }

    /// What may have been lost until now, and whether it goes on: until a line delivers that is not known to lack messages. `live`
    /// is the own one.
    pub(crate) fn hole(
        &self,
        live: Option<SubscriptionId>,
        last_received_at_ms: Option<u64>,
        wall_ms: u64,
    ) -> Option<Hole> {
        let unmatched_ms = last_received_at_ms.filter(|_| !self.redundant).map(|last_ms| {
            let oldest = self.retention.oldest_retained();
            // An overlap that was not matched is part of it.
            oldest.map_or(last_ms, |frame| last_ms.min(received_at_ms(frame)))
        });
        let from_ms = [unmatched_ms, self.lost_at_ms].into_iter().flatten().min()?;
        let whole = live.filter(|id| self.lacking != Some(*id));
        let first = whole.and_then(|id| self.retention.retained_from(id, 0).next());
        let until_ms = first.map_or(wall_ms, received_at_ms).max(last_received_at_ms.unwrap_or(0));
        Some(Hole { from_ms, until_ms, goes_on: first.is_none() })
    }
}

/// A part of the stream that may be missing.
#[derive(Debug)]
pub(crate) struct Hole {
    pub(crate) from_ms: u64,
    pub(crate) until_ms: u64,
    pub(crate) goes_on: bool,
}

fn received_at_ms(frame: &Frame<Payload>) -> u64 {
    frame.payload.received_at_ns / 1_000_000
}
