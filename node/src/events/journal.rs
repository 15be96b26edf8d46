//! The journal: events that say that messages may be missing, on disk, so that they are there after a restart of the node or
//! of all nodes. One file of JSON lines, `<data_dir>/events.jsonl`, bounded like the log itself; appended and synced by a task
//! of its own, never by whoever reports an event. A line that cannot be read is left out and counted.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    kept::{Forgotten, LOSSES_BYTES_MAX},
    log::{EventLog, Unwritten},
};
use crate::{
    model::{event::Numbered, ids::NodeId},
    supervise::TaskError,
};

const FILE: &str = "events.jsonl";
/// The file is written anew once it is this large: JSON is larger than what the log counts, and twice as much spares
/// rewriting it for every event.
const FILE_BYTES_MAX: u64 = 4 * LOSSES_BYTES_MAX as u64;
/// After a failed write, a full disk for example.
const RETRY: Duration = Duration::from_secs(5);

/// One line. Persisted: never rename a field.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Line {
    /// A process began, or the file was written anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    begins: Option<Begins>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    event: Option<Numbered>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Begins {
    life: u64,
    forgotten: Forgotten,
}

/// The writer of the journal; to be run as a supervised task.
#[derive(Debug)]
pub struct Journal {
    log: EventLog,
    file: JournalFile,
}

/// Reads what the former lives of this node kept, and begins a new life, whose number is larger than theirs. Blocks. A
/// journal that cannot be used costs no stream its node: it is reported and tried again.
pub fn open(data_dir: &Path, me: NodeId, now_ms: u64) -> (EventLog, Journal) {
    let path = data_dir.join(FILE);
    let mut read = Contents::default();
    match tail(&path) {
        Ok(bytes) => read = Contents::of(&bytes),
        Err(error) => {
            // It is put aside and not written over: somebody may be able to read it.
            let aside = fs::rename(&path, path.with_extension("unreadable"));
            tracing::error!(path = %path.display(), %error, put_aside = aside.is_ok(), "events.unreadable");
            read.damaged = 1;
        }
    }
    if read.damaged > 0 {
        tracing::error!(path = %path.display(), lines = read.damaged, "events.damaged");
        read.forgotten.losses += read.damaged;
    }
    // A file that somebody has removed must not make old numbers new again.
    let log = EventLog::new(me, now_ms.max(read.life.saturating_add(1)));
    log.restore(read.events, read.forgotten);
    // Damage is not to be read twice, and the new life must be known to the next one.
    log.want_rewrite();
    let mut journal = Journal { log: log.clone(), file: JournalFile { path, open: None, bytes: 0 } };
    journal.file.write_all_of(&log);
    (log, journal)
}

impl Journal {
    /// Writes what is added until `stop`, and then what is left.
    ///
    /// # Errors
    /// None today; a task returns a result.
    pub async fn run(self, stop: CancellationToken) -> Result<(), TaskError> {
        let Self { log, mut file } = self;
        let mut added = log.added();
        loop {
            let stopping = stop.is_cancelled();
            added.mark_unchanged();
            let of = log.clone();
            let written;
            (file, written) = tokio::task::spawn_blocking(move || {
                let written = file.write_all_of(&of);
                (file, written)
            })
            .await?;
            if stopping {
                return Ok(());
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(RETRY), if !written => {}
                // The log lives as long as this task.
                _ = added.changed(), if written => {}
            }
        }
    }
}

#[derive(Debug)]
struct JournalFile {
    path: PathBuf,
    open: Option<File>,
    bytes: u64,
}

impl JournalFile {
    /// Writes what the log has for it; false when that failed, and then the log has it still.
    fn write_all_of(&mut self, log: &EventLog) -> bool {
        let outcome = match log.unwritten() {
            Unwritten::Lines(lines) if lines.is_empty() => Ok(()),
            Unwritten::Lines(lines) => self.append(&lines),
            Unwritten::All { all, forgotten } => self.replace(Begins { life: log.life(), forgotten }, &all),
        };
        if let Err(error) = &outcome {
            tracing::error!(path = %self.path.display(), %error, "events.unwritten: a restart would forget them");
        }
        // After a failure the file may end in half a line.
        if outcome.is_err() || self.bytes > FILE_BYTES_MAX {
            log.want_rewrite();
        }
        outcome.is_ok()
    }

    fn append(&mut self, events: &[Arc<Numbered>]) -> io::Result<()> {
        let text = lines(events)?;
        let file = self.open.as_mut().ok_or_else(|| io::Error::other("the file is not open"))?;
        file.write_all(&text)?;
        self.bytes += text.len() as u64;
        file.sync_data()
    }

    /// A power cut leaves the old file or the new one, whole.
    fn replace(&mut self, begins: Begins, events: &[Arc<Numbered>]) -> io::Result<()> {
        self.open = None;
        let mut text = line(&Line { begins: Some(begins), event: None })?;
        text.extend(lines(events)?);
        let beside = self.path.with_extension("tmp");
        // Messages name servers and topics: for the owner of the data directory alone.
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        self.bytes = text.len() as u64;
        self.open = Some(file);
        Ok(())
    }
}

fn line(line: &Line) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(text)
}

fn lines(events: &[Arc<Numbered>]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for event in events {
        text.extend(line(&Line { begins: None, event: Some(Numbered::clone(event)) })?);
    }
    Ok(text)
}

/// The end of the file, as much as this node would ever have written; nothing when there is none.
fn tail(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let most = 2 * FILE_BYTES_MAX;
    let excess = file.metadata()?.len().saturating_sub(most);
    file.seek(SeekFrom::Start(excess))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What a file holds.
#[derive(Debug, Default)]
struct Contents {
    events: Vec<Numbered>,
    life: u64,
    forgotten: Forgotten,
    damaged: u64,
}

impl Contents {
    fn of(bytes: &[u8]) -> Self {
        let mut contents = Self::default();
        for text in bytes.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()) {
            match serde_json::from_slice::<Line>(text) {
                Ok(Line { begins: Some(begins), .. }) => {
                    contents.life = contents.life.max(begins.life);
                    contents.forgotten = begins.forgotten;
                }
                Ok(Line { event: Some(event), .. }) => {
                    contents.events.push(event);
                }
                Ok(Line { begins: None, event: None }) | Err(_) => contents.damaged += 1,
            }
        }
        contents
    }
}

#[cfg(test)]
#[path = "journal_test.rs"]
mod tests;
