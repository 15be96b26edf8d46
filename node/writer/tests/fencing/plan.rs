//! What a run is made of, drawn from its seed: streams and feeds, the manners of network and channels, the faults.

use twinfeed_dedup::Options;

use super::bug::Bug;
use super::feed::Shape;
use super::inbox::Pace;
use super::net::{StreamNo, WriterNo};
use super::prng::Prng;

pub(crate) const NODES: usize = 3;

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
    /// A line is lost and its attempts are used up: it ends for good, until an operator has its node replaced.
    GiveUpOwner,
    GiveUpStandby,
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

/// What every writer of a node is made with.
#[derive(Debug, Clone)]
pub(crate) struct Means {
    pub(crate) bug: Bug,
    pub(crate) options: Options,
    pub(crate) buffer_bytes_max: usize,
    /// How its lines are taken from; `None` without a wait.
    pub(crate) pace: Option<Pace>,
}

/// What streams that share a topic have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// The same feed, configured several times.
    Same,
    /// Equal bytes at other times, as heartbeats are.
    Alike,
    Own,
}

/// How the world's channels behave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manners {
    /// Share of the requests to Kafka whose connection breaks.
    pub(crate) break_rate: f64,
    /// Messages that a relay session holds in each direction.
    pub(crate) relay_messages_max: usize,
    /// How long a message takes from standby to owner, and back.
    pub(crate) up_ms: (f64, f64),
    pub(crate) down_ms: (f64, f64),
}

impl Manners {
    fn draw(prng: &mut Prng) -> Self {
        // With two places the slower way carries some seventy messages a second, fewer than there are batches.
        let mut relay_ms = || if prng.chance(0.2) { (5.0, 40.0) } else { (0.2, 3.0) };
        let (up_ms, down_ms) = (relay_ms(), relay_ms());
        let break_rate = [0.0, 0.005, 0.02][prng.below(3)];
        Self { break_rate, relay_messages_max: [2, 16, 256][prng.below(3)], up_ms, down_ms }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Streams that share the topic.
    pub(crate) streams: usize,
    /// The streams of each writer.
    pub(crate) writers: Vec<Vec<StreamNo>>,
    /// When a stream comes or leaves, by turns; one of an odd number of turns comes first.
    pub(crate) comings: Vec<(StreamNo, Vec<u64>)>,
    pub(crate) content: Content,
    /// Their first owners are different nodes, not one.
    pub(crate) is_spread: bool,
    /// Of each stream; the more there are, the slower.
    pub(crate) feed: Shape,
    /// A fifth of the frames is late by up to this much.
    pub(crate) reorder_ms: f64,
    pub(crate) faults: u32,
    /// Faults also fall while another one is being repaired. Then losses may be unavoidable, and only safety is judged.
    pub(crate) rough: bool,
    /// Lines may end for good.
    pub(crate) gives_up: bool,
    pub(crate) manners: Manners,
    pub(crate) paces: [Option<Pace>; NODES],
    pub(crate) epoch_max: u32,
    pub(crate) expires_us: u64,
    pub(crate) bug: Bug,
    pub(crate) options: Options,
}

/// Of one stream, of two, of three: together about as many messages in about the same time.
const MESSAGES: [usize; 3] = [700, 380, 260];
const GAP_MS: [f64; 3] = [1.5, 2.8, 4.0];

impl Plan {
    pub(crate) fn draw(bug: Bug, prng: &mut Prng) -> Self {
        let repeats = [0.0, 0.0, 0.3, 0.7][prng.below(4)];
        // With many repeats, connections that interleave differently leave a residue (docs/adr/0004).
        let reorder_ms = if repeats <= 0.3 && prng.chance(0.4) { 3.0 } else { 0.0 };
        let rough = prng.chance(0.3);
        let mut manners = Manners::draw(prng);
        // A bug gets the weather in which it shows; the product gets all of it.
        let forgets = bug.is_about_markers();
        if bug.is_about_storms() {
            manners.break_rate = 0.1;
        }
        let streams = match [1, 1, 1, 2, 2, 3][prng.below(6)] {
            _ if forgets => 1,
            streams if bug.is_about_streams() => streams.max(2),
            streams => streams,
        };
        let writers = divide(streams, bug, prng);
        let comings = draw_comings(streams, bug, prng);
        let content = [Content::Same, Content::Alike, Content::Own][prng.below(3)];
        let are_slow = prng.chance(0.3);
        let mut pace = || {
            let pace = Pace::draw(prng);
            Some(pace).filter(|_| are_slow || bug == Bug::FullInboxDrops)
        };
        Self {
            streams,
            writers,
            comings,
            content,
            paces: [pace(), pace(), pace()],
            is_spread: prng.chance(0.6),
            feed: Shape { messages: MESSAGES[streams - 1], gap_ms: GAP_MS[streams - 1], repeats },
            reorder_ms: if bug == Bug::PrefixAcks { 10.0 } else { reorder_ms },
            faults: 1 + prng.below(if rough { 6 } else { 3 }) as u32,
            rough,
            gives_up: prng.chance(0.3) || bug == Bug::GiveUpEndsStream,
            manners,
            epoch_max: if forgets { EPOCHS } else { [EPOCHS_FEW, EPOCHS][prng.below(2)] },
            expires_us: [700_000, 2_000_000, 10_000_000][prng.below(3)],
            bug,
            options: Options { span_ms: 2_000, ..Options::default() },
        }
    }

