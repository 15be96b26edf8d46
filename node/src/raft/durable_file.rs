//! Replaces a small file so that a power cut leaves either the old or the new content, whole.
//! Used for the node's identity and for snapshots; called on threads that may block.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::faults::{self, Point};

/// Writes `path` by way of `path` + ".tmp", with mode 0600: connector configurations may hold secrets.
pub(super) fn replace(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let tmp = path.with_file_name(name);
    // A leftover of a crash may have any content: never append to it.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&tmp)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()?;
    faults::point(Point::BeforeRename);
    fs::rename(&tmp, path)?;
    faults::point(Point::AfterRename);
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// Makes created, renamed and removed names in a directory survive a power cut.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Reads a whole file; None when it does not exist.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
