//! The cheap handle of a running writer, and how one is made.

use std::future::Future;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Role, actor::Actor, options::Options};
use crate::{model::report::WriterReport, relay_session::Offer};

/// Roles and relay sessions waiting for the actor.
const COMMANDS_MAX: usize = 64;

/// The cheap handle of a running writer.
#[derive(Debug, Clone)]
pub struct WriterHandle {
    roles: mpsc::Sender<Role>,
    offers: mpsc::Sender<Offer>,
    report: watch::Receiver<WriterReport>,
    cancel: CancellationToken,
}

impl WriterHandle {
    /// Gives the writer another role. A writer that has ended ignores it; the worker sees the end by itself.
    pub async fn assume(&self, role: Role) {
        let _ = self.roles.send(role).await;
    }

    /// Where relay sessions are offered.
    pub fn offers(&self) -> mpsc::Sender<Offer> {
        self.offers.clone()
    }

    pub fn report(&self) -> watch::Receiver<WriterReport> {
        self.report.clone()
    }

    /// Asks the writer to drain and end; its task ends within seconds.
    pub fn stop(&self) {
        self.cancel.cancel();
    }
}

/// Makes a writer; the returned future is its life and belongs into a supervised task.
pub fn start(options: Options, role: Role) -> (WriterHandle, impl Future<Output = ()> + Send) {
    let (roles_in, roles) = mpsc::channel(COMMANDS_MAX);
    let (offers_in, offers) = mpsc::channel(COMMANDS_MAX);
    let cancel = CancellationToken::new();
    let actor = Actor::new(options, (roles, offers), cancel.clone());
    let handle = WriterHandle { roles: roles_in, offers: offers_in, report: actor.subscribe(), cancel };
    (handle, actor.run(role))
}
