//! The wall clock, read in one place. Nothing decides by it: it stamps events, records and log entries for people.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970; 0 before it.
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// Nanoseconds since 1970; 0 before it.
pub fn wall_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}
