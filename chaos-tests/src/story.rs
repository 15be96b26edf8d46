//! A story: one kind of fault, told in its file, with what it needs and what it must uphold. The frame around it (a stage,
//! the repetition, the books, the judgement) is `run`'s.

use anyhow::Result;
use rand::rngs::StdRng;

use crate::{
    invariants::Invariant,
    stage::{Stage, StageOptions},
};

/// How long a story takes its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// As long as shows it: the test suite plays every story.
    #[default]
    Quick,
    /// As long and as many as the fault matrix asks for.
    Full,
}

impl Scale {
    pub fn pick<T>(self, quick: T, full: T) -> T {
        match self {
            Self::Quick => quick,
            Self::Full => full,
        }
    }
}

/// What is known of a story before it runs.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// Its name on the command line; says what happens.
    pub name: &'static str,
    /// Rows of the fault matrix that it covers; empty for measurements.
    pub rows: &'static [u8],
    /// One line for lists and tables.
    pub tells: &'static str,
    pub invariants: &'static [Invariant],
    /// Longest silence around one fault in a release build on an idle machine, milliseconds.
    pub silence_ms_max: Option<u64>,
    /// Faults of one stage; a longer run sets the stage anew, with the next seed.
    pub faults_per_stage: usize,
    /// Own network namespaces, mounts or clocks.
    pub needs_root: bool,
    /// The node with failpoints and seeded bugs instead of the real one.
    pub needs_faulty_node: bool,
}

impl Facts {
    /// A story that upholds everything, ten faults a stage.
    pub const fn new(name: &'static str, rows: &'static [u8], tells: &'static str) -> Self {
        Self {
            name,
            rows,
            tells,
            invariants: Invariant::ALL,
            silence_ms_max: None,
            faults_per_stage: 10,
            needs_root: false,
            needs_faulty_node: false,
        }
    }
}

/// A story as its file tells it.
pub trait Story: Sync {
    fn facts(&self) -> Facts;

    /// What stands on the stage; `seed` is that of the feed and of everything random.
    fn stage(&self, _seed: u64) -> Result<StageOptions> {
        Ok(StageOptions::default())
    }

    /// The same, where it depends on the scale.
    fn stage_at(&self, _scale: Scale, seed: u64) -> Result<StageOptions> {
        self.stage(seed)
    }

    /// One fault from beginning to end; traffic flows and the stream is redundant when it is called, and the frame waits for
    /// both to come back after it. It calls `Stage::fault` at the moment the fault begins, and returns an error where the
    /// fault cannot be proven.
    fn fault(&self, stage: &mut Stage, random: &mut StdRng) -> Result<()>;

    /// What is left to look at when all faults are over and the stream is redundant again.
    fn epilogue(&self, _stage: &mut Stage) -> Result<()> {
        Ok(())
    }
}
