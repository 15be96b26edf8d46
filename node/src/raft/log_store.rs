//! Raft's vote and log on sled, durable against power loss. openraft is its only user.
//!
//! sled's `flush` ends in `sync_file_range`, which neither writes the file's metadata nor empties the disk's cache, so
//! every write here ends with `fdatasync` of `<dir>/db`. One thread makes all writes in the order they were asked for
//! and syncs once for those that queued up meanwhile. A failed sync aborts the process: the kernel drops the dirty
//! pages and reports success the next time, so nothing that happens later could be believed.

use std::{
    fmt::Debug,
    fs::{self, File},
    ops::{Bound, RangeBounds},
    path::Path,
    sync::Arc,
    thread,
};

use openraft::{
    AnyError, LogState, OptionalSend, RaftLogReader, StorageIOError,
    storage::{LogFlushed, RaftLogStorage},
};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use super::{
    durable_file,
    error::Error,
    log_rows::{self, COMMITTED_KEY, Decoder, LAYOUT, LAYOUT_KEY, NODE_ID_KEY, PURGED_KEY, VOTE_KEY},
    open_sled,
    type_config::{Entry, LogId, StorageError, TypeConfig, Vote},
};
use crate::{
    faults::{self, Bug, Point},
    model::ids::NodeId,
};

/// Writes that may wait for the log thread. openraft asks for one at a time; the rest is slack.
const WRITES_QUEUED_MAX: usize = 16;
/// Bytes of entries read for one message to a follower, before the last one. One heartbeat interval must suffice to
/// send and sync them.
const READ_BYTES_MAX: usize = 512 * 1024;

/// The store of one node; clones share it.
#[derive(Clone)]
pub(super) struct LogStore {
    trees: Arc<Trees>,
    writes: mpsc::Sender<Write>,
}

/// Resolves (with an error) once every clone of a store is gone and its files are closed.
pub(super) type Closed = oneshot::Receiver<()>;

/// What `open` must find.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    pub(super) node_id: NodeId,
    /// For messages: whose store it is.
    pub(super) node_name: String,
    /// True when a store was here before: a missing or empty one is then an error, not a first start.
    pub(super) exists: bool,
}

struct Trees {
    log: sled::Tree,
    meta: sled::Tree,
    db: sled::Db,
    db_file: File,
    // Last: dropped when the files above are closed.
    _closed: oneshot::Sender<()>,
}

struct Write {
    change: Change,
    done: oneshot::Sender<Result<(), String>>,
}

enum Change {
    Append(Vec<Entry>),
    Vote(Vec<u8>),
    Committed(Vec<u8>),
    TruncateFrom(u64),
    PurgeThrough { index: u64, log_id: Vec<u8> },
}

impl LogStore {
    /// Opens or creates the store in `dir` and checks every row. Blocks.
    ///
    /// # Errors
    /// [`Error::Damaged`] when anything stored is missing or wrong: an acknowledged vote or entry may be lost, so the
    /// node must be replaced. [`Error::Io`] when the directory cannot be used.
    pub(super) fn open(dir: &Path, expected: &Expected) -> Result<(Self, Closed), Error> {
        let damaged = |why| Error::Damaged { path: dir.to_owned(), node: expected.node_name.clone(), why };
        let io = |source| Error::Io { path: dir.to_owned(), source };
        if expected.exists && !fs::exists(dir.join("db")).map_err(io)? {
            return Err(damaged("the log is missing".to_owned()));
        }
        let db = match open_sled::open(dir) {
            Ok(db) => db,
            Err(sled::Error::Io(source)) => return Err(io(source)),
            Err(e) => return Err(damaged(e.to_string())),
        };
        let db_file = File::open(dir.join("db")).map_err(io)?;
        let (closed, on_closed) = oneshot::channel();
        let trees = Trees {
            log: db.open_tree("log").map_err(|e| damaged(e.to_string()))?,
            meta: db.open_tree("meta").map_err(|e| damaged(e.to_string()))?,
            db,
            db_file,
            _closed: closed,
        };
        if expected.exists {
            trees.check(expected).map_err(damaged)?;
        } else {
            trees.initialise(expected).map_err(|e| damaged(e.to_string()))?;
        }
        for path in [dir, dir.parent().unwrap_or(dir)] {
            durable_file::sync_directory(path).map_err(io)?;
        }
        let trees = Arc::new(trees);
        let (writes, queue) = mpsc::channel(WRITES_QUEUED_MAX);
        let owned = trees.clone();
        let path = dir.to_owned();
        thread::Builder::new()
            .name("raft-log".to_owned())
            .spawn(move || write_loop(owned, queue, &path))
            .map_err(io)?;
        Ok((Self { trees, writes }, on_closed))
    }

