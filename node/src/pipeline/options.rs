//! What a writer's actor is told once, at its start.

use std::sync::Arc;

use twinfeed_writer::Settings;

use super::opening::{Confirm, Warm};
use crate::{
    feed, kafka,
    model::{event::Event, ids::WriterId},
    supervise::Spawner,
};

/// Takes events for the cluster's event log.
pub type Emit = Arc<dyn Fn(Event) + Send + Sync>;

/// Everything a writer needs; nothing of it changes while it lives.
#[derive(Clone)]
pub struct Options {
    pub id: WriterId,
    /// What its decisions depend on.
    pub settings: Settings,
    pub feed: feed::Subscription,
    pub kafka: kafka::Options,
    pub transactional_id: String,
    pub target: kafka::Target,
    pub creation: kafka::TopicCreation,
    pub openings: kafka::Openings,
    pub confirm: Confirm,
    pub emit: Emit,
    pub spawner: Spawner,
}

impl Options {
    /// Pre-connected clients make a takeover tens of milliseconds shorter; without them it still works.
    pub(super) fn warm_up(&self) -> Option<Warm> {
        Warm::connect(&self.kafka, &self.transactional_id, &self.target)
            .inspect_err(|error| tracing::warn!(writer = %self.id, %error, "writer.not_warm"))
            .ok()
    }
}
