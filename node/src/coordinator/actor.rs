//! The actor behind the coordinator's handle: hears reports, keeps verdicts, and while its node leads it proposes
//! the assignments that placement asks for.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};

use super::{
    Emit,
    changeover::Changeovers,
    changes::{ToldView, ViewChange},
    damping::Damping,
    facts::{self, Reports},
    health::Health,
    redundancies::Redundancies,
};
use crate::{
    clock::wall_ms,
    control::{self, State, WriterFacts},
    model::{
        command::{Command, Outcome, Proposal},
        connector::{Assignment, Writer},
        event::Event,
        ids::{Epoch, NodeId, WriterId},
        report::{ClusterView, NodeReport},
    },
    raft::{Probed, RaftHandle},
    supervise::{Spawner, TaskKind},
};

/// How often silence is looked for.
const TICK: Duration = Duration::from_millis(50);
/// A probe that takes longer has no answer.
const PROBE_MS_MAX: u64 = 200;
const INBOX_MAX: usize = 1_024;

/// What can happen to the coordinator besides time and Raft.
#[derive(Debug)]
pub(super) enum Heard {
    Report { stream: u64, report: Arc<NodeReport>, suspects: Vec<NodeId> },
    StreamEnded { stream: u64, node: NodeId },
    Probed { node: NodeId, probed: Probed },
}

/// The cheap handle.
#[derive(Debug, Clone)]
pub struct Handle {
    inbox: mpsc::Sender<Heard>,
    view: watch::Receiver<ClusterView>,
    leads: watch::Receiver<bool>,
}

impl Handle {
    pub(super) async fn tell(&self, heard: Heard) {
        // The actor lives as long as the node; at its end nobody needs the message.
        let _ = self.inbox.send(heard).await;
    }

    pub(super) fn leads(&self) -> bool {
        *self.leads.borrow()
    }

    pub(super) fn change_of_view(&self, told: &mut ToldView) -> ViewChange {
        told.tell(&self.view.borrow())
    }
}

/// The actor.
pub struct Coordinator {
    raft: RaftHandle,
    spawner: Spawner,
    name: String,
    myself: mpsc::Sender<Heard>,
    inbox: mpsc::Receiver<Heard>,
    view: watch::Sender<ClusterView>,
    leads: watch::Sender<bool>,
    emit: Emit,
    health: Health,
    damping: Damping,
    changeovers: Changeovers,
    reports: Reports,
    /// What the view has of each node's report; None: it has not been heard.
    published: BTreeMap<NodeId, Option<Arc<NodeReport>>>,
    redundancies: Redundancies,
    was_up: BTreeMap<NodeId, bool>,
    born: Instant,
}

/// Makes a coordinator and its handle.
pub fn coordinator(
    raft: RaftHandle,
    name: String,
    dead_after: Duration,
    spawner: Spawner,
    emit: Emit,
) -> (Handle, Coordinator) {
    let (myself, inbox) = mpsc::channel(INBOX_MAX);
    let view = watch::Sender::new(ClusterView::default());
    let leads = watch::Sender::new(false);
    let handle = Handle { inbox: myself.clone(), view: view.subscribe(), leads: leads.subscribe() };
    let coordinator = Coordinator {
        raft,
        spawner,
        name,
        myself,
        inbox,
        view,
        leads,
        emit,
        health: Health::new(dead_after.as_millis() as u64),
        damping: Damping::default(),
        changeovers: Changeovers::default(),
        reports: Reports::new(),
        published: BTreeMap::new(),
        redundancies: Redundancies::default(),
        was_up: BTreeMap::new(),
        born: Instant::now(),
    };
    (handle, coordinator)
}

