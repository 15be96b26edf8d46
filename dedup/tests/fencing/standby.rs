//! The standby's side of a writer, step by step as `node/src/pipeline/standby.rs` has it, without channels and bytes.
//!
//! The writer owns it; what it has to say comes out of `send`, in order.

use std::collections::VecDeque;

use twinfeed_dedup::{Retention, SubscriptionId};

use super::net::{Down, Up};

const RELAY_FRAMES_MAX: usize = 256;

pub(crate) struct Standby {
    pub(crate) epoch: u64,
    pub(crate) retention: Retention<()>,
    /// Offset of the last ack: where a takeover starts reading.
    pub(crate) acked: Option<usize>,
    pub(crate) incarnation: u64,
    pub(crate) received_through: u64,
    pub(crate) session: Option<u64>,
    welcomed: bool,
    queue: VecDeque<Queued>,
}

struct Queued {
    id: SubscriptionId,
    ended: bool,
    announced: bool,
    end_announced: bool,
    cursor: Option<u64>,
}

impl Queued {
    fn new(id: SubscriptionId) -> Self {
        Self { id, ended: false, announced: false, end_announced: false, cursor: None }
    }
}

impl Standby {
    pub(crate) fn new(epoch: u64, retention: Retention<()>, live: Option<SubscriptionId>, incarnation: u64) -> Self {
        Self {
            epoch,
            retention,
            acked: None,
            incarnation,
            received_through: 0,
            session: None,
            welcomed: false,
            queue: live.map(Queued::new).into_iter().collect(),
        }
    }

    /// Another owner, or the same one anew.
    pub(crate) fn new_owner(&mut self, epoch: u64, renewed: Option<SubscriptionId>, incarnation: u64) {
        (self.epoch, self.incarnation, self.received_through) = (epoch, incarnation, 0);
        (self.session, self.welcomed) = (None, false);
        self.queue.clear();
        self.retention.disconnected();
        self.renew(renewed);
    }

    /// The owner has forgotten this standby.
    pub(crate) fn start_over(&mut self, renewed: Option<SubscriptionId>) {
        self.queue.clear();
        self.renew(renewed);
    }

    fn renew(&mut self, renewed: Option<SubscriptionId>) {
        if let Some(id) = renewed {
            self.retention.subscribed(id);
            self.queue.push_back(Queued::new(id));
        }
    }

    pub(crate) fn owner_connected(&mut self, session: u64) {
        (self.session, self.welcomed) = (Some(session), false);
    }

    pub(crate) fn session_ended(&mut self) {
        (self.session, self.welcomed) = (None, false);
    }

    /// Returns whether the live subscription has to be renewed because the owner has forgotten it.
    pub(crate) fn heard(&mut self, said: Down) -> bool {
        match said {
            Down::Welcome { next } => return self.welcome(&next),
            Down::Merge { number, committed, message } if number > self.received_through => {
                self.retention.receive(message).expect("the channel does not damage bytes");
                (self.received_through, self.acked) = (number, Some(committed));
                if self.retention.is_redundant() {
                    let queue = &self.queue;
                    self.retention.forget_except(|id| queue.iter().any(|queued| queued.id == id));
                }
            }
            Down::Merge { .. } => {}
        }
        false
    }

    fn welcome(&mut self, next: &[(SubscriptionId, u64)]) -> bool {
        let known = |id: SubscriptionId| next.iter().find(|(subscription, _)| *subscription == id).map(|&(_, i)| i);
        if let Some(last_known) = self.queue.iter().rposition(|queued| known(queued.id).is_some()) {
            self.queue.drain(..last_known);
        }
        self.queue.retain(|queued| !queued.ended || known(queued.id).is_some());
        for queued in &mut self.queue {
            *queued = Queued { cursor: known(queued.id), ended: queued.ended, ..Queued::new(queued.id) };
        }
        self.welcomed = true;
        if next.is_empty() {
            self.received_through = 0;
        }
        let forgotten = self.queue.back().filter(|live| {
            let first = self.retention.retained_from(live.id, 0).next().map(|frame| frame.index);
            !live.ended && live.cursor.is_none() && first.is_none_or(|first| first > 1)
        });
        forgotten.is_some_and(|live| self.retention.has_numbered(live.id))
    }

    pub(crate) fn subscribed(&mut self, id: SubscriptionId) {
        self.disconnected();
        self.renew(Some(id));
    }

    pub(crate) fn disconnected(&mut self) {
        self.retention.disconnected();
        if let Some(live) = self.queue.back_mut() {
            live.ended = true;
        }
    }

    /// What the owner lacks, in order.
    pub(crate) fn send(&mut self) -> Vec<Up> {
        let mut said = Vec::new();
        if !self.welcomed || self.session.is_none() {
            return said;
        }
        for queued in &mut self.queue {
            if !queued.announced {
                queued.announced = true;
                said.push(Up::Subscription(Some(queued.id)));
            }
            while let Some((frames, next)) = frames_from(&self.retention, queued.id, queued.cursor.unwrap_or(0)) {
                queued.cursor = Some(next);
                said.push(frames);
            }
            if queued.ended && !queued.end_announced {
                queued.end_announced = true;
                said.push(Up::Subscription(None));
            }
        }
        while self.queue.front().is_some_and(|queued| queued.end_announced) {
            self.queue.pop_front();
        }
        said
    }

    pub(crate) fn confirmation(&self) -> Option<Up> {
        (self.welcomed && self.session.is_some()).then_some(Up::ReceivedThrough(self.received_through))
    }
}

fn frames_from(retention: &Retention<()>, subscription: SubscriptionId, from: u64) -> Option<(Up, u64)> {
    let mut fingerprints = Vec::new();
    let mut first_index = from;
    for frame in retention.retained_from(subscription, from).take(RELAY_FRAMES_MAX) {
        if fingerprints.is_empty() {
            first_index = frame.index;
        } else if frame.index != first_index + fingerprints.len() as u64 {
            break;
        }
        fingerprints.push(frame.fingerprint);
    }
    let next = first_index + fingerprints.len() as u64;
    (!fingerprints.is_empty()).then_some((Up::Frames { subscription, first_index, fingerprints }, next))
}
