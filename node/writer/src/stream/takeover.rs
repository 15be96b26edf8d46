//! From an opened producer to a live owner, for one stream: a first start, a takeover, or a recovery of the same epoch. What the
//! tail of the topic decides is decided here.

use twinfeed_dedup::{Merge, Shape, TailRecord};

use super::Stream;
use crate::{
    absence::Absence,
    owner::Owner,
    payload::Payload,
    phase::{Opening, Phase},
    port::{InTopic, Now, TailFrom},
};

/// What an owner that still speaks has read and not written yet is no older than this, milliseconds, unless Kafka hangs; then it
/// soon is no owner any more.
const UNWRITTEN_MS_MAX: u64 = 1_000;

impl Stream {
    /// A producer is open, and this is what the topic holds. Returns whether the batch that was in flight is to be written again.
    pub(crate) fn opened(&mut self, found: InTopic, now: Now) -> bool {
        let InTopic { tail, offsets, last_received_at_ms, payload_bytes_max } = found;
        let tail_records = tail.len();
        match std::mem::replace(&mut self.phase, Phase::Deposed) {
            Phase::Opening(opening) => {
                let epoch = opening.epoch;
                let hole = opening.hole(self.numbering.live(), last_received_at_ms, now.wall_ms());
                let lacking = opening.lacking;
                if let Some(hole) = &hole {
                    self.account.gap(hole.from_ms, hole.until_ms, now);
                }
                let steady = |wall_ms: u64| now.ms().saturating_sub(now.wall_ms().saturating_sub(wall_ms));
                let heard_ms = opening.heard_ms.map(|heard_ms| heard_ms.saturating_sub(UNWRITTEN_MS_MAX));
                let twins_ms = last_received_at_ms.map(steady).or(heard_ms);
                let mut merge = self.merge(opening, tail, now);
                merge.delivered_until(self.account.last_received_at_ms().map(steady), twins_ms);
                let mut owner = Owner::new((epoch, self.settings.stream), merge, offsets, payload_bytes_max);
                // The merge has seen neither the end of the former line nor what it delivered last: it tells no gap here.
                owner.absence = hole.filter(|hole| hole.goes_on).map(|hole| Absence::new(hole.until_ms, lacking));
                owner.merge.own_subscription(self.numbering.live(), now.ms());
                self.account.live(epoch, (tail_records, owner.merge.status().ready_records), now);
                self.phase = Phase::Owning(Box::new(owner));
                false
            }
            Phase::Owning(mut owner) => {
                owner.payload_bytes_max = payload_bytes_max;
                // Recovery of the same epoch: the tail decides about the batch that was in flight.
                let landed = owner.landed(&tail);
                if landed {
                    let committed = owner.committed(offsets);
                    self.account.committed(&committed, None, now);
                }
                self.account.live(owner.epoch, (tail_records, owner.merge.status().ready_records), now);
                self.phase = Phase::Owning(owner);
                !landed
            }
            other => {
                self.phase = other;
                false
            }
        }
    }

    /// A first start takes nothing over: its subscription is the beginning of the stream, so frames that a standby got
    /// before it are known to be new. After a takeover they are not.
    fn merge(&self, opened: Opening, tail: Vec<TailRecord>, now: Now) -> Merge<Payload> {
        let (options, now_ms) = (self.settings.merge.clone(), now.ms());
        let Opening { epoch, retention, tail_from, .. } = opened;
        if !matches!(tail_from, TailFrom::End) {
            let mut merge = Merge::take_over(options, epoch.0, *retention, tail, now_ms);
            merge.look_at_shapes(shape);
            return merge;
        }
        let mut merge = Merge::new(options, epoch.0);
        merge.look_at_shapes(shape);
        let mut current = None;
        for frame in retention.into_retained() {
            if current.replace(frame.subscription) != Some(frame.subscription) {
                merge.own_subscription(current, now_ms);
            }
            merge.frame(frame, now_ms);
        }
        merge
    }
}

fn shape(payload: &Payload) -> Shape {
    Shape::of(&payload.bytes)
}
