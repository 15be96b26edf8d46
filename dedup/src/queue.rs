//! The queue: fresh messages on their way to Kafka, numbered when they are found, committed in order.
//!
//! Owned by the merge. Because batches commit in order, one number says what is in the topic; it outlives any entry.

use std::collections::VecDeque;

use crate::{Frame, Record, RecordId};

#[derive(Debug)]
pub(crate) struct Queue<P> {
    epoch: u64,
    /// Last sequence given out; last sequence known to be in the topic.
    assigned: u64,
    committed: u64,
    ready: VecDeque<Waiting<P>>,
    ready_bytes: usize,
    in_flight: Option<InFlight>,
}

/// A record to be, without its epoch, which they all share: a backlog has millions of them.
#[derive(Debug)]
struct Waiting<P> {
    ordinal: u64,
    sequence: u64,
    frame: Frame<P>,
}

impl<P> Waiting<P> {
    fn into_record(self, epoch: u64) -> Record<P> {
        let Frame { subscription, index, fingerprint, bytes, payload } = self.frame;
        Record { id: RecordId { epoch, sequence: self.sequence }, fingerprint, subscription, index, bytes, payload }
    }
}

#[derive(Debug)]
struct InFlight {
    /// Sequence of its last record.
    through: u64,
    /// The entries of its records, in order.
    ordinals: Vec<u64>,
    bytes: usize,
}

/// What a batch may hold; one record is always allowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) records_max: usize,
    pub(crate) bytes_max: usize,
}

impl<P> Queue<P> {
    pub(crate) fn new(epoch: u64) -> Self {
        Self { epoch, assigned: 0, committed: 0, ready: VecDeque::new(), ready_bytes: 0, in_flight: None }
    }

    /// The name of the next fresh message.
    pub(crate) fn next_record(&self) -> RecordId {
        RecordId { epoch: self.epoch, sequence: self.assigned + 1 }
    }

    /// Takes in a fresh message under its [`Queue::next_record`].
    pub(crate) fn push(&mut self, frame: Frame<P>, ordinal: u64) {
        self.assigned += 1;
        self.ready_bytes += frame.bytes;
        self.ready.push_back(Waiting { ordinal, sequence: self.assigned, frame });
    }

    /// Records of earlier epochs are in the topic: nobody knows of them otherwise.
    pub(crate) fn is_committed(&self, record: RecordId) -> bool {
        record.epoch != self.epoch || record.sequence <= self.committed
    }

    pub(crate) fn assigned(&self) -> u64 {
        self.assigned
    }

    pub(crate) fn committed(&self) -> u64 {
        self.committed
    }

    pub(crate) fn cut(&mut self, limits: BatchLimits) -> Option<Vec<Record<P>>> {
        if self.in_flight.is_some() {
            return None;
        }
        let mut bytes = 0_usize;
        let mut count = 0_usize;
        for waiting in self.ready.iter().take(limits.records_max.max(1)) {
            if count > 0 && bytes.saturating_add(waiting.frame.bytes) > limits.bytes_max {
                break;
            }
            bytes += waiting.frame.bytes;
            count += 1;
        }
        let through = self.ready.get(count.checked_sub(1)?)?.sequence;
        let epoch = self.epoch;
        let batch = self.ready.drain(..count).map(|waiting| (waiting.ordinal, waiting.into_record(epoch)));
        let (ordinals, records) = batch.unzip();
        self.ready_bytes -= bytes;
        self.in_flight = Some(InFlight { through, ordinals, bytes });
        Some(records)
    }

    /// The batch in flight is in the topic; returns the entries of its records, `None` without one.
    pub(crate) fn commit(&mut self) -> Option<Vec<u64>> {
        let batch = self.in_flight.take()?;
        self.committed = batch.through;
        Some(batch.ordinals)
    }

    /// Nothing is on its way: what was dropped at the end of the queue counts as done, too.
    pub(crate) fn commit_idle(&mut self) {
        if self.in_flight.is_none() && self.ready.is_empty() {
            self.committed = self.assigned;
        }
    }

    pub(crate) fn drop_oldest(&mut self) -> Option<Record<P>> {
        let waiting = self.ready.pop_front()?;
        self.ready_bytes -= waiting.frame.bytes;
        Some(waiting.into_record(self.epoch))
    }

    pub(crate) fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    pub(crate) fn in_flight_bytes(&self) -> usize {
        self.in_flight.as_ref().map_or(0, |batch| batch.bytes)
    }

    pub(crate) fn ready_records(&self) -> usize {
        self.ready.len()
    }

    pub(crate) fn in_flight_records(&self) -> usize {
        self.in_flight.as_ref().map_or(0, |batch| batch.ordinals.len())
    }
}
