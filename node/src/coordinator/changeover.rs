//! How a new configuration, or a restart, reaches a running pair: the standby begins anew at once, the owner goes on as it is
//! until the standby, redundant again, has taken its place. Placement makes that move; here is what to do when it does not
//! come to it. Pure.

use std::collections::BTreeMap;

use super::facts::{Pair, Reports, STALLED_MS_MAX, pairs};
use crate::{
    control::State,
    model::{
        ids::{Epoch, WriterId},
        report::WriterReport,
    },
};

/// An owner whose standby delivers under the new configuration and is not redundant by then is reopened in place: the two
/// do not read the same any more, so there is nothing that waiting could save.
const UNMATCHED_MS_MAX: u64 = 15_000;
/// Fewer frames than this may be too few to match subscriptions by, which wants 64 good ones at most. A configuration that
/// connects and brings nothing never gets there, which is right: it would silence the stream.
pub(super) const UNMATCHED_FRAMES_MIN: u64 = 512;

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
        // Nothing is left to interrupt or to forget, and the new configuration may be what mends it.
        let is_idle = |owner: &WriterReport| !owner.delivering && owner.unacked_records + owner.retained_frames == 0;
        if pair.owner.is_some_and(|owner| owner.failed.is_some() && is_idle(owner)) {
            return true;
        }
        if !is_unmatched(pair) {
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

/// Whether both work, each under its configuration, which is when waiting for a match has an end. An owner that does not
/// commit holds what would be forgotten; a standby that lacks its feed, messages or Kafka is the best reason to leave the
/// owner alone.
fn is_unmatched(pair: &Pair<'_>) -> bool {
    let commits = |owner: &WriterReport| owner.delivering && owner.stalled_ms < STALLED_MS_MAX;
    let works = |standby: &WriterReport| {
        let reads = standby.subscription.connected && standby.frames_received >= UNMATCHED_FRAMES_MIN;
        reads && standby.kafka_connected
    };
    pair.owner.is_some_and(commits) && pair.present_standby().is_some_and(works)
}

#[cfg(test)]
mod tests {
    use super::{
        super::facts::tests::{NEWEST, outdated, scene},
        *,
    };

    #[test]
    fn changeovers_reopen_only_what_cannot_be_interrupted_or_will_never_match() {
        let due_at = |now_ms: &[u64], change: &dyn Fn(&mut WriterReport, &mut WriterReport)| {
            let (state, reports) = scene(|owner, standby| {
                outdated(owner, standby);
                owner.delivering = true;
                change(owner, standby);
            });
            let mut changeovers = Changeovers::default();
            now_ms.iter().map(|now_ms| changeovers.due(&state, &reports, *now_ms).len()).collect::<Vec<_>>()
        };
        let times = [0, UNMATCHED_MS_MAX - 1, UNMATCHED_MS_MAX];
        assert_eq!(due_at(&times, &|owner, _| owner.redundant = false), [0, 0, 1], "they never match");
        assert_eq!(due_at(&times, &|owner, _| owner.revision = NEWEST), [0, 0, 0], "nothing to change");
        let broken = |_: &mut WriterReport, standby: &mut WriterReport| standby.subscription.connected = false;
        assert_eq!(due_at(&times, &broken), [0, 0, 0], "the new configuration does not work");
        let silent = |owner: &mut WriterReport, standby: &mut WriterReport| {
            (owner.redundant, standby.frames_received) = (false, UNMATCHED_FRAMES_MIN - 1);
        };
        assert_eq!(due_at(&times, &silent), [0, 0, 0], "there was nothing yet to match");
        let cut_off = |_: &mut WriterReport, standby: &mut WriterReport| standby.kafka_connected = false;
        assert_eq!(due_at(&times, &cut_off), [0, 0, 0], "the new configuration does not reach Kafka");
        let failed = |owner: &mut WriterReport, _: &mut WriterReport| {
            owner.delivering = false;
            owner.failed = Some("the topic is gone".to_owned());
        };
        assert_eq!(due_at(&times, &failed), [1, 1, 1], "nothing left to interrupt");
        let holding = |owner: &mut WriterReport, standby: &mut WriterReport| {
            failed(owner, standby);
            owner.unacked_records = 1;
        };
        assert_eq!(due_at(&times, &holding), [0, 0, 0], "what it holds is written once the cause is mended");
        let opening = |owner: &mut WriterReport, _: &mut WriterReport| owner.delivering = false;
        assert_eq!(due_at(&times, &opening), [0, 0, 0], "it may hold what nobody else has");
        let waiting = |owner: &mut WriterReport, _: &mut WriterReport| {
            owner.redundant = false;
            owner.stalled_ms = STALLED_MS_MAX;
        };
        assert_eq!(due_at(&times, &waiting), [0, 0, 0], "what waits for Kafka would be forgotten");
    }
}
