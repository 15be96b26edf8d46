//! The relay: standby to owner frames, owner to standby acks, one bidirectional gRPC stream per writer.
//!
//! It carries `model::relay` values and knows nothing of what they mean. Order is kept within a session; what a broken
//! session loses is repeated by the two writers themselves (numbers, next indices). Sessions of a wrong cluster, node
//! or epoch are refused.

mod client;
mod convert;
mod server;

pub use client::{Target, keep_connected};
pub use server::{Accepts, Owned, Registry, RelayServer};

/// Relay messages waiting in each direction of a session. The standby retains what does not fit.
const SESSION_MESSAGES_MAX: usize = 256;
/// Bounds one relay message; a batch of frames is far smaller, a single frame may be as large as feeds allow (64 MiB).
pub const MESSAGE_BYTES_MAX: usize = 68 * 1024 * 1024;