    async fn write(&self, change: Change) -> Result<(), AnyError> {
        let (done, result) = oneshot::channel();
        let stopped = || AnyError::error("the log thread has stopped");
        self.writes.send(Write { change, done }).await.map_err(|_| stopped())?;
        result.await.map_err(|_| stopped())?.map_err(AnyError::error)
    }

    fn read_entries(&self, range: (Bound<u64>, Bound<u64>), bytes_max: usize) -> Result<Vec<Entry>, String> {
        let rows = (
            range.0.map(|index| log_rows::key(index, 0)),
            match range.1 {
                Bound::Included(index) => Bound::Included(log_rows::key(index, u32::MAX)),
                Bound::Excluded(index) => Bound::Excluded(log_rows::key(index, 0)),
                Bound::Unbounded => Bound::Unbounded,
            },
        );
        // sled panics on an inverted range; openraft may ask for an empty one.
        if matches!((&rows.0, &rows.1), (Bound::Included(a), Bound::Excluded(b)) if a >= b) {
            return Ok(Vec::new());
        }
        let mut entries = Vec::new();
        let mut decoder = Decoder::default();
        let mut bytes = 0;
        for row in self.trees.log.range(rows) {
            let (key, value) = row.map_err(|e| e.to_string())?;
            bytes += value.len();
            if let Some(entry) = decoder.push(&key, &value)? {
                entries.push(entry);
                if bytes >= bytes_max {
                    break;
                }
            }
        }
        decoder.finish()?;
        Ok(entries)
    }

    fn read_meta<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, String> {
        let value = self.trees.meta.get(key).map_err(|e| e.to_string())?;
        value.map(|bytes| serde_json::from_slice(&bytes).map_err(|e| e.to_string())).transpose()
    }
}

fn read_error(why: String) -> StorageIOError<NodeId> {
    StorageIOError::read_logs(AnyError::error(why))
}

impl Trees {
    fn initialise(&self, expected: &Expected) -> sled::Result<()> {
        // Leftovers of a first start that was cut off before it counted.
        self.log.clear()?;
        self.meta.clear()?;
        self.meta.insert(LAYOUT_KEY, LAYOUT)?;
        self.meta.insert(NODE_ID_KEY, expected.node_id.to_string().as_bytes())?;
        self.make_durable()
    }

    fn check(&self, expected: &Expected) -> Result<(), String> {
        let meta = |key: &str| self.meta.get(key).map_err(|e| e.to_string());
        match meta(LAYOUT_KEY)? {
            None => return Err("the log is empty, but this node has taken part in votes".to_owned()),
            Some(layout) if layout != LAYOUT => return Err("the log has a layout this binary does not know".to_owned()),
            Some(_) => {}
        }
        if meta(NODE_ID_KEY)?.is_none_or(|id| id != expected.node_id.to_string().as_bytes()) {
            return Err("the log belongs to another node".to_owned());
        }
        meta(VOTE_KEY)?.map(|v| serde_json::from_slice::<Vote>(&v).map_err(|e| e.to_string())).transpose()?;
        let purged = meta(PURGED_KEY)?.map(|v| serde_json::from_slice::<LogId>(&v).map_err(|e| e.to_string()));
        self.check_entries(purged.transpose()?)
    }

    fn check_entries(&self, purged: Option<LogId>) -> Result<(), String> {
        let mut next = purged.map_or(0, |id| id.index + 1);
        // A purge that was cut off leaves whole entries behind; they are dead already.
        self.remove_entries(0, next).map_err(|e| e.to_string())?;
        let mut decoder = Decoder::default();
        for row in &self.log {
            let (key, value) = row.map_err(|e| e.to_string())?;
            if let Some(entry) = decoder.push(&key, &value)? {
                if entry.log_id.index != next {
                    return Err(format!("log entry {next} is missing"));
                }
                next += 1;
            }
        }
        decoder.finish()
    }

    fn make_durable(&self) -> sled::Result<()> {
        self.db.flush()?;
        if faults::bug(Bug::FlushWithoutFdatasync) {
            return Ok(());
        }
        if let Err(e) = self.db_file.sync_data() {
            tracing::error!(error = %e, "fdatasync of the raft log failed: aborting, restart re-reads what is on disk");
            std::process::abort();
        }
        Ok(())
    }

    fn perform(&self, change: &Change) -> Result<(), String> {
        let text = |e: sled::Error| e.to_string();
        match change {
            // Entry by entry, ascending: whatever a crash cuts off was not acknowledged, and no hole can open.
            Change::Append(entries) => entries.iter().try_for_each(|entry| {
                let mut batch = sled::Batch::default();
                for (key, row) in log_rows::encode(entry)? {
                    batch.insert(&key, row);
                }
                self.log.apply_batch(batch).map_err(text)
            }),
            Change::Vote(vote) => self.meta.insert(VOTE_KEY, vote.as_slice()).map(drop).map_err(text),
            Change::Committed(log_id) => self.meta.insert(COMMITTED_KEY, log_id.as_slice()).map(drop).map_err(text),
            Change::TruncateFrom(index) => self.truncate_from(*index).map_err(text),
            Change::PurgeThrough { index, log_id } => {
                // First the mark, durably: entries below it are dead from here on, so a cut-off removal leaves no hole.
                self.meta.insert(PURGED_KEY, log_id.as_slice()).map_err(text)?;
                self.make_durable().map_err(text)?;
                self.remove_entries(0, index + 1).map_err(text)
            }
        }
    }

