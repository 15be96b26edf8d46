//! Cutting batches, and what becomes of them.

use super::{Producer, Writer};
use crate::{
    StreamId,
    port::{Committed, Failure, Now, Output, Remedy},
};

/// Bounds of one transaction; the rest waits for the next.
const BATCH_RECORDS_MAX: usize = 10_000;
const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

impl Writer {
    pub(super) fn cut(&mut self, now: Now) {
        if self.producer != Producer::Idle {
            return;
        }
        let ready: Vec<(StreamId, usize)> =
            self.ready.iter().filter_map(|id| Some((*id, self.streams.get(id)?.ready_records()))).collect();
        let shares = shares(&ready.iter().map(|(_, records)| *records).collect::<Vec<_>>(), BATCH_RECORDS_MAX);
        let bytes_max = BATCH_BYTES_MAX / ready.len().max(1);
        let mut batch = Vec::new();
        for ((id, _), records_max) in ready.into_iter().zip(shares) {
            self.with(id, now, |stream, _| {
                if stream.cut((records_max, bytes_max), now) {
                    batch.push(id);
                }
            });
        }
        self.next_cut_us = beat_after(self.next_cut_us, now.us, self.commit_interval_us);
        self.write(batch, now);
    }

    /// Hands what these streams have in flight to the producer, for the first time or again.
    pub(super) fn write(&mut self, streams: Vec<StreamId>, now: Now) {
        let times = &self.timestamps;
        let stamp = |own_ms| times.stamp(own_ms, now.wall_ms(), now.ms());
        let records = streams.iter().filter_map(|id| self.streams.get_mut(id)?.in_flight(stamp)).collect::<Vec<_>>();
        if records.is_empty() {
            return;
        }
        self.in_flight = streams;
        self.producer = Producer::Writing;
        self.outputs.push(Output::Write(records));
    }

    pub(super) fn written(&mut self, result: Result<Committed, Failure>, now: Now) {
        if self.producer != Producer::Writing {
            return;
        }
        let in_flight = std::mem::take(&mut self.in_flight);
        match result {
            Ok(committed) => {
                self.timestamps.accepted(committed.timestamp_ms_max, now.ms());
                for id in in_flight {
                    let offsets = committed.next_offsets.iter().find(|(stream, _)| *stream == id);
                    let offsets = offsets.map_or(&[][..], |(_, offsets)| offsets);
                    self.with(id, now, |stream, _| stream.committed(offsets, &committed, now));
                }
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
                // Restamped in vain, they are refused for something else, and whoever tries again will hear the same.
                let remedy = match failure.remedy {
                    Remedy::Restamp if !self.timestamps.refused(now.ms()) => Remedy::Operator,
                    Remedy::LeaveOut { stream, sequence } => {
                        let mut is_known = false;
                        self.with(stream, now, |stream, _| is_known = stream.leave_out(sequence));
                        if is_known { failure.remedy } else { Remedy::Wait }
                    }
                    remedy => remedy,
                };
                self.close_producer();
                let failure = Failure { remedy, ..failure };
                for id in in_flight {
                    self.with(id, now, |stream, _| stream.write_failed(&failure, now));
                }
                self.lost(remedy, now);
            }
        }
    }

    /// The producer is finished, whatever comes next, and so is all that was asked by it.
    pub(super) fn close_producer(&mut self) {
        self.producer = Producer::None;
        (self.is_finding, self.find_at_us) = (false, None);
        self.outputs.push(Output::Close);
    }
}

/// Divides room for records among streams that have so many ready: whoever wants less than an even share gets what it wants, and
/// leaves the rest to the others, so that no feed is slower for a neighbour's haste. At least one each.
fn shares(ready: &[usize], room: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..ready.len()).collect();
    order.sort_unstable_by_key(|position| ready[*position]);
    let (mut left, mut shares) = (room, vec![0; ready.len()]);
    for (taken, position) in order.into_iter().enumerate() {
        let even = left / (ready.len() - taken);
        shares[position] = ready[position].min(even).max(1);
        left = left.saturating_sub(shares[position]);
    }
    shares
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

    #[test]
    fn a_hasty_stream_takes_what_the_others_leave_and_no_more() {
        assert_eq!(shares(&[50_000], 10_000), [10_000]);
        assert_eq!(shares(&[50_000, 3, 20], 10_000), [9_977, 3, 20]);
        assert_eq!(shares(&[50_000, 3, 60_000, 4_000], 10_000), [3_332, 3, 3_333, 3_332]);
        assert_eq!(shares(&[5; 4], 2), [1; 4], "each gets on, however many they are");
        assert_eq!(shares(&[], 10_000), [] as [usize; 0]);
    }
}
