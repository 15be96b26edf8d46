//! Placeholder until the crate lands.

/// Placeholder.
#[derive(Debug)]
pub struct ToStandby;
