//! I9: within 30 s after a fault has ended there is one leader that knows every running node, and every stream has two
//! aligned subscriptions on two nodes, without an operator.

use crate::observation::Observation;

/// The limit, milliseconds.
pub(crate) const MS_MAX: u64 = 30_000;

pub(super) fn broken(seen: &Observation) -> Option<String> {
    seen.recoveries.iter().find_map(|recovery| match recovery.took_ms {
        Some(took) if took <= MS_MAX => None,
        Some(took) => Some(format!("redundant only {took} ms after `{}`", recovery.after)),
        None => Some(format!("not redundant again after `{}`: {}", recovery.after, recovery.why)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::Recovery;

    #[test]
    fn late_and_never_are_both_broken() {
        let seen = |took_ms| {
            let recovery = Recovery { after: "kill".to_owned(), took_ms, why: "at risk".to_owned() };
            Observation { recoveries: vec![recovery], ..Observation::default() }
        };
        assert_eq!(broken(&seen(Some(MS_MAX))), None);
        assert!(broken(&seen(Some(MS_MAX + 1))).is_some());
        assert!(broken(&seen(None)).is_some_and(|text| text.contains("at risk")));
    }
}
