//! I12: a stream of which one line has fallen silent, while the other goes on, is not called redundant any more as soon as
//! that can be known. Until then a kill of the other line's node would lose what nobody was warned of.

use crate::observation::Observation;

/// How long a line may lack what the other has had before the cluster must have noticed, beyond their usual skew, in
/// milliseconds.
const NOTICED_MS_MAX: u64 = 3_000;

pub(super) fn broken(seen: &Observation) -> Option<String> {
    seen.silent_lines.iter().find_map(|line| {
        let bound = NOTICED_MS_MAX + line.skew_ms;
        let wrong = || line.looks.iter().filter(|look| look.after_ms > bound && look.redundant);
        let (first, last) = (wrong().next()?, wrong().next_back()?);
        Some(format!(
            "{}, and the stream was called redundant from {} to {} ms after that ({} of {} looks), more than {bound} ms",
            line.what,
            first.after_ms,
            last.after_ms,
            wrong().count(),
            line.looks.len()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::{Look, SilentLine};

    #[test]
    fn redundant_until_it_can_be_known_and_not_a_moment_longer() {
        let seen = |after_ms, redundant| {
            let looks = vec![Look { after_ms: 100, redundant: true }, Look { after_ms, redundant }];
            let line = SilentLine { what: "a is silent".to_owned(), skew_ms: 20, looks };
            Observation { silent_lines: vec![line], ..Observation::default() }
        };
        assert_eq!(broken(&Observation::default()), None);
        assert_eq!(broken(&seen(NOTICED_MS_MAX + 20, true)), None);
        assert_eq!(broken(&seen(NOTICED_MS_MAX + 21, false)), None);
        assert!(broken(&seen(NOTICED_MS_MAX + 21, true)).is_some_and(|text| text.contains("a is silent")));
    }
}
