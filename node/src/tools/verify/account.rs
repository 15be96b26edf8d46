//! The books of the verifier: every record read against every message sent. Pure: the reader hands in records with
//! their time of arrival, the ledger hands in what was sent; the verdict comes out. It trusts nothing that a node says
//! except for order and epochs, which only the records' own stamps can tell.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::order::{Disorder, Order, Provenance, Stream};
use crate::tools::{
    own_message::OwnMessage,
    pattern::{Identity, Pattern},
};

/// Silences shorter than this are not listed, in milliseconds: commits of a healthy stream are some ten apart.
const SILENCE_LISTED_MS_MIN: u64 = 25;
/// Silences listed, at most; the longest ones.
const SILENCES_MAX: usize = 100;
/// Runs of missing messages listed, at most.
const MISSING_MAX: usize = 1_000;
/// Findings told in words, at most.
const FINDINGS_MAX: usize = 20;
/// Message numbers of one chunk of the books.
const CHUNK: u64 = 4096;

/// A record as read.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    pub partition: i32,
    pub offset: i64,
    pub payload: &'a [u8],
    /// None: not written by Twinfeed, or by a version that stamps differently.
    pub provenance: Option<Provenance>,
    /// When the reader got it, milliseconds since 1970.
    pub arrived_at_ms: u64,
}

/// Time without any record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Silence {
    /// Arrival of the record before, milliseconds since 1970.
    pub from_ms: u64,
    pub ms: u64,
    /// Offset of the record that ended it.
    pub offset: i64,
}

/// What the books say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Messages that at least one subscriber was sent.
    pub sent: u64,
    /// Records read that carry a payload of the feed.
    pub written: u64,
    pub lost: u64,
    pub duplicated: u64,
    /// Records behind a later one of the same subscription.
    pub reordered: u64,
    /// Records of an older epoch behind records of a newer one of the same stream.
    pub zombies: u64,
    /// Holes and repetitions in the sequence of a stream within an epoch.
    pub sequence_breaks: u64,
    /// Records that are no message of this feed, or of a message that nobody was sent.
    pub foreign: u64,
    /// Records of what a connection of the feed said for itself. None of them is missed; one written twice is a duplicate.
    pub own: u64,
    /// Empty records: keep-alives that were taken for messages.
    pub empty: u64,
    /// Records of a message as a further connection carried it, where the feed marks connections: other bytes, so no
    /// duplicates.
    pub copies: u64,
    pub longest_silence_ms: u64,
    /// The longest first.
    pub silences: Vec<Silence>,
    /// Epochs seen, in order of their first record; of one stream after the other, if there are several.
    pub epochs: Vec<u64>,
    /// Streams seen, in order of their first record. Connectors that share a topic have one each.
    pub streams: Vec<Stream>,
    /// Records left aside: only one stream was to be judged, and they are of others or of none.
    pub left_aside: u64,
    /// What is not in the topic, in order.
    pub missing: Vec<Missing>,
    /// Lost repeats that lie in none of them: which of several equal messages is missing cannot be told.
    pub missing_elsewhere: u64,
    /// The first things that are wrong, in words.
    pub findings: Vec<String>,
}

/// Neighbouring messages that are not in the topic: lost, or sent to nobody because nobody was connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Missing {
    pub first: u64,
    pub last: u64,
    /// When the feed sent them, milliseconds since 1970; 0 when that is not known.
    pub from_ms: u64,
    pub to_ms: u64,
}

impl Verdict {
    /// True if nothing was lost, doubled, reordered, written by a zombie, or out of sequence.
    pub fn holds(&self) -> bool {
        self.lost == 0 && self.is_orderly()
    }

    /// True if nothing was doubled, reordered, written by a zombie, or out of sequence, whatever was lost.
    pub fn is_orderly(&self) -> bool {
        self.duplicated + self.reordered + self.zombies + self.sequence_breaks == 0
    }

