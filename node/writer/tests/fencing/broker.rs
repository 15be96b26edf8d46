//! A strict model of Kafka's transactions for one partition: the coordinator, the partition's leader, the committed log.
//!
//! The world hands it requests in the order in which they arrive, however late that is, and carries its replies. It knows no
//! network, no time but what it is told, and nothing of Twinfeed. Its rules, and where Kafka states them:
//! - InitProducerId (KIP-98; TransactionCoordinator.handleInitProducerId): raises the epoch; an open transaction is first
//!   aborted under a raised epoch, and the caller is told CONCURRENT_TRANSACTIONS until its markers are written; an
//!   exhausted epoch is a new producer id with epoch 0.
//! - AddPartitionsToTxn and EndTxn: the epoch must be the coordinator's (PRODUCER_FENCED), and the state must allow it
//!   (CONCURRENT_TRANSACTIONS, INVALID_TXN_STATE). Nothing names the transaction that is meant: an EndTxn that comes late ends
//!   whatever is open under that epoch. That is KIP-890's second half, which librdkafka 2.12 does not speak (EndTxn v5).
//! - EndTxn answers once its decision is logged; the markers, and with them the last stable offset, follow later.
//! - A partition without a leader at that moment is taken for deleted: its marker is never written, and its records stay open
//!   until the producer's next marker, whatever that one says (TransactionMarkerChannelManager.addTxnMarkersToBrokerQueue;
//!   docs/adr/0007).
//! - Produce (KIP-98, KIP-890's first half): epoch, then duplicates among the last five batches, then verification by the
//!   coordinator unless the partition knows the transaction, then the dense sequence.
//! - A transaction that lasts too long is aborted under a raised epoch (KIP-98), so its producer is fenced.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::rc::Rc;

use twinfeed_dedup::{Fingerprint, RecordId, TailRecord};

/// Batches per producer that are recognised when they come again (ProducerStateEntry.NUM_BATCHES_TO_RETAIN).
const REMEMBERED_BATCHES: usize = 5;

/// Names a `transactional.id`.
pub(crate) type TransactionalId = u64;

/// A record as its header says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamped {
    /// What the header carries for the stream's identity; 0 without a header.
    pub(crate) stream: u64,
    pub(crate) record: TailRecord,
}

/// Producer id and epoch, as a client carries them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    producer: u64,
    epoch: u32,
}

#[derive(Debug, Clone)]
pub(crate) enum Request {
    InitProducerId,
    AddPartition(Identity),
    Produce {
        who: Identity,
        first_sequence: u32,
        records: Rc<[Stamped]>,
    },
    EndTxn {
        who: Identity,
        commit: bool,
    },
    /// ListOffsets, `read_committed`.
    StableOffset,
    /// ListOffsets, `read_uncommitted`.
    LogEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Initialised(Identity),
    Done,
    /// Offset after the batch.
    Appended(usize),
    Stable(usize),
    End(usize),
    Refused(Refusal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    ConcurrentTransactions,
    /// PRODUCER_FENCED or INVALID_PRODUCER_EPOCH.
    Fenced,
    InvalidTxnState,
    InvalidProducerIdMapping,
    OutOfOrderSequence,
}

/// What the broker does by itself, after a while.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Later {
    WriteMarkers(TransactionalId),
    Expire(TransactionalId, u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Empty,
    Ongoing,
    Prepared { commit: bool },
    Completed { commit: bool },
}

#[derive(Debug)]
struct Transaction {
    who: Identity,
    state: State,
    /// Tells one ongoing transaction from the next; Kafka compares start times.
    number: u64,
}

#[derive(Debug)]
pub(crate) struct Broker {
    /// Epochs of one producer id before it gets a new one; 32,767 in Kafka.
    epoch_max: u32,
    transactions: BTreeMap<TransactionalId, Transaction>,
    producers_made: u64,
    transactions_begun: u64,
    partition: Partition,
    has_forgotten: bool,
}

impl Broker {
    pub(crate) fn new(epoch_max: u32) -> Self {
        let transactions = BTreeMap::new();
        let partition = Partition::default();
        Self { epoch_max, transactions, producers_made: 0, transactions_begun: 0, partition, has_forgotten: false }
    }

    /// Handles a request that has just arrived.
    pub(crate) fn handle(&mut self, id: TransactionalId, request: &Request) -> (Reply, Option<Later>) {
        let handled = match request {
            Request::InitProducerId => return self.init(id),
            Request::StableOffset => return (Reply::Stable(self.stable_offset()), None),
            Request::LogEnd => return (Reply::End(self.end_offset()), None),
            Request::AddPartition(who) => self.add_partition(id, *who),
            Request::EndTxn { who, commit } => self.end(id, *who, *commit),
            Request::Produce { who, first_sequence, records } => {
                let is_verified = self.known(id, *who).is_ok_and(|transaction| transaction.state == State::Ongoing);
                self.partition
                    .append(*who, *first_sequence, records, is_verified)
                    .map(|end| (Reply::Appended(end), None))
            }
        };
        handled.unwrap_or_else(|refusal| (Reply::Refused(refusal), None))
    }

