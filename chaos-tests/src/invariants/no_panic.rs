//! I11: no node panicked, and none ended that nobody ended.

use crate::observation::Observation;

pub(super) fn broken(seen: &Observation) -> Option<String> {
    seen.nodes.iter().find_map(|node| {
        let panic = node.panics.first().map(|line| format!("{} panicked: {line}", node.name));
        panic.or_else(|| node.died.as_ref().map(|how| format!("{} ended by itself: {how}", node.name)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::NodeLife;

    #[test]
    fn a_panic_and_an_unasked_end_are_both_broken() {
        let seen = |panics, died| {
            let node = NodeLife { name: "n1".to_owned(), panics, died, ..NodeLife::default() };
            Observation { nodes: vec![node], ..Observation::default() }
        };
        assert_eq!(broken(&seen(Vec::new(), None)), None);
        assert!(broken(&seen(vec!["thread 'x' panicked at".to_owned()], None)).is_some());
        assert!(broken(&seen(Vec::new(), Some("exit code 1".to_owned()))).is_some());
    }
}
