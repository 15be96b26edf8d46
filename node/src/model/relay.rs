//! What standby and owner say to each other over the relay, as plain values; `relay/` carries them over gRPC.

pub use twinfeed_writer::relay::{OwnerMessage, StandbyMessage};
