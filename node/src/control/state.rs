//! The replicated state of a cluster and the one function that changes it.
//!
//! `raft` feeds it every committed log entry in order; `apply` is total and deterministic, so all replicas hold equal
//! states. A command that does not fit is an [`Outcome`], never an error and never a panic.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    limits::{
        CONFIG_BYTES_MAX, CONFIGS_BYTES_MAX, CONNECTORS_MAX, NAME_BYTES_MAX, NODES_MAX, REMOVED_NODES_MAX,
        REQUEST_ID_BYTES_MAX,
    },
    requests::Requests,
};
use crate::model::{
    command::{Command, Outcome, Proposal},
    connector::{Assignment, Config, Connector, Line, NodeRecord, TargetState, Writer},
    ids::{ClusterId, Epoch, NodeId, WriterId},
};

/// The version written by this binary. Higher ones are refused: an old binary must not drop what it cannot see.
const VERSION: u32 = 1;

/// Everything the cluster agrees on. Persisted in snapshots as JSON: never rename a field, give new ones a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    version: u32,
    cluster_id: ClusterId,
    cluster_name: String,
    nodes: BTreeMap<NodeId, NodeRecord>,
    /// Ids of removed nodes with the log index of their removal.
    removed_nodes: BTreeMap<NodeId, u64>,
    connectors: BTreeMap<String, Connector>,
    writers: BTreeMap<WriterId, Writer>,
    requests: Requests,
}

/// Why stored bytes are not a state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("cluster state cannot be decoded: it is damaged or was written by an incompatible version")]
    Malformed(#[source] serde_json::Error),
    #[error("cluster state has version {found}, this binary knows up to {known}: upgrade it")]
    TooNew { found: u32, known: u32 },
}

impl Default for State {
    fn default() -> Self {
        Self {
            version: VERSION,
            cluster_id: ClusterId::default(),
            cluster_name: String::new(),
            nodes: BTreeMap::new(),
            removed_nodes: BTreeMap::new(),
            connectors: BTreeMap::new(),
            writers: BTreeMap::new(),
            requests: Requests::default(),
        }
    }
}