    /// The figures on one line.
    pub fn line(&self) -> String {
        let Self { sent, written, lost, duplicated, reordered, longest_silence_ms, .. } = self;
        let mut line = format!(
            "sent={sent} written={written} lost={lost} duplicated={duplicated} reordered={reordered} \
             longest_silence_ms={longest_silence_ms}"
        );
        if let Some(longest) = self.silences.first() {
            line.push_str(&format!(" before_offset={}", longest.offset));
        }
        line.push_str(&format!(
            " zombies={} sequence_breaks={} foreign={} epochs={}",
            self.zombies,
            self.sequence_breaks,
            self.foreign,
            self.epochs.len()
        ));
        if self.streams.len() > 1 {
            line.push_str(&format!(" streams={}", self.streams.len()));
        }
        line
    }
}

/// How often a message was seen, and where first.
#[derive(Debug, Clone, Copy, Default)]
struct Sighting {
    times: u32,
    /// Of the first record, low half: context for a finding, not a key.
    offset: u32,
}

/// The books.
#[derive(Debug)]
pub struct Verifier {
    pattern: Pattern,
    /// By message number / CHUNK: a foreign record with an absurd number costs one chunk, not the memory up to it.
    unique: HashMap<u64, Vec<Sighting>>,
    shared: Vec<u64>,
    written: u64,
    foreign: u64,
    empty: u64,
    /// By connection and number.
    own: HashSet<(u64, u64)>,
    own_doubled: u64,
    /// By connection and message.
    marked: HashSet<(u64, u64)>,
    copies: u64,
    reordered: u64,
    zombies: u64,
    sequence_breaks: u64,
    /// The only stream to be judged.
    only: Option<u64>,
    left_aside: u64,
    order: Order,
    /// Last message number by partition, for records without provenance.
    last_n: HashMap<i32, u64>,
    last_arrival_ms: Option<u64>,
    silences: Vec<Silence>,
    findings: Vec<String>,
}

