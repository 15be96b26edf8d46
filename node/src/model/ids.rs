//! Identities. A node id is random and dies with its disk; a name is what people type.

use std::fmt;

use serde::{Deserialize, Serialize};
pub use twinfeed_writer::{Epoch, NodeId};

/// The cluster's identity, a UUID made once at bootstrap; every message between nodes carries it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct ClusterId(pub String);

/// A fencing domain: one `transactional.id`, one producer. By default one per connector, of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WriterId(pub String);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for WriterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl WriterId {
    /// Kafka's `transactional.id`: the same for every epoch, so that a later `init_transactions` fences an earlier one.
    pub fn transactional_id(&self, cluster: &ClusterId) -> String {
        format!("twinfeed.{cluster}.{self}")
    }
}
