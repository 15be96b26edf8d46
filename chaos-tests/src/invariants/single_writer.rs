//! I4: by offset, the writer's epoch never goes back, and within an epoch its sequence has no hole and no repetition: at
//! every moment one producer, and never one that was superseded.

use crate::observation::Observation;

pub(super) fn broken(seen: &Observation) -> Option<String> {
    let books = &seen.books;
    if books.zombies > 0 {
        return Some(format!("{} records of an older epoch are behind records of a newer one", books.zombies));
    }
    (books.sequence_breaks > 0)
        .then(|| format!("the sequence within an epoch has {} holes or repetitions", books.sequence_breaks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zombies_and_broken_sequences_are_two_signs() {
        let mut seen = Observation::default();
        assert_eq!(broken(&seen), None);
        seen.books.sequence_breaks = 1;
        assert!(broken(&seen).is_some_and(|text| text.contains("sequence")));
        seen.books.zombies = 1;
        assert!(broken(&seen).is_some_and(|text| text.contains("epoch")));
    }
}