impl Coordinator {
    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut status = self.raft.status();
        let mut state = self.raft.state();
        loop {
            tokio::select! {
                Some(heard) = self.inbox.recv() => self.heard(heard),
                _ = tick.tick() => {}
                _ = status.changed() => {}
                _ = state.changed() => {}
            }
            while let Ok(heard) = self.inbox.try_recv() {
                self.heard(heard);
            }
            self.follow_leadership();
            if *self.leads.borrow() {
                self.decide().await;
            }
        }
    }

    fn now_ms(&self) -> u64 {
        self.born.elapsed().as_millis() as u64
    }

    fn follow_leadership(&mut self) {
        let (leads, term) = {
            let status = self.raft.status();
            let status = status.borrow();
            (status.is_leader, status.term)
        };
        if leads == *self.leads.borrow() {
            return;
        }
        if leads {
            let members: Vec<NodeId> = self.raft.state().borrow().nodes().keys().copied().collect();
            self.reports.clear();
            self.published.clear();
            self.damping.clear();
            self.changeovers.clear();
            for node in self.health.lead(members, self.now_ms()) {
                self.probe(node);
            }
            self.event("raft.leader", format!("{} leads at term {term}", self.name));
        }
        self.leads.send_replace(leads);
    }

    fn heard(&mut self, heard: Heard) {
        let now_ms = self.now_ms();
        match heard {
            Heard::Report { stream, report, suspects } => {
                for suspect in suspects {
                    if self.health.suspected(suspect) {
                        self.probe(suspect);
                    }
                }
                self.health.heard(report.id, stream, now_ms);
                self.reports.insert(report.id, report);
            }
            Heard::StreamEnded { stream, node } => {
                if self.health.stream_ended(node, stream) {
                    self.probe(node);
                }
            }
            Heard::Probed { node, probed } => self.health.probed(node, probed),
        }
    }

    fn probe(&self, node: NodeId) {
        let address = self.raft.state().borrow().nodes().get(&node).map(|n| n.internal_address.clone());
        let Some(address) = address else { return };
        let (peers, myself) = (self.raft.peers(), self.myself.clone());
        self.spawner.spawn(TaskKind::Probe, format!("probe of node {node}"), |_| async move {
            let probed = peers.probe(node, &address, PROBE_MS_MAX).await;
            myself.send(Heard::Probed { node, probed }).await?;
            Ok(())
        });
    }

    /// Compares what should be with what is assigned, and proposes the differences.
    async fn decide(&mut self) {
        let now_ms = self.now_ms();
        let state = self.raft.state().borrow().clone();
        let members: Vec<NodeId> = state.nodes().keys().copied().collect();
        self.health.members(&members, now_ms);
        self.health.look(now_ms);
        self.reports.retain(|id, _| members.contains(id));
        self.publish(&state, now_ms);
        self.redundancies.follow(&state);
        let nodes = facts::nodes(&state, &self.reports, |id| self.health.liveness(id, now_ms));
        let writers =
            facts::writers(&state, &self.reports, &self.redundancies, |writer| self.damping.holds(writer, now_ms));
        for (placement, facts) in control::solve(&nodes, &writers).into_iter().zip(&writers) {
            let Some(writer) = state.writers().get(&placement.writer) else { continue };
            if differs(writer, placement.owner, placement.standby) {
                let command = Command::Assign {
                    writer: placement.writer,
                    expected_epoch: writer.assignment.as_ref().map(|a| a.epoch).unwrap_or_default(),
                    expected_standby: writer.assignment.as_ref().and_then(|a| a.standby),
                    owner: placement.owner,
                    standby: placement.standby,
                };
                if self.propose(command).await {
                    self.tell_move(facts, placement.owner, now_ms);
                }
            }
        }
        let restarted = facts::restarted_owners(&state, &self.reports, |id| self.health.liveness(id, now_ms));
        for (writer, epoch) in restarted {
            self.renew(&writer, epoch, now_ms).await;
        }
        for (writer, epoch) in self.changeovers.due(&state, &self.reports, now_ms) {
            if self.renew(&writer, epoch, now_ms).await {
                let text = "the owner begins anew: it had failed, or no standby could be matched with it";
                self.event_of(&self.connector_of(&writer), "changeover.forced", text.to_owned());
            }
        }
    }

    /// Gives an owner that is still the same, and lives, a new epoch; true when it has one.
    async fn renew(&self, writer: &WriterId, expected_epoch: Epoch, now_ms: u64) -> bool {
        let is_up = |now: &Assignment| now.epoch == expected_epoch && self.health.is_up(now.owner, now_ms);
        let now = self.raft.state().borrow().writers().get(writer).and_then(|w| w.assignment.clone());
        now.as_ref().is_some_and(is_up)
            && self.propose(Command::NewEpoch { writer: writer.clone(), expected_epoch }).await
    }

    /// Says why an owner that lives was moved away from, and damps what nobody asked for.
    fn tell_move(&mut self, facts: &WriterFacts, to: Option<NodeId>, now_ms: u64) {
        let Some(from) = facts.assignment.as_ref().map(|a| a.owner).filter(|from| Some(*from) != to) else { return };
        let Some(report) = self.reports.get(&from).filter(|_| self.health.is_up(from, now_ms)) else { return };
        let stalled_ms = report.writers.get(&facts.id.0).map_or(0, |writer| writer.stalled_ms);
        let connector = self.connector_of(&facts.id);
        if facts.owner_delivers == Some(false) && stalled_ms > 0 {
            let text = format!("{} wrote nothing for {stalled_ms} ms, though its standby reaches Kafka", report.name);
            self.event_of(&connector, "owner.replaced", text);
            self.damping.moved(&facts.id, now_ms);
        } else if facts.outdated {
            let text = format!("the standby, which has begun anew, takes the place of {}", report.name);
            self.event_of(&connector, "changeover.taken", text);
        }
    }

    fn connector_of(&self, writer: &WriterId) -> String {
        let state = self.raft.state();
        let first = state.borrow().writers().get(writer).and_then(|writer| writer.connectors.first().cloned());
        first.unwrap_or_default()
    }

    /// True when it was done.
    async fn propose(&self, command: Command) -> bool {
        let text = format!("{command:?}");
        let proposal = Proposal { request_id: String::new(), asked: 0, proposed_at_ms: wall_ms(), command };
        match self.raft.propose_as_leader(proposal).await {
            Ok(Outcome::Done { revision }) => {
                tracing::info!(revision, command = %text, "coordinator.assigned");
                return true;
            }
            // Somebody was quicker, or the state moved on: the next round sees it.
            Ok(outcome) => tracing::debug!(?outcome, command = %text, "coordinator.refused"),
            Err(error) => tracing::warn!(%error, command = %text, "coordinator.unproposed"),
        }
        false
    }

    fn publish(&mut self, state: &Arc<State>, now_ms: u64) {
        for (id, record) in state.nodes() {
            let up = self.health.is_up(*id, now_ms);
            if self.was_up.insert(*id, up).is_some_and(|was| was != up) {
                let (kind, text) = if up { ("node.up", "reports again") } else { ("node.down", "does not answer") };
                self.event(kind, format!("node {} {text}", record.name));
            }
        }
        let leader = self.raft.status().borrow().node_id;
        let (reports, health, published) = (&self.reports, &self.health, &mut self.published);
        published.retain(|id, _| state.nodes().contains_key(id));
        // In place: the reports of ten thousand streams are not copied for each tick.
        self.view.send_modify(|view| {
            view.leader = leader;
            view.nodes.retain(|id, _| state.nodes().contains_key(id));
            for (id, record) in state.nodes() {
                let node = view.nodes.entry(*id).or_default();
                let report = reports.get(id).cloned();
                let is_shown = |shown: &Option<Arc<NodeReport>>| match (shown, &report) {
                    (Some(shown), Some(report)) => Arc::ptr_eq(shown, report),
                    (shown, report) => shown.is_none() && report.is_none(),
                };
                let same = published.get(id).is_some_and(is_shown);
                if !same {
                    let unheard = || NodeReport { id: *id, name: record.name.clone(), ..NodeReport::default() };
                    node.report = report.as_deref().cloned().unwrap_or_else(unheard);
                    published.insert(*id, report);
                }
                node.up = health.is_up(*id, now_ms);
                node.last_contact_ms = health.silent_ms(*id, now_ms);
            }
        });
    }

    fn event(&self, kind: &str, message: String) {
        self.event_of("", kind, message);
    }

    fn event_of(&self, connector: &str, kind: &str, message: String) {
        (self.emit)(Event {
            at_ms: wall_ms(),
            kind: kind.to_owned(),
            node: self.name.clone(),
            connector: connector.to_owned(),
            epoch: 0,
            message,
            attributes: BTreeMap::new(),
        });
    }
}

fn differs(writer: &Writer, owner: Option<NodeId>, standby: Option<NodeId>) -> bool {
    writer.assignment.as_ref().map(|a| a.owner) != owner
        || writer.assignment.as_ref().and_then(|a| a.standby) != standby
}
