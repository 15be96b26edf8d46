//! I7: the topic is silent around a fault no longer than the story allows.

use crate::observation::Observation;

pub(super) fn broken(seen: &Observation, ms_max: u64) -> Option<String> {
    let worst = seen.silence_ms.iter().copied().max()?;
    (worst > ms_max).then(|| format!("the topic was silent for {worst} ms, more than {ms_max} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silence_counts() {
        let seen = Observation { silence_ms: vec![10, 501, 20], ..Observation::default() };
        assert!(broken(&seen, 500).is_some());
        assert_eq!(broken(&seen, 501), None);
    }
}
