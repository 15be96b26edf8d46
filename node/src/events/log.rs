//! The last events of the cluster, as this node has heard of them, and a way to hear the next ones. `node.rs` records
//! what happens here, `coordinator` what others tell. Each event is in it once, however often it is told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{broadcast, watch};

use super::kept::{Forgotten, Kept, LOSSES_MAX};
use crate::model::{
    event::{Event, EventId, Numbered, Through},
    ids::NodeId,
};

/// Events that a listener may be behind.
const BEHIND_MAX: usize = 1_000;

/// A bounded log of events. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub struct EventLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// This node and its present life, for the events that happen here.
    me: NodeId,
    life: u64,
    inside: Mutex<Inside>,
    live: broadcast::Sender<Arc<Numbered>>,
    /// Counts what is added.
    added: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inside {
    kept: Kept,
    last_number: u64,
    /// Not in the journal yet.
    unwritten: Vec<Arc<Numbered>>,
    /// The journal has to be written anew: it lacks some, or holds too much.
    rewrite: bool,
}

impl Default for EventLog {
    /// Of a node that is nobody yet: for tests and tools.
    fn default() -> Self {
        Self::new(0, 0)
    }
}

impl EventLog {
    /// An empty log of the node `me`, whose former lives all have smaller numbers.
    pub fn new(me: NodeId, life: u64) -> Self {
        let (live, _) = broadcast::channel(BEHIND_MAX);
        let shared = Shared { me, life, inside: Mutex::default(), live, added: watch::Sender::new(0) };
        Self { shared: Arc::new(shared) }
    }

    /// Something happened here.
    pub fn record(&self, event: Event) {
        let mut inside = self.lock();
        inside.last_number += 1;
        let id = EventId { node: self.shared.me, life: self.shared.life, number: inside.last_number };
        self.add(inside, Arc::new(Numbered { id, event: event.bounded() }));
    }

    /// Another node tells of an event, perhaps not for the first time.
    pub fn hear(&self, told: Numbered) {
        let mut inside = self.lock();
        let own = (told.id.node, told.id.life) == (self.shared.me, self.shared.life);
        if inside.kept.is_news(told.id) && !own {
            let event = told.event.bounded();
            self.add(inside, Arc::new(Numbered { event, ..told }));
        }
    }

    fn add(&self, mut inside: MutexGuard<'_, Inside>, event: Arc<Numbered>) {
        inside.kept.add(event.clone());
        if event.event.says_loss() {
            inside.unwritten.push(event.clone());
            if inside.unwritten.len() > LOSSES_MAX {
                inside.want_rewrite();
            }
        }
        // Sent under the lock, so that `follow` neither misses nor repeats one. Nobody listening is nobody to tell.
        let _ = self.shared.live.send(event);
        self.shared.added.send_modify(|count| *count += 1);
    }

    /// Returns all kept events by their time, and a receiver of every later one. A receiver that falls 1000 behind
    /// misses the oldest and is told so.
    pub fn follow(&self) -> (Vec<Arc<Numbered>>, broadcast::Receiver<Arc<Numbered>>) {
        let inside = self.lock();
        let mut events: Vec<_> = inside.kept.all().cloned().collect();
        events.sort_by_key(|event| (event.event.at_ms, event.id));
        (events, self.shared.live.subscribe())
    }

    /// Changes with every event that is added.
    pub fn added(&self) -> watch::Receiver<u64> {
        self.shared.added.subscribe()
    }

    /// Up to where this node has heard, from others, what happened at each.
    pub fn through(&self) -> Through {
        self.lock().kept.through().clone()
    }

    /// What is not kept any more.
    pub fn forgotten(&self) -> Forgotten {
        self.lock().kept.forgotten()
    }

    /// Kept events that `told` does not cover, each node's in their order, about `bytes_max` of them and at least one;
    /// `told` covers them then.
    pub fn tell(&self, told: &mut Through, bytes_max: usize) -> Vec<Arc<Numbered>> {
        let inside = self.lock();
        // Asked many times a second.
        if told.covers_all(inside.kept.latest()) {
            return Vec::new();
        }
        let mut news: Vec<_> = inside.kept.all().filter(|event| !told.covers(event.id)).cloned().collect();
        let latest = inside.kept.latest().clone();
        drop(inside);
        news.sort_by_key(|event| event.id);
        let mut bytes = 0;
        let fits = news.iter().take_while(|event| {
            let first = bytes == 0;
            bytes += event.event.bytes();
            first || bytes <= bytes_max
        });
        let fits = fits.count();
        if fits == news.len() {
            told.join(&latest);
        }
        news.truncate(fits);
        news.iter().for_each(|event| told.note(event.id));
        news
    }

    /// Takes back what a former life kept.
    pub(super) fn restore(&self, events: Vec<Numbered>, forgotten: Forgotten) {
        let mut inside = self.lock();
        inside.kept.forgot_before(forgotten);
        events.into_iter().for_each(|event| inside.kept.add(Arc::new(event)));
    }

    /// What the journal is to be given: more lines, or everything anew.
    pub(super) fn unwritten(&self) -> Unwritten {
        let mut inside = self.lock();
        let lines = std::mem::take(&mut inside.unwritten);
        if std::mem::take(&mut inside.rewrite) {
            let all = inside.kept.losses().cloned().collect();
            return Unwritten::All { all, forgotten: inside.kept.forgotten() };
        }
        Unwritten::Lines(lines)
    }

