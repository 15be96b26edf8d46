//! Where writers live: pure and stable, so that asking twice moves nothing.
//!
//! The coordinator of the leader calls [`solve`] whenever a fact changes and proposes the differences. What works is
//! never moved for the sake of balance: balance and zones decide only where something new goes.

use std::{cmp::Reverse, collections::BTreeMap};

use super::placement_model::{Liveness, NodeFacts, Placement, WriterFacts};
use crate::model::{
    connector::{Assignment, Redundancy},
    ids::NodeId,
};

/// Places every writer, in the order given.
///
/// # Invariants
/// - Owner and standby are never the same node; a dual writer has both whenever two nodes can take work.
/// - A silent node keeps what it may hold alone: its place as standby, and, while its standby would lose messages by
///   taking over, as owner, unless an operator wants it elsewhere. A dead one keeps nothing that another can take.
/// - With unchanged facts the answer, once in effect, stays the answer.
/// - A draining node is given nothing new. A healthy owner is moved for an operator only once its target is redundant.
pub fn solve(nodes: &[NodeFacts], writers: &[WriterFacts]) -> Vec<Placement> {
    let mut cluster = Cluster::new(nodes, writers);
    writers
        .iter()
        .map(|writer| {
            cluster.count(writer.assignment.as_ref().map(roles), -1);
            let (owner, standby) = cluster.place(writer);
            cluster.count(owner.map(|owner| (owner, standby)), 1);
            Placement { writer: writer.id.clone(), owner, standby }
        })
        .collect()
}

type Roles = (Option<NodeId>, Option<NodeId>);

fn roles(assignment: &Assignment) -> (NodeId, Option<NodeId>) {
    (assignment.owner, assignment.standby)
}

/// Roles per node: writers owned, and all roles.
#[derive(Clone, Copy, Default)]
struct Load {
    owned: i64,
    total: i64,
}

struct Cluster<'a> {
    nodes: BTreeMap<NodeId, &'a NodeFacts>,
    load: BTreeMap<NodeId, Load>,
}

impl<'a> Cluster<'a> {
    fn new(nodes: &'a [NodeFacts], writers: &[WriterFacts]) -> Self {
        let nodes = nodes.iter().map(|node| (node.id, node)).collect();
        let mut cluster = Self { nodes, load: BTreeMap::new() };
        for writer in writers {
            cluster.count(writer.assignment.as_ref().map(roles), 1);
        }
        cluster
    }

    fn count(&mut self, roles: Option<(NodeId, Option<NodeId>)>, by: i64) {
        let Some((owner, standby)) = roles else { return };
        let load = self.load.entry(owner).or_default();
        load.owned += by;
        load.total += by;
        if let Some(standby) = standby {
            self.load.entry(standby).or_default().total += by;
        }
    }

    fn place(&self, writer: &WriterFacts) -> Roles {
        if !writer.running {
            return (None, None);
        }
        match &writer.assignment {
            None => self.first_time(writer),
            Some(now) if self.up(now.owner) => self.owner_is_up(writer, now),
            Some(now) => self.owner_is_away(writer, now),
        }
    }

    fn first_time(&self, writer: &WriterFacts) -> Roles {
        let owner = writer.wanted_owner.filter(|id| self.takes_work(*id)).or_else(|| self.pick_owner(None));
        (owner, owner.and_then(|owner| self.next_standby(writer, owner, None)))
    }

    fn owner_is_away(&self, writer: &WriterFacts, now: &Assignment) -> Roles {
        let owner_is_dead = self.liveness(now.owner) == Liveness::Dead;
        let standby = now.standby.filter(|standby| self.liveness(*standby) != Liveness::Dead);
        let next = match standby {
            // Even a draining standby: it alone holds the frames that the owner had not committed.
            Some(standby) if self.up(standby) && (owner_is_dead || writer.standby_holds == Some(true)) => Some(standby),
            // Either of the two may come back with what nobody else holds. Meanwhile a standby that is up reads on.
            Some(standby) => return (Some(now.owner), Some(standby)),
            // As long as the owner may come back, somebody else only reads, if two are to read.
            None if !owner_is_dead => return (Some(now.owner), self.pick_standby(writer, now.owner, None)),
            None => self.pick_owner(None),
        };
        match next {
            Some(owner) => (Some(owner), self.next_standby(writer, owner, None)),
            // Nobody can take it. Kept, so that a returning owner goes on at once.
            None => (Some(now.owner), None),
        }
    }

