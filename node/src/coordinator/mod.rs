//! Who lives, and who should own what: presence of all nodes at the leader, and the leader's assignments.
//!
//! Every node keeps one `client` stream to the leader; `server` feeds them to the `actor`, which runs on every node and
//! decides only while its node leads; `leave` is a node's way out. `health` (who is up), `facts` (what placement is told),
//! `damping` (how long a moved stream stays), `changeover` (new configurations) and `changes` (what is new in a report) are
//! pure. The same streams carry events from log to log: both ends say up to where they have heard, and tell what the other
//! lacks, so an event needs nobody's memory to arrive but that of one node that has it.
//! Taking a healthy owner for dead costs one takeover and no data where its standby holds everything, because Kafka fences;
//! there this room prefers to be quick, and elsewhere it waits. It never stops a writer: it only proposes assignments.

mod actor;
mod changeover;
mod changes;
mod client;
mod damping;
mod facts;
mod health;
mod leave;
mod pieces;
mod redundancies;
mod server;

pub use actor::{Coordinator, Handle, coordinator};
pub use client::{Local, keep_present};
pub use leave::Leaving;
pub use server::PresenceServer;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::changes::{ReportChange, ViewChange};
use crate::model::{
    event::{Event, Numbered, Through},
    ids::NodeId,
};

/// Takes what happens at the leader for the event log.
pub type Emit = Arc<dyn Fn(Event) + Send + Sync>;

/// Events in one message, in bytes; the next message has the next ones.
const EVENTS_BYTES_MAX: usize = 256 * 1024;

/// What a node tells the leader, as JSON in `PresenceReport`.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    report: ReportChange,
    /// Owners whose relay this node, as standby, just lost: probe them at once.
    suspects: Vec<NodeId>,
    /// Up to where it has heard of events.
    through: Through,
    events: Vec<Numbered>,
}

/// What the leader tells every node, as JSON in `PresenceView`.
#[derive(Debug, Serialize, Deserialize)]
struct Bulletin {
    view: ViewChange,
    /// Up to where it has heard of events: what a node has beyond that is to be told.
    through: Through,
    events: Vec<Numbered>,
}