    /// Whether the stream is there from the beginning.
    pub(crate) fn is_there_first(&self, stream: StreamNo) -> bool {
        self.comings.iter().all(|(known, turns)| *known != stream || turns.len() % 2 == 0)
    }

    /// Whether nobody needs to write all of it: it leaves, and what it has read by then is nobody's; or it comes in rough weather.
    pub(crate) fn is_restless(&self, stream: StreamNo) -> bool {
        self.comings.iter().any(|(known, turns)| *known == stream && (self.rough || turns.len() > 1))
    }

    pub(crate) fn turns(&self) -> Vec<(u64, StreamNo)> {
        let each =
            |(stream, turns): &(StreamNo, Vec<u64>)| turns.iter().map(|at_us| (*at_us, *stream)).collect::<Vec<_>>();
        self.comings.iter().flat_map(each).collect()
    }

    pub(crate) fn writer_of(&self, stream: StreamNo) -> WriterNo {
        let of = self.writers.iter().position(|streams| streams.contains(&stream));
        of.expect("each stream has a writer")
    }

    pub(crate) fn draw_fault(&self, prng: &mut Prng) -> Fault {
        if self.bug == Bug::LateStamps {
            // It takes a death between two messages that leave together.
            return Fault::Ambush(Step::Committed, Blow::Crash);
        }
        if self.bug.is_about_markers() {
            return self.draw_forgotten_marker(prng);
        }
        if self.gives_up && prng.chance(0.25) {
            return [Fault::GiveUpOwner, Fault::GiveUpStandby][prng.below(2)];
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
            // Behind another writer's open transaction nobody sees that one is missing, and what is lost by it is known (there).
            11 if self.epoch_max > EPOCHS_FEW && self.writers.len() == 1 => self.draw_forgotten_marker(prng),
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

/// Each stream has a writer of its own, or all share one, or as it comes.
fn divide(streams: usize, bug: Bug, prng: &mut Prng) -> Vec<Vec<StreamNo>> {
    let manner = if bug.is_about_writers() { 0 } else { prng.below(3) };
    let writer_of = |stream| match manner {
        0 => stream,
        1 => 0,
        _ => prng.below(streams),
    };
    let of: Vec<WriterNo> = (0..streams).map(writer_of).collect();
    let writers = (0..streams).map(|writer| (0..streams).filter(|stream| of[*stream] == writer).collect::<Vec<_>>());
    writers.filter(|streams| !streams.is_empty()).collect()
}

/// Streams beside the first come late, or leave and come again: once late, or twice and back where they began.
fn draw_comings(streams: usize, bug: Bug, prng: &mut Prng) -> Vec<(StreamNo, Vec<u64>)> {
    let mut comings = Vec::new();
    for stream in 1..streams {
        let turns = if bug.is_about_comings() { 2 } else { [0, 0, 1, 2][prng.below(4)] };
        let mut at_us: Vec<u64> = (0..turns).map(|_| prng.between_ms(60.0, 700.0)).collect();
        at_us.sort_unstable();
        comings.extend((turns > 0).then_some((stream, at_us)));
    }
    comings
}
