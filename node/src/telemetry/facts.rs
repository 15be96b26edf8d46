//! What the metrics are derived from at a scrape: the reports of the writers that run here, and what this node knows of the
//! cluster. Whoever composes the node says where they come from.

use twinfeed_writer::report::WriterReport;

/// Everything that a scrape shows besides what only counts up.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub writers: Vec<WriterReport>,
    /// Leader only: every connector's state, as `status` shows it.
    pub states: Vec<(String, StateLabel)>,
    pub raft: RaftFacts,
    /// Leader only: seconds since each other node was heard, by its name.
    pub peers: Vec<(String, f64)>,
}

/// The Raft position of this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RaftFacts {
    pub has_leader: bool,
    pub is_leader: bool,
    pub term: u64,
    pub voters: usize,
    pub last_log_index: u64,
    pub applied_index: u64,
}

/// A connector's state as shown to operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateLabel {
    Running,
    Paused,
    Stopped,
    Failed,
    Unassigned,
    Starting,
}

impl StateLabel {
    pub(super) const ALL: [Self; 6] =
        [Self::Running, Self::Paused, Self::Stopped, Self::Failed, Self::Unassigned, Self::Starting];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Stopped => "STOPPED",
            Self::Failed => "FAILED",
            Self::Unassigned => "UNASSIGNED",
            Self::Starting => "STARTING",
        }
    }
}
