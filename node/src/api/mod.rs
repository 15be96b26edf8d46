//! What the outside may ask: the admin API over gRPC, metrics and probes over HTTP. `node.rs` serves both.
//! It checks, proposes and shows. It decides nothing and starts nothing: a change is made by whoever watches the state.

mod admin;
mod admin_cluster;
mod admin_connectors;
mod changes;
mod comparison;
mod condition;
mod convert;
mod deadline;
pub mod http;
mod moves;
mod paging;
mod restart;
mod status;
mod watch;

pub use admin::{Admin, Limits};
pub use condition::states;
