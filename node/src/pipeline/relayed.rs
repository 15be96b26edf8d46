//! The relay session that a writer has, whichever end of it this node is: messages in, and messages out as far as there is room.

use twinfeed_writer::{Message, Writer};

use crate::{
    model::relay::{OwnerMessage, StandbyMessage},
    queue::TrySendError,
    relay_session::{OwnerSession, Session, StandbySession, Weigh},
};

/// An open session.
pub(super) enum Relay {
    WithStandby(Open<StandbyMessage, OwnerMessage>),
    WithOwner {
        open: Open<OwnerMessage, StandbyMessage>,
        /// The owner has said something, so it took the session.
        stood: bool,
    },
}

/// One end of it.
pub(super) struct Open<In, Out> {
    session: Session<In, Out>,
    /// The session has no room for it, so the writer is asked for no more. Lost with the session, as what is under way.
    held: Option<Out>,
}

/// What a session brings.
pub(super) enum Relayed {
    FromStandby(StandbyMessage),
    FromOwner(OwnerMessage),
    /// There is room again in a session that was full.
    Room,
    Ended,
}

enum Heard<In> {
    Message(In),
    Room,
    Ended,
}

impl Relay {
    pub(super) fn with_standby(session: StandbySession) -> Self {
        Self::WithStandby(Open::new(session))
    }

    pub(super) fn with_owner(session: OwnerSession) -> Self {
        Self::WithOwner { open: Open::new(session), stood: false }
    }
}

/// Waits for the session; for ever without one.
pub(super) async fn hear(relay: &mut Option<Relay>) -> Relayed {
    match relay {
        None => std::future::pending().await,
        Some(Relay::WithStandby(open)) => match open.hear().await {
            Heard::Message(message) => Relayed::FromStandby(message),
            Heard::Room => Relayed::Room,
            Heard::Ended => Relayed::Ended,
        },
        Some(Relay::WithOwner { open, stood }) => match open.hear().await {
            Heard::Message(message) => {
                *stood = true;
                Relayed::FromOwner(message)
            }
            Heard::Room => Relayed::Room,
            Heard::Ended => Relayed::Ended,
        },
    }
}

/// Moves what the writer has to say into the session, as far as there is room.
pub(super) fn speak(relay: &mut Option<Relay>, writer: &mut Writer) {
    match relay {
        None => {}
        Some(Relay::WithStandby(open)) => open.speak(|| match writer.next_message()? {
            Message::ToStandby(_, message) => Some(message),
            Message::ToOwner(..) => None,
        }),
        Some(Relay::WithOwner { open, .. }) => open.speak(|| match writer.next_message()? {
            Message::ToOwner(_, message) => Some(message),
            Message::ToStandby(..) => None,
        }),
    }
}

impl<In, Out: Weigh> Open<In, Out> {
    fn new(session: Session<In, Out>) -> Self {
        Self { session, held: None }
    }

    async fn hear(&mut self) -> Heard<In> {
        let Self { session: Session { incoming, outgoing }, held } = self;
        let room = async {
            match held {
                Some(message) => outgoing.room(message.weight()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = incoming.recv() => message.map_or(Heard::Ended, Heard::Message),
            // Nobody receives any more: the end of what comes in is heard in a moment.
            _ = room => Heard::Room,
        }
    }

    /// What does not fit is held; it never waits.
    fn speak(&mut self, mut next: impl FnMut() -> Option<Out>) {
        // Asked first: the writer must not be asked for what nobody would receive.
        while !self.session.outgoing.is_closed() {
            let Some(message) = self.held.take().or_else(&mut next) else { return };
            let weight = message.weight();
            match self.session.outgoing.try_send(message, weight) {
                Ok(()) => {}
                Err(TrySendError::Full(message)) => {
                    self.held = Some(message);
                    return;
                }
                Err(TrySendError::Closed) => return,
            }
        }
        self.held = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay_session::{WAITING_BYTES_MAX, direction};
    use futures_util::FutureExt;

    /// A message of a quarter of the bound, with its number.
    #[derive(Debug, PartialEq)]
    struct Large(u64);

    impl Weigh for Large {
        fn bytes(&self) -> usize {
            WAITING_BYTES_MAX / 4
        }
    }

    #[tokio::test]
    async fn a_full_session_holds_one_message_and_asks_the_writer_for_no_more() {
        let (outgoing, mut sent) = direction::<Large>();
        let (_far, incoming) = direction::<Large>();
        let mut open = Open::new(Session { incoming, outgoing });
        let mut asked = 0;
        let mut next = || {
            asked += 1;
            (asked <= 12).then_some(Large(asked))
        };
        open.speak(&mut next);
        assert_eq!((sent.bytes(), &open.held), (WAITING_BYTES_MAX, &Some(Large(5))));
        assert!(open.hear().now_or_never().is_none(), "no room, and nothing said");
        open.speak(&mut next);
        assert_eq!(open.held, Some(Large(5)));

        for number in 1..=12 {
            assert_eq!(sent.recv().await, Some(Large(number)), "in order, none left out");
            if open.held.is_some() {
                assert!(matches!(open.hear().now_or_never(), Some(Heard::Room)));
            }
            open.speak(&mut next);
            assert!(sent.bytes() <= WAITING_BYTES_MAX);
        }
        assert!(open.held.is_none() && sent.is_empty());
    }

    #[tokio::test]
    async fn a_session_that_nobody_receives_takes_nothing_from_the_writer() {
        let (outgoing, sent) = direction::<Large>();
        let (far, incoming) = direction::<Large>();
        let mut open = Open::new(Session { incoming, outgoing });
        let mut asked = 0;
        open.speak(|| {
            asked += 1;
            Some(Large(asked))
        });
        drop(sent);
        assert!(matches!(open.hear().now_or_never(), Some(Heard::Room)), "it does not wait for ever");
        open.speak(|| panic!("it would be lost"));
        assert_eq!((asked, open.held.is_none()), (5, true));
        drop(far);
        assert!(matches!(open.hear().await, Heard::Ended));
    }
}