impl State {
    /// Decodes a state from snapshot bytes.
    ///
    /// # Errors
    /// [`StateError::TooNew`] before anything else is looked at; [`StateError::Malformed`] otherwise.
    pub fn from_json(bytes: &[u8]) -> Result<Self, StateError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let found = serde_json::from_slice::<Versioned>(bytes).map_err(StateError::Malformed)?.version;
        if found > VERSION {
            return Err(StateError::TooNew { found, known: VERSION });
        }
        serde_json::from_slice(bytes).map_err(StateError::Malformed)
    }

    /// Encodes the state for a snapshot.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("maps with string or integer keys always encode as JSON")
    }

    /// Returns the cluster's id; empty until the first entry of the cluster has been applied.
    pub fn cluster_id(&self) -> &ClusterId {
        &self.cluster_id
    }

    /// Returns the cluster's name.
    pub fn cluster_name(&self) -> &str {
        &self.cluster_name
    }

    /// Returns the members by id.
    pub fn nodes(&self) -> &BTreeMap<NodeId, NodeRecord> {
        &self.nodes
    }

    /// Returns the member of this name.
    pub fn node_named(&self, name: &str) -> Option<&NodeRecord> {
        self.nodes.values().find(|node| node.name == name)
    }

    /// Says whether this id was a member once and has been removed for good.
    pub fn is_removed(&self, id: NodeId) -> bool {
        self.removed_nodes.contains_key(&id)
    }

    /// Returns the connectors by name.
    pub fn connectors(&self) -> &BTreeMap<String, Connector> {
        &self.connectors
    }

    /// Returns the writers by id.
    pub fn writers(&self) -> &BTreeMap<WriterId, Writer> {
        &self.writers
    }

    /// Applies one committed command. A request id seen before changes nothing and returns the first outcome; it is refused
    /// when it comes with another command.
    pub fn apply(&mut self, log_index: u64, proposal: &Proposal) -> Outcome {
        if proposal.request_id.len() > REQUEST_ID_BYTES_MAX {
            return refused(format!("request id is longer than {REQUEST_ID_BYTES_MAX} bytes: send a UUID"));
        }
        if let Some(outcome) = self.requests.recall(proposal) {
            return outcome;
        }
        let outcome = self.execute(log_index, proposal.proposed_at_ms, &proposal.command);
        self.requests.remember(proposal, &outcome);
        outcome
    }

    fn execute(&mut self, log_index: u64, at_ms: u64, command: &Command) -> Outcome {
        match command {
            Command::InitCluster { id, name } => self.init_cluster(log_index, id, name),
            Command::PutNode { node } => self.put_node(log_index, node),
            Command::RemoveNode { id } => self.remove_node(log_index, *id),
            Command::SetDraining { id, draining } => match self.nodes.get_mut(id) {
                None => no_node(*id),
                Some(node) => {
                    node.draining = *draining;
                    Outcome::Done { revision: log_index }
                }
            },
            Command::CreateConnector { name, config, target } => {
                self.create_connector(name, config, Stamp { log_index, at_ms }, *target)
            }
            Command::UpdateConnector { name, config, expected_revision, rolls_from } => {
                if let Err(outcome) = self.check_config(name, config) {
                    return outcome;
                }
                let change = |c: &mut Connector| {
                    c.config.clone_from(config);
                    c.configured = log_index;
                };
                let rolls = match self.connector_at(name, *expected_revision) {
                    // Whoever applies a configuration again and again interrupts nobody.
                    Ok(now) if now.config == *config => return Outcome::Done { revision: now.revision },
                    Ok(now) => now.revision == *rolls_from,
                    Err(outcome) => return outcome,
                };
                self.roll_connector(rolls, name, Stamp { log_index, at_ms }, change)
            }
            Command::DeleteConnector { name, expected_revision } => {
                self.delete_connector(log_index, name, *expected_revision)
            }
            Command::SetTarget { name, target } => match self.connectors.get(name) {
                Some(connector) if connector.target == *target => Outcome::Done { revision: connector.revision },
                Some(_) | None => self.reopen_connector(name, Stamp { log_index, at_ms }, |c| c.target = *target),
            },
            Command::Restart { name, rolls } => self.roll_connector(*rolls, name, Stamp { log_index, at_ms }, |_| {}),
            Command::NewEpoch { writer, expected_epoch } => self.new_epoch(log_index, writer, *expected_epoch),
            Command::WantOwner { writer, node } => self.want_owner(log_index, writer, *node),
            Command::Assign { writer, expected_epoch, expected_standby, owner, standby } => {
                let seen = (*expected_epoch, *expected_standby);
                self.assign(log_index, writer, seen, (*owner, *standby))
            }
        }
    }

    fn init_cluster(&mut self, log_index: u64, id: &ClusterId, name: &str) -> Outcome {
        if self.cluster_id == *id {
            return Outcome::Done { revision: log_index };
        }
        if !self.cluster_id.0.is_empty() {
            return refused(format!("this is cluster {} already: it cannot become {id}", self.cluster_id));
        }
        if let Err(outcome) = check_text("cluster id", &id.0).and_then(|()| check_text("cluster name", name)) {
            return outcome;
        }
        self.cluster_id = id.clone();
        self.cluster_name = name.to_owned();
        Outcome::Done { revision: log_index }
    }

    fn put_node(&mut self, log_index: u64, node: &NodeRecord) -> Outcome {
        if node.id == 0 || self.removed_nodes.contains_key(&node.id) {
            return refused(format!(
                "node id {} was removed from the cluster and cannot return: start the node with an empty data directory",
                node.id
            ));
        }
        let texts = [("internal address", &node.internal_address), ("admin address", &node.admin_address)];
        let bad = check_text("node name", &node.name).err().or_else(|| {
            let long = texts.into_iter().chain([("zone", &node.zone)]).find(|(_, text)| text.len() > NAME_BYTES_MAX);
            long.map(|(what, _)| refused(format!("{what} is longer than {NAME_BYTES_MAX} bytes")))
        });
        if let Some(outcome) = bad {
            return outcome;
        }
        if self.nodes.values().any(|other| other.name == node.name && other.id != node.id) {
            return Outcome::AlreadyExists { what: format!("node `{}`", node.name) };
        }
        // The drain flag belongs to the operator: a node that restarts must not clear it.
        let draining = match self.nodes.get(&node.id) {
            Some(known) => known.draining,
            None if self.nodes.len() >= NODES_MAX => {
                return refused(format!("the cluster has {NODES_MAX} nodes, the most it can have: remove a dead one"));
            }
            None => false,
        };
        self.nodes.insert(node.id, NodeRecord { draining, ..node.clone() });
        Outcome::Done { revision: log_index }
    }

    fn remove_node(&mut self, log_index: u64, id: NodeId) -> Outcome {
        if self.nodes.remove(&id).is_none() {
            return no_node(id);
        }
        self.removed_nodes.insert(id, log_index);
        if self.removed_nodes.len() > REMOVED_NODES_MAX {
            let oldest = self.removed_nodes.iter().min_by_key(|(_, index)| **index).map(|(id, _)| *id);
            oldest.map(|id| self.removed_nodes.remove(&id));
        }
        for writer in self.writers.values_mut() {
            writer.wanted_owner = writer.wanted_owner.filter(|wanted| *wanted != id);
            writer.assignment = writer.assignment.take().and_then(|a| without_node(a, id, log_index));
        }
        Outcome::Done { revision: log_index }
    }

    fn create_connector(&mut self, name: &str, config: &Config, stamp: Stamp, target: TargetState) -> Outcome {
        if self.connectors.contains_key(name) {
            return Outcome::AlreadyExists { what: format!("connector `{name}`") };
        }
        if self.connectors.len() >= CONNECTORS_MAX {
            return refused(format!("the cluster has {CONNECTORS_MAX} connectors, the most it can have: delete some"));
        }
        if let Err(outcome) = check_text("connector name", name).and_then(|()| self.check_config(name, config)) {
            return outcome;
        }
        let writer = WriterId(name.to_owned());
        let connector = Connector {
            name: name.to_owned(),
            config: config.clone(),
            target,
            revision: stamp.log_index,
            reopened: stamp.log_index,
            configured: stamp.log_index,
            created: stamp.log_index,
            created_at_ms: stamp.at_ms,
            updated_at_ms: stamp.at_ms,
            writer: writer.clone(),
        };
        self.connectors.insert(name.to_owned(), connector);
        self.writers.insert(writer, Writer { connectors: vec![name.to_owned()], assignment: None, wanted_owner: None });
        Outcome::Done { revision: stamp.log_index }
    }

    /// The connector, if it is still as the caller saw it; 0 accepts any revision.
    fn connector_at(&self, name: &str, expected: u64) -> Result<&Connector, Outcome> {
        let connector = self.connectors.get(name).ok_or_else(|| no_connector(name))?;
        let actual = connector.revision;
        if expected == 0 || expected == actual { Ok(connector) } else { Err(Outcome::Conflict { expected, actual }) }
    }

    fn change_connector(&mut self, name: &str, stamp: Stamp, change: impl FnOnce(&mut Connector)) -> Outcome {
        let Some(connector) = self.connectors.get_mut(name) else { return no_connector(name) };
        change(connector);
        connector.revision = stamp.log_index;
        connector.updated_at_ms = stamp.at_ms;
        Outcome::Done { revision: stamp.log_index }
    }

    /// The same where owner and standby begin anew at once. Sequences are dense per epoch, so that needs a new one.
    fn reopen_connector(&mut self, name: &str, stamp: Stamp, change: impl FnOnce(&mut Connector)) -> Outcome {
        let outcome = self.change_connector(name, stamp, change);
        let changed = self.connectors.get_mut(name).filter(|_| matches!(outcome, Outcome::Done { .. }));
        if let Some(connector) = changed {
            connector.reopened = stamp.log_index;
            let assignment = self.writers.get_mut(&connector.writer).and_then(|writer| writer.assignment.as_mut());
            if let Some(assignment) = assignment {
                assignment.epoch = Epoch(stamp.log_index);
            }
        }
        outcome
    }

    /// The same where a running pair takes it over one after the other, if it `rolls`, and reopens at once otherwise.
    fn roll_connector(
        &mut self,
        rolls: bool,
        name: &str,
        stamp: Stamp,
        change: impl FnOnce(&mut Connector),
    ) -> Outcome {
        if rolls && self.connectors.get(name).is_some_and(|connector| self.is_running_pair(connector)) {
            self.change_connector(name, stamp, change)
        } else {
            self.reopen_connector(name, stamp, change)
        }
    }

    fn is_running_pair(&self, connector: &Connector) -> bool {
        let assignment = self.writers.get(&connector.writer).and_then(|writer| writer.assignment.as_ref());
        connector.target == TargetState::Running && assignment.is_some_and(|assignment| assignment.standby.is_some())
    }

    fn delete_connector(&mut self, log_index: u64, name: &str, expected_revision: u64) -> Outcome {
        let id = match self.connector_at(name, expected_revision) {
            Ok(connector) => connector.writer.clone(),
            Err(outcome) => return outcome,
        };
        self.connectors.remove(name);
        if let Some(writer) = self.writers.get_mut(&id) {
            writer.connectors.retain(|other| other != name);
            if writer.connectors.is_empty() {
                self.writers.remove(&id);
            }
        }
        Outcome::Done { revision: log_index }
    }

    fn want_owner(&mut self, log_index: u64, id: &WriterId, node: Option<NodeId>) -> Outcome {
        let Some(writer) = self.writers.get_mut(id) else { return no_writer(id) };
        if let Some(wanted) = node {
            match self.nodes.get(&wanted) {
                None => return no_node(wanted),
                Some(record) if record.draining => {
                    return refused(format!("node `{}` is draining: it takes no new work", record.name));
                }
                Some(_) => {}
            }
        }
        let owner = writer.assignment.as_ref().map(|a| a.owner);
        writer.wanted_owner = node.filter(|wanted| owner != Some(*wanted));
        Outcome::Done { revision: log_index }
    }

    fn assign(
        &mut self,
        log_index: u64,
        id: &WriterId,
        (expected_epoch, expected_standby): (Epoch, Option<NodeId>),
        (owner, standby): (Option<NodeId>, Option<NodeId>),
    ) -> Outcome {
        let Some(writer) = self.writers.get_mut(id) else { return no_writer(id) };
        if let Some(stranger) = [owner, standby].into_iter().flatten().find(|id| !self.nodes.contains_key(id)) {
            return no_node(stranger);
        }
        if standby.is_some() && (owner.is_none() || owner == standby) {
            return refused("a standby needs an owner on another node".to_owned());
        }
        let current = writer.assignment.as_ref();
        let epoch = current.map_or(Epoch(0), |a| a.epoch);
        if epoch != expected_epoch {
            return Outcome::Conflict { expected: expected_epoch.0, actual: epoch.0 };
        }
        if current.and_then(|a| a.standby) != expected_standby {
            return refused(format!("the standby of writer `{id}` has changed since the decision"));
        }
        // A new standby alone fences nobody, so it must not cost the owner its producer.
        let same_owner = current.is_some_and(|a| Some(a.owner) == owner);
        let promoted = owner.is_some() && current.and_then(|a| a.standby) == owner;
        let epoch = if same_owner { epoch } else { Epoch(log_index) };
        // A promoted standby keeps its connection, so the other line becomes the standby's.
        let owner_line = current.map_or(Line::Primary, |a| if promoted { a.owner_line.other() } else { a.owner_line });
        writer.assignment = owner.map(|owner| Assignment { owner, standby, epoch, owner_line });
        writer.wanted_owner = writer.wanted_owner.filter(|wanted| owner != Some(*wanted));
        Outcome::Done { revision: log_index }
    }

    fn new_epoch(&mut self, log_index: u64, id: &WriterId, expected: Epoch) -> Outcome {
        let Some(writer) = self.writers.get_mut(id) else { return no_writer(id) };
        match &mut writer.assignment {
            Some(assignment) if assignment.epoch == expected => {
                assignment.epoch = Epoch(log_index);
                Outcome::Done { revision: log_index }
            }
            Some(assignment) => Outcome::Conflict { expected: expected.0, actual: assignment.epoch.0 },
            None => refused(format!("writer `{id}` has no owner whose epoch could change")),
        }
    }

    fn check_config(&self, name: &str, config: &Config) -> Result<(), Outcome> {
        let bytes = config_bytes(config);
        if bytes > CONFIG_BYTES_MAX {
            return Err(refused(format!(
                "configuration of `{name}` has {bytes} bytes, the most is {CONFIG_BYTES_MAX}: refer to large values by \
                 file instead of writing them inline"
            )));
        }
        let others: usize = self.connectors.values().filter(|c| c.name != name).map(|c| config_bytes(&c.config)).sum();
        if others + bytes > CONFIGS_BYTES_MAX {
            return Err(refused(format!(
                "all configurations together would have {} bytes, the most is {CONFIGS_BYTES_MAX}: delete connectors or \
                 start a second cluster",
                others + bytes
            )));
        }
        Ok(())
    }
}

