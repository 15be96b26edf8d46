//! What only one story can tell, such as a state that must be shown or an answer that must be refused.

use crate::observation::Observation;

pub(super) fn broken(seen: &Observation) -> Option<String> {
    seen.findings.first().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_finding_is_told() {
        let mut seen = Observation::default();
        assert_eq!(broken(&seen), None);
        seen.findings.push("served after a failed fsync".to_owned());
        assert_eq!(broken(&seen).as_deref(), Some("served after a failed fsync"));
    }
}
