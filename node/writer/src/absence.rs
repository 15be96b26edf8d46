//! A hole in the stream whose end is not known yet: nobody delivers what may be missing, until a line does.

use twinfeed_dedup::SubscriptionId;

/// After a takeover without redundancy, while no line has delivered that could be trusted to be whole.
#[derive(Debug)]
pub(crate) struct Absence {
    from_ms: u64,
    /// Lacks what the former owner's line delivered; what it says is no end.
    lacking: Option<SubscriptionId>,
}

impl Absence {
    pub(crate) fn new(from_ms: u64, lacking: Option<SubscriptionId>) -> Self {
        Self { from_ms, lacking }
    }

    /// The bounds of the hole, if this frame ends it, in milliseconds since 1970. One that was read before ends it without any:
    /// its line has been whole all the time.
    pub(crate) fn ended_by(&self, subscription: SubscriptionId, received_at_ms: u64) -> Option<(u64, u64)> {
        (self.lacking != Some(subscription)).then_some((self.from_ms, received_at_ms))
    }
}
