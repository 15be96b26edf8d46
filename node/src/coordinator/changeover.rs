//! How a new configuration reaches a running pair: the standby takes it over at once, the owner goes on with the older one
//! until the standby, redundant again, has taken its place. Placement makes that move; here is what to do when it does not
//! come to it. Pure.

use std::collections::BTreeMap;

use super::facts::{Pair, Reports, STALLED_MS_MAX, pairs};
use crate::{
    control::State,
    model::ids::{Epoch, WriterId},
};

/// An owner whose standby delivers under the new configuration and is not redundant by then is reopened in place: the two
/// do not read the same any more, so there is nothing that waiting could save.
pub(super) const UNMATCHED_MS_MAX: u64 = 15_000;

/// Since when each writer could have changed over, by the revision that it waits for.
#[derive(Debug, Default)]
pub(super) struct Changeovers {
    since_ms: BTreeMap<WriterId, (u64, u64)>,
}

impl Changeovers {
    /// Owners to be reopened in place, with their epochs.
    pub(super) fn due(&mut self, state: &State, reports: &Reports, now_ms: u64) -> Vec<(WriterId, Epoch)> {
        let outdated: Vec<Pair<'_>> = pairs(state, reports).filter(Pair::is_outdated).collect();
        self.since_ms.retain(|id, (revision, _)| {
            outdated.iter().any(|pair| pair.writer == id && pair.revision == Some(*revision))
        });
        let due = outdated.iter().filter(|pair| self.is_due(pair, now_ms));
        due.map(|pair| (pair.writer.clone(), pair.assignment.epoch)).collect()
    }

    fn is_due(&mut self, pair: &Pair<'_>, now_ms: u64) -> bool {
        let Some(owner) = pair.owner else { return false };
        // Nothing is left to interrupt, and the new configuration may be what mends it.
        if owner.failed.is_some() {
            return true;
        }
        // What waits for Kafka would be forgotten, and nobody else may hold it.
        let commits = owner.delivering && owner.stalled_ms < STALLED_MS_MAX;
        // A standby that the new configuration cannot bring up is the best reason to leave the owner alone.
        let is_refuted =
            pair.assignment.standby.is_some() && !pair.standby.is_some_and(|standby| standby.subscription.connected);
        if !commits || is_refuted {
            self.since_ms.remove(pair.writer);
            return false;
        }
        let revision = pair.revision.unwrap_or_default();
        let (_, since_ms) = *self.since_ms.entry(pair.writer.clone()).or_insert((revision, now_ms));
        now_ms.saturating_sub(since_ms) >= UNMATCHED_MS_MAX
    }

    /// What a former leadership saw says nothing any more.
    pub(super) fn clear(&mut self) {
        self.since_ms.clear();
    }
}
