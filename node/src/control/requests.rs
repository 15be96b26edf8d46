//! The memory that makes a repeated command have one effect: request id -> what was asked and the first outcome, oldest first.
//! Owned by `state`; age is counted in proposers' time, never in this node's.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::limits::{REQUEST_AGE_MS_MAX, REQUESTS_KEPT_MIN, REQUESTS_MAX};
use crate::model::command::{Outcome, Proposal};

/// One remembered outcome. Persisted in snapshots: never rename a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    request_id: String,
    proposed_at_ms: u64,
    #[serde(default)]
    asked: u64,
    outcome: Outcome,
}

/// Remembered outcomes in log order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Requests(VecDeque<Remembered>);

impl Requests {
    /// Returns the first outcome of this request id, or that it stands for something else. An empty id has no memory.
    pub(super) fn recall(&self, proposal: &Proposal) -> Option<Outcome> {
        let Proposal { request_id, asked, .. } = proposal;
        if request_id.is_empty() {
            return None;
        }
        // Repeats come soon after the original: the newest first.
        let known = self.0.iter().rev().find(|r| r.request_id == *request_id)?;
        let same = known.asked == *asked;
        Some(if same { known.outcome.clone() } else { Outcome::RequestReused { request_id: request_id.clone() } })
    }

    /// Remembers an outcome and forgets those beyond the bounds.
    pub(super) fn remember(&mut self, proposal: &Proposal, outcome: &Outcome) {
        let Proposal { request_id, asked, proposed_at_ms, .. } = proposal;
        let (asked, proposed_at_ms) = (*asked, *proposed_at_ms);
        let oldest_ms = proposed_at_ms.saturating_sub(REQUEST_AGE_MS_MAX);
        while self.0.len() >= REQUESTS_MAX
            || (self.0.len() >= REQUESTS_KEPT_MIN && self.0.front().is_some_and(|r| r.proposed_at_ms < oldest_ms))
        {
            self.0.pop_front();
        }
        if !request_id.is_empty() {
            let request_id = request_id.clone();
            self.0.push_back(Remembered { request_id, proposed_at_ms, asked, outcome: outcome.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::command::Command;

    fn outcome(revision: u64) -> Outcome {
        Outcome::Done { revision }
    }

    fn proposal(request_id: &str, proposed_at_ms: u64) -> Proposal {
        let command = Command::Restart { name: "c".to_owned(), rolls: false };
        Proposal { request_id: request_id.to_owned(), asked: 7, proposed_at_ms, command }
    }

    #[test]
    fn the_memory_is_bounded_and_forgets_the_oldest_first() {
        let mut requests = Requests::default();
        for i in 0..REQUESTS_MAX as u64 + 10 {
            requests.remember(&proposal(&format!("r{i}"), 1_000), &outcome(i));
        }
        assert_eq!(requests.0.len(), REQUESTS_MAX);
        assert_eq!(requests.recall(&proposal("r9", 0)), None);
        assert_eq!(requests.recall(&proposal("r10", 0)), Some(outcome(10)));
    }

    #[test]
    fn a_day_old_outcome_is_forgotten() {
        let mut requests = Requests::default();
        for i in 0..2 * REQUESTS_KEPT_MIN {
            requests.remember(&proposal(&format!("r{i}"), 1_000), &outcome(1));
        }
        requests.remember(&proposal("late", 1_001 + REQUEST_AGE_MS_MAX), &outcome(2));
        assert_eq!(requests.recall(&proposal("r0", 0)), None);
        assert_eq!(requests.0.len(), REQUESTS_KEPT_MIN);
    }

    #[test]
    fn a_clock_far_ahead_does_not_erase_the_recent_memory() {
        let mut requests = Requests::default();
        requests.remember(&proposal("a", 1_000), &outcome(1));
        requests.remember(&proposal("b", u64::MAX), &outcome(2));
        assert_eq!(requests.recall(&proposal("a", 0)), Some(outcome(1)));
        assert_eq!(requests.recall(&proposal("", 0)), None);
    }
}
