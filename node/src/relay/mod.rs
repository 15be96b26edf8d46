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

/// What a message is that a later version has sent.
const UNKNOWN_KIND: &str = "of a kind that this version does not know: run one version on all nodes";

/// A status as one line: gRPC's own failures say most in their sources.
fn reason(status: &tonic::Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// What a relay message holds besides its largest frame: further frames, resolved positions, framing. A connector whose
/// frames do not fit `limits.internal_message_bytes_max` with it is refused.
pub const OVERHEAD_BYTES_MAX: usize = 4 * 1024 * 1024;
