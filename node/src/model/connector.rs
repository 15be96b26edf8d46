//! A connector as stored: the byte-exact configuration map, and the checked specification read from it.

use std::{
    collections::{BTreeMap, btree_map},
    fmt,
    ops::{Deref, DerefMut},
};

use serde::{Deserialize, Serialize};

use super::{
    ids::{Epoch, NodeId, WriterId},
    redaction::redacted_config,
};

/// A configuration map exactly as submitted (Kafka Connect shape), or properties of a Kafka client. Persisted as a plain
/// map. It may hold secrets: `Debug` shows what the admin API would show.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Config(BTreeMap<String, String>);

impl Config {
    /// Returns an empty one.
    pub fn new() -> Self {
        Self::default()
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(redacted_config(self).0).finish()
    }
}

impl Deref for Config {
    type Target = BTreeMap<String, String>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Config {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl From<BTreeMap<String, String>> for Config {
    fn from(map: BTreeMap<String, String>) -> Self {
        Self(map)
    }
}

impl<const N: usize> From<[(String, String); N]> for Config {
    fn from(pairs: [(String, String); N]) -> Self {
        Self(pairs.into())
    }
}

impl FromIterator<(String, String)> for Config {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl IntoIterator for Config {
    type Item = (String, String);
    type IntoIter = btree_map::IntoIter<String, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Config {
    type Item = (&'a String, &'a String);
    type IntoIter = btree_map::Iter<'a, String, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// What an operator asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetState {
    Running,
    Paused,
    Stopped,
}

/// A connector in cluster state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connector {
    pub name: String,
    pub config: Config,
    pub target: TargetState,
    /// Raft log index of the last change of this connector; the etag.
    pub revision: u64,
    /// That of the last change for which both nodes reopen at once.
    #[serde(default)]
    pub reopened: u64,
    /// That of the last change of the configuration. Who runs this one or a later one only lacks a restart.
    #[serde(default)]
    pub configured: u64,
    /// That of its creation. A connector deleted and made anew under its old name is another one, and so is its stream.
    #[serde(default)]
    pub created: u64,
    pub created_at_ms: u64,
    pub updated_at_ms: u64,
    pub writer: WriterId,
}

/// Who writes: owner and standby of one writer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    pub owner: NodeId,
    pub standby: Option<NodeId>,
    pub epoch: Epoch,
    /// Which of the connector's two URLs the owner reads; the standby reads the other.
    #[serde(default)]
    pub owner_line: Line,
}

/// One of a connector's two URLs. Without a second URL both lines read the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Line {
    #[default]
    Primary,
    Secondary,
}

impl Line {
    /// The one that the twin reads.
    pub fn other(self) -> Self {
        match self {
            Self::Primary => Self::Secondary,
            Self::Secondary => Self::Primary,
        }
    }
}

/// A fencing domain in cluster state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writer {
    /// Connectors whose streams move together with this writer.
    pub connectors: Vec<String>,
    pub assignment: Option<Assignment>,
    /// The node an operator wants as owner (`failover --to-node`); cleared when it is.
    pub wanted_owner: Option<NodeId>,
}

/// A member of the cluster in cluster state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct NodeRecord {
    pub id: NodeId,
    pub name: String,
    /// host:port of the internal gRPC listener.
    pub internal_address: String,
    /// host:port of the admin gRPC listener.
    pub admin_address: String,
    /// Failure domain; empty when unknown.
    pub zone: String,
    pub draining: bool,
}

/// One subscription of two, or one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redundancy {
    Dual,
    Single,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::command::{Command, Proposal};

    #[test]
    fn debug_shows_no_secret_and_the_stored_form_is_a_plain_map() {
        let config = Config::from([
            ("websocket.auth.token".to_owned(), "canary".to_owned()),
            ("producer.override.ssl.key.pem".to_owned(), "canary".to_owned()),
            ("sasl.password".to_owned(), "canary".to_owned()),
        ]);
        let stored = serde_json::to_string(&config).expect("a map of texts");
        assert!(stored.starts_with(r#"{"producer.override.ssl.key.pem":"canary","#), "{stored}");
        assert_eq!(serde_json::from_str::<Config>(&stored).expect("a map"), config);
        let command = Command::CreateConnector { name: "c".to_owned(), config, target: TargetState::Running };
        let proposal = Proposal { request_id: String::new(), proposed_at_ms: 0, asked: 0, command };
        let shown = format!("{proposal:?}");
        assert!(!shown.contains("canary") && shown.contains("sasl.password"), "{shown}");
    }
}
