//! Every metric name and the log set-up. What only counts up is counted through handles from here; all else is derived at a scrape
//! from the facts that the node hands in. No other room names a metric or touches a subscriber. Telemetry imports no other room.

mod derived;
mod exposition;
mod facts;
pub mod logging;
mod metrics;
mod process;

pub use exposition::Exposition;
pub use facts::{Facts, RaftFacts, StateLabel};
pub use metrics::Metrics;
