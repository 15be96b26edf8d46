//! Mistakes that can be seeded on purpose, so that whoever checks the promise can show that the check notices them.
//!
//! Chosen in [`Options`](crate::Options), which has a place for one only with the feature `faults`. Without it the answer to
//! every question about a bug is a constant `false`, and nothing of this is left in the machine code.

/// A rule of the merge that somebody might break, each in its smallest form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "faults"), allow(unreachable_pub, reason = "public only where a bug can be chosen"))]
pub enum Bug {
    /// A newcomer counts from its first frame on, wherever in the feed it stands.
    NoAlignment,
    /// The standby takes a resolved frame for the mark of all before it.
    PrefixAcks,
    /// A frame of the standby is resolved once it is merged, not once its record is committed.
    ReleaseBeforeCommit,
    /// Every frame is fresh.
    DedupOff,
}
