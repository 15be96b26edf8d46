//! I1': whatever is not in the topic, the cluster has said so itself, with bounds that contain the time at which the feed
//! sent it. Messages that nobody was sent count: a feed that could not be reached is a gap too.

use crate::observation::Observation;

/// A path is late by its skew and jitter, and a frame is stamped when it is read, not when it was sent.
const SLACK_MS: u64 = 250;

pub(super) fn broken(seen: &Observation) -> Option<String> {
    let gaps: Vec<_> = seen.nodes.iter().flat_map(|node| &node.gaps).collect();
    let silent = seen.books.missing.iter().find(|missing| {
        let told = |at_ms: u64| gaps.iter().any(|gap| gap.from_ms <= at_ms + SLACK_MS && at_ms <= gap.to_ms + SLACK_MS);
        !told(missing.from_ms) || !told(missing.to_ms)
    });
    if let Some(missing) = silent {
        let (first, last, from_ms, to_ms) = (missing.first, missing.last, missing.from_ms, missing.to_ms);
        let told = gaps.iter().map(|gap| format!("{}..{}", gap.from_ms, gap.to_ms)).collect::<Vec<_>>().join(", ");
        return Some(format!(
            "messages {first} to {last}, sent from {from_ms} to {to_ms}, are missing and no gap says so; told: [{told}]"
        ));
    }
    let elsewhere = seen.books.missing_elsewhere;
    (elsewhere > 0 && gaps.is_empty()).then(|| format!("{elsewhere} repeats are missing and there is no gap at all"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::{Gap, Missing, NodeLife};

    #[test]
    fn a_loss_outside_every_reported_gap_is_silent() {
        let mut seen = Observation::default();
        assert_eq!(broken(&seen), None);
        seen.books.missing = vec![Missing { first: 10, last: 20, from_ms: 10_000, to_ms: 11_000 }];
        assert!(broken(&seen).is_some());
        let gap = |from_ms, to_ms| NodeLife { gaps: vec![Gap { from_ms, to_ms }], ..NodeLife::default() };
        seen.nodes = vec![gap(9_900, 10_700)];
        assert!(broken(&seen).is_some(), "only its beginning is told");
        seen.nodes = vec![gap(9_900, 10_900)];
        assert_eq!(broken(&seen), None);
    }
}
