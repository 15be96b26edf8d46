//! Why a subscription could not be opened or ended. Every text is shown in status, events and logs: none holds a header,
//! a query, user info, or unescaped bytes of the remote side.

use std::io;

use tokio_tungstenite::tungstenite::{self, error::CapacityError};

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
    #[error("the server answered {status}{}", advice(*status))]
    NotUpgraded { status: u16 },
    /// The peer closed, politely or not, or broke the protocol.
    #[error("{0}")]
    Ended(String),
    /// The connection looks open but nothing proves it alive, or it makes work without delivering.
    #[error("{0}")]
    Dead(String),
}

impl Error {
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

    /// Reads tungstenite's error. Its HTTP variants carry whole responses and requests: only the status leaves here.
    pub(super) fn from_websocket(error: tungstenite::Error, message_bytes_max: usize) -> Self {
        use tungstenite::Error as E;
        match error {
            E::Http(response) => Self::NotUpgraded { status: response.status().as_u16() },
            E::Capacity(CapacityError::MessageTooLong { size, .. }) => Self::Ended(format!(
                "a message of {size} bytes or more exceeds twinfeed.websocket.message.bytes.max ({message_bytes_max})"
            )),
            E::Capacity(CapacityError::TooManyHeaders) => Self::Ended("the server sent too many headers".into()),
            E::Io(source) if source.get_ref().is_some_and(|inner| inner.is::<super::guard::Flooded>()) => {
                Self::Dead(source.to_string())
            }
            E::Io(source) => Self::Ended(format!("connection lost: {source}")),
            E::Protocol(source) => Self::Ended(format!("the server broke the websocket protocol: {source}")),
            E::Utf8(_) => Self::Ended("the server sent a text message that is not utf-8".into()),
            E::ConnectionClosed | E::AlreadyClosed => Self::Ended("the server closed the connection".into()),
            E::AttackAttempt => Self::Ended("the server's answer to the upgrade is too long or too fragmented".into()),
            E::HttpFormat(_) | E::Url(_) | E::Tls(_) | E::WriteBufferFull(_) => {
                Self::Ended("the websocket connection could not be used".into())
            }
        }
    }
}

const fn advice(status: u16) -> &'static str {
    match status {
        300..=399 => " (redirects are never followed; configure the final URL)",
        401 | 403 => " (check websocket.auth.token and websocket.headers)",
        404 => " (check the path of websocket.url)",
        429 => " (too many connections or requests; raise websocket.reconnect.interval.ms)",
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
    fn reasons_name_the_key_to_change_and_no_secret() {
        let timed_out = Error::TimedOut { stage: Stage::Upgrade, limit_ms: 5 };
        assert!(timed_out.reason().contains("twinfeed.websocket.upgrade.timeout.ms"));
        let mut response = http::Response::new(Some(b"canary".to_vec()));
        *response.status_mut() = http::StatusCode::FOUND;
        response.headers_mut().insert("location", "ws://canary/".parse().expect("a header value"));
        let error = Error::from_websocket(tungstenite::Error::Http(Box::new(response)), 1);
        assert!(error.reason().starts_with("the server answered 302 (redirects are never followed"));
        assert!(!format!("{error:?} {}", error.reason()).contains("canary"));
    }
}
