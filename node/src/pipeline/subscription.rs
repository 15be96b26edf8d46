//! The own subscription's identity towards the protocol.
//!
//! The protocol's subscription is a connection *during one tenure of a role*: when the role changes under a live
//! connection, the frames that follow belong to a new subscription with indices from 1, because what the former role
//! knew of the old one (rings, resolved frames) is gone.

use twinfeed_dedup::{Frame, SubscriptionId};

use super::{Ledger, Payload};
use crate::model::frame;

/// Names the own connection and numbers its frames densely from 1.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    socket: Option<u64>,
    id: u64,
    last_index: u64,
}

impl Numbering {
    /// A connection came up.
    pub(super) fn opened(&mut self, socket: u64) -> SubscriptionId {
        *self = Self { socket: Some(socket), id: socket, last_index: 0 };
        SubscriptionId(self.id)
    }

    /// The connection is gone.
    pub(super) fn closed(&mut self) {
        self.socket = None;
    }

    /// The live subscription, if any.
    pub(super) fn live(&self) -> Option<SubscriptionId> {
        self.socket.map(|_| SubscriptionId(self.id))
    }

    /// The role changed under the live connection: the same socket, a new subscription.
    pub(super) fn renew(&mut self) -> Option<SubscriptionId> {
        self.socket?;
        self.id = rand::random();
        self.last_index = 0;
        self.live()
    }

    /// The next frame of the live subscription; None when `socket` is not the live connection any more.
    pub(super) fn number(&mut self, socket: u64, frame: frame::Frame, ledger: &Ledger) -> Option<Frame<Payload>> {
        if self.socket != Some(socket) {
            return None;
        }
        self.last_index += 1;
        let payload = Payload::new(frame, ledger);
        Some(Frame {
            subscription: SubscriptionId(self.id),
            index: self.last_index,
            fingerprint: payload.fingerprint(),
            bytes: payload.weight_bytes(),
            payload,
        })
    }
}
