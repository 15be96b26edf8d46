//! One writer that runs here, or the reason why it does not.

use tokio::sync::{mpsc, watch};

use crate::{
    control::RoleSpec,
    model::{
        ids::{NodeId, WriterId},
        report::{Role, WriterReport},
    },
    pipeline::{self, WriterHandle},
    relay,
    relay_session::Offer,
    supervise::{Spawner, TaskHandle, TaskKind},
};

/// A role of this node and what carries it out.
pub(super) struct Running {
    pub(super) spec: RoleSpec,
    life: Life,
    relay: Option<TaskHandle>,
}

enum Life {
    Writer {
        handle: WriterHandle,
        task: TaskHandle,
    },
    /// Nothing runs; the report says why.
    Idle(watch::Sender<WriterReport>),
}

impl Running {
    pub(super) fn start(options: pipeline::Options, spec: RoleSpec, spawner: &Spawner) -> Self {
        let name = format!("writer {}", options.id);
        let (handle, life) = pipeline::start(options, role(&spec));
        let stopper = handle.clone();
        let task = spawner.spawn(TaskKind::Writer, name, move |stop| async move {
            tokio::pin!(life);
            tokio::select! {
                () = &mut life => return Ok(()),
                () = stop.cancelled() => stopper.stop(),
            }
            life.await;
            Ok(())
        });
        Self { spec, life: Life::Writer { handle, task }, relay: None }
    }

    /// The owner's memory is gone: it may only begin under a new epoch, which the coordinator gives.
    pub(super) fn waiting_for_epoch(spec: RoleSpec) -> Self {
        Self::idle(spec, |report| report.needs_epoch = true)
    }

    /// The writer cannot run here.
    pub(super) fn failed(writer: &WriterId, spec: RoleSpec, why: String) -> Self {
        tracing::error!(%writer, epoch = %spec.epoch, %why, "worker.failed");
        Self::idle(spec, |report| report.failed = Some(why))
    }

    /// The writer has ended by itself and is started again when it has rested.
    pub(super) fn resting(spec: RoleSpec) -> Self {
        Self::idle(spec, |report| {
            report.trouble =
                Some("its task ended unexpectedly, see the log; it is started again within a minute".to_owned());
        })
    }

    /// Nothing runs, and only a start changes that.
    pub(super) fn is_resting(&self) -> bool {
        matches!(&self.life, Life::Idle(report) if report.borrow().trouble.is_some())
    }

    fn idle(spec: RoleSpec, say: impl FnOnce(&mut WriterReport)) -> Self {
        let mut report =
            WriterReport { role: spec.role, epoch: spec.epoch, revision: spec.revision, ..WriterReport::default() };
        say(&mut report);
        Self { spec, life: Life::Idle(watch::Sender::new(report)), relay: None }
    }

    /// Takes on another role, epoch or peer; false when nothing runs that could, so it has to be started.
    pub(super) async fn change(&mut self, spec: RoleSpec) -> bool {
        let Life::Writer { handle, .. } = &self.life else { return false };
        if role(&self.spec) != role(&spec) {
            handle.assume(role(&spec)).await;
        }
        self.spec = spec;
        true
    }

    /// Whether it would still be the owner whose memory is gone: sequences are dense per epoch, and it does not know how
    /// far they went in this one.
    pub(super) fn awaits_epoch(&self, spec: &RoleSpec) -> bool {
        let Life::Idle(report) = &self.life else { return false };
        report.borrow().needs_epoch && spec.role == Role::Owner && spec.epoch == self.spec.epoch
    }

    pub(super) fn offers(&self) -> Option<mpsc::Sender<Offer>> {
        match &self.life {
            Life::Writer { handle, .. } => Some(handle.offers()),
            Life::Idle(_) => None,
        }
    }

    /// Keeps a relay session to the owner, instead of any former one.
    pub(super) fn dial(
        &mut self,
        spawner: &Spawner,
        target: relay::Target,
        offers: mpsc::Sender<Offer>,
        lost: impl Fn(NodeId) + Send + Sync + 'static,
    ) {
        let name = format!("relay of {} to its owner", target.writer);
        self.relay = Some(spawner.spawn(TaskKind::Relay, name, move |stop| async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = relay::keep_connected(target, offers, lost) => {}
            }
            Ok(())
        }));
    }

    pub(super) fn disconnect(&mut self) {
        if let Some(relay) = self.relay.take() {
            relay.cancel();
        }
    }

    pub(super) fn report(&self) -> watch::Receiver<WriterReport> {
        match &self.life {
            Life::Writer { handle, .. } => handle.report(),
            Life::Idle(report) => report.subscribe(),
        }
    }

    /// Whether its task has ended unasked.
    pub(super) fn has_ended(&self) -> bool {
        matches!(&self.life, Life::Writer { task, .. } if task.is_ended())
    }

    /// Tells the writer to drain; what has to be waited for before another of the same `transactional.id` may start.
    pub(super) fn stop(mut self) -> Option<TaskHandle> {
        self.disconnect();
        match self.life {
            Life::Writer { handle, task } => {
                handle.stop();
                Some(task)
            }
            Life::Idle(_) => None,
        }
    }
}

#[cfg(test)]
impl Running {
    /// Puts another task in the place of the writer's.
    pub(super) fn replace_task(&mut self, by: TaskHandle) {
        let Life::Writer { task, .. } = &mut self.life else { panic!("nothing runs") };
        std::mem::replace(task, by).cancel();
    }
}

fn role(spec: &RoleSpec) -> pipeline::Role {
    match spec.role {
        Role::Owner => pipeline::Role::Owner { epoch: spec.epoch },
        Role::Standby => pipeline::Role::Standby { epoch: spec.epoch },
    }
}
