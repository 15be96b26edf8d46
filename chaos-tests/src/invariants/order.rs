//! I3: the records first attributed to one subscription keep the order in which it received them.

use crate::observation::Observation;

pub(super) fn broken(seen: &Observation) -> Option<String> {
    (seen.books.reordered > 0)
        .then(|| format!("{} records are behind a later one of their subscription", seen.books.reordered))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_swapped_record_is_enough() {
        let mut seen = Observation::default();
        assert_eq!(broken(&seen), None);
        seen.books.reordered = 1;
        assert!(broken(&seen).is_some());
    }
}
