//! I10: no node ever holds more memory or descriptors than a host of the documented size gives it.

use crate::observation::Observation;

/// The default limit of a connector's buffers is 256 MiB; the process around them needs less than as much again.
const RSS_MIB_MAX: u64 = 512;
/// The usual limit of a process is 1,024.
const FDS_MAX: u64 = 512;

pub(super) fn broken(seen: &Observation) -> Option<String> {
    seen.nodes.iter().find_map(|node| {
        if node.rss_mib_max > RSS_MIB_MAX {
            return Some(format!("{} held {} MiB, more than {RSS_MIB_MAX}", node.name, node.rss_mib_max));
        }
        (node.fds_max > FDS_MAX)
            .then(|| format!("{} held {} descriptors, more than {FDS_MAX}", node.name, node.fds_max))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::NodeLife;

    #[test]
    fn memory_and_descriptors_are_capped() {
        let seen = |rss_mib_max, fds_max| {
            let node = NodeLife { name: "n1".to_owned(), rss_mib_max, fds_max, ..NodeLife::default() };
            Observation { nodes: vec![node], ..Observation::default() }
        };
        assert_eq!(broken(&seen(RSS_MIB_MAX, FDS_MAX)), None);
        assert!(broken(&seen(RSS_MIB_MAX + 1, 1)).is_some());
        assert!(broken(&seen(1, FDS_MAX + 1)).is_some());
    }
}
