//! Why a subscription could not be opened or ended. Every text is shown in status, events and logs: none holds a header,
//! a query, user info, or unescaped bytes of the remote side.

use std::{fmt, io, time::Duration};

use tokio_tungstenite::tungstenite::{
    self,
    error::{CapacityError, ProtocolError},
};

use crate::model::frame::EndKind;

/// A server that asks to wait longer is asked again after this all the same: a slip of the server, or a ban of a day,
/// must not keep a subscription silent for so long after whoever runs it has mended it.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// The part of a dial that ran into its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Connect,
    Tls,
    Upgrade,
    Subscribe,
}

impl Stage {
    const fn name(self) -> &'static str {
        match self {
            Self::Connect => "the tcp connect",
            Self::Tls => "the tls handshake",
            Self::Upgrade => "the websocket upgrade",
            Self::Subscribe => "sending the subscription",
        }
    }

    const fn key(self) -> &'static str {
        match self {
            Self::Connect => "websocket.connection.timeout.ms",
            Self::Tls | Self::Upgrade | Self::Subscribe => "twinfeed.websocket.upgrade.timeout.ms",
        }
    }
}

/// An answer to the upgrade that is none: what the server said instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    /// `Retry-After`, as long as it was.
    pub retry_after: Option<Duration>,
    /// A piece of the body, fit for display, without what we had sent; may be empty.
    pub body: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, retry_after, body } = self;
        write!(f, "the server answered {status}{}", advice(*status))?;
        match retry_after {
            None if *status == 429 => f.write_str("; raise websocket.reconnect.interval.ms")?,
            None => {}
            Some(asked) if *asked <= RETRY_AFTER_MAX => write!(f, "; it asks to wait {} s", asked.as_secs())?,
            Some(asked) => {
                let (asked, max) = (asked.as_secs(), RETRY_AFTER_MAX.as_secs());
                write!(f, "; it asks to wait {asked} s, of which {max} s are waited")?;
            }
        }
        if body.is_empty() { Ok(()) } else { write!(f, "; it says: {body}") }
    }
}

/// The end of a connection, or of an attempt at one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration, a reference in it, or a local file does not allow a dial.
    #[error("cannot dial: {0}")]
    Unusable(String),
    /// The host resolves only to addresses that the node must not connect to.
    #[error("refused to connect to {host}: {why}")]
    Refused { host: String, why: String },
    #[error("cannot connect to {host}")]
    Unreachable {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("{} took longer than {limit_ms} ms; see {}", stage.name(), stage.key())]
    TimedOut { stage: Stage, limit_ms: u64 },
    /// The TLS handshake failed: usually an unknown authority or another host's certificate.
    #[error("tls with {host} failed")]
    Tls {
        host: String,
        #[source]
        source: io::Error,
    },
    /// The server answered the upgrade with something else than 101.
    #[error("{0}")]
    NotUpgraded(Refusal),
    /// The peer closed, politely or not, broke the protocol, or is not heard any more.
    #[error("{why}")]
    Ended { kind: EndKind, why: String },
}

impl Error {
    pub(super) fn ended(kind: EndKind, why: impl Into<String>) -> Self {
        Self::Ended { kind, why: why.into() }
    }

    /// What to count it as.
    pub fn kind(&self) -> EndKind {
        match self {
            Self::Unusable(_) | Self::Refused { .. } | Self::Unreachable { .. } | Self::Tls { .. } => EndKind::Connect,
            Self::TimedOut { stage: Stage::Connect | Stage::Tls, .. } => EndKind::Connect,
            Self::TimedOut { .. } | Self::NotUpgraded(_) => EndKind::Handshake,
            Self::Ended { kind, .. } => *kind,
        }
    }

    /// For how long the server asks not to be dialed, up to the bound.
    pub(super) fn asked_to_wait(&self) -> Option<Duration> {
        match self {
            Self::NotUpgraded(refusal) => refusal.retry_after.map(|asked| asked.min(RETRY_AFTER_MAX)),
            _ => None,
        }
    }

