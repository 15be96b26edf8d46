//! The event queue, and everything that takes time: what is under way between nodes, Kafka and Raft, and how long it takes.
//!
//! Writers and the world put events in; only the world takes them out. It decides about no content.

use std::collections::BTreeMap;
use std::fmt;

use twinfeed_writer::relay::{OwnerMessage, StandbyMessage};

use super::agenda::Agenda;
use super::broker::{Later, Reply, Request, Stamped, TransactionalId};
use super::journal::Journal;
use super::plan::{Blow, Manners, Step};
use super::prng::Prng;
use super::register::{Assignment, Streams};

pub(crate) type NodeId = usize;
pub(crate) type StreamNo = usize;
pub(crate) type WriterNo = usize;

/// One writer actor, from its start to its end; a restart makes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Actor {
    pub(crate) node: NodeId,
    pub(crate) writer: WriterNo,
    pub(crate) number: u64,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "writer {} at node {}", self.writer, self.node)
    }
}

#[derive(Debug)]
pub(crate) enum Event {
    /// For a writer; waits while its node is frozen, and is void once the writer is gone.
    To(Actor, Input),
    Arrive {
        from: Option<(Actor, u64, u64)>,
        id: TransactionalId,
        request: Request,
    },
    Broker(Later),
    /// The linearization point of a read of the assignment.
    ReadAssignment {
        by: Actor,
        opening: u64,
        epoch: u64,
    },
    Apply(NodeId, WriterNo, Assignment, Streams),
    /// A stream comes to its writer, or leaves it.
    Turn(StreamNo),
    EndSession(u64),
    Restart(NodeId),
    Strike(NodeId, Blow),
    Recognise(NodeId),
    /// An operator replaces a node whose line has ended for good.
    Relieve(StreamNo),
    LeaderLooks,
    NextFault,
}

/// Where the topic ends for a writer that opens it.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    pub(crate) next_offset: usize,
    /// Streams of which a record is there, however long ago it was written.
    pub(crate) written: Vec<StreamNo>,
}

#[derive(Debug)]
pub(crate) enum Input {
    /// A request leaves the node.
    Depart {
        id: TransactionalId,
        object: u64,
        attempt: u64,
        request: Request,
    },
    Reply {
        object: u64,
        attempt: u64,
        reply: Reply,
    },
    /// The connection under a request broke.
    Cut {
        object: u64,
        attempt: u64,
    },
    Retry {
        object: u64,
        attempt: u64,
    },
    OutOfPatience {
        object: u64,
    },
    Confirmed {
        opening: u64,
        holds: Option<bool>,
    },
    MeasureTail {
        opening: u64,
        /// Where the log ended at the first look, and when that was; the tail has to be readable up to there.
        until: Option<(usize, u64)>,
    },
    /// What is open in the partition does not end.
    TailHidden {
        opening: u64,
    },
    ReadTail {
        opening: u64,
        from: usize,
    },
    Tail {
        opening: u64,
        /// With their offsets.
        records: Vec<(i64, Stamped)>,
        ends: Ends,
    },
    KafkaAnswers,
    CutBatch,
    Look,
    Connect {
        stream: StreamNo,
    },
    /// The attempts of a line are used up.
    GiveUp {
        stream: StreamNo,
    },
    /// The writer looks into the inbox of its feed.
    TakeFeed {
        stream: StreamNo,
    },
    Frame {
        stream: StreamNo,
        socket: u64,
        position: usize,
    },
    LateFrame {
        stream: StreamNo,
        socket: u64,
        position: usize,
    },
    Dial,
    Up {
        session: u64,
        stream: StreamNo,
        said: StandbyMessage,
    },
    Down {
        session: u64,
        stream: StreamNo,
        said: OwnerMessage,
    },
    /// A session that was full has room again.
    Room {
        session: u64,
    },
    SessionEnded {
        session: u64,
    },
}

/// One relay session: ordered both ways until it breaks, and then whatever is under way is gone.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) owner: Actor,
    pub(crate) standby: Actor,
    up: Way,
    down: Way,
}

/// One direction of a session: a channel that holds so many messages.
#[derive(Debug, Default)]
struct Way {
    free_us: u64,
    under_way: usize,
}

/// Where the next blow falls: on this writer's node, or on that of whoever gets there first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ambush {
    pub(crate) whom: Option<(NodeId, WriterNo)>,
    pub(crate) at: Step,
    pub(crate) blow: Blow,
}

pub(crate) struct Net {
    pub(crate) now_us: u64,
    agenda: Agenda<Event>,
    pub(crate) prng: Prng,
    journals: Vec<Journal>,
    pub(crate) sessions: BTreeMap<u64, Session>,
    pub(crate) ambush: Option<Ambush>,
    pub(crate) kafka_answers_from_us: u64,
    manners: Manners,
    /// From here on connections hold, so that what is left over can be finished.
    calm_from_us: u64,
    numbers: u64,
    is_traced: bool,
}

impl Net {
    pub(crate) fn new(prng: Prng, manners: Manners, streams: usize, (calm_from_us, is_traced): (u64, bool)) -> Self {
        Self {
            now_us: 0,
            agenda: Agenda::default(),
            prng,
            journals: (0..streams).map(|_| Journal::default()).collect(),
            sessions: BTreeMap::new(),
            ambush: None,
            kafka_answers_from_us: 0,
            manners,
            calm_from_us,
            numbers: 0,
            is_traced,
        }
    }

