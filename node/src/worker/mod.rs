//! Every node: makes what runs here equal to what the cluster state asks of this node.
//!
//! It watches the state, asks `control::reconcile` for the difference, and starts, changes and stops writers and their
//! relay sessions. It owns the running writers and publishes their reports. It decides nothing about assignments.

mod rest;
mod running;
mod start;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use self::start::Settings;
use self::{rest::Rests, running::Running};
use crate::{
    control::{self, RoleChange, RoleSpec},
    model::{
        ids::{NodeId, WriterId},
        report::{Role, WriterReports},
    },
    raft::RaftHandle,
    relay,
    supervise::{Spawner, TaskError, TaskHandle},
};

/// How often is looked for writers whose task ended by itself, and for those that have rested since.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The worker of this node.
pub struct Worker {
    raft: RaftHandle,
    me: NodeId,
    settings: Settings,
    spawner: Spawner,
    registry: relay::Registry,
    suspects: mpsc::Sender<NodeId>,
    reports: watch::Sender<WriterReports>,
    running: BTreeMap<WriterId, Running>,
    /// Writers that drain. One of the same `transactional.id` is not started before its predecessor has ended, and
    /// nobody else waits for that: a takeover of another stream must not be held up by a drain.
    stopping: BTreeMap<WriterId, TaskHandle>,
    rests: Rests,
    born: Instant,
    /// The last log index of this node's store when the process started: roles assigned up to it were another
    /// process's, whose memory is gone.
    memory_starts_at: u64,
}

impl Worker {
    pub fn new(
        raft: RaftHandle,
        settings: Settings,
        spawner: Spawner,
        registry: relay::Registry,
        suspects: mpsc::Sender<NodeId>,
    ) -> Self {
        let (me, memory_starts_at) = {
            let status = raft.status();
            let status = status.borrow();
            (status.node_id, raft.log_index_at_start())
        };
        Self {
            raft,
            me,
            settings,
            spawner,
            registry,
            suspects,
            reports: watch::Sender::new(WriterReports::new()),
            running: BTreeMap::new(),
            stopping: BTreeMap::new(),
            rests: Rests::default(),
            born: Instant::now(),
            memory_starts_at,
        }
    }

    /// The reports of the writers that run here.
    pub fn reports(&self) -> watch::Receiver<WriterReports> {
        self.reports.subscribe()
    }