    /// Newest first, so that a crash leaves a shorter log instead of a hole.
    fn truncate_from(&self, index: u64) -> sled::Result<()> {
        let from = log_rows::key(index, 0);
        while let Some((key, _)) = self.log.last()?.filter(|(key, _)| key.as_ref() >= from.as_slice()) {
            let newest = u64::from_be_bytes(key[..8].try_into().expect("keys have 12 bytes: checked at open"));
            self.remove_entries(newest, newest + 1)?;
        }
        Ok(())
    }

    /// Oldest first, each entry as a whole.
    fn remove_entries(&self, from: u64, to: u64) -> sled::Result<()> {
        let mut batch = sled::Batch::default();
        let mut batched: Option<[u8; 8]> = None;
        for key in self.log.range(log_rows::key(from, 0)..log_rows::key(to, 0)).keys() {
            let key = key?;
            let index = key.first_chunk().copied();
            if batched.is_some() && index != batched {
                self.log.apply_batch(std::mem::take(&mut batch))?;
            }
            batched = index;
            batch.remove(key);
        }
        self.log.apply_batch(batch)
    }
}

fn write_loop(trees: Arc<Trees>, mut queue: mpsc::Receiver<Write>, dir: &Path) {
    let mut failed: Option<String> = None;
    let mut group = Vec::with_capacity(WRITES_QUEUED_MAX);
    while queue.blocking_recv_many(&mut group, WRITES_QUEUED_MAX) > 0 {
        if failed.is_none() {
            failed = perform_group(&trees, &group).err();
            if let Some(why) = &failed {
                // What half of a group did is unknown, so nothing may be built on top of it.
                tracing::error!(dir = %dir.display(), error = why, "raft log write failed: no further write is accepted");
            }
        }
        for write in group.drain(..) {
            // The asker may have given up; the write stands anyway.
            let _ = write.done.send(failed.clone().map_or(Ok(()), Err));
        }
    }
}

fn perform_group(trees: &Trees, group: &[Write]) -> Result<(), String> {
    group.iter().try_for_each(|write| trees.perform(&write.change))?;
    // A lost `committed` only means a later catch-up; it becomes durable with the next real write.
    if group.iter().all(|write| matches!(write.change, Change::Committed(_))) {
        return Ok(());
    }
    trees.make_durable().map_err(|e| e.to_string())
}

fn json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("votes and log ids are plain numbers")
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        Ok(self.read_entries(range, usize::MAX).map_err(read_error)?)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        let range = (Bound::Included(start), Bound::Excluded(end));
        Ok(self.read_entries(range, READ_BYTES_MAX).map_err(read_error)?)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let last_purged_log_id: Option<LogId> = self.read_meta(PURGED_KEY).map_err(read_error)?;
        let last = self.trees.log.last().map_err(|e| read_error(e.to_string()))?;
        let last_log_id = match last.as_ref().and_then(|(key, _)| key.first_chunk()) {
            None => None,
            Some(index) => {
                let index = u64::from_be_bytes(*index);
                let range = (Bound::Included(index), Bound::Included(index));
                self.read_entries(range, usize::MAX).map_err(read_error)?.pop().map(|entry| entry.log_id)
            }
        };
        Ok(LogState { last_purged_log_id, last_log_id: last_log_id.or(last_purged_log_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        faults::pass(Point::BeforeSaveVote).await;
        self.write(Change::Vote(json(vote))).await.map_err(StorageIOError::write_vote)?;
        faults::pass(Point::AfterSaveVote).await;
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.read_meta(VOTE_KEY).map_err(|why| StorageIOError::read_vote(AnyError::error(why)))?)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let Some(committed) = committed else { return Ok(()) };
        self.write(Change::Committed(json(&committed))).await.map_err(|e| StorageIOError::write(e).into())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.read_meta(COMMITTED_KEY).map_err(read_error)?)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().collect();
        faults::pass(Point::BeforeAppend).await;
        self.write(Change::Append(entries)).await.map_err(StorageIOError::write_logs)?;
        faults::pass(Point::AfterAppend).await;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.write(Change::TruncateFrom(log_id.index)).await.map_err(|e| StorageIOError::write_logs(e).into())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let change = Change::PurgeThrough { index: log_id.index, log_id: json(&log_id) };
        self.write(change).await.map_err(|e| StorageIOError::write_logs(e).into())
    }
}

#[cfg(test)]
#[path = "log_store_test.rs"]
mod tests;