    /// The error and its causes in one line, fit for display: no control characters, at most 300 characters.
    pub fn reason(&self) -> String {
        let mut reason = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            reason.push_str(": ");
            reason.push_str(&cause.to_string());
            source = cause.source();
        }
        printable(&reason, 300)
    }

    /// Reads tungstenite's error of an upgraded connection.
    pub(super) fn from_websocket(error: tungstenite::Error, message_bytes_max: usize) -> Self {
        use tungstenite::Error as E;
        let (kind, why) = match error {
            E::Capacity(CapacityError::MessageTooLong { size, .. }) => (
                EndKind::Oversize,
                format!(
                    "a message of {size} bytes or more exceeds twinfeed.websocket.message.bytes.max \
                     ({message_bytes_max})"
                ),
            ),
            E::Io(source) if source.get_ref().is_some_and(|inner| inner.is::<super::guard::Flooded>()) => {
                (EndKind::Protocol, source.to_string())
            }
            E::Io(source) => (EndKind::Closed, format!("connection lost: {source}")),
            E::Protocol(ProtocolError::ResetWithoutClosingHandshake) | E::ConnectionClosed | E::AlreadyClosed => {
                (EndKind::Closed, "the server closed the connection without a close frame".into())
            }
            E::Protocol(ProtocolError::NonZeroReservedBits) => (
                EndKind::Protocol,
                "the server sent a frame with a reserved bit set, as a compressed one (permessage-deflate) has, although \
                 no extension was agreed; turn compression off there"
                    .into(),
            ),
            E::Protocol(source) => (EndKind::Protocol, format!("the server broke the websocket protocol: {source}")),
            E::Utf8(_) => (EndKind::Protocol, "the server sent a text message that is not utf-8".into()),
            E::WriteBufferFull(_) => (EndKind::Idle, "the server takes no bytes: our pongs fill the buffer".into()),
            E::Capacity(_) | E::Http(_) | E::HttpFormat(_) | E::Url(_) | E::Tls(_) | E::AttackAttempt => {
                (EndKind::Protocol, "the websocket connection could not be used".into())
            }
        };
        Self::Ended { kind, why }
    }
}

const fn advice(status: u16) -> &'static str {
    match status {
        300..=399 => " (redirects are never followed; configure the final URL)",
        401 | 403 => " (check websocket.auth.token and websocket.headers)",
        404 => " (check the path of websocket.url)",
        429 => " (too many connections or requests)",
        _ => " instead of 101",
    }
}

/// Text of the remote side made safe for one line of log: control characters escaped, length capped.
pub(super) fn printable(text: &str, chars_max: usize) -> String {
    let escaped = text.chars().flat_map(|c| {
        let escape = if c.is_control() { Some(c.escape_default()) } else { None };
        let plain = if c.is_control() { None } else { Some(c) };
        escape.into_iter().flatten().chain(plain)
    });
    escaped.take(chars_max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_text_cannot_forge_a_log_line() {
        assert_eq!(printable("a\n{\"level\"\x1b[0m", 300), "a\\n{\"level\"\\u{1b}[0m");
        assert_eq!(printable(&"x".repeat(500), 300).len(), 300);
    }

    #[test]
    fn reasons_name_the_key_to_change() {
        let timed_out = Error::TimedOut { stage: Stage::Upgrade, limit_ms: 5 };
        assert!(timed_out.reason().contains("twinfeed.websocket.upgrade.timeout.ms"));
        let reserved = Error::from_websocket(tungstenite::Error::Protocol(ProtocolError::NonZeroReservedBits), 1);
        assert!(reserved.reason().contains("permessage-deflate"), "{}", reserved.reason());
    }

    #[test]
    fn a_wait_that_is_asked_for_is_bounded_and_said() {
        let refused = |seconds: Option<u64>, body: &str| {
            let retry_after = seconds.map(Duration::from_secs);
            Error::NotUpgraded(Refusal { status: 429, retry_after, body: body.into() })
        };
        let common = "the server answered 429 (too many connections or requests)";
        for (error, reason, wait) in [
            (refused(Some(20), "slow down"), "; it asks to wait 20 s; it says: slow down", Some(20)),
            (refused(Some(7200), ""), "; it asks to wait 7200 s, of which 600 s are waited", Some(600)),
            (refused(None, ""), "; raise websocket.reconnect.interval.ms", None),
        ] {
            assert_eq!(error.reason(), format!("{common}{reason}"));
            assert_eq!(error.asked_to_wait(), wait.map(Duration::from_secs));
        }
    }
}
