//! Opens a sled database whatever its last process left behind, and never by guessing: damage is an error.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
};

use super::lock_wait::wait_for_lock;

/// sled's page cache. The log is short, the default of 1 GiB is for databases.
const CACHE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Opens or creates the database in `dir`. Blocks.
pub(super) fn open(dir: &Path) -> sled::Result<sled::Db> {
    for path in unfinished_snapshots(dir)? {
        fs::remove_file(path)?;
    }
    // The data directory's own lock keeps other nodes out, so whoever holds sled's is about to let go.
    let locked = |opened: &sled::Result<sled::Db>| matches!(opened, Err(sled::Error::Io(e)) if e.to_string().contains("could not acquire lock"));
    wait_for_lock(|| open_in_thread(dir), locked)
}

/// sled writes a snapshot of its page table to `snap.*.generating`, syncs it, and renames it; but a name that was never
/// changed, because the process was killed or the disk was full, passes for the newest snapshot the next time, and as a
/// corrupt one (config.rs:823 and snapshot.rs:458 of 0.34.7). What is in it is in the log as well.
fn unfinished_snapshots(dir: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::exists(dir)? {
        return Ok(Vec::new());
    }
    let paths = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|end| end == "generating")).collect())
}

/// sled panics on some damage; in a thread of its own a panic is an answer.
fn open_in_thread(dir: &Path) -> sled::Result<sled::Db> {
    let config = sled::Config::new()
        .path(dir)
        .cache_capacity(CACHE_BYTES_MAX)
        // Its background flush only logs a failed fsync, and so would hide it from ours.
        .flush_every_ms(None);
    let open = thread::Builder::new().name("raft-log-open".to_owned()).spawn(move || config.open());
    match open.map_err(sled::Error::Io)?.join() {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(sled::Error::ReportableBug(text.unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_that_was_cut_off_is_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let db = open(dir.path()).unwrap();
        db.insert("key", "value").unwrap();
        db.flush().unwrap();
        drop(db);
        for written in ["", "half of a snapshot"] {
            fs::write(dir.path().join("snap.7FFFFFFFFFFFFFFF.generating"), written).unwrap();
            assert_eq!(open(dir.path()).unwrap().get("key").unwrap().unwrap(), "value");
        }
    }

    #[test]
    fn a_snapshot_that_is_wrong_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        fs::write(dir.path().join("snap.7FFFFFFFFFFFFFFF"), "half of a snapshot").unwrap();
        assert!(matches!(open(dir.path()), Err(sled::Error::Corruption { .. })));
    }
}
