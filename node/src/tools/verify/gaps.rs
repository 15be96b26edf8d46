//! What the cluster itself said may be missing, held against what is missing: a loss outside every reported gap is a silent
//! one. Pure; it knows the events as `wsctl` prints them and nothing else of a cluster.

use serde::Deserialize;

use super::Verdict;

/// A path is late by its skew and jitter, and a frame is stamped when it is read, not when it was sent.
const SLACK_MS: u64 = 250;

/// An event, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Event {
    kind: String,
    attributes: Bounds,
}

/// Milliseconds since 1970, as texts like every attribute; a gap that counts dropped messages has none.
#[derive(Debug, Deserialize)]
struct Bounds {
    from_ms: Option<String>,
    to_ms: Option<String>,
}

/// The gaps of a list of events.
#[derive(Debug)]
pub(super) struct Reported {
    /// From and to, milliseconds since 1970.
    gaps: Vec<(u64, u64)>,
}

impl Reported {
    /// Reads JSON lines; events that are no gap with bounds, and lines that are no event, do not count.
    pub(super) fn parse(text: &str) -> Self {
        let gap = |line: &str| {
            let event: Event = serde_json::from_str(line).ok().filter(|event: &Event| event.kind == "gap")?;
            Some((event.attributes.from_ms?.parse().ok()?, event.attributes.to_ms?.parse().ok()?))
        };
        Self { gaps: text.lines().filter_map(gap).collect() }
    }

    pub(super) fn count(&self) -> usize {
        self.gaps.len()
    }

    /// The first loss that lies in no gap, in words.
    pub(super) fn lacks(&self, verdict: &Verdict) -> Option<String> {
        let told = |at: u64| self.gaps.iter().any(|(from, to)| *from <= at + SLACK_MS && at <= *to + SLACK_MS);
        let silent = verdict.missing.iter().find(|missing| !told(missing.from_ms) || !told(missing.to_ms));
        if let Some(missing) = silent {
            let (first, last, from_ms, to_ms) = (missing.first, missing.last, missing.from_ms, missing.to_ms);
            let gaps: Vec<String> = self.gaps.iter().map(|(from, to)| format!("{from}..{to}")).collect();
            let gaps = gaps.join(", ");
            return Some(format!(
                "messages {first} to {last}, sent from {from_ms} to {to_ms}, are missing and no gap says so; told: [{gaps}]"
            ));
        }
        let elsewhere = verdict.missing_elsewhere;
        (elsewhere > 0 && self.gaps.is_empty())
            .then(|| format!("{elsewhere} repeats are missing and no gap was reported"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::verify::{Verifier, account::Missing};

    fn verdict(missing: Vec<Missing>, missing_elsewhere: u64) -> Verdict {
        let pattern =
            crate::tools::pattern::PatternArgs { seed: 1, size: 60, repeats: 0.0, hot: 1, ..Default::default() };
        let nothing = Verifier::new(crate::tools::pattern::Pattern::new(pattern).expect("valid")).verdict(&[], &[]);
        Verdict { missing, missing_elsewhere, ..nothing }
    }

    fn gap(from_ms: u64, to_ms: u64) -> String {
        format!(r#"{{"kind":"gap","node":"n1","attributes":{{"from_ms":"{from_ms}","to_ms":"{to_ms}"}}}}"#)
    }

    #[test]
    fn a_loss_outside_every_reported_gap_is_silent() {
        let missing = || vec![Missing { first: 10, last: 20, from_ms: 10_000, to_ms: 11_000 }];
        assert!(Reported::parse("").lacks(&verdict(Vec::new(), 0)).is_none());
        assert!(Reported::parse("").lacks(&verdict(missing(), 0)).is_some());
        assert!(Reported::parse(&gap(9_900, 10_700)).lacks(&verdict(missing(), 0)).is_some(), "only its beginning");
        assert!(Reported::parse(&gap(9_900, 10_900)).lacks(&verdict(missing(), 0)).is_none());
        assert!(Reported::parse("").lacks(&verdict(Vec::new(), 1)).is_some(), "repeats count too");
    }

    #[test]
    fn only_gaps_with_bounds_count() {
        let events = [
            &gap(1, 2),
            r#"{"kind":"gap","attributes":{"dropped":"7"}}"#,
            r#"{"kind":"at_risk","attributes":{"from_ms":"1","to_ms":"2"}}"#,
            "not an event",
        ];
        assert_eq!(Reported::parse(&events.join("\n")).count(), 1);
    }
}
