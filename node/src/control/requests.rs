//! The memory that makes a repeated command have one effect: request id -> first outcome, oldest first.
//! Owned by `state`; age is counted in proposers' time, never in this node's.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::limits::{REQUEST_AGE_MS_MAX, REQUESTS_KEPT_MIN, REQUESTS_MAX};
use crate::model::command::Outcome;

/// One remembered outcome. Persisted in snapshots: never rename a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    request_id: String,
    proposed_at_ms: u64,
    outcome: Outcome,
}

/// Remembered outcomes in log order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Requests(VecDeque<Remembered>);

impl Requests {
    /// Returns the first outcome of this request id. An empty id has no memory.
    pub(super) fn recall(&self, request_id: &str) -> Option<&Outcome> {
        if request_id.is_empty() {
            return None;
        }
        // Repeats come soon after the original: the newest first.
        self.0.iter().rev().find(|r| r.request_id == request_id).map(|r| &r.outcome)
    }

    /// Remembers an outcome and forgets those beyond the bounds.
    pub(super) fn remember(&mut self, request_id: &str, proposed_at_ms: u64, outcome: &Outcome) {
        let oldest_ms = proposed_at_ms.saturating_sub(REQUEST_AGE_MS_MAX);
        while self.0.len() >= REQUESTS_MAX
            || (self.0.len() >= REQUESTS_KEPT_MIN && self.0.front().is_some_and(|r| r.proposed_at_ms < oldest_ms))
        {
            self.0.pop_front();
        }
        if !request_id.is_empty() {
            let request_id = request_id.to_owned();
            self.0.push_back(Remembered { request_id, proposed_at_ms, outcome: outcome.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(revision: u64) -> Outcome {
        Outcome::Done { revision }
    }

    #[test]
    fn the_memory_is_bounded_and_forgets_the_oldest_first() {
        let mut requests = Requests::default();
        for i in 0..REQUESTS_MAX as u64 + 10 {
            requests.remember(&format!("r{i}"), 1_000, &outcome(i));
        }
        assert_eq!(requests.0.len(), REQUESTS_MAX);
        assert_eq!(requests.recall("r9"), None);
        assert_eq!(requests.recall("r10"), Some(&outcome(10)));
    }

    #[test]
    fn a_day_old_outcome_is_forgotten() {
        let mut requests = Requests::default();
        for i in 0..2 * REQUESTS_KEPT_MIN {
            requests.remember(&format!("r{i}"), 1_000, &outcome(1));
        }
        requests.remember("late", 1_001 + REQUEST_AGE_MS_MAX, &outcome(2));
        assert_eq!(requests.recall("r0"), None);
        assert_eq!(requests.0.len(), REQUESTS_KEPT_MIN);
    }

    #[test]
    fn a_clock_far_ahead_does_not_erase_the_recent_memory() {
        let mut requests = Requests::default();
        requests.remember("a", 1_000, &outcome(1));
        requests.remember("b", u64::MAX, &outcome(2));
        assert_eq!(requests.recall("a"), Some(&outcome(1)));
        assert_eq!(requests.recall(""), None);
    }
}
