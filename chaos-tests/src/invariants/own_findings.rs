//! What only one story can tell, such as a state that must be shown or an answer that must be refused.

use crate::observation::Observation;

/// Further ones mostly follow from these.
const TOLD_MAX: usize = 5;

pub(super) fn broken(seen: &Observation) -> Option<String> {
    (!seen.findings.is_empty()).then(|| seen.findings[..seen.findings.len().min(TOLD_MAX)].join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_findings_are_told() {
        let mut seen = Observation::default();
        assert_eq!(broken(&seen), None);
        seen.findings.push("served after a failed fsync".to_owned());
        assert_eq!(broken(&seen).as_deref(), Some("served after a failed fsync"));
        seen.findings.extend(["and again".to_owned(), "3".to_owned(), "4".to_owned(), "5".to_owned(), "6".to_owned()]);
        assert!(broken(&seen).is_some_and(|text| text.ends_with("fsync; and again; 3; 4; 5")));
    }
}