    /// What `unwritten` returned did not get to the disk, or the file is too large.
    pub(super) fn want_rewrite(&self) {
        self.lock().want_rewrite();
    }

    pub(super) fn life(&self) -> u64 {
        self.shared.life
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.shared.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn want_rewrite(&mut self) {
        self.rewrite = true;
        self.unwritten.clear();
    }
}

/// What the journal lacks.
pub(super) enum Unwritten {
    Lines(Vec<Arc<Numbered>>),
    All { all: Vec<Arc<Numbered>>, forgotten: Forgotten },
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::events::kept::PASSING_MAX;

    pub(in crate::events) fn event(kind: &str, connector: &str, at_ms: u64) -> Event {
        Event {
            at_ms,
            kind: kind.to_owned(),
            node: "n1".into(),
            connector: connector.to_owned(),
            epoch: 1,
            message: String::new(),
            attributes: BTreeMap::new(),
        }
    }

    fn times(log: &EventLog) -> Vec<u64> {
        log.follow().0.iter().map(|event| event.event.at_ms).collect()
    }

    /// Tells `to` all that it lacks, as often as it takes.
    fn tell_all(from: &EventLog, to: &EventLog, told: &mut Through) {
        loop {
            let events = from.tell(told, 1_000);
            if events.is_empty() {
                return;
            }
            events.into_iter().for_each(|event| to.hear(Arc::unwrap_or_clone(event)));
        }
    }

    #[test]
    fn a_follower_gets_every_event_once_and_the_log_stays_bounded() {
        let log = EventLog::default();
        (0..PASSING_MAX as u64 + 5).for_each(|at_ms| log.record(event("at_risk", "btc", at_ms)));
        let (kept, mut later) = log.follow();
        assert_eq!((kept.len(), kept[0].event.at_ms), (PASSING_MAX, 5));
        log.record(event("at_risk", "btc", 9_999));
        assert_eq!(later.try_recv().map(|event| event.event.at_ms), Ok(9_999));
        assert!(later.try_recv().is_err());
    }

    #[test]
    fn what_a_leader_heard_and_died_with_is_told_to_the_next() {
        let (node, first, second) = (EventLog::new(1, 7), EventLog::new(2, 1), EventLog::new(3, 1));
        let (mut to_first, mut to_second) = (first.through(), second.through());
        node.record(event("gap", "btc", 1));
        tell_all(&node, &first, &mut to_first);
        node.record(event("gap", "btc", 2));
        tell_all(&node, &first, &mut to_first);
        assert_eq!(times(&first), [1, 2]);
        // The first is gone with both; whatever it confirmed, the second says what it has itself.
        tell_all(&node, &second, &mut to_second);
        assert_eq!(times(&second), [1, 2]);
    }

    #[test]
    fn an_event_that_is_told_by_many_is_there_once_and_in_the_order_of_time() {
        let (a, b, leader) = (EventLog::new(1, 7), EventLog::new(2, 3), EventLog::new(3, 1));
        a.record(event("gap", "btc", 10));
        b.record(event("gap", "eth", 5));
        let (_, mut live) = leader.follow();
        for from in [&a, &b, &a] {
            tell_all(from, &leader, &mut Through::default());
        }
        for to in [&a, &b] {
            tell_all(&leader, to, &mut to.through());
            tell_all(to, &leader, &mut Through::default());
        }
        for log in [&a, &b, &leader] {
            assert_eq!(times(log), [5, 10]);
        }
        assert_eq!(std::iter::from_fn(|| live.try_recv().ok()).count(), 2);
    }

    #[test]
    fn an_own_event_that_comes_back_after_it_was_forgotten_is_not_told_again() {
        let (node, leader) = (EventLog::new(1, 7), EventLog::new(2, 1));
        node.record(event("at_risk", "btc", 1));
        tell_all(&node, &leader, &mut Through::default());
        (0..PASSING_MAX as u64).for_each(|at_ms| node.record(event("at_risk", "btc", 10 + at_ms)));
        assert_eq!(times(&node)[0], 10);
        tell_all(&leader, &node, &mut Through::default());
        assert_eq!(times(&node)[0], 10);
    }

    #[test]
    fn a_node_that_lost_its_memory_gets_the_history_back() {
        let (mut node, leader) = (EventLog::new(1, 7), EventLog::new(2, 1));
        for (at_ms, kind) in [(1, "gap"), (2, "at_risk"), (3, "gap")] {
            node.record(event(kind, "btc", at_ms));
        }
        tell_all(&node, &leader, &mut leader.through());
        node = EventLog::new(1, 8);
        // Its journal had the first.
        let first = leader.follow().0[0].clone();
        node.restore(vec![Arc::unwrap_or_clone(first)], Forgotten::default());
        node.record(event("gap", "btc", 4));
        tell_all(&node, &leader, &mut leader.through());
        tell_all(&leader, &node, &mut node.through());
        assert_eq!((times(&node), times(&leader)), (vec![1, 2, 3, 4], vec![1, 2, 3, 4]));
    }
}
