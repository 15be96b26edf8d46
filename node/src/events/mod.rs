//! The event log: what happened in the cluster, as far as this node has heard, and what of it outlives the process.
//!
//! Every room's events come in through `EventLog::record` and are numbered there; `coordinator` carries them from node to
//! node, which `EventLog` makes repeatable; `api` shows them; `Journal` keeps on disk those that say that messages may be
//! missing. Nothing here decides anything, and nothing of it is Raft's: it must work while the cluster has no leader.

mod journal;
mod kept;
mod log;

pub use journal::{Journal, open};
pub use kept::Forgotten;
pub use log::EventLog;
