//! Brings this node into its cluster and keeps what the cluster knows of it true: found or join at the first start,
//! announce a changed address later. Runs as one supervised task for the life of the node.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use openraft::BasicNode;
use tokio::{sync::watch, time::sleep};
use tonic::{Code, Request};
use twinfeed_proto::internal::{AdoptRequest, JoinRequest};
use uuid::Uuid;

use super::{
    error::Error,
    first_start::{FirstStep, Greeting, first_step},
    handle::RaftHandle,
    identity::Identity,
    leader::Joiner,
    member::Member,
    status::RaftStatus,
};
use crate::{
    clock::wall_ms,
    model::{
        command::{Command, Outcome, Proposal},
        connector::NodeRecord,
        ids::{ClusterId, NodeId},
    },
};

/// Time limit of one greeting, in milliseconds.
const HELLO_TIMEOUT_MS: u64 = 1_000;
/// Time limit of one attempt to join, in milliseconds: catching up is part of it.
const JOIN_TIMEOUT_MS: u64 = 30_000;
/// Pauses between attempts: doubled from the first to the second, in milliseconds.
const PAUSE_MS: (u64, u64) = (100, 2_000);
/// How often a settled node looks again whether the cluster knows the truth about it, in milliseconds.
const SETTLED_CHECK_MS: u64 = 1_000;

/// The task of one node; must be run for the node to take part in a cluster.
pub struct Driver {
    member: Arc<Member>,
    handle: RaftHandle,
    status: watch::Sender<RaftStatus>,
}

enum Progress {
    /// Nothing to do now.
    Settled,
    /// Something was done; look again at once.
    Moved,
    /// Not possible yet, and why.
    Blocked(String),
}

impl Driver {
    pub(super) fn new(member: Arc<Member>, handle: RaftHandle, status: watch::Sender<RaftStatus>) -> Self {
        Self { member, handle, status }
    }

    /// Runs until Raft stops.
    ///
    /// # Errors
    /// [`Error::Fatal`] when Raft stopped by itself: the process must end. `Ok` after a shutdown.
    pub async fn run(self) -> Result<(), Error> {
        tokio::select! {
            end = RaftStatus::follow(&self.member, &self.status) => end,
            never = self.lifecycle() => match never {},
        }
    }

    async fn lifecycle(&self) -> std::convert::Infallible {
        let mut pause_ms = PAUSE_MS.0;
        let mut last_reason = String::new();
        let mut joint_before = None;
        loop {
            match self.step().await {
                Progress::Settled => {
                    last_reason.clear();
                    let joint = self.member.joint_membership();
                    if joint.is_some() && joint == joint_before {
                        self.member.finish_membership_change().await;
                    }
                    joint_before = joint;
                    sleep(Duration::from_millis(SETTLED_CHECK_MS)).await;
                    continue;
                }
                Progress::Moved => pause_ms = PAUSE_MS.0,
                Progress::Blocked(reason) => {
                    // Said once per reason: a node may wait for hours for an operator.
                    if reason != last_reason {
                        tracing::warn!(node = %self.member.options.name, "not in the cluster yet: {reason}");
                        last_reason = reason;
                    }
                    pause_ms = (pause_ms * 2).min(PAUSE_MS.1);
                }
            }
            sleep(Duration::from_millis(pause_ms)).await;
        }
    }

    async fn step(&self) -> Progress {
        let me = self.member.me();
        if me.cluster_id.0.is_empty() {
            return self.without_data(&me).await;
        }
        if self.is_voter(me.node_id) {
            return self.announce(&me).await;
        }
        if me.founder && !self.initialized().await {
            return self.found(&me).await;
        }
        self.join(&me.cluster_id).await
    }

    async fn initialized(&self) -> bool {
        // When Raft has stopped the answer no longer matters; `true` does nothing further.
        self.member.raft.is_initialized().await.unwrap_or(true)
    }

    fn is_voter(&self, id: NodeId) -> bool {
        self.member.raft.metrics().borrow().membership_config.voter_ids().any(|voter| voter == id)
    }

    async fn without_data(&self, me: &Identity) -> Progress {
        let others = self.greetings().await;
        match first_step(&me.name, &self.member.options.member_list(), &others) {
            FirstStep::Wait(reason) => Progress::Blocked(reason),
            FirstStep::Join(cluster) => self.join(&cluster).await,
            FirstStep::Found => {
                // Durable before anyone hears of it: after a crash the same id is offered again.
                let cluster = ClusterId(Uuid::new_v4().to_string());
                let identity = self.member.identity.clone();
                let adopt = tokio::task::spawn_blocking(move || identity.adopt(&cluster, true)).await;
                match adopt {
                    Ok(Ok(())) => Progress::Moved,
                    Ok(Err(e)) => Progress::Blocked(e.to_string()),
                    Err(e) => Progress::Blocked(e.to_string()),
                }
            }
        }
    }

