//! What a run is made of, drawn from its seed: the feed, the network's manners, the faults, and the rule that is left out.

use twinfeed_dedup::Options;

use super::feed::Shape;
use super::prng::Prng;

/// A rule of the protocol that a run leaves out, to see that the simulation notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// Every epoch has its own `transactional.id`, so that nobody fences anybody.
    NoFencing,
    /// The assignment is confirmed before the init instead of after it.
    CheckBeforeInit,
    /// An ack for one frame stands for all frames before it.
    PrefixAcks,
    /// The owner resolves a frame as soon as it has it.
    ReleaseBeforeCommit,
    /// A commit without an outcome counts as one.
    UnknownIsSuccess,
    /// A batch without an outcome is written again without a look at the tail.
    RetryWithoutTail,
    /// A takeover does not read what the old owner had written.
    NoTailAtTakeover,
    /// A standby that loses its owner takes over by itself.
    SelfPromotion,
    /// A producer goes on after a commit that was slow enough to hide a second attempt.
    NoRecycle,
    /// A message to the standby carries the offsets of a commit that its own content does not know of.
    LateStamps,
    /// A standby that its owner has forgotten takes the owner's new messages for old ones.
    OldNumbers,
    /// A commit counts when it is answered, not when its marker is in the topic.
    AckBeforeMarker,
    /// A new producer commits without a look whether something is open before its first records.
    NoLookBefore,
}

impl Bug {
    /// It shows where a marker is forgotten, and nowhere else.
    fn is_about_markers(self) -> bool {
        matches!(self, Self::AckBeforeMarker | Self::NoLookBefore)
    }
}

/// Epochs of a producer id in Kafka, and so few that they are exhausted within a run.
const EPOCHS: u32 = 32_767;
const EPOCHS_FEW: u32 = 4;

/// What happens to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    Crash,
    /// Frozen; `noticed` by the leader, who then takes it for dead.
    Pause {
        lasts_us: u64,
        noticed: bool,
    },
}

/// Moments of a writer at which a blow can be made to fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Applied,
    Initialised,
    Confirmed,
    TailRead,
    Live,
    Begun,
    Produced,
    EndTxnSent,
    Committed,
}

impl Step {
    const OPENING: [Self; 5] = [Self::Applied, Self::Initialised, Self::Confirmed, Self::TailRead, Self::Live];
    const WRITING: [Self; 4] = [Self::Begun, Self::Produced, Self::EndTxnSent, Self::Committed];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    StrikeOwner(Blow),
    StrikeStandby(Blow),
    /// The leader is wrong: it promotes the standby of a healthy owner.
    Promote,
    ReplaceStandby,
    FlapOwner,
    FlapStandby,
    BreakRelay,
    /// The owner forgets its standby: frames were missing, or it has not confirmed for too long.
    ForgetStandby,
    StallKafka {
        lasts_us: u64,
    },
    /// The partition has no leader when the next marker is to be written, and for as long; the blow falls on the owner at a
    /// step of the transaction that follows.
    ForgetMarker {
        lasts_us: u64,
        blow: Option<(Step, Blow)>,
    },
    /// The blow falls when the owner reaches the step.
    Ambush(Step, Blow),
    /// The leader promotes the standby, and the blow falls on it at a step of its opening.
    AmbushOpening(Step, Blow),
}

/// What every writer of a run is made with.
#[derive(Debug, Clone)]
pub(crate) struct Means {
    pub(crate) bug: Bug,
    pub(crate) options: Options,
    pub(crate) buffer_bytes_max: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) feed: Shape,
    /// A fifth of the frames is late by up to this much.
    pub(crate) reorder_ms: f64,
    pub(crate) faults: u32,
    /// Faults also fall while another one is being repaired. Then losses may be unavoidable, and only safety is judged.
    pub(crate) rough: bool,
    /// Share of the requests to Kafka whose connection breaks.
    pub(crate) break_rate: f64,
    /// Messages that a relay session holds in each direction.
    pub(crate) relay_messages_max: usize,
    pub(crate) epoch_max: u32,
    pub(crate) expires_us: u64,
    pub(crate) bug: Bug,
    pub(crate) options: Options,
}