    fn init(&mut self, id: TransactionalId) -> (Reply, Option<Later>) {
        let Some(transaction) = self.transactions.get_mut(&id) else {
            self.producers_made += 1;
            let who = Identity { producer: self.producers_made, epoch: 0 };
            self.transactions.insert(id, Transaction { who, state: State::Empty, number: 0 });
            return (Reply::Initialised(who), None);
        };
        match transaction.state {
            State::Prepared { .. } => (Reply::Refused(Refusal::ConcurrentTransactions), None),
            State::Ongoing => {
                transaction.who.epoch += 1;
                transaction.state = State::Prepared { commit: false };
                (Reply::Refused(Refusal::ConcurrentTransactions), Some(Later::WriteMarkers(id)))
            }
            State::Empty | State::Completed { .. } => {
                if transaction.who.epoch + 1 >= self.epoch_max {
                    self.producers_made += 1;
                    transaction.who = Identity { producer: self.producers_made, epoch: 0 };
                } else {
                    transaction.who.epoch += 1;
                }
                transaction.state = State::Empty;
                (Reply::Initialised(transaction.who), None)
            }
        }
    }

    fn known(&mut self, id: TransactionalId, who: Identity) -> Result<&mut Transaction, Refusal> {
        match self.transactions.get_mut(&id) {
            Some(transaction) if transaction.who.producer != who.producer => Err(Refusal::InvalidProducerIdMapping),
            Some(transaction) if transaction.who.epoch != who.epoch => Err(Refusal::Fenced),
            Some(transaction) => Ok(transaction),
            None => Err(Refusal::InvalidProducerIdMapping),
        }
    }

    fn add_partition(&mut self, id: TransactionalId, who: Identity) -> Result<(Reply, Option<Later>), Refusal> {
        let number = self.transactions_begun + 1;
        let transaction = self.known(id, who)?;
        match transaction.state {
            State::Prepared { .. } => Err(Refusal::ConcurrentTransactions),
            State::Ongoing => Ok((Reply::Done, None)),
            State::Empty | State::Completed { .. } => {
                (transaction.state, transaction.number) = (State::Ongoing, number);
                self.transactions_begun = number;
                Ok((Reply::Done, Some(Later::Expire(id, number))))
            }
        }
    }

    fn end(&mut self, id: TransactionalId, who: Identity, commit: bool) -> Result<(Reply, Option<Later>), Refusal> {
        let transaction = self.known(id, who)?;
        match transaction.state {
            State::Ongoing => {
                transaction.state = State::Prepared { commit };
                Ok((Reply::Done, Some(Later::WriteMarkers(id))))
            }
            State::Prepared { commit: decided } if decided == commit => Err(Refusal::ConcurrentTransactions),
            State::Completed { commit: decided } if decided == commit => Ok((Reply::Done, None)),
            State::Empty | State::Prepared { .. } | State::Completed { .. } => Err(Refusal::InvalidTxnState),
        }
    }

    /// Does what it said it would do later.
    pub(crate) fn act(&mut self, later: Later) -> Option<Later> {
        match later {
            Later::WriteMarkers(id) => {
                if let Some(transaction) = self.transactions.get_mut(&id)
                    && let State::Prepared { commit } = transaction.state
                {
                    transaction.state = State::Completed { commit };
                    self.partition.write_marker(transaction.who, commit);
                }
                None
            }
            Later::Expire(id, number) => {
                let ongoing = |t: &&mut Transaction| t.state == State::Ongoing && t.number == number;
                let transaction = self.transactions.get_mut(&id).filter(ongoing)?;
                transaction.who.epoch += 1;
                transaction.state = State::Prepared { commit: false };
                Some(Later::WriteMarkers(id))
            }
        }
    }

    /// Does what it does in place of writing markers while the partition has no leader: nothing, and takes it for done.
    pub(crate) fn forget_markers(&mut self, id: TransactionalId) {
        if let Some(transaction) = self.transactions.get_mut(&id)
            && let State::Prepared { commit } = transaction.state
        {
            transaction.state = State::Completed { commit };
            self.has_forgotten = true;
        }
    }

    /// Whether a marker was ever forgotten.
    pub(crate) fn has_forgotten(&self) -> bool {
        self.has_forgotten
    }

    /// Whether something committed lies behind something open.
    pub(crate) fn hides_committed(&self) -> bool {
        let hidden = &self.partition.log[self.stable_offset()..];
        hidden.iter().any(|entry| matches!(entry, Entry::Record { committed: true, .. }))
    }

    /// The last stable offset: `read_committed` ends here.
    pub(crate) fn stable_offset(&self) -> usize {
        self.partition.stable_offset()
    }

