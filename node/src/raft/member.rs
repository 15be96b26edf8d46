//! The running parts of this node that services, handle and driver share.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use twinfeed_proto::internal::Envelope;

use super::{
    identity::{Identity, IdentityStore},
    options::Options,
    peers::Peers,
    type_config::Raft,
};
use crate::{
    control::State,
    model::{
        connector::NodeRecord,
        ids::{ClusterId, NodeId},
    },
};

/// This node as a member, or as one that is about to become one.
pub(super) struct Member {
    pub(super) raft: Raft,
    pub(super) identity: Arc<IdentityStore>,
    pub(super) peers: Peers,
    pub(super) state: watch::Receiver<Arc<State>>,
    pub(super) options: Options,
    /// The cluster this node asks to join; it lets that cluster's leader, and nobody else, make it belong there.
    pub(super) joining: Mutex<Option<ClusterId>>,
}

impl Member {
    pub(super) fn me(&self) -> Identity {
        self.identity.get()
    }

    /// What this node wants the cluster to know of it. The drain flag is the operator's and not sent.
    pub(super) fn record(&self) -> NodeRecord {
        NodeRecord {
            id: self.me().node_id,
            name: self.options.name.clone(),
            internal_address: self.options.internal_address.clone(),
            admin_address: self.options.admin_address.clone(),
            zone: self.options.zone.clone(),
            draining: false,
        }
    }

    pub(super) fn state(&self) -> Arc<State> {
        self.state.borrow().clone()
    }

    /// Internal addresses of all other members by id: from the cluster state, or from membership before it is known.
    pub(super) fn addresses(&self) -> Vec<(NodeId, String)> {
        let me = self.me().node_id;
        let state = self.state();
        let metrics = self.raft.metrics();
        let membership = metrics.borrow().membership_config.clone();
        let address = |id: NodeId, joined: &str| {
            state.nodes().get(&id).map_or_else(|| joined.to_owned(), |node| node.internal_address.clone())
        };
        membership.nodes().filter(|(id, _)| **id != me).map(|(id, node)| (*id, address(*id, &node.addr))).collect()
    }

    pub(super) fn leader(&self) -> Option<NodeId> {
        self.raft.metrics().borrow().current_leader
    }

    pub(super) fn set_joining(&self, cluster: Option<ClusterId>) {
        *self.joining.lock().unwrap_or_else(PoisonError::into_inner) = cluster;
    }

    pub(super) fn is_joining(&self, cluster: &ClusterId) -> bool {
        self.joining.lock().unwrap_or_else(PoisonError::into_inner).as_ref() == Some(cluster)
    }

    /// Refuses what another cluster sent, what is meant for another node, and what a removed node still says.
    ///
    /// # Errors
    /// The text for `FAILED_PRECONDITION`.
    pub(super) fn check(&self, envelope: Option<&Envelope>) -> Result<(), String> {
        let me = self.me();
        let envelope = envelope.ok_or("the message has no envelope")?;
        if me.cluster_id.0.is_empty() {
            return Err(format!("node `{}` does not belong to a cluster yet", me.name));
        }
        if envelope.cluster_id != me.cluster_id.0 {
            return Err(format!("meant for cluster {}, this is cluster {}", envelope.cluster_id, me.cluster_id));
        }
        if envelope.to_node != me.node_id {
            return Err(format!("meant for node {}, this is node {} (`{}`)", envelope.to_node, me.node_id, me.name));
        }
        if self.state.borrow().is_removed(envelope.from_node) {
            return Err(format!("node {} was removed from this cluster", envelope.from_node));
        }
        Ok(())
    }
}