impl Verifier {
    pub fn new(pattern: Pattern) -> Self {
        Self {
            shared: vec![0; pattern.shared_count()],
            pattern,
            unique: HashMap::new(),
            written: 0,
            foreign: 0,
            empty: 0,
            own: HashSet::new(),
            own_doubled: 0,
            marked: HashSet::new(),
            copies: 0,
            reordered: 0,
            zombies: 0,
            sequence_breaks: 0,
            only: None,
            left_aside: 0,
            order: Order::default(),
            last_n: HashMap::new(),
            last_arrival_ms: None,
            silences: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// Judges this stream only, as if its records were alone in the topic.
    pub fn only(self, stream: Option<u64>) -> Self {
        Self { only: stream, ..self }
    }

    /// Records read so far that carry a payload of the feed.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Books a record. Records of a partition must come in the order of their offsets.
    pub fn record(&mut self, record: &Record<'_>) {
        if self.only.is_some() && record.provenance.map(|provenance| provenance.stream) != self.only {
            self.left_aside += 1;
            return;
        }
        self.listen(record);
        let Some(identity) = self.pattern.recognise(record.payload) else {
            self.book_aside(record);
            return;
        };
        match identity {
            Identity::Shared(index) => self.shared[index] += 1,
            Identity::Unique(n) if self.is_copy(n, record.payload) => self.copies += 1,
            Identity::Unique(n) => self.sight(n, record.offset),
        }
        self.written += 1;
        match record.provenance {
            Some(provenance) => self.check_provenance(record, provenance),
            None => self.check_number(record, identity),
        }
    }

    /// Books what is no message of the feed.
    fn book_aside(&mut self, record: &Record<'_>) {
        if record.payload.is_empty() {
            self.empty += 1;
        } else if let Some(own) = OwnMessage::recognise(record.payload, self.pattern.args().seed) {
            if !self.own.insert((own.connection, own.number)) {
                self.own_doubled += 1;
                let OwnMessage { connection, number, .. } = own;
                let text =
                    || format!("offset {}: own message {number} of connection {connection} again", record.offset);
                find(&mut self.findings, text);
            }
        } else {
            self.foreign += 1;
            return;
        }
        // It has its place in its writer's sequence.
        if let Some(provenance) = record.provenance {
            self.check_provenance(record, provenance);
        }
    }

    /// Whether message `n` has come with another connection's mark, and with this one for the first time.
    fn is_copy(&mut self, n: u64, payload: &[u8]) -> bool {
        let Some(connection) = self.pattern.connection(payload) else { return false };
        self.marked.insert((connection, n)) && self.sighting(n).times > 0
    }

    /// Messages of these ranges that have not come.
    pub fn lost(&self, owed: &[(u64, u64)]) -> u64 {
        self.unseen(owed).count() as u64 + self.unseen_repeats(owed)
    }

    fn unseen(&self, ranges: &[(u64, u64)]) -> impl Iterator<Item = u64> {
        let is_unseen =
            |n: &u64| matches!(self.pattern.identity(*n), Identity::Unique(n) if self.sighting(n).times == 0);
        numbers(ranges).filter(is_unseen)
    }

    fn unseen_repeats(&self, ranges: &[(u64, u64)]) -> u64 {
        self.repeats(ranges).into_iter().zip(&self.shared).map(|(least, seen)| least.saturating_sub(*seen)).sum()
    }

    /// Closes the books. What lies in the ranges `[from, to)` of `owed` must be there, what lies in those of `sent` may be:
    /// the same ranges, unless the feed went on while the last records were read.
    pub fn verdict(&self, owed: &[(u64, u64)], sent: &[(u64, u64)]) -> Verdict {
        let mut findings = self.findings.clone();
        let lost_repeats = self.unseen_repeats(owed);
        let (mut lost, mut duplicated, mut met) = (lost_repeats, self.own_doubled, self.copies);
        for n in self.unseen(owed) {
            lost += 1;
            find(&mut findings, || self.describe_lost(n));
        }
        for n in numbers(sent) {
            if let Identity::Unique(n) = self.pattern.identity(n) {
                let times = u64::from(self.sighting(n).times);
                duplicated += times.saturating_sub(1);
                met += times;
            }
        }
        let (least, most) = (self.repeats(owed), self.repeats(sent));
        for (index, (&seen, (&least, &most))) in self.shared.iter().zip(least.iter().zip(&most)).enumerate() {
            duplicated += seen.saturating_sub(most);
            met += seen;
            if seen < least || seen > most {
                let expected = if seen < least { least } else { most };
                find(&mut findings, || {
                    format!("repeated payload {index}: sent {expected} times, written {seen} times")
                });
            }
        }
        let silences = self.silences.clone();
        let (missing, repeats_within) = self.missing(owed);
        let streams = self.order.streams();
        Verdict {
            sent: numbers(owed).count() as u64,
            written: self.written,
            lost,
            duplicated,
            reordered: self.reordered,
            zombies: self.zombies,
            sequence_breaks: self.sequence_breaks,
            // What was written and matches nothing that was sent: messages of another run.
            foreign: self.foreign + (self.written - met),
            own: self.own.len() as u64,
            empty: self.empty,
            copies: self.copies,
            longest_silence_ms: silences.first().map_or(0, |silence| silence.ms),
            silences,
            epochs: streams.iter().flat_map(|stream| stream.epochs.iter().copied()).collect(),
            streams,
            left_aside: self.left_aside,
            missing,
            missing_elsewhere: lost_repeats.saturating_sub(repeats_within),
            findings,
        }
    }

    /// How often each repeated payload lies in the ranges.
    fn repeats(&self, ranges: &[(u64, u64)]) -> Vec<u64> {
        let mut times = vec![0; self.shared.len()];
        for n in numbers(ranges) {
            if let Identity::Shared(index) = self.pattern.identity(n) {
                times[index] += 1;
            }
        }
        times
    }

    /// Runs of messages that are not in the topic, and how many covered repeats lie within them. A repeat between two
    /// missing messages belongs to the run: nobody can tell whether it is there.
    fn missing(&self, covered: &[(u64, u64)]) -> (Vec<Missing>, u64) {
        let (mut runs, mut repeats): (Vec<Missing>, u64) = (Vec::new(), 0);
        let (mut open, mut pending, mut next) = (false, 0, covered.first().map_or(0, |range| range.0));
        let mut add = |first: u64, last: u64, open: &mut bool| {
            if *open && let Some(run) = runs.last_mut() {
                run.last = last;
            } else if runs.len() < MISSING_MAX {
                runs.push(Missing { first, last, from_ms: 0, to_ms: 0 });
            }
            *open = true;
        };
        for &(from, to) in covered {
            if next < from {
                add(next, from - 1, &mut open);
                repeats += std::mem::take(&mut pending);
            }
            for n in from..to {
                match self.pattern.identity(n) {
                    Identity::Shared(_) => pending += u64::from(open),
                    Identity::Unique(n) if self.sighting(n).times == 0 => {
                        add(n, n, &mut open);
                        repeats += std::mem::take(&mut pending);
                    }
                    Identity::Unique(_) => {
                        // Repeats at the edge of a run may be missing with it.
                        repeats += std::mem::take(&mut pending);
                        open = false;
                    }
                }
            }
            next = to;
        }
        (runs, repeats)
    }

    fn listen(&mut self, record: &Record<'_>) {
        let now = record.arrived_at_ms;
        let before = self.last_arrival_ms.replace(now);
        let Some((from_ms, ms)) = before.map(|before| (before, now.saturating_sub(before))) else { return };
        if ms < SILENCE_LISTED_MS_MIN {
            return;
        }
        let at = self.silences.partition_point(|silence| silence.ms >= ms);
        self.silences.insert(at, Silence { from_ms, ms, offset: record.offset });
        self.silences.truncate(SILENCES_MAX);
    }

    fn sight(&mut self, n: u64, offset: i64) {
        let chunk = self.unique.entry(n / CHUNK).or_insert_with(|| vec![Sighting::default(); CHUNK as usize]);
        let sighting = &mut chunk[(n % CHUNK) as usize];
        if sighting.times == 0 {
            sighting.offset = offset as u32;
        } else {
            let first = sighting.offset;
            find(&mut self.findings, || format!("message {n} is written again at offset {offset}, first at {first}"));
        }
        sighting.times = sighting.times.saturating_add(1);
    }

    fn sighting(&self, n: u64) -> Sighting {
        self.unique.get(&(n / CHUNK)).map_or(Sighting::default(), |chunk| chunk[(n % CHUNK) as usize])
    }

    fn describe_lost(&self, n: u64) -> String {
        let place = |n: Option<u64>| match n.map(|n| (n, self.pattern.identity(n), self.sighting(n))) {
            Some((n, Identity::Unique(_), Sighting { times: 0, .. })) => format!("{n} is lost too"),
            Some((n, Identity::Unique(_), sighting)) => format!("{n} is at offset {}", sighting.offset),
            Some((n, Identity::Shared(_), _)) => format!("{n} is a repeat"),
            None => "it is the first".to_owned(),
        };
        format!("message {n} is lost; {}; {}", place(n.checked_sub(1)), place(n.checked_add(1)))
    }

    fn check_provenance(&mut self, record: &Record<'_>, provenance: Provenance) {
        let Record { partition, offset, .. } = *record;
        let Provenance { epoch, sequence, subscription, index, .. } = provenance;
        for disorder in self.order.record(partition, provenance) {
            let text = match disorder {
                Disorder::Sequence { last } => {
                    self.sequence_breaks += 1;
                    format!("sequence {sequence} of epoch {epoch} follows {last}")
                }
                Disorder::Frame { last } => {
                    self.reordered += 1;
                    format!("frame {index} of subscription {subscription:x} is behind {last}")
                }
                Disorder::Zombie { newest } => {
                    self.zombies += 1;
                    format!("epoch {epoch} behind epoch {newest}")
                }
            };
            find(&mut self.findings, || format!("offset {offset}: {text}"));
        }
    }

    /// Without provenance only the numbers tell an order: right for one subscription, or for twins in step.
    fn check_number(&mut self, record: &Record<'_>, identity: Identity) {
        let Identity::Unique(n) = identity else { return };
        let last = self.last_n.entry(record.partition).or_insert(n);
        if n < *last {
            self.reordered += 1;
            let (offset, last) = (record.offset, *last);
            find(&mut self.findings, || format!("offset {offset}: message {n} is behind {last}"));
        } else {
            *last = n;
        }
    }
}

fn numbers(ranges: &[(u64, u64)]) -> impl Iterator<Item = u64> {
    ranges.iter().flat_map(|(from, to)| *from..*to)
}

fn find(findings: &mut Vec<String>, text: impl FnOnce() -> String) {
    if findings.len() < FINDINGS_MAX {
        findings.push(text());
    }
}

#[cfg(test)]
#[path = "account_test.rs"]
mod tests;
