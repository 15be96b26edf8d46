//! Events: what an operator would want to read afterwards, one line each, and which of them is which.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
pub use twinfeed_writer::event::Event;

use super::ids::NodeId;

/// Which event it is, in the whole cluster and for good. Ordered as the node made them. Persisted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventId {
    /// The node that it happened at.
    pub node: NodeId,
    /// Of that node's process; larger after each restart.
    pub life: u64,
    /// Dense from 1 in each life.
    pub number: u64,
}

/// An event that can be told apart from all others. Persisted: never rename a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered {
    pub id: EventId,
    pub event: Event,
}

/// Nodes that a list of the events heard may name: a cluster has at most 64, the others are removed ones.
const NODES_MAX: usize = 128;

/// Up to which life and number each node's events have been heard.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Through(BTreeMap<NodeId, (u64, u64)>);

impl Through {
    /// Whether this event, or a later one of the same node, has been heard.
    pub fn covers(&self, id: EventId) -> bool {
        self.0.get(&id.node).is_some_and(|through| (id.life, id.number) <= *through)
    }

    /// Whether it covers all that the other one does.
    pub fn covers_all(&self, other: &Self) -> bool {
        other.0.iter().all(|(&node, &(life, number))| self.covers(EventId { node, life, number }))
    }

    /// This event has been heard, and so have all earlier ones of its node: they are told in order.
    pub fn note(&mut self, id: EventId) {
        let through = self.0.entry(id.node).or_default();
        *through = (*through).max((id.life, id.number));
        if self.0.len() > NODES_MAX {
            // Whoever has been gone for longest. Forgotten by mistake, its events are told again and known by their ids.
            let oldest = self.0.iter().min_by_key(|(_, through)| **through).map(|(node, _)| *node);
            oldest.map(|node| self.0.remove(&node));
        }
    }

    /// Both together.
    pub fn join(&mut self, other: &Self) {
        for (&node, &(life, number)) in &other.0 {
            self.note(EventId { node, life, number });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(node: NodeId, life: u64, number: u64) -> EventId {
        EventId { node, life, number }
    }

    #[test]
    fn what_was_heard_covers_the_earlier_lives_of_the_same_node_alone() {
        let mut through = Through::default();
        through.note(id(1, 5, 2));
        through.note(id(1, 4, 9));
        assert!(through.covers(id(1, 5, 1)) && through.covers(id(1, 4, 10)));
        assert!(!through.covers(id(1, 5, 3)) && !through.covers(id(2, 1, 1)));
        (0..1_000).for_each(|node| through.note(id(node, node + 10, 1)));
        assert_eq!(through.0.len(), NODES_MAX);
        assert!(through.covers(id(999, 1_009, 1)), "the oldest life went first");
    }
}
