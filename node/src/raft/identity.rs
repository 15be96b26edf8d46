//! Who this node is: a random id that dies with its disk, the configured name, and the one cluster it belongs to.
//!
//! Kept in `<data_dir>/identity.json`; the data directory is locked so that no second process can act under the same id.
//! Other rooms learn the identity through the handle; nobody else writes this file.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{durable_file, error::Error, lock_wait::wait_for_lock};
use crate::model::ids::{ClusterId, NodeId};

const VERSION: u32 = 1;
const FILE: &str = "identity.json";

/// What a node knows of itself. Persisted: never rename a field, give new ones a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) version: u32,
    pub(super) node_id: NodeId,
    pub(super) name: String,
    /// Empty until the node belongs to a cluster; set once, never changed.
    pub(super) cluster_id: ClusterId,
    pub(super) cluster_name: String,
    /// This node made the cluster id and may initialise Raft with it; others only ever join.
    pub(super) founder: bool,
    /// The log store exists. From then on a missing one is amnesia, not a first start.
    pub(super) log_created: bool,
}

/// The identity file, its lock, and its present content.
pub(super) struct IdentityStore {
    path: PathBuf,
    /// Held until `release`.
    lock: Mutex<Option<File>>,
    content: watch::Sender<Identity>,
}

impl IdentityStore {
    /// Locks the data directory and reads the identity, or makes one with a new random id. Blocks.
    ///
    /// # Errors
    /// [`Error::Refused`] when another process holds the directory or when it belongs to another node or cluster name;
    /// [`Error::Damaged`] when stored Raft data has lost its identity.
    pub(super) fn open(data_dir: &Path, name: &str, cluster_name: &str) -> Result<Self, Error> {
        let io = |source| Error::Io { path: data_dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(io)?;
        let lock = lock(data_dir)?;
        let path = data_dir.join(FILE);
        let identity = match durable_file::read(&path).map_err(io)? {
            Some(bytes) => parse(&bytes, &path, name)?,
            None => {
                let directory = fs::canonicalize(data_dir).map_err(io)?;
                durable_file::sync_directory(directory.parent().unwrap_or(&directory)).map_err(io)?;
                first_start(data_dir, name, cluster_name)?
            }
        };
        if identity.name != name {
            return Err(Error::refused(format!(
                "{} belongs to node `{}`, but this node is configured as `{name}`: correct `name`, or use another data \
                 directory",
                data_dir.display(),
                identity.name
            )));
        }
        if identity.cluster_name != cluster_name {
            return Err(Error::refused(format!(
                "{} belongs to cluster `{}`, but this node is configured for `{cluster_name}`: correct `cluster.name`, \
                 or use another data directory",
                data_dir.display(),
                identity.cluster_name
            )));
        }
        let store = Self { path, lock: Mutex::new(Some(lock)), content: watch::Sender::new(identity) };
        store.save(|_| {})?;
        Ok(store)
    }

    /// Returns the present identity.
    pub(super) fn get(&self) -> Identity {
        self.content.borrow().clone()
    }

    /// Records that the log store exists. Blocks for one fsync.
    pub(super) fn mark_log_created(&self) -> Result<(), Error> {
        self.save(|identity| identity.log_created = true)
    }

    /// Makes this node belong to a cluster, durably and once. Adopting the same cluster again changes nothing.
    /// Blocks for one fsync, at most once in a node's life.
    ///
    /// # Errors
    /// [`Error::Refused`] when it belongs to another cluster already.
    pub(super) fn adopt(&self, cluster_id: &ClusterId, founder: bool) -> Result<(), Error> {
        let present = self.get().cluster_id;
        if present == *cluster_id {
            return Ok(());
        }
        if !present.0.is_empty() || cluster_id.0.is_empty() {
            return Err(Error::refused(format!("this node belongs to cluster {present} and cannot join {cluster_id}")));
        }
        self.save(|identity| {
            identity.cluster_id = cluster_id.clone();
            identity.founder = founder;
        })
    }

    /// Lets another process take the data directory; the last step of a shutdown.
    pub(super) fn release(&self) {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn save(&self, change: impl FnOnce(&mut Identity)) -> Result<(), Error> {
        // The lock orders concurrent changes: two must not both write from the same old content.
        let _held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = self.get();
        change(&mut next);
        let json = serde_json::to_vec_pretty(&next).expect("plain strings and numbers always encode");
        durable_file::replace(&self.path, &[&json]).map_err(|source| Error::Io { path: self.path.clone(), source })?;
        self.content.send_replace(next);
        Ok(())
    }
}

fn lock(data_dir: &Path) -> Result<File, Error> {
    let path = data_dir.join("lock");
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = open.map_err(|source| Error::Io { path: path.clone(), source })?;
    let take = || flock(&file, FlockOperation::NonBlockingLockExclusive);
    match wait_for_lock(take, |result| *result == Err(rustix::io::Errno::WOULDBLOCK)) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::refused(format!(
            "{} is in use by another process: stop it, or give this node its own data directory",
            data_dir.display()
        ))),
        Err(errno) => Err(Error::Io { path, source: io::Error::from(errno) }),
    }
}

fn parse(bytes: &[u8], path: &Path, name: &str) -> Result<Identity, Error> {
    let damaged = |why: String| Error::Damaged { path: path.to_owned(), node: name.to_owned(), why };
    let identity: Identity = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
    if identity.version > VERSION {
        let why = format!("{} has version {}, this binary knows up to {VERSION}", path.display(), identity.version);
        return Err(Error::refused(format!("{why}: upgrade the binary")));
    }
    Ok(identity)
}

fn first_start(data_dir: &Path, name: &str, cluster_name: &str) -> Result<Identity, Error> {
    let raft_dir = data_dir.join("raft");
    let exists = fs::exists(&raft_dir).map_err(|source| Error::Io { path: raft_dir.clone(), source })?;
    if exists {
        // With a new id over an old log, this node would vote a second time in terms it has voted in.
        let why = format!("{FILE} is missing beside it");
        return Err(Error::Damaged { path: raft_dir, node: name.to_owned(), why });
    }
    Ok(Identity {
        version: VERSION,
        node_id: rand::random_range(1..=u64::MAX),
        name: name.to_owned(),
        cluster_id: ClusterId::default(),
        cluster_name: cluster_name.to_owned(),
        founder: false,
        log_created: false,
    })
}