    fn owner_is_up(&self, writer: &WriterFacts, now: &Assignment) -> Roles {
        if let Some(target) = self.move_target(writer, now.owner, now.standby) {
            return if now.standby == Some(target) && writer.redundant {
                let keeps_feed = (!self.draining(now.owner)).then_some(now.owner);
                let standby = keeps_feed.filter(|_| writer.redundancy == Redundancy::Dual);
                (Some(target), standby.or_else(|| self.pick_standby(writer, target, Some(now.owner))))
            } else {
                (Some(now.owner), Some(target))
            };
        }
        let rescuer = now.standby.filter(|standby| self.takes_work(*standby));
        if let Some(owner) = rescuer
            && writer.owner_delivers == Some(false)
            && writer.standby_ready
            && !writer.hold
        {
            return (Some(owner), self.next_standby(writer, owner, Some(now.owner)));
        }
        let may_live = |standby: NodeId| self.liveness(standby) != Liveness::Dead && !self.draining(standby);
        let keeps =
            |standby: &NodeId| writer.redundancy == Redundancy::Dual && *standby != now.owner && may_live(*standby);
        let standby = now.standby.filter(keeps);
        (Some(now.owner), standby.or_else(|| self.pick_standby(writer, now.owner, None)))
    }

    /// The node that a healthy owner shall be moved to: an operator's choice, off a draining node, or to the configuration
    /// that the standby has taken over already.
    fn move_target(&self, writer: &WriterFacts, owner: NodeId, standby: Option<NodeId>) -> Option<NodeId> {
        let wanted = writer.wanted_owner.filter(|id| *id != owner && self.takes_work(*id));
        if wanted.is_some() {
            return wanted;
        }
        let standby = standby.filter(|standby| self.takes_work(*standby));
        if self.draining(owner) {
            return standby.or_else(|| self.pick_owner(Some(owner)));
        }
        standby.filter(|_| writer.outdated)
    }

    /// The standby of a new owner: at once the target, where the writer is to move on.
    fn next_standby(&self, writer: &WriterFacts, owner: NodeId, last_choice: Option<NodeId>) -> Option<NodeId> {
        self.move_target(writer, owner, None).or_else(|| self.pick_standby(writer, owner, last_choice))
    }

    fn pick_owner(&self, except: Option<NodeId>) -> Option<NodeId> {
        let free = self.nodes.keys().copied().filter(|id| self.takes_work(*id) && Some(*id) != except);
        free.min_by_key(|id| {
            let load = self.load_of(*id);
            (load.owned, load.total, *id)
        })
    }

    /// `last_choice` is taken only when no other node can: it has just failed to deliver, or is being left.
    fn pick_standby(&self, writer: &WriterFacts, owner: NodeId, last_choice: Option<NodeId>) -> Option<NodeId> {
        if writer.redundancy == Redundancy::Single {
            return None;
        }
        let free = self.nodes.keys().copied().filter(|id| self.takes_work(*id) && *id != owner);
        free.min_by_key(|id| {
            let load = self.load_of(*id);
            (Some(*id) == last_choice, self.same_zone(*id, owner), load.total, Reverse(load.owned), *id)
        })
    }

    /// One that is no member any more is dead.
    fn liveness(&self, id: NodeId) -> Liveness {
        self.nodes.get(&id).map_or(Liveness::Dead, |node| node.liveness)
    }

    fn up(&self, id: NodeId) -> bool {
        self.liveness(id) == Liveness::Up
    }

    fn draining(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.draining)
    }

    fn takes_work(&self, id: NodeId) -> bool {
        self.up(id) && !self.draining(id)
    }

    fn same_zone(&self, a: NodeId, b: NodeId) -> bool {
        let zone = |id| self.nodes.get(&id).map(|node| node.zone.as_str()).filter(|zone| !zone.is_empty());
        zone(a).is_some() && zone(a) == zone(b)
    }

    fn load_of(&self, id: NodeId) -> Load {
        self.load.get(&id).copied().unwrap_or_default()
    }
}
