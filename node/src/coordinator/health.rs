//! Which nodes are up, as the leader sees it. Pure: time is an argument, probes are asked for and answered.
//!
//! A node is silent when its presence has said nothing for `cluster.dead_after` (frozen, cut off), or at once when its
//! connection was lost and one probe had no answer. It is dead when that probe was refused, which only a process that
//! is gone does, or when it has been silent for twice as long. The difference is what a late packet may cost: a silent
//! node may hold messages that nobody else has.

use std::collections::BTreeMap;

use crate::{control::Liveness, model::ids::NodeId, raft::Probed};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Node {
    heard_at_ms: u64,
    /// The live presence stream, 0 when there is none.
    stream: u64,
    /// What the last probe since then has shown.
    probed: Probed,
    probing: bool,
}

impl Node {
    fn heard(now_ms: u64, stream: u64, probing: bool) -> Self {
        Self { heard_at_ms: now_ms, stream, probed: Probed::Alive, probing }
    }
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
/// Silences of `dead_after` after which nobody waits for a node any more.
const DEAD_SILENCES: u64 = 2;

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
            self.nodes.insert(id, Node::heard(now_ms, 0, true));
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
            self.nodes.entry(id).or_insert(Node::heard(now_ms, 0, false));
        }
    }

    /// A report came in on a presence stream.
    pub(super) fn heard(&mut self, id: NodeId, stream: u64, now_ms: u64) {
        if let Some(node) = self.nodes.get_mut(&id) {
            *node = Node::heard(now_ms, stream, node.probing);
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
    pub(super) fn probed(&mut self, id: NodeId, probed: Probed) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.probing = false;
            // A report that arrived while the probe was on its way is the stronger evidence.
            if probed != Probed::Alive && node.stream == 0 {
                node.probed = probed;
            }
        }
    }

    /// The verdict on a node; one that is no member is dead.
    pub(super) fn liveness(&self, id: NodeId, now_ms: u64) -> Liveness {
        let silent_ms = self.silent_ms(id, now_ms);
        let Some(node) = self.nodes.get(&id) else { return Liveness::Dead };
        match node.probed {
            Probed::Refused => Liveness::Dead,
            _ if silent_ms > self.silent_ms_max.saturating_mul(DEAD_SILENCES) => Liveness::Dead,
            Probed::Unanswered => Liveness::Silent,
            Probed::Alive if silent_ms > self.silent_ms_max => Liveness::Silent,
            Probed::Alive => Liveness::Up,
        }
    }

    /// Whether the node takes part.
    pub(super) fn is_up(&self, id: NodeId, now_ms: u64) -> bool {
        self.liveness(id, now_ms) == Liveness::Up
    }

    /// Milliseconds since the node was heard.
    pub(super) fn silent_ms(&self, id: NodeId, now_ms: u64) -> u64 {
        self.nodes.get(&id).map_or(u64::MAX, |n| now_ms.saturating_sub(n.heard_at_ms))
    }
}

fn ask(node: &mut Node) -> bool {
    let ask = !node.probing && node.probed != Probed::Refused;
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
            health.probed(id, Probed::Alive);
            health.heard(id, id * 10, 1_000);
        }
        health
    }

    #[test]
    fn a_lost_connection_and_a_refused_probe_are_enough() {
        let mut health = leading();
        assert!(health.stream_ended(2, 20));
        assert!(health.is_up(2, 1_001), "one lost connection alone proves nothing");
        health.probed(2, Probed::Refused);
        assert_eq!(health.liveness(2, 1_001), Liveness::Dead);
        health.heard(2, 21, 1_500);
        assert!(health.is_up(2, 1_501), "a report brings it back");
    }

    #[test]
    fn a_probe_without_an_answer_proves_silence_and_not_death() {
        let mut health = leading();
        assert!(health.stream_ended(2, 20));
        health.probed(2, Probed::Unanswered);
        assert_eq!(health.liveness(2, 1_001), Liveness::Silent);
        assert_eq!(health.liveness(2, 1_000 + 2 * SILENT_MAX_MS), Liveness::Silent);
        assert_eq!(health.liveness(2, 1_001 + 2 * SILENT_MAX_MS), Liveness::Dead, "nobody waits for ever");
        assert!(health.suspected(2), "it may be asked again");
        health.probed(2, Probed::Refused);
        assert_eq!(health.liveness(2, 1_002), Liveness::Dead);
        assert!(!health.suspected(2), "who refuses is asked no more");
    }

    #[test]
    fn silence_counts_even_while_the_process_answers_probes() {
        let mut health = leading();
        assert!(health.suspected(3));
        health.probed(3, Probed::Alive);
        assert!(health.is_up(3, 1_000 + SILENT_MAX_MS));
        assert_eq!(health.liveness(3, 1_001 + SILENT_MAX_MS), Liveness::Silent);
    }

    #[test]
    fn the_end_of_an_old_stream_says_nothing_about_the_new_one() {
        let mut health = leading();
        health.heard(2, 22, 1_100);
        assert!(!health.stream_ended(2, 20));
        assert!(health.suspected(2));
        assert!(!health.suspected(2), "one probe at a time");
        health.probed(2, Probed::Refused);
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
        health.probed(1, Probed::Refused);
        assert!(!health.is_up(1, 5_001));
        assert!(health.is_up(2, 5_001));
        assert!(!health.is_up(2, 5_001 + SILENT_MAX_MS));
    }
}