    pub(crate) fn at(&mut self, at_us: u64, event: Event) {
        self.agenda.enter(at_us, event);
    }

    pub(crate) fn after_ms(&mut self, (from_ms, to_ms): (f64, f64), event: Event) {
        let delay_us = self.prng.between_ms(from_ms, to_ms);
        self.at(self.now_us + delay_us, event);
    }

    pub(crate) fn next(&mut self, end_us: u64) -> Option<Event> {
        let (at_us, event) = self.agenda.pop()?;
        self.now_us = at_us;
        (at_us <= end_us).then_some(event)
    }

    pub(crate) fn journal(&mut self, stream: StreamNo) -> &mut Journal {
        &mut self.journals[stream]
    }

    pub(crate) fn journals(&self) -> &[Journal] {
        &self.journals
    }

    /// A number that nothing else has.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn say(&self, line: impl FnOnce() -> String) {
        if self.is_traced {
            println!("{:>10.3} ms  {}", self.now_us as f64 / 1_000.0, line());
        }
    }

    /// A writer has reached a step; a blow may be waiting there.
    pub(crate) fn reach(&mut self, by: Actor, step: Step) {
        if let Some(Ambush { whom, at, blow }) = self.ambush
            && at == step
            && whom.is_none_or(|whom| whom == (by.node, by.writer))
        {
            self.ambush = None;
            self.say(|| format!("{by} is ambushed at {step:?}"));
            self.at(self.now_us, Event::Strike(by.node, blow));
        }
    }

    // --- Kafka -----------------------------------------------------------------------------------------------------

    /// A request goes out on a connection: it arrives and is answered, or the connection breaks, and then nobody knows.
    pub(crate) fn route(&mut self, by: Actor, id: TransactionalId, (object, attempt): (u64, u64), request: Request) {
        let is_broken = self.prng.chance(self.manners.break_rate) && self.now_us < self.calm_from_us;
        let usual_us = self.prng.between_ms(0.2, 1.5);
        let arrives_us = (self.now_us + usual_us).max(self.kafka_answers_from_us);
        if !is_broken {
            return self.at(arrives_us, Event::Arrive { from: Some((by, object, attempt)), id, request });
        }
        let arrives_us = match self.prng.below(3) {
            0 => None,
            1 => Some(arrives_us),
            _ => Some(arrives_us + self.prng.between_ms(1.0, 1_500.0)),
        };
        self.say(|| format!("{by}: the connection breaks under {request:?}, arrives {arrives_us:?}"));
        if let Some(arrives_us) = arrives_us {
            self.at(arrives_us, Event::Arrive { from: None, id, request });
        }
        self.after_ms((0.5, 50.0), Event::To(by, Input::Cut { object, attempt }));
    }

    // --- relay -----------------------------------------------------------------------------------------------------

    pub(crate) fn open_session(&mut self, owner: Actor, standby: Actor) -> u64 {
        let session = self.number();
        let way = || Way { free_us: self.now_us, under_way: 0 };
        let (up, down) = (way(), way());
        self.sessions.insert(session, Session { owner, standby, up, down });
        session
    }

    /// What is under way is lost, and both ends hear of it.
    pub(crate) fn end_session(&mut self, session: u64) {
        if let Some(Session { owner, standby, .. }) = self.sessions.remove(&session) {
            self.after_ms((0.1, 3.0), Event::To(owner, Input::SessionEnded { session }));
            self.after_ms((0.1, 3.0), Event::To(standby, Input::SessionEnded { session }));
        }
    }

    /// Whether a message of this end finds room in the session.
    pub(crate) fn has_room(&self, session: u64, by: Actor) -> bool {
        self.sessions.get(&session).is_some_and(|session| {
            let way = if session.owner == by { &session.down } else { &session.up };
            way.under_way < self.manners.relay_messages_max
        })
    }

    /// A message has been taken out of the session, and whoever is at its other end has room for another.
    pub(crate) fn taken(&mut self, number: u64, is_up: bool) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let (way, sender) = if is_up { (&mut session.up, session.standby) } else { (&mut session.down, session.owner) };
        let was_full = way.under_way >= self.manners.relay_messages_max;
        way.under_way -= 1;
        if was_full {
            self.at(self.now_us, Event::To(sender, Input::Room { session: number }));
        }
    }

    pub(crate) fn send_up(&mut self, session: u64, stream: StreamNo, said: StandbyMessage) {
        let (from_ms, to_ms) = self.manners.up_ms;
        let at_us = self.now_us + self.prng.between_ms(from_ms, to_ms);
        let Some(Session { owner, up, .. }) = self.sessions.get_mut(&session) else { return };
        let (at_us, owner) = (up.next_us(at_us), *owner);
        self.at(at_us, Event::To(owner, Input::Up { session, stream, said }));
    }

    pub(crate) fn send_down(&mut self, session: u64, stream: StreamNo, said: OwnerMessage) {
        let (from_ms, to_ms) = self.manners.down_ms;
        let at_us = self.now_us + self.prng.between_ms(from_ms, to_ms);
        let Some(Session { standby, down, .. }) = self.sessions.get_mut(&session) else { return };
        let (at_us, standby) = (down.next_us(at_us), *standby);
        self.at(at_us, Event::To(standby, Input::Down { session, stream, said }));
    }
}

impl Way {
    /// When a message that is sent now arrives: none overtakes another.
    fn next_us(&mut self, at_us: u64) -> u64 {
        self.under_way += 1;
        self.free_us = self.free_us.max(at_us);
        self.free_us
    }
}
