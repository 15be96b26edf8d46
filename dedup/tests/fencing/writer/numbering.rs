//! Names the own connection and numbers its frames: `node/src/pipeline/subscription.rs`.

use twinfeed_dedup::SubscriptionId;

use crate::fencing::net::Net;

/// The own connection's identity towards the protocol.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    pub(super) socket: Option<u64>,
    pub(super) id: u64,
    pub(super) last_index: u64,
}

impl Numbering {
    pub(super) fn opened(&mut self, socket: u64) -> SubscriptionId {
        *self = Self { socket: Some(socket), id: socket, last_index: 0 };
        SubscriptionId(self.id)
    }

    pub(super) fn live(&self) -> Option<SubscriptionId> {
        self.socket.map(|_| SubscriptionId(self.id))
    }

    /// The role changed under the live connection: the same socket, a new subscription.
    pub(super) fn renew(&mut self, net: &mut Net) -> Option<SubscriptionId> {
        self.socket?;
        (self.id, self.last_index) = (net.prng.next() | 1, 0);
        self.live()
    }
}
