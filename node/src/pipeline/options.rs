//! What a writer is told once, at its start.

use std::{sync::Arc, time::Duration};

use twinfeed_dedup::Options as MergeOptions;

use super::opening::{Confirm, Plan, TailFrom, Warm};
use crate::{
    feed, kafka,
    model::{
        event::Event,
        ids::{Epoch, WriterId},
    },
    supervise::Spawner,
    telemetry::Metrics,
};

/// Takes events for the cluster's event log.
pub type Emit = Arc<dyn Fn(Event) + Send + Sync>;

/// Everything a writer needs; nothing of it changes while it lives.
#[derive(Clone)]
pub struct Options {
    pub id: WriterId,
    pub connector: String,
    /// Of the connector's configuration, for the report.
    pub revision: u64,
    /// Name of this node, for events.
    pub node: String,
    pub feed: feed::Subscription,
    pub kafka: kafka::Options,
    pub transactional_id: String,
    pub target: kafka::Target,
    pub creation: kafka::TopicCreation,
    pub merge: MergeOptions,
    /// Time between two cuts while there is something to write. Default 10 ms.
    pub commit_interval: Duration,
    /// Frames retained or not yet committed, in bytes.
    pub buffer_bytes_max: usize,
    /// Subscriptions that the connector wants on all nodes together.
    pub feeds: u8,
    pub confirm: Confirm,
    pub emit: Emit,
    pub spawner: Spawner,
    pub metrics: Metrics,
}

impl Options {
    /// Pre-connected clients make a takeover tens of milliseconds shorter; without them it still works.
    pub(super) fn warm_up(&self) -> Option<Warm> {
        Warm::connect(&self.kafka, &self.transactional_id, &self.target)
            .inspect_err(|error| tracing::warn!(connector = %self.connector, %error, "writer.not_warm"))
            .ok()
    }

    pub(super) fn plan(
        &self,
        epoch: Epoch,
        (tail_from, redundant): (TailFrom, bool),
        warm: Option<Warm>,
        ask_first: bool,
    ) -> Plan {
        Plan {
            redundant,
            writer: self.id.clone(),
            epoch,
            kafka: self.kafka.clone(),
            transactional_id: self.transactional_id.clone(),
            target: self.target.clone(),
            creation: self.creation.clone(),
            tail_from,
            confirm: self.confirm.clone(),
            warm,
            ask_first,
        }
    }
}