impl Plan {
    pub(crate) fn draw(bug: Bug, prng: &mut Prng) -> Self {
        let repeats = [0.0, 0.0, 0.3, 0.7][prng.below(4)];
        // With many repeats, connections that interleave differently leave a residue (docs/adr/0004).
        let reorder_ms = if repeats <= 0.3 && prng.chance(0.4) { 3.0 } else { 0.0 };
        let rough = prng.chance(0.3);
        let break_rate = [0.0, 0.005, 0.02][prng.below(3)];
        // A bug gets the weather in which it shows; the product gets all of it.
        let forgets = bug.is_about_markers();
        let is_stormy = matches!(bug, Bug::NoRecycle | Bug::LateStamps | Bug::UnknownIsSuccess | Bug::RetryWithoutTail);
        Self {
            feed: Shape { messages: 700, gap_ms: 1.5, repeats },
            reorder_ms: if bug == Bug::PrefixAcks { 10.0 } else { reorder_ms },
            faults: 1 + prng.below(if rough { 6 } else { 3 }) as u32,
            rough,
            break_rate: if is_stormy { 0.1 } else { break_rate },
            relay_messages_max: [2, 16, 256][prng.below(3)],
            epoch_max: if forgets { EPOCHS } else { [EPOCHS_FEW, EPOCHS][prng.below(2)] },
            expires_us: [700_000, 2_000_000, 10_000_000][prng.below(3)],
            bug,
            options: Options { span_ms: 2_000, ..Options::default() },
        }
    }

    pub(crate) fn draw_fault(&self, prng: &mut Prng) -> Fault {
        if self.bug == Bug::LateStamps {
            // It takes a death between two messages that leave together.
            return Fault::Ambush(Step::Committed, Blow::Crash);
        }
        if self.bug.is_about_markers() {
            return self.draw_forgotten_marker(prng);
        }
        match prng.below(16) {
            0 | 1 => Fault::StrikeOwner(Blow::Crash),
            2 => Fault::StrikeStandby(Blow::Crash),
            3 => Fault::StrikeOwner(self.draw_pause(prng)),
            4 => Fault::StrikeStandby(self.draw_pause(prng)),
            5 => Fault::Promote,
            6 => Fault::ReplaceStandby,
            7 => Fault::FlapOwner,
            8 => Fault::FlapStandby,
            9 => Fault::BreakRelay,
            10 => Fault::StallKafka { lasts_us: prng.between_ms(20.0, 900.0) },
            // What an exhausted producer id has left open, only an administrator can close (docs/adr/0007).
            11 if self.epoch_max > EPOCHS_FEW => self.draw_forgotten_marker(prng),
            11 => Fault::BreakRelay,
            12 => Fault::ForgetStandby,
            13 | 14 => {
                let blow = if prng.chance(0.5) { Blow::Crash } else { self.draw_pause(prng) };
                Fault::Ambush(Step::WRITING[prng.below(4)], blow)
            }
            _ => {
                // The death of a new owner who is still opening is a second fault.
                let blow = match self.draw_pause(prng) {
                    _ if self.rough && prng.chance(0.3) => Blow::Crash,
                    Blow::Pause { lasts_us, noticed } => Blow::Pause { lasts_us, noticed: noticed && self.rough },
                    Blow::Crash => Blow::Crash,
                };
                Fault::AmbushOpening(Step::OPENING[prng.below(5)], blow)
            }
        }
    }

    fn draw_forgotten_marker(&self, prng: &mut Prng) -> Fault {
        let lasts_us = prng.between_ms(20.0, 900.0);
        let blow = prng.chance(0.5).then(|| (Step::WRITING[prng.below(4)], Blow::Crash));
        Fault::ForgetMarker { lasts_us, blow }
    }

    fn draw_pause(&self, prng: &mut Prng) -> Blow {
        Blow::Pause { lasts_us: prng.between_ms(5.0, 1_200.0), noticed: prng.chance(0.7) }
    }
}
