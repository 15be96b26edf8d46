//! Events: what an operator would want to read afterwards, one line each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Longest message, and longest value of an attribute, in bytes: a few samples of messages side by side fit, and a
/// thousand such events are a few megabytes.
const TEXT_BYTES_MAX: usize = 8 * 1024;
/// Most attributes of one event.
const ATTRIBUTES_MAX: usize = 32;

/// Kinds that say that messages are, or may be, missing: kept longest, and over restarts.
const LOSSES: [&str; 4] = ["gap", "record.rejected", "subscription.gave_up", "writer.failed"];

/// Something that happened, with a stable dotted `kind` such as `takeover.done`, `gap` or `at_risk`. Persisted: never
/// rename a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub at_ms: u64,
    pub kind: String,
    pub node: String,
    pub connector: String,
    pub epoch: u64,
    pub message: String,
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// Whether it says that messages are or may be missing.
    pub fn says_loss(&self) -> bool {
        LOSSES.contains(&self.kind.as_str())
    }

    /// Cuts what is longer than an event may be.
    pub fn bounded(mut self) -> Self {
        cut(&mut self.message);
        self.attributes.values_mut().for_each(cut);
        while self.attributes.len() > ATTRIBUTES_MAX {
            self.attributes.pop_last();
        }
        self
    }

    /// About what it takes in memory and on disk.
    pub fn bytes(&self) -> usize {
        let attributes: usize = self.attributes.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        128 + self.kind.len() + self.node.len() + self.connector.len() + self.message.len() + attributes
    }
}

fn cut(text: &mut String) {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_end_is_cut_between_two_letters() {
        let mut event = Event {
            at_ms: 1,
            kind: "gap".into(),
            node: "n1".into(),
            connector: "btc".into(),
            epoch: 1,
            message: "é".repeat(TEXT_BYTES_MAX),
            attributes: (0..100).map(|i| (format!("a{i}"), "x".repeat(2 * TEXT_BYTES_MAX))).collect(),
        };
        event.message.insert(0, 'x');
        let event = event.bounded();
        assert!(event.message.len() <= TEXT_BYTES_MAX + 3 && event.message.ends_with('…'));
        assert!(event.bytes() < (ATTRIBUTES_MAX + 2) * (TEXT_BYTES_MAX + 16));
    }
}
