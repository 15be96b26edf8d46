//! The sequential connector: what each call does to it and answers, when nobody else is there.
//!
//! Every write of a history carries a value that no other has, so an etag is spoken of as the value that it stood for.

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    Create {
        value: u64,
    },
    /// `expected`: only if it still has the value that the etag was read with.
    Update {
        value: u64,
        expected: Option<u64>,
    },
    Delete {
        expected: Option<u64>,
    },
    Get,
}

/// What a client was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Of a get.
    Read(Option<Found>),
    /// Nothing was done, for this reason.
    Refused(Refusal),
    /// An error or a deadline: it may take effect at any time after the call, or never.
    Unknown,
}

/// A connector as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub value: u64,
    pub etag: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Exists,
    Missing,
    /// The etag did not match.
    Changed,
}

/// One call with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    pub connector: String,
    pub client: usize,
    pub call: Call,
    pub outcome: Outcome,
    /// Nanoseconds of one monotonic clock for all clients.
    pub invoked_ns: u64,
    /// When the answer was there; of no meaning when the outcome is unknown.
    pub returned_ns: u64,
}

/// The connector's value; none while it does not exist.
pub(super) type State = Option<u64>;

impl Call {
    /// What a connector in this state answers, and what it is afterwards.
    fn apply(&self, state: State) -> (Result<(), Refusal>, State) {
        let matches = |expected: Option<u64>, value: u64| expected.is_none_or(|expected| expected == value);
        match (self, state) {
            (Self::Create { value }, None) => (Ok(()), Some(*value)),
            (Self::Create { .. }, Some(_)) => (Err(Refusal::Exists), state),
            (Self::Get, _) => (Ok(()), state),
            (Self::Update { .. } | Self::Delete { .. }, None) => (Err(Refusal::Missing), state),
            (Self::Update { value, expected }, Some(now)) if matches(*expected, now) => (Ok(()), Some(*value)),
            (Self::Delete { expected }, Some(now)) if matches(*expected, now) => (Ok(()), None),
            (Self::Update { .. } | Self::Delete { .. }, Some(_)) => (Err(Refusal::Changed), state),
        }
    }
}

impl Operation {
    /// The state after this operation, if in `state` it can have had the outcome that it had.
    pub(super) fn follow(&self, state: State) -> Option<State> {
        let (answer, next) = self.call.apply(state);
        let fits = match &self.outcome {
            Outcome::Done => answer == Ok(()),
            Outcome::Read(found) => found.as_ref().map(|found| found.value) == state,
            Outcome::Refused(refusal) => answer == Err(*refusal),
            Outcome::Unknown => true,
        };
        fits.then_some(next)
    }

    /// Whether it has to have happened: an unknown outcome may be that it never does.
    pub(super) fn is_known(&self) -> bool {
        self.outcome != Outcome::Unknown
    }
}
