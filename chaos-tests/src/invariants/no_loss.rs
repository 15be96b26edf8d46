//! I1: every message that at least one subscription was sent is in the topic, by an independent `read_committed` reader.

use crate::observation::Observation;

pub(super) fn broken(seen: &Observation) -> Option<String> {
    (seen.books.lost > 0).then(|| format!("{} of {} messages are lost", seen.books.lost, seen.books.sent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_lost_message_is_enough() {
        let mut seen = Observation::default();
        assert_eq!(broken(&seen), None);
        seen.books.lost = 1;
        assert!(broken(&seen).is_some());
    }
}
