//! Applies committed entries to [`State`] and publishes it; keeps snapshots in one file.
//!
//! The applied state is not written on every entry: after a start it is the snapshot plus a replay of the log from
//! there. `control` decides what an entry means; this file only carries it.

use std::{
    io::{self, Cursor},
    path::{Path, PathBuf},
    sync::Arc,
};

use openraft::{
    AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta, StorageIOError,
    storage::RaftStateMachine,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    durable_file,
    error::Error,
    type_config::{Entry, LogId, StorageError, StoredMembership, TypeConfig},
};
use crate::{
    control::State,
    model::{command::Outcome, ids::NodeId},
};

type Meta = SnapshotMeta<NodeId, openraft::BasicNode>;

const LAYOUT: u32 = 1;

/// First line of the snapshot file; the second is the state's JSON. Persisted: never rename a field.
#[derive(Serialize, Deserialize)]
struct Header {
    layout: u32,
    /// xxh3-64 of the second line: JSON alone would accept a flipped digit.
    checksum: u64,
    meta: Meta,
}

/// The state machine of one node.
pub(super) struct StateMachine {
    path: PathBuf,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    state: Arc<State>,
    published: watch::Sender<Arc<State>>,
}

impl StateMachine {
    /// Loads the snapshot in `path`, if there is one, and publishes its state. Blocks.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the snapshot is not what was written.
    pub(super) fn open(path: &Path, node_name: &str, published: watch::Sender<Arc<State>>) -> Result<Self, Error> {
        let stored = read_snapshot(path).map_err(|source| match source.kind() {
            io::ErrorKind::InvalidData => {
                Error::Damaged { path: path.to_owned(), node: node_name.to_owned(), why: source.to_string() }
            }
            _ => Error::Io { path: path.to_owned(), source },
        })?;
        let mut machine = Self {
            path: path.to_owned(),
            last_applied: None,
            membership: StoredMembership::default(),
            state: Arc::default(),
            published,
        };
        if let Some((meta, body)) = stored {
            let state = State::from_json(&body).map_err(|e| Error::Damaged {
                path: path.to_owned(),
                node: node_name.to_owned(),
                why: e.to_string(),
            })?;
            machine.restore(&meta, state);
        }
        Ok(machine)
    }

    fn restore(&mut self, meta: &Meta, state: State) {
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.state = Arc::new(state);
        self.published.send_replace(self.state.clone());
    }

    fn apply_one(&mut self, entry: &Entry) -> Outcome {
        self.last_applied = Some(entry.log_id);
        let revision = entry.log_id.index;
        match &entry.payload {
            EntryPayload::Blank => Outcome::Done { revision },
            EntryPayload::Normal(proposal) => Arc::make_mut(&mut self.state).apply(revision, proposal),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                Outcome::Done { revision }
            }
        }
    }
}

/// A state frozen for a snapshot while entries go on being applied.
pub(super) struct SnapshotBuilder {
    path: PathBuf,
    last_applied: Option<LogId>,
    membership: StoredMembership,
    state: Arc<State>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let index = self.last_applied.map_or(0, |id| id.index);
        let meta = Meta {
            last_log_id: self.last_applied,
            last_membership: self.membership.clone(),
            // Two builds of one state have the same bytes, so the index tells snapshots apart well enough.
            snapshot_id: format!("state-{index}"),
        };
        let state = self.state.clone();
        let body = write_snapshot(self.path.clone(), meta.clone(), move || state.to_json()).await?;
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(body)) })
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcome>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let outcomes = entries.into_iter().map(|entry| self.apply_one(&entry)).collect();
        self.published.send_replace(self.state.clone());
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            path: self.path.clone(),
            last_applied: self.last_applied,
            membership: self.membership.clone(),
            state: self.state.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &Meta, snapshot: Box<Cursor<Vec<u8>>>) -> Result<(), StorageError> {
        let body = snapshot.into_inner();
        // Decoded first: a file that cannot be read back must never replace one that can.
        let read_error = |e| StorageIOError::read_snapshot(Some(meta.signature()), AnyError::new(&e));
        let state = State::from_json(&body).map_err(read_error)?;
        write_snapshot(self.path.clone(), meta.clone(), move || body).await?;
        self.restore(meta, state);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let read_error = |e| StorageIOError::read_snapshot(None, AnyError::new(&e));
        let stored = read_snapshot(&self.path).map_err(read_error)?;
        Ok(stored.map(|(meta, body)| Snapshot { meta, snapshot: Box::new(Cursor::new(body)) }))
    }
}

/// Encodes and writes where blocking is allowed: both take a while for a large state. Returns the body.
async fn write_snapshot(
    path: PathBuf,
    meta: Meta,
    body: impl FnOnce() -> Vec<u8> + Send + 'static,
) -> Result<Vec<u8>, StorageError> {
    let signature = meta.signature();
    let write = move || {
        let body = body();
        let header = Header { layout: LAYOUT, checksum: xxh3_64(&body), meta };
        let header = serde_json::to_vec(&header).map_err(io::Error::other)?;
        durable_file::replace(&path, &[&header, b"\n", &body])?;
        Ok(body)
    };
    let written = tokio::task::spawn_blocking(write).await.unwrap_or_else(|e| Err(io::Error::other(e)));
    written.map_err(|e: io::Error| StorageIOError::write_snapshot(Some(signature), AnyError::new(&e)).into())
}

fn read_snapshot(path: &Path) -> io::Result<Option<(Meta, Vec<u8>)>> {
    let Some(mut bytes) = durable_file::read(path)? else { return Ok(None) };
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, format!("the snapshot {why}"));
    let newline = bytes.iter().position(|b| *b == b'\n').ok_or_else(|| invalid("has no header line"))?;
    let body = bytes.split_off(newline + 1);
    let header: Header = serde_json::from_slice(&bytes).map_err(|e| invalid(&format!("has a bad header: {e}")))?;
    if header.layout != LAYOUT {
        return Err(invalid(&format!("has layout {}, this binary knows {LAYOUT}", header.layout)));
    }
    if xxh3_64(&body) != header.checksum {
        return Err(invalid("does not match its checksum"));
    }
    Ok(Some((header.meta, body)))
}

#[cfg(test)]
#[path = "state_machine_test.rs"]
mod tests;
