//! I2: every message is in the topic once; a payload that was sent k times is there k times.

use crate::observation::Observation;

pub(super) fn broken(seen: &Observation) -> Option<String> {
    (seen.books.duplicated > 0).then(|| format!("{} records are duplicates", seen.books.duplicated))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_doubled_record_is_enough() {
        let mut seen = Observation::default();
        assert_eq!(broken(&seen), None);
        seen.books.duplicated = 1;
        assert!(broken(&seen).is_some());
    }
}
