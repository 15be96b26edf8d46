//! Cutting batches, and what becomes of them.

use std::sync::Arc;

use super::{Producer, Writer};
use crate::{
    phase::Phase,
    port::{Committed, Failure, Now, Output, Remedy},
};

impl Writer {
    pub(super) fn cut(&mut self, now: Now) {
        if self.producer != Producer::Idle {
            return;
        }
        let Phase::Owning(owner) = &mut self.phase else { return };
        let Some(oversize) = owner.cut(now.ms()) else { return };
        self.next_cut_us = beat_after(self.next_cut_us, now.us, self.settings.commit_interval_us);
        oversize.iter().for_each(|record| self.account.left_out(record));
        if owner.in_flight.is_empty() {
            // Nothing of it is for Kafka, so it is as done as it will ever be.
            owner.committed([]);
        } else {
            self.write(now);
        }
    }

    /// Hands the batch in flight to the producer, for the first time or again.
    pub(super) fn write(&mut self, now: Now) {
        let Phase::Owning(owner) = &mut self.phase else { return };
        for record in Arc::make_mut(&mut owner.in_flight) {
            record.timestamp_ms = self.timestamps.stamp(record.timestamp_ms, now.wall_ms(), now.ms());
        }
        self.producer = Producer::Writing;
        self.outputs.push(Output::Write(Arc::clone(&owner.in_flight)));
    }

    pub(super) fn written(&mut self, result: Result<Committed, Failure>, now: Now) {
        let Phase::Owning(owner) = &mut self.phase else { return };
        match result {
            Ok(committed) => {
                self.timestamps.accepted(committed.timestamp_ms_max, now.ms());
                let records = owner.committed(committed.next_offsets.iter().copied());
                self.account.committed(&records, Some(&committed), now);
                self.next_cut_us = self.next_cut_us.max(now.us + committed.breather_us);
                if committed.recycle {
                    self.close_producer();
                    self.lost(Remedy::Reopen, now);
                } else {
                    self.producer = Producer::Idle;
                }
            }
            // Neither a fence nor a timeout says what became of the batch: a new producer's init makes it definite,
            // the check says whether this node may go on, the tail says whether the batch is in the topic.
            Err(failure) => {
                let epoch = owner.epoch;
                let left_out = match failure.remedy {
                    Remedy::LeaveOut { sequence } => owner.leave_out(sequence),
                    _ => None,
                };
                // Restamped in vain, they are refused for something else, and whoever tries again will hear the same.
                let remedy = match failure.remedy {
                    Remedy::Restamp if !self.timestamps.refused(now.ms()) => Remedy::Operator,
                    Remedy::LeaveOut { .. } if left_out.is_none() => Remedy::Wait,
                    remedy => remedy,
                };
                self.close_producer();
                self.account.write_failed(epoch, &Failure { remedy, ..failure }, now);
                if remedy == Remedy::Restamp {
                    self.account.timestamps_refused(now);
                }
                left_out.iter().for_each(|record| self.account.left_out(record));
                self.lost(remedy, now);
            }
        }
    }

    /// The producer is finished, whatever comes next.
    fn close_producer(&mut self) {
        self.producer = Producer::None;
        self.outputs.push(Output::Close);
    }
}

/// When the next batch is due after one that was due at `due` and is cut `now`, in microseconds. The runtime's timer fires up to a
/// millisecond late; a beat that is kept does not add that up, and one that was missed is not made up for.
fn beat_after(due: u64, now: u64, interval: u64) -> u64 {
    if now.saturating_sub(due) < interval { due + interval } else { now + interval }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_is_kept_and_a_missed_one_is_not_made_up_for() {
        let after = |late_ms: u64| beat_after(1_000_000, 1_000_000 + late_ms * 1_000, 10_000) - 1_000_000;
        assert_eq!([0, 1, 9].map(after), [10_000; 3]);
        assert_eq!([10, 5_000].map(after), [20_000, 5_010_000]);
    }
}