    /// Runs until `stop`, then drains every writer.
    ///
    /// # Errors
    /// None today; a task returns a result.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), TaskError> {
        let mut state = self.raft.state();
        let mut status = self.raft.status();
        let mut check = tokio::time::interval(LOOK_EVERY);
        loop {
            self.reconcile().await;
            tokio::select! {
                () = stop.cancelled() => break,
                changed = state.changed() => changed?,
                changed = status.changed() => changed?,
                writer = drained(&self.stopping) => drop(self.stopping.remove(&writer)),
                _ = check.tick() => self.look_after_ended().await,
            }
        }
        for writer in self.running.keys().cloned().collect::<Vec<_>>() {
            self.stop(&writer);
        }
        for task in self.stopping.values() {
            task.ended().await;
        }
        Ok(())
    }

    async fn reconcile(&mut self) {
        // Until the log of the last life has been replayed, the state shows roles of long ago one after the other.
        if self.raft.status().borrow().applied_index < self.memory_starts_at {
            return;
        }
        let state = self.raft.state().borrow().clone();
        let specs: BTreeMap<WriterId, RoleSpec> =
            self.running.iter().map(|(id, running)| (id.clone(), running.spec.clone())).collect();
        for change in control::diff(&state, self.me, &specs) {
            match change {
                RoleChange::Stop { writer, .. } => self.stop(&writer),
                RoleChange::Start { writer, .. } => self.start(&writer).await,
                RoleChange::Change { writer, from, to } if from.begins_anew(&to) => {
                    self.stop(&writer);
                    self.start(&writer).await;
                }
                RoleChange::Change { writer, to, .. } => self.change(&writer, to).await,
            }
        }
        self.publish();
    }

    /// Starts what the state asks for now. A writer whose predecessor still drains is started by a later comparison.
    async fn start(&mut self, writer: &WriterId) {
        if self.stopping.contains_key(writer) {
            return;
        }
        let state = self.raft.state().borrow().clone();
        let Some(spec) = control::role(&state, self.me, writer) else { return };
        let running = if spec.role == Role::Owner && spec.epoch.0 <= self.memory_starts_at {
            Running::waiting_for_epoch(spec)
        } else if self.rests.rests(writer, self.now_ms()) {
            Running::resting(spec)
        } else {
            match start::options(&self.settings, &self.raft, &self.spawner, &state, (writer, &spec)).await {
                Ok(options) => Running::start(options, spec, &self.spawner),
                Err(why) => Running::failed(writer, spec, why),
            }
        };
        self.running.insert(writer.clone(), running);
        self.connect(writer);
    }

    async fn change(&mut self, writer: &WriterId, spec: RoleSpec) {
        let forgotten = spec.role == Role::Owner && spec.epoch.0 <= self.memory_starts_at;
        if let Some(running) = self.running.get_mut(writer).filter(|running| running.awaits_epoch(&spec)) {
            running.spec = spec;
            return;
        }
        let restart = match self.running.get_mut(writer) {
            Some(running) if !forgotten => !running.change(spec).await,
            Some(_) | None => true,
        };
        if restart {
            self.stop(writer);
            self.start(writer).await;
        } else {
            self.connect(writer);
        }
    }

    /// Wires the writer's relay: an owner is registered for its standby, a standby dials its owner.
    fn connect(&mut self, writer: &WriterId) {
        let state = self.raft.state().borrow().clone();
        let Some(running) = self.running.get_mut(writer) else { return };
        let Some(offers) = running.offers() else {
            self.registry.remove(writer);
            return;
        };
        running.disconnect();
        match (running.spec.role, running.spec.peer) {
            (Role::Owner, standby) => {
                self.registry.put(writer.clone(), relay::Owned { epoch: running.spec.epoch, standby, offers });
            }
            (Role::Standby, owner) => {
                self.registry.remove(writer);
                let Some(owner) = owner.and_then(|id| state.nodes().get(&id)) else { return };
                let target = relay::Target {
                    cluster: state.cluster_id().clone(),
                    me: self.me,
                    owner: owner.id,
                    owner_address: owner.internal_address.clone(),
                    writer: writer.clone(),
                    epoch: running.spec.epoch,
                    message_bytes_max: self.settings.message_bytes_max,
                };
                let suspects = self.suspects.clone();
                // A full channel means that enough suspicions are on their way already.
                let lost = move |node| {
                    let _ = suspects.try_send(node);
                };
                running.dial(&self.spawner, target, offers, lost);
            }
        }
    }

    fn stop(&mut self, writer: &WriterId) {
        self.registry.remove(writer);
        if let Some(draining) = self.running.remove(writer).and_then(Running::stop) {
            self.stopping.insert(writer.clone(), draining);
        }
    }

    /// Writers whose task ended unasked (a panic) are started again, after a pause that grows. An owner says at once that its
    /// memory is gone, so that its standby can take over meanwhile; it begins again under a new epoch only.
    async fn look_after_ended(&mut self) {
        let now_ms = self.now_ms();
        let ended = self.running.iter().filter(|(_, running)| running.has_ended());
        for (writer, spec) in ended.map(|(id, running)| (id.clone(), running.spec.clone())).collect::<Vec<_>>() {
            let pause_ms = self.rests.ended(&writer, now_ms);
            tracing::error!(%writer, epoch = %spec.epoch, role = ?spec.role, pause_ms, "worker.writer_ended");
            self.stop(&writer);
            // There is nothing left to drain.
            self.stopping.remove(&writer);
            let idle = match spec.role {
                Role::Owner => Running::waiting_for_epoch(spec),
                Role::Standby => Running::resting(spec),
            };
            self.running.insert(writer, idle);
        }
        let rested = self.running.iter().filter(|(id, running)| running.is_resting() && !self.rests.rests(id, now_ms));
        for writer in rested.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.stop(&writer);
            self.start(&writer).await;
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn publish(&self) {
        let reports: WriterReports = self.running.iter().map(|(id, r)| (id.clone(), r.report())).collect();
        self.reports.send_replace(reports);
    }
}

/// Waits for a drain to end; for ever when there is none.
async fn drained(stopping: &BTreeMap<WriterId, TaskHandle>) -> WriterId {
    match stopping.iter().find(|(_, task)| task.is_ended()).or_else(|| stopping.iter().next()) {
        Some((writer, task)) => {
            task.ended().await;
            writer.clone()
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "worker_test.rs"]
mod tests;
