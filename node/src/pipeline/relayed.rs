//! The relay session that a writer has, whichever end of it this node is: messages in, and messages out as far as there is room.

use tokio::sync::mpsc::{Sender, error::TrySendError};
use twinfeed_writer::{Message, Writer};

use crate::model::relay::{OwnerMessage, OwnerSession, StandbyMessage, StandbySession};

/// An open session.
pub(super) enum Relay {
    WithStandby(StandbySession),
    WithOwner {
        session: OwnerSession,
        /// The owner has said something, so it took the session.
        stood: bool,
    },
}

/// What a session brings.
pub(super) enum Relayed {
    FromStandby(StandbyMessage),
    FromOwner(OwnerMessage),
    /// There is room again in a session that was full.
    Room,
    Ended,
}

/// Waits for the session; for ever without one. `full`: something waits for room in it.
pub(super) async fn hear(relay: &mut Option<Relay>, full: bool) -> Relayed {
    match relay {
        None => std::future::pending().await,
        Some(Relay::WithStandby(session)) => tokio::select! {
            message = session.incoming.recv() => message.map_or(Relayed::Ended, Relayed::FromStandby),
            _ = session.outgoing.reserve(), if full => Relayed::Room,
        },
        Some(Relay::WithOwner { session, stood }) => tokio::select! {
            message = session.incoming.recv() => message.map_or(Relayed::Ended, |message| {
                *stood = true;
                Relayed::FromOwner(message)
            }),
            _ = session.outgoing.reserve(), if full => Relayed::Room,
        },
    }
}

/// Moves what the writer has to say into the session. True when the session is full before the writer is done.
pub(super) fn speak(relay: &Option<Relay>, writer: &mut Writer) -> bool {
    match relay {
        None => false,
        Some(Relay::WithStandby(session)) => pump(&session.outgoing, || match writer.next_message()? {
            Message::ToStandby(message) => Some(message),
            Message::ToOwner(_) => None,
        }),
        Some(Relay::WithOwner { session, .. }) => pump(&session.outgoing, || match writer.next_message()? {
            Message::ToOwner(message) => Some(message),
            Message::ToStandby(_) => None,
        }),
    }
}

fn pump<M>(outgoing: &Sender<M>, mut next: impl FnMut() -> Option<M>) -> bool {
    loop {
        match outgoing.try_reserve() {
            Ok(room) => match next() {
                Some(message) => room.send(message),
                None => return false,
            },
            Err(TrySendError::Full(())) => return true,
            // Its end is heard in a moment.
            Err(TrySendError::Closed(())) => return false,
        }
    }
}
