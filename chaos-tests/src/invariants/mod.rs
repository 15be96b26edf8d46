//! What must hold, one property a file. Each looks at an observation and says what broke it, in words. A story names the
//! ones that it must uphold; the numbers are those of the fault matrix in docs/testing.md.

mod bounded_resources;
mod bounded_silence;
mod convergence;
mod honest_redundancy;
mod no_duplicate;
mod no_loss;
mod no_panic;
mod no_silent_loss;
mod order;
mod own_findings;
mod single_writer;

pub(crate) use convergence::MS_MAX as CONVERGENCE_MS_MAX;

use crate::{observation::Observation, story::Facts};

/// A property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invariant {
    /// I1: every message that a subscription was sent is in the topic.
    NoLoss,
    /// I1': what is missing, the cluster has reported, with bounds.
    NoSilentLoss,
    /// I2: every message is there once, a repeat as often as it was sent.
    NoDuplicate,
    /// I3: records of one subscription keep its order.
    Order,
    /// I4: epochs never go back, sequences are dense within one.
    SingleWriter,
    /// I7: the topic is silent around a fault no longer than the story allows.
    BoundedSilence,
    /// I9: after the fault one leader, every stream redundant, without an operator.
    Convergence,
    /// I10: memory and descriptors of every node within their caps.
    BoundedResources,
    /// I11: no node panicked, none ended unasked.
    NoPanic,
    /// I12: a stream of which one line is silent is not called redundant.
    HonestRedundancy,
    /// What the story checks by itself.
    OwnFindings,
}

use Invariant as I;

impl Invariant {
    /// What every single-fault story upholds.
    pub const ALL: &'static [Self] = &[
        I::NoLoss,
        I::NoDuplicate,
        I::Order,
        I::SingleWriter,
        I::BoundedSilence,
        I::Convergence,
        I::BoundedResources,
        I::NoPanic,
        I::OwnFindings,
    ];

    /// What holds whatever happens, where several faults at once or both feeds may be gone: what is missing has been told,
    /// with bounds.
    pub const REPORTED: &'static [Self] = &[
        I::NoSilentLoss,
        I::NoDuplicate,
        I::Order,
        I::SingleWriter,
        I::Convergence,
        I::BoundedResources,
        I::NoPanic,
        I::OwnFindings,
    ];

    /// Where one line falls silent: what that costs by its nature is told, and nothing else is lost.
    pub const ONE_LINE: &'static [Self] = &[
        I::NoLoss,
        I::NoSilentLoss,
        I::NoDuplicate,
        I::Order,
        I::SingleWriter,
        I::Convergence,
        I::BoundedResources,
        I::NoPanic,
        I::HonestRedundancy,
        I::OwnFindings,
    ];

    /// Number in the fault matrix.
    pub fn id(self) -> &'static str {
        match self {
            I::NoLoss => "I1",
            I::NoSilentLoss => "I1'",
            I::NoDuplicate => "I2",
            I::Order => "I3",
            I::SingleWriter => "I4",
            I::BoundedSilence => "I7",
            I::Convergence => "I9",
            I::BoundedResources => "I10",
            I::NoPanic => "I11",
            I::HonestRedundancy => "I12",
            I::OwnFindings => "own",
        }
    }

    /// What is wrong; nothing when it holds.
    pub fn broken(self, facts: &Facts, seen: &Observation) -> Option<String> {
        match self {
            I::NoLoss => no_loss::broken(seen),
            I::NoSilentLoss => no_silent_loss::broken(seen),
            I::NoDuplicate => no_duplicate::broken(seen),
            I::Order => order::broken(seen),
            I::SingleWriter => single_writer::broken(seen),
            I::BoundedSilence => bounded_silence::broken(seen, facts.silence_ms_max?),
            I::Convergence => convergence::broken(seen),
            I::BoundedResources => bounded_resources::broken(seen),
            I::NoPanic => no_panic::broken(seen),
            I::HonestRedundancy => honest_redundancy::broken(seen),
            I::OwnFindings => own_findings::broken(seen),
        }
    }
}
