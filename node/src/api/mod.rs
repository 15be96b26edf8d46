//! What the outside may ask: metrics and probes over HTTP.

pub mod http;
