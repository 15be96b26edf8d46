//! What a run of the simulation is made of: the feed, the faults, and the rule that is taken away on purpose.

use twinfeed_dedup::Options;

use super::feed::Shape;

/// A rule of the protocol that a run leaves out, to see that the simulation notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// A newcomer counts at once, wherever it stands.
    NoAlignment,
    /// The owner is killed as soon as there is a standby.
    NoWaitForRedundant,
    /// An ack speaks of whatever subscription the standby has now.
    AckWithoutSubscription,
    /// An ack for one frame stands for all frames before it.
    PrefixAcks,
    /// A frame is released as soon as the owner has it.
    ReleasedBeforeCommit,
    /// The new owner does not read the topic's tail.
    NoTailRead,
}

#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// Share of messages that repeat an earlier payload.
    pub(crate) repeats: f64,
    /// A fifth of the frames is late by up to this much, so that the two connections interleave differently.
    pub(crate) reorder_ms: f64,
    pub(crate) messages: usize,
    /// Mean time between two messages.
    pub(crate) gap_ms: f64,
    pub(crate) kills: u32,
    pub(crate) flaps: u32,
    /// Breaks of the connection between owner and standby, up to two and a half spans long.
    pub(crate) relay_breaks: u32,
    /// Connections also drop while a newcomer is still joining.
    pub(crate) flaps_while_joining: bool,
    /// Times that one line falls silent, connection and all else as before, until it is found and connected anew.
    pub(crate) silences: u32,
    /// Reconnects are quicker than the relay, and the owner is to be killed right after them.
    pub(crate) kills_chase_flaps: bool,
    pub(crate) bug: Bug,
    pub(crate) options: Options,
}

impl Scenario {
    /// The run of the executable model: one message per millisecond, three kills, four reconnects.
    pub(crate) fn of_the_model(repeats: f64, reorder_ms: f64) -> Self {
        let options = Options { span_ms: 2_000, ..Options::default() };
        Self {
            repeats,
            reorder_ms,
            messages: 6_000,
            gap_ms: 1.0,
            kills: 3,
            flaps: 4,
            relay_breaks: 0,
            flaps_while_joining: false,
            silences: 0,
            kills_chase_flaps: false,
            bug: Bug::None,
            options,
        }
    }

    pub(crate) fn feed(&self) -> Shape {
        Shape { messages: self.messages, gap_ms: self.gap_ms, repeats: self.repeats }
    }
}
