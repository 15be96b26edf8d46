//! Faults on demand, for the feature `faults` alone: places where a test can kill, stop or pause this process, and
//! mistakes that it can seed to see whether its checks notice them. Rooms name a place with [`point`] or [`pass`], and
//! ask with [`bug`] whether to make a mistake; the binary `twinfeed-faulty` calls `arm`. Without the feature all of it
//! is nothing at compile time. It never decides when a fault happens: whoever runs the process does, in `armed`.

#[cfg(feature = "faults")]
mod armed;

#[cfg(feature = "faults")]
pub use armed::{Error, arm, bug, pass, point, seeded};

/// A place between two steps that must hold whatever happens there. The table of all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "faults"), allow(dead_code, reason = "named where a fault may happen, read by `armed` alone"))]
pub enum Point {
    /// Raft asks for a vote to be stored; nothing is written.
    BeforeSaveVote,
    /// The vote is durable, Raft does not know yet.
    AfterSaveVote,
    /// Entries are to be stored; nothing is written.
    BeforeAppend,
    /// Entries are durable, Raft does not know yet.
    AfterAppend,
    /// A snapshot or the node's identity is written and synced beside its place.
    BeforeRename,
    /// It is in its place; the directory is not synced.
    AfterRename,
    /// The standby has read frames of its subscription and retains none of them.
    StandbyBeforeRetain,
    /// It retains them; the owner has not been sent them.
    StandbyBeforeSend,
    /// The owner has said that frames are in the topic; they are still retained.
    StandbyBeforeRelease,
    /// The producer has a batch; no transaction is open.
    OwnerBeforeBegin,
    /// Kafka has acknowledged every record of the open transaction; EndTxn has not been sent.
    OwnerAfterProduce,
    /// The commit has returned; neither the merge nor the standby knows.
    OwnerAfterCommit,
    /// The assignment has been applied; nobody is fenced.
    OpeningBeforeInit,
    /// Every earlier producer is fenced; the assignment has not been confirmed since.
    OpeningAfterInit,
    /// The assignment is confirmed; nothing of the topic is read.
    OpeningAfterCheck,
    /// The first record of the tail is read. Not met when there is nothing to read.
    OpeningInTail,
    /// The tail is read; nothing is replayed or written.
    OpeningAfterTail,
}

/// A mistake that somebody might make, in its smallest honest form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "faults"), allow(dead_code, reason = "the ones of the merge are chosen by `armed` alone"))]
pub enum Bug {
    /// Each node has a `transactional.id` of its own, so that no init fences another node.
    NoFencing,
    /// The assignment is confirmed before the init and not after it.
    CheckBeforeInit,
    /// A newcomer's subscription counts from its first frame on, wherever in the feed it stands.
    NoAlignment,
    /// The standby takes a resolved frame for the mark of all before it.
    PrefixAcks,
    /// The standby is told to release what the owner has merged, before Kafka has it.
    ReleaseBeforeCommit,
    /// Every frame is fresh.
    DedupOff,
    /// The Raft log relies on sled's flush.
    FlushWithoutFdatasync,
    /// A commit without an answer counts as one.
    UnknownCommitIsSuccess,
    /// A standby that loses its owner becomes the owner, at the epoch it knows, and asks nobody.
    SelfPromotion,
}

/// A place in blocking code, or in a task that may block for a test's sake.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub const fn point(_: Point) {}

/// A place in a task that goes on serving others meanwhile.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub fn pass(_: Point) -> std::future::Ready<()> {
    std::future::ready(())
}

/// Whether to make this mistake: never.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub const fn bug(_: Bug) -> bool {
    false
}

/// The options of a merge with the seeded mistake, if it is one of the merge's: unchanged.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub const fn seeded(options: twinfeed_dedup::Options) -> twinfeed_dedup::Options {
    options
}
