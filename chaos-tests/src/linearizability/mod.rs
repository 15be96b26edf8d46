//! Whether a recorded history of admin calls is linearizable: whether each could have taken effect at one instant between its
//! call and its answer, against a connector that is created, changed, deleted and read by one hand at a time.
//!
//! Pure; `harness::history` records, stories judge. Own code because the outcome "unknown" is the point: a call that timed out
//! may take effect at any later time, or never. `todc-utils` 0.1.1 (2023, last release) wants an answer for every call and one effect
//! for every answer; `stateright` 0.31 allows calls in flight, but searches without memory, and its tester comes with a model
//! checker and its web server.

mod checker;
mod register;

pub use checker::{History, Violation};
pub use register::{Call, Found, Operation, Outcome, Refusal};
