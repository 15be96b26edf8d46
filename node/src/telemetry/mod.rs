//! Every metric name and the log set-up. Rooms take handles from here and count; no other room names a metric or
//! touches a subscriber. Telemetry imports no other room and decides nothing.

mod exposition;
mod families;
mod labels;
pub mod logging;
mod metrics;
mod process;

pub use exposition::Exposition;
pub use labels::{DropReason, FailoverKind, FailoverReason, FeedSide, ReconnectReason, StateLabel};
pub use metrics::{FeedMetrics, Metrics, RaftMetrics, StateMetrics, WriterMetrics};
