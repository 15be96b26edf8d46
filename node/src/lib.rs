//! The house of the Twinfeed daemon. An import points to a strictly lower level; `tests/layering.rs` enforces it.
//!
//! | level | rooms |
//! |---|---|
//! | 0 | `model` words · `telemetry` metrics and logs · `supervise` the only spawner · `clock` · `queue` bounded in bytes · `faults` for tests |
//! | 1 | `control` decides · `feed` sockets to frames · `kafka` fenced producer · `events` what happened · `relay_session` channels |
//! | 2 | `raft` remembers · `pipeline` one writer actor · `relay` standby to owner |
//! | 3 | `worker` every node: roles · `coordinator` leader only: assignments · `api` admin and HTTP |
//! | 4 | `config` one file, one environment |
//! | 5 | `node` composition root · `tools` demo, feed, verify · `healthcheck` asks a probe |

pub mod api;
pub mod clock;
pub mod config;
pub mod control;
pub mod coordinator;
pub mod events;
pub mod faults;
pub mod feed;
pub mod healthcheck;
pub mod kafka;
pub mod model;
pub mod node;
pub mod pipeline;
pub mod queue;
pub mod raft;
pub mod relay;
pub mod relay_session;
pub mod supervise;
pub mod telemetry;
pub mod tools;
pub mod worker;
