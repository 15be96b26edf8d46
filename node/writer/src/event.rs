//! Events: what an operator would want to read afterwards, one line each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Something that happened, with a stable dotted `kind` such as `takeover.started`, `gap` or `at_risk`.
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
