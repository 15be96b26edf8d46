//! Which nodes are up, as the leader sees it. Pure: time is an argument, probes are asked for and answered.
//!
//! A node is down when its presence has been silent for `cluster.dead_after` (frozen, cut off), or at once when its connection was
//! reset and one probe failed (crashed): a killed process answers a probe with a refused connection.

use std::collections::BTreeMap;

use crate::model::ids::NodeId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Node {
    heard_at_ms: u64,
    /// The live presence stream, 0 when there is none.
    stream: u64,
    down: bool,
    probing: bool,
}

/// The leader's verdicts.
#[derive(Debug)]
pub(super) struct Health {
    silent_ms_max: u64,
    nodes: BTreeMap<NodeId, Node>,
    looked_at_ms: u64,
}

/// A leader that did not look for longer than this was frozen itself; it looks every 50 ms.
const LOOKS_WITHIN_MS: u64 = 500;

impl Health {
    /// `silent_ms_max`: silence after which a node counts as down. By default 1.5 s: six missed reports would be 600 ms,
    /// but a pause of a second is usual on a loaded machine, and a wrong verdict costs a takeover.
    pub(super) fn new(silent_ms_max: u64) -> Self {
        Self { silent_ms_max, nodes: BTreeMap::new(), looked_at_ms: 0 }
    }

    /// This node has just become the leader: nobody has reported to it yet, so everybody gets the time of a silence
    /// and a probe. Returns whom to probe.
    pub(super) fn lead(&mut self, members: impl IntoIterator<Item = NodeId>, now_ms: u64) -> Vec<NodeId> {
        self.nodes.clear();
        self.looked_at_ms = now_ms;
        for id in members {
            self.nodes.insert(id, Node { heard_at_ms: now_ms, stream: 0, down: false, probing: true });
        }
        self.nodes.keys().copied().collect()
    }

    /// Verdicts are about to be passed. A time in which this node itself stood still is nobody's silence: what was said
    /// meanwhile may not have been read yet. Where a quorum went on, another leads by now; where none did, a leader that
    /// wakes up must not take everybody for dead, itself included, and move what need not be moved.
    pub(super) fn look(&mut self, now_ms: u64) {
        let away_ms = now_ms.saturating_sub(self.looked_at_ms);
        if away_ms > LOOKS_WITHIN_MS {
            for node in self.nodes.values_mut() {
                node.heard_at_ms = (node.heard_at_ms + away_ms).min(now_ms);
            }
        }
        self.looked_at_ms = now_ms;
    }

    /// Members that joined or left.
    pub(super) fn members(&mut self, members: &[NodeId], now_ms: u64) {
        self.nodes.retain(|id, _| members.contains(id));
        for &id in members {
            self.nodes.entry(id).or_insert(Node { heard_at_ms: now_ms, stream: 0, down: false, probing: false });
        }
    }

    /// A report came in on a presence stream.
    pub(super) fn heard(&mut self, id: NodeId, stream: u64, now_ms: u64) {
        if let Some(node) = self.nodes.get_mut(&id) {
            *node = Node { heard_at_ms: now_ms, stream, down: false, probing: node.probing };
        }
    }

    /// A presence stream ended. True: probe the node now.
    pub(super) fn stream_ended(&mut self, id: NodeId, stream: u64) -> bool {
        match self.nodes.get_mut(&id) {
            Some(node) if node.stream == stream => {
                node.stream = 0;
                ask(node)
            }
            _ => false,
        }
    }

    /// Somebody lost its connection to this node. True: probe it now.
    pub(super) fn suspected(&mut self, id: NodeId) -> bool {
        self.nodes.get_mut(&id).is_some_and(ask)
    }

    /// A probe came back. A live answer proves the process, not that it reports: the silence keeps running.
    pub(super) fn probed(&mut self, id: NodeId, alive: bool) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.probing = false;
            // A report that arrived while the probe was on its way is the stronger evidence.
            node.down |= !alive && node.stream == 0;
        }
    }

    /// Whether the node takes part.
    pub(super) fn is_up(&self, id: NodeId, now_ms: u64) -> bool {
        self.nodes.get(&id).is_some_and(|n| !n.down && now_ms.saturating_sub(n.heard_at_ms) <= self.silent_ms_max)
    }

    /// Milliseconds since the node was heard.
    pub(super) fn silent_ms(&self, id: NodeId, now_ms: u64) -> u64 {
        self.nodes.get(&id).map_or(u64::MAX, |n| now_ms.saturating_sub(n.heard_at_ms))
    }
}

fn ask(node: &mut Node) -> bool {
    let ask = !node.probing && !node.down;
    node.probing |= ask;
    ask
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENT_MAX_MS: u64 = 1_500;

    fn leading() -> Health {
        let mut health = Health::new(SILENT_MAX_MS);
        assert_eq!(health.lead([1, 2, 3], 1_000), [1, 2, 3]);
        for id in [1, 2, 3] {
            health.probed(id, true);
            health.heard(id, id * 10, 1_000);
        }
        health
    }

    #[test]
    fn a_reset_connection_and_a_failed_probe_are_enough() {
        let mut health = leading();
        assert!(health.stream_ended(2, 20));
        assert!(health.is_up(2, 1_001), "one reset alone proves nothing");
        health.probed(2, false);
        assert!(!health.is_up(2, 1_001));
        health.heard(2, 21, 1_500);
        assert!(health.is_up(2, 1_501), "a report brings it back");
    }

    #[test]
    fn silence_counts_even_while_the_process_answers_probes() {
        let mut health = leading();
        assert!(health.suspected(3));
        health.probed(3, true);
        assert!(health.is_up(3, 1_000 + SILENT_MAX_MS));
        assert!(!health.is_up(3, 1_001 + SILENT_MAX_MS));
    }

    #[test]
    fn the_end_of_an_old_stream_says_nothing_about_the_new_one() {
        let mut health = leading();
        health.heard(2, 22, 1_100);
        assert!(!health.stream_ended(2, 20));
        assert!(health.suspected(2));
        assert!(!health.suspected(2), "one probe at a time");
        health.probed(2, false);
        assert!(health.is_up(2, 1_200), "a live stream is stronger than a failed probe");
    }

    #[test]
    fn a_leader_that_was_frozen_takes_nobody_for_dead() {
        let mut health = leading();
        health.look(1_050);
        health.look(1_050 + 60_000);
        assert!([1, 2, 3].into_iter().all(|id| health.is_up(id, 1_050 + 60_000)));
        let mut now_ms = 1_050 + 60_000;
        while now_ms < 1_000 + 60_000 + SILENT_MAX_MS {
            now_ms += LOOKS_WITHIN_MS;
            health.look(now_ms);
        }
        assert!(!health.is_up(2, now_ms), "from then on silence counts");
    }

    #[test]
    fn a_new_leader_gives_everybody_a_probe_and_a_silence() {
        let mut health = Health::new(SILENT_MAX_MS);
        health.lead([1, 2], 5_000);
        health.probed(1, false);
        assert!(!health.is_up(1, 5_001));
        assert!(health.is_up(2, 5_001));
        assert!(!health.is_up(2, 5_001 + SILENT_MAX_MS));
    }
}
