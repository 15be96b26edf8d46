//! From an opened producer to a live owner: a first start, a takeover, or a recovery of the same epoch, and what is done
//! when opening fails. The order of a takeover is `opening`'s; what the tail of the topic decides is decided here.

use std::time::{Duration, Instant};

use twinfeed_dedup::{Merge, TailRecord};

use super::{
    super::{
        Payload,
        opening::{self, Opened, TailFrom},
        owner::Owner,
        phase::{Opening, Phase},
    },
    REOPEN_MIN, Writer,
};

/// The largest pause between openings that failed. One that meets silence takes ten seconds by itself.
const REOPEN_MAX: Duration = Duration::from_secs(1);
/// Only an operator can help; once he has, it goes on by itself.
const REOPEN_FAILED: Duration = Duration::from_secs(5);

impl Writer {
    pub(super) fn opened(&mut self, result: Result<Opened, opening::Error>) {
        match result {
            Ok(opened) => self.go_live(opened),
            Err(opening::Error::NotOwner(epoch)) => {
                self.progress.fenced(epoch);
                self.depose();
            }
            Err(error) => {
                match &error {
                    opening::Error::Kafka(error) => self.progress.cannot_write(error, self.now_ms()),
                    other => self.progress.trouble(other),
                }
                self.retry_opening_later();
            }
        }
    }

    pub(super) fn retry_opening_later(&mut self) {
        let jitter = 0.5 + rand::random::<f64>() / 2.0;
        self.reopen_at = Some(Instant::now() + self.reopen_pause.mul_f64(jitter));
        let longest = if self.progress.has_failed() { REOPEN_FAILED } else { REOPEN_MAX };
        self.reopen_pause = (self.reopen_pause * 2).min(longest);
    }

    fn go_live(&mut self, opened: Opened) {
        let now_ms = self.now_ms();
        let Opened { producer, tail, offsets, last_received_at_ms } = opened;
        self.producer = Some(producer);
        self.reopen_pause = REOPEN_MIN;
        let phase = std::mem::replace(&mut self.phase, Phase::Deposed);
        self.phase = match phase {
            Phase::Opening(opening) => {
                let (epoch, tail_records) = (opening.epoch, tail.len());
                if let Some(last) = last_received_at_ms.filter(|_| !opening.redundant) {
                    self.progress.gap(last, opening.first_received_at_ms());
                }
                if let Some((lost_at_ms, first_ms)) = opening.hole_ms() {
                    self.progress.gap(lost_at_ms, first_ms);
                }
                let merge = self.merge(opening, tail);
                let mut owner = Owner::new(epoch, merge, offsets, self.ledger.clone());
                owner.merge.own_subscription(self.numbering.live(), now_ms);
                self.progress.live(epoch, tail_records, owner.merge.status().ready_records);
                Phase::Owning(Box::new(owner))
            }
            Phase::Owning(mut owner) => {
                // Recovery of the same epoch: the tail decides about the batch that was in flight.
                let records = tail.len();
                if owner.landed(&tail) {
                    let committed = owner.committed(offsets);
                    self.progress.committed(&committed, None);
                } else {
                    let batch = owner.in_flight.clone();
                    self.write(batch);
                }
                self.progress.live(owner.epoch, records, owner.merge.status().ready_records);
                Phase::Owning(owner)
            }
            other => {
                self.close();
                other
            }
        };
        self.next_cut = Instant::now();
    }

    /// A first start takes nothing over: its subscription is the beginning of the stream, so frames that a standby got
    /// before it are known to be new. After a takeover they are not.
    fn merge(&self, opened: Opening, tail: Vec<TailRecord>) -> Merge<Payload> {
        let (options, now_ms) = (self.options.merge.clone(), self.now_ms());
        let Opening { epoch, retention, tail_from, .. } = opened;
        if !matches!(tail_from, TailFrom::End) {
            return Merge::take_over(options, epoch.0, *retention, tail, now_ms);
        }
        let mut merge = Merge::new(options, epoch.0);
        let mut current = None;
        for frame in retention.into_retained() {
            if current.replace(frame.subscription) != Some(frame.subscription) {
                merge.own_subscription(current, now_ms);
            }
            merge.frame(frame, now_ms);
        }
        merge
    }

    pub(super) fn reopen(&mut self) {
        self.reopen_at = None;
        let (epoch, tail_from) = match &self.phase {
            Phase::Opening(opening) => (opening.epoch, (opening.tail_from.clone(), opening.redundant)),
            // It holds everything itself.
            Phase::Owning(owner) => (owner.epoch, (TailFrom::Offsets(owner.offsets.clone()), true)),
            Phase::Standing(_) | Phase::Deposed => return,
        };
        self.opening = Some(Box::pin(opening::open(self.options.plan(epoch, tail_from, None, true))));
    }
}
