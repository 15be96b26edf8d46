//! The last events of the cluster, as this node has heard of them, and a way to hear the next ones. `node.rs` records
//! what the leader tells; `StreamEvents` shows it. It is memory only: what must outlive the process is in the logs.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::broadcast;

use crate::model::event::Event;

/// Events kept, oldest forgotten first: about a megabyte, and more than the admin API gives at once.
const EVENTS_MAX: usize = 1_000;

/// A bounded log of events. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub struct EventLog {
    kept: Arc<Mutex<VecDeque<Arc<Event>>>>,
    live: broadcast::Sender<Arc<Event>>,
}

impl Default for EventLog {
    fn default() -> Self {
        let (live, _) = broadcast::channel(EVENTS_MAX);
        Self { kept: Arc::default(), live }
    }
}

impl EventLog {
    /// Adds an event and tells whoever listens.
    pub fn record(&self, event: Event) {
        let event = Arc::new(event);
        let mut kept = self.lock();
        if kept.len() == EVENTS_MAX {
            kept.pop_front();
        }
        kept.push_back(event.clone());
        // Sent under the lock, so that `follow` neither misses nor repeats one. Nobody listening is nobody to tell.
        let _ = self.live.send(event);
    }

    /// Returns all kept events, oldest first, and a receiver of every later one. A receiver that falls 1000 behind
    /// misses the oldest and is told so.
    pub fn follow(&self) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let kept = self.lock();
        (kept.iter().cloned().collect(), self.live.subscribe())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Event>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn event(epoch: u64) -> Event {
        Event {
            at_ms: 1,
            kind: "takeover.done".into(),
            node: "n1".into(),
            connector: "btc".into(),
            epoch,
            message: String::new(),
            attributes: BTreeMap::new(),
        }
    }

    #[test]
    fn a_follower_gets_every_event_once_and_the_log_stays_bounded() {
        let log = EventLog::default();
        (0..EVENTS_MAX as u64 + 5).for_each(|epoch| log.record(event(epoch)));
        let (kept, mut later) = log.follow();
        assert_eq!((kept.len(), kept[0].epoch), (EVENTS_MAX, 5));
        log.record(event(9_999));
        assert_eq!(later.try_recv().map(|event| event.epoch), Ok(9_999));
        assert!(later.try_recv().is_err());
    }
}
