//! What a connection of the tool feed says for itself: a greeting, answers to subscriptions, heartbeats, each with the number
//! of its connection. No other connection carries it, so it is nobody's copy; the verifier tells it from the messages of
//! the feed and does not expect it in the topic. Pure.

use serde::{Deserialize, Serialize};

/// All of them begin so, and no message of a pattern does.
const PREFIX: &[u8] = b"{\"own\":";

/// The occasion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Occasion {
    Greeting,
    Answer,
    Heartbeat,
}

/// One message that a connection has for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnMessage {
    pub own: Occasion,
    /// As the ledger numbers them.
    pub connection: u64,
    /// From 1, whatever the occasion.
    pub number: u64,
    /// Of the feed: another run's are told apart.
    pub seed: u64,
}

impl OwnMessage {
    pub fn payload(&self) -> String {
        serde_json::to_string(self).expect("numbers and a word are plain data")
    }

    /// Reads one of a feed with this seed; None if it is none.
    pub fn recognise(payload: &[u8], seed: u64) -> Option<Self> {
        let inside = payload.starts_with(PREFIX).then_some(payload)?;
        serde_json::from_slice(inside).ok().filter(|own: &Self| own.seed == seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_message_is_recognised_by_its_feed_only() {
        let own = OwnMessage { own: Occasion::Heartbeat, connection: 7, number: 3, seed: 1 };
        let payload = own.payload();
        assert_eq!(payload, r#"{"own":"heartbeat","connection":7,"number":3,"seed":1}"#);
        assert_eq!(OwnMessage::recognise(payload.as_bytes(), 1), Some(own));
        assert_eq!(OwnMessage::recognise(payload.as_bytes(), 2), None);
        for other in [&b"{\"n\":1,\"seed\":1,\"pad\":\"\"}"[..], b"{\"own\":1}", b"{\"own\":", b""] {
            assert_eq!(OwnMessage::recognise(other, 1), None);
        }
    }
}
