//! Who lives, and who should own what: presence of all nodes at the leader, and the leader's assignments.
//!
//! Every node keeps one `client` stream to the leader; `server` feeds them to the `actor`, which runs on every node and
//! decides only while its node leads; `leave` is a node's way out. `health` (who is up), `facts` (what placement is told),
//! `damping` (how long a moved stream stays) and `changeover` (new configurations) are pure.
//! Taking a healthy owner for dead costs one takeover and no data where its standby holds everything, because Kafka fences;
//! there this room prefers to be quick, and elsewhere it waits. It never stops a writer: it only proposes assignments.

mod actor;
mod changeover;
mod client;
mod damping;
mod facts;
mod health;
mod leave;
mod server;

pub use actor::{Coordinator, Handle, coordinator};
pub use client::{Local, keep_present};
pub use leave::Leaving;
pub use server::PresenceServer;

use serde::{Deserialize, Serialize};

use crate::model::{event::Event, report::ClusterView};

/// What the leader tells every node, as JSON in `PresenceView`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Bulletin {
    view: ClusterView,
    events: Vec<Event>,
}
