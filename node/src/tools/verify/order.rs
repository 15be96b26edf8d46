//! The books of order: what the records' own stamps say of epochs, sequences and frames. Each stream in each partition has
//! its own, as connectors may share a topic. Pure; the verifier enters the records of a partition by their offsets.

use std::collections::HashMap;

use serde::Serialize;

/// Where a record came from, by its own stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provenance {
    pub stream: u64,
    pub epoch: u64,
    /// Dense within the epoch, but for what was filtered.
    pub sequence: u64,
    /// The first sequence that the record accounts for: those up to its own were filtered.
    pub accounts_from: u64,
    /// Among the records of one message, which share a sequence.
    pub sub_index: u32,
    pub subscription: u64,
    /// Of the frame in its subscription.
    pub index: u64,
}

/// A stream that has records in the topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stream {
    /// Sixteen hexadecimal digits, as `--stream` takes it.
    pub id: String,
    pub records: u64,
    /// In order of their first record.
    pub epochs: Vec<u64>,
}

/// What is wrong with the place of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disorder {
    /// A hole or a repetition in the sequence of an epoch: what it follows.
    Sequence { last: u64 },
    /// Behind a later frame of the same subscription.
    Frame { last: u64 },
    /// A record of an older epoch behind one of a newer.
    Zombie { newest: u64 },
}

/// The books.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Epoch, sequence and sub-index of the last record, by stream and partition.
    last_sequence: HashMap<(u64, i32), (u64, u64, u32)>,
    /// The furthest frame and its sub-index, by stream, partition and subscription.
    last_index: HashMap<(u64, i32, u64), (u64, u32)>,
    newest_epoch: HashMap<(u64, i32), u64>,
    /// In order of their first record.
    streams: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    stream: u64,
    records: u64,
    epochs: Vec<u64>,
}

impl Order {
    /// Enters a record; returns what is wrong with its place.
    pub(super) fn record(&mut self, partition: i32, record: Provenance) -> Vec<Disorder> {
        self.see(record.stream, record.epoch);
        let mut disorders = Vec::new();
        let Provenance { stream, epoch, sequence, accounts_from, sub_index, subscription, index } = record;
        // A stream has one writer, so its records of an epoch are neighbours by sequence.
        let before = self.last_sequence.insert((stream, partition), (epoch, sequence, sub_index));
        let same_epoch = before.filter(|(of, ..)| *of == epoch);
        if let Some((_, last, last_sub)) = same_epoch {
            let next = accounts_from == last + 1 && sub_index == 0;
            let same_message = sequence == last && sub_index == last_sub + 1;
            if !next && !same_message {
                disorders.push(Disorder::Sequence { last });
            }
        }
        let frame = (stream, partition, subscription);
        match self.last_index.get(&frame) {
            // It is measured against the furthest frame, or one late record would count all that follow it as in order.
            Some(furthest) if (index, sub_index) <= *furthest => disorders.push(Disorder::Frame { last: furthest.0 }),
            _ => drop(self.last_index.insert(frame, (index, sub_index))),
        }
        let newest = self.newest_epoch.entry((stream, partition)).or_insert(epoch);
        if epoch < *newest {
            disorders.push(Disorder::Zombie { newest: *newest });
        } else {
            *newest = epoch;
        }
        disorders
    }

    fn see(&mut self, stream: u64, epoch: u64) {
        let known = self.streams.iter().position(|seen| seen.stream == stream);
        let at = known.unwrap_or_else(|| {
            self.streams.push(Seen { stream, records: 0, epochs: Vec::new() });
            self.streams.len() - 1
        });
        let seen = &mut self.streams[at];
        seen.records += 1;
        if !seen.epochs.contains(&epoch) {
            seen.epochs.push(epoch);
        }
    }

    /// The streams that were met, in order of their first record.
    pub(super) fn streams(&self) -> Vec<Stream> {
        let told = |seen: &Seen| Stream { id: name(seen.stream), records: seen.records, epochs: seen.epochs.clone() };
        self.streams.iter().map(told).collect()
    }
}

/// How a stream is named to people.
pub(super) fn name(stream: u64) -> String {
    format!("{stream:016x}")
}

/// Reads what `name` wrote.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u64::from_str_radix(text, 16).ok()).flatten().ok_or_else(|| {
        "a stream is named by 16 hexadecimal digits, as a verdict without --stream lists them".to_owned()
    })
}