    async fn greetings(&self) -> BTreeMap<String, Option<Greeting>> {
        let mut greetings = BTreeMap::new();
        for (name, address) in self.other_initial_members() {
            let hello = self.member.peers.hello(&address, HELLO_TIMEOUT_MS).await.ok();
            let greeting = hello.map(|hello| Greeting {
                node_id: hello.node_id,
                name: hello.name,
                cluster_id: ClusterId(hello.cluster_id),
                member_list: hello.initial_members,
            });
            greetings.insert(name, greeting);
        }
        greetings
    }

    fn other_initial_members(&self) -> Vec<(String, String)> {
        let options = &self.member.options;
        options.initial_members.iter().filter(|(name, _)| *name != options.name).cloned().collect()
    }

    /// Every member adopts the cluster id first, durably; only then does Raft learn who its voters are.
    async fn found(&self, me: &Identity) -> Progress {
        let member = &self.member;
        let mut nodes = BTreeMap::from([(me.node_id, BasicNode::new(&member.options.internal_address))]);
        let mut records = Vec::new();
        for (name, address) in self.other_initial_members() {
            let request = AdoptRequest {
                cluster_id: me.cluster_id.0.clone(),
                cluster_name: me.cluster_name.clone(),
                initial_members: member.options.member_list(),
            };
            match member.peers.adopt(&address, request, HELLO_TIMEOUT_MS).await {
                Ok(id) => {
                    nodes.insert(id, BasicNode::new(&address));
                    records.push(NodeRecord { id, name, internal_address: address, ..NodeRecord::default() });
                }
                Err(status) => return Progress::Blocked(format!("`{name}` has not adopted: {}", status.message())),
            }
        }
        if nodes.len() != records.len() + 1 {
            return Progress::Blocked("two member addresses lead to one node: correct the list".to_owned());
        }
        tracing::info!(cluster = %me.cluster_id, members = nodes.len(), "founding the cluster");
        if let Err(e) = member.raft.initialize(nodes).await {
            return Progress::Blocked(format!("raft was not initialised: {e}"));
        }
        self.init_cluster(me).await;
        for record in records {
            // Reserves the name at once; the node itself adds what only it knows.
            if !member.state().nodes().contains_key(&record.id) {
                self.propose(Command::PutNode { node: record }).await;
            }
        }
        Progress::Moved
    }

    async fn join(&self, cluster: &ClusterId) -> Progress {
        let member = &self.member;
        member.set_joining(Some(cluster.clone()));
        let body = Joiner { node: member.record(), cluster_name: member.options.cluster_name.clone() };
        let node: bytes::Bytes = match serde_json::to_vec(&body) {
            Ok(json) => json.into(),
            Err(e) => return Progress::Blocked(e.to_string()),
        };
        let mut addresses: BTreeSet<_> = self.other_initial_members().into_iter().map(|(_, a)| a).collect();
        addresses.extend(member.addresses().into_iter().map(|(_, address)| address));
        let mut reason = "no member of the cluster answers".to_owned();
        for address in addresses {
            let request = Request::new(JoinRequest { cluster_id: cluster.0.clone(), node: node.clone() });
            match member.peers.join(&address, request, JOIN_TIMEOUT_MS).await {
                Ok(joined) => {
                    tracing::info!(cluster = %joined.cluster_id, "joined the cluster");
                    member.set_joining(None);
                    return Progress::Moved;
                }
                // The leader's own words; another member could only pass on the same.
                Err(status) if matches!(status.code(), Code::AlreadyExists | Code::FailedPrecondition) => {
                    return Progress::Blocked(status.message().to_owned());
                }
                Err(status) => reason = format!("{address}: {}", status.message()),
            }
        }
        Progress::Blocked(reason)
    }

    /// Corrects what the cluster knows of this node: it alone knows its addresses.
    async fn announce(&self, me: &Identity) -> Progress {
        let state = self.member.state();
        if self.member.leader().is_none() {
            return Progress::Settled;
        }
        if state.cluster_id().0.is_empty() {
            self.init_cluster(me).await;
        }
        let record = self.member.record();
        let known = state.nodes().get(&me.node_id);
        let told = known.is_some_and(|known| NodeRecord { draining: false, ..known.clone() } == record);
        if told || state.is_removed(me.node_id) {
            return Progress::Settled;
        }
        match self.propose(Command::PutNode { node: record }).await {
            Some(Outcome::Done { .. }) => Progress::Moved,
            Some(refusal) => Progress::Blocked(format!("the cluster refuses this node: {refusal:?}")),
            None => Progress::Settled,
        }
    }

    async fn init_cluster(&self, me: &Identity) {
        let command = Command::InitCluster { id: me.cluster_id.clone(), name: me.cluster_name.clone() };
        self.propose(command).await;
    }

    async fn propose(&self, command: Command) -> Option<Outcome> {
        let proposal = Proposal { request_id: String::new(), asked: 0, proposed_at_ms: wall_ms(), command };
        match self.handle.propose(proposal).await {
            Ok(outcome) => Some(outcome),
            Err(e) => {
                tracing::debug!(error = %e, "a proposal about this node has to be repeated");
                None
            }
        }
    }
}
