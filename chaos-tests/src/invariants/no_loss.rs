//! I1: every message that at least one subscription was sent is in the topic, by an independent `read_committed` reader. A
//! story whose faults cost messages by their nature says when; what lies in such a time is left to I1'.

use crate::observation::Observation;

pub(super) fn broken(seen: &Observation) -> Option<String> {
    let books = &seen.books;
    if books.lost == 0 {
        return None;
    }
    let excused = |at_ms: u64| seen.excused.iter().any(|(from_ms, to_ms)| (*from_ms..=*to_ms).contains(&at_ms));
    let outside = books.missing.iter().find(|missing| !excused(missing.from_ms) || !excused(missing.to_ms));
    match outside {
        _ if seen.excused.is_empty() => Some(format!("{} of {} messages are lost", books.lost, books.sent)),
        Some(missing) => Some(format!("{missing}; outside the times in which the faults of this story cost messages")),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::Missing;

    #[test]
    fn one_lost_message_is_enough() {
        let mut seen = Observation::default();
        assert_eq!(broken(&seen), None);
        seen.books.lost = 1;
        assert!(broken(&seen).is_some());
    }

    #[test]
    fn what_a_fault_costs_by_its_nature_is_excused_and_nothing_beside_it() {
        let mut seen = Observation { excused: vec![(1_000, 2_000)], ..Observation::default() };
        seen.books.lost = 5;
        seen.books.missing = vec![Missing { first: 10, last: 20, from_ms: 1_000, to_ms: 2_000 }];
        assert_eq!(broken(&seen), None);
        seen.books.missing.push(Missing { first: 30, last: 31, from_ms: 1_990, to_ms: 2_001 });
        assert!(broken(&seen).is_some_and(|text| text.contains("30 to 31")));
    }
}