/// Where and when a change was committed.
#[derive(Clone, Copy)]
struct Stamp {
    log_index: u64,
    at_ms: u64,
}

/// The assignment once a node is gone for good. The standby holds the frames nobody else has, so it takes over at once
/// rather than leaving the choice open.
fn without_node(assignment: Assignment, gone: NodeId, log_index: u64) -> Option<Assignment> {
    let standby = assignment.standby.filter(|standby| *standby != gone);
    if assignment.owner != gone {
        return Some(Assignment { standby, ..assignment });
    }
    let owner_line = assignment.owner_line.other();
    standby.map(|owner| Assignment { owner, standby: None, epoch: Epoch(log_index), owner_line })
}

fn config_bytes(config: &Config) -> usize {
    config.iter().map(|(key, value)| key.len() + value.len()).sum()
}

fn check_text(what: &str, text: &str) -> Result<(), Outcome> {
    match text.len() {
        0 => Err(refused(format!("{what} is empty"))),
        1..=NAME_BYTES_MAX => Ok(()),
        bytes => Err(refused(format!("{what} has {bytes} bytes, the most is {NAME_BYTES_MAX}"))),
    }
}

fn refused(why: String) -> Outcome {
    Outcome::Refused { why }
}

fn no_node(id: NodeId) -> Outcome {
    Outcome::NotFound { what: format!("node {id}") }
}

fn no_connector(name: &str) -> Outcome {
    Outcome::NotFound { what: format!("connector `{name}`") }
}

fn no_writer(id: &WriterId) -> Outcome {
    Outcome::NotFound { what: format!("writer `{id}`") }
}