    /// Where the log ends, open transactions and all.
    pub(crate) fn end_offset(&self) -> usize {
        self.partition.log.len()
    }

    /// What a `read_committed` reader gets from an offset on.
    pub(crate) fn committed_from(&self, offset: usize) -> impl Iterator<Item = &Stamped> {
        self.read_from(offset).map(|(_, record)| record)
    }

    /// The same with their offsets.
    pub(crate) fn read_from(&self, offset: usize) -> impl Iterator<Item = (i64, &Stamped)> {
        let end = self.stable_offset();
        (offset as i64..).zip(&self.partition.log[offset.min(end)..end]).filter_map(|(offset, entry)| match entry {
            Entry::Record { record, committed: true } => Some((offset, record)),
            Entry::Record { .. } | Entry::Marker => None,
        })
    }

    /// Whether this record of a stream, or this content where nobody says which record, is committed by a marker: it cannot be
    /// undone any more, and every opened producer reads it.
    ///
    /// Where other streams write, a commit that is decided is enough: behind another's open transaction nobody can see the
    /// marker, and the answered commit counts (docs/adr/0007).
    pub(crate) fn holds(&self, stream: u64, record: RecordId, fingerprint: Fingerprint) -> bool {
        let Partition { contents, records, .. } = &self.partition;
        let is_closed =
            contents.contains(&(stream, fingerprint)) && (record.epoch == 0 || records.contains(&(stream, record)));
        is_closed || self.transactions.len() > 1 && self.has_decided(stream, record, fingerprint)
    }

    fn has_decided(&self, stream: u64, record: RecordId, fingerprint: Fingerprint) -> bool {
        let decided = self.transactions.values().filter(|t| t.state == State::Prepared { commit: true });
        decided.filter_map(|transaction| self.partition.producers.get(&transaction.who.producer)).any(|state| {
            state.open.iter().any(|offset| match &self.partition.log[*offset] {
                Entry::Record { record: Stamped { stream: of, record: found }, .. } => {
                    (*of, found.fingerprint) == (stream, fingerprint) && (record.epoch == 0 || record == found.id)
                }
                Entry::Marker => false,
            })
        })
    }
}

#[derive(Debug)]
enum Entry {
    Record { record: Stamped, committed: bool },
    Marker,
}

#[derive(Debug, Default)]
struct Partition {
    log: Vec<Entry>,
    producers: HashMap<u64, ProducerState>,
    /// What is committed by a marker.
    contents: HashSet<(u64, Fingerprint)>,
    records: HashSet<(u64, RecordId)>,
}

/// What the partition's leader remembers of a producer id.
#[derive(Debug, Default)]
struct ProducerState {
    epoch: u32,
    next_sequence: u32,
    /// First sequence, records, offset after the batch.
    batches: VecDeque<(u32, usize, usize)>,
    /// Offsets of the open transaction.
    open: Vec<usize>,
}

impl Partition {
    fn append(
        &mut self,
        who: Identity,
        first_sequence: u32,
        records: &[Stamped],
        is_verified: bool,
    ) -> Result<usize, Refusal> {
        let state = self.producers.entry(who.producer).or_default();
        if who.epoch < state.epoch {
            return Err(Refusal::Fenced);
        }
        let is_new_epoch = who.epoch > state.epoch;
        let again = state.batches.iter().find(|batch| (batch.0, batch.1) == (first_sequence, records.len()));
        if let Some((_, _, end)) = again.filter(|_| !is_new_epoch) {
            return Ok(*end);
        }
        if state.open.is_empty() && !is_verified {
            return Err(Refusal::InvalidTxnState);
        }
        if first_sequence != if is_new_epoch { 0 } else { state.next_sequence } {
            return Err(Refusal::OutOfOrderSequence);
        }
        if is_new_epoch {
            state.batches.clear();
        }
        (state.epoch, state.next_sequence) = (who.epoch, first_sequence + records.len() as u32);
        for record in records {
            state.open.push(self.log.len());
            self.log.push(Entry::Record { record: *record, committed: false });
        }
        state.batches.push_back((first_sequence, records.len(), self.log.len()));
        if state.batches.len() > REMEMBERED_BATCHES {
            state.batches.pop_front();
        }
        Ok(self.log.len())
    }

    fn write_marker(&mut self, who: Identity, commit: bool) {
        let state = self.producers.entry(who.producer).or_default();
        if who.epoch > state.epoch {
            (state.epoch, state.next_sequence) = (who.epoch, 0);
            state.batches.clear();
        }
        for offset in state.open.drain(..) {
            if let Entry::Record { record, committed } = &mut self.log[offset]
                && commit
            {
                *committed = true;
                self.contents.insert((record.stream, record.record.fingerprint));
                self.records.insert((record.stream, record.record.id));
            }
        }
        self.log.push(Entry::Marker);
    }

    fn stable_offset(&self) -> usize {
        self.producers.values().filter_map(|state| state.open.first()).min().copied().unwrap_or(self.log.len())
    }
}
