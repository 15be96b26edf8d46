//! What stands behind the places and mistakes of a `twinfeed-faulty` process: two variables of its environment.
//!
//! `TWINFEED_FAULTS_DIR` names a directory. A file there with the name of a point, holding `kill`, `stop` or `pause`,
//! arms it. The first to come by takes the file, leaves `<point>.hit` with its pid as proof, and then dies by SIGKILL,
//! stops itself by SIGSTOP, or waits. After a stop and a pause it goes on once the `.hit` file is gone, so a process
//! that was continued stays where it was stopped until then. The file `points` lists every point this binary knows.
//! `TWINFEED_SEEDED_BUG` names one mistake.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
    thread,
    time::Duration,
};

use rustix::process::{Signal, getpid, kill_process};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{Bug, Point};

const DIRECTORY_VARIABLE: &str = "TWINFEED_FAULTS_DIR";
const BUG_VARIABLE: &str = "TWINFEED_SEEDED_BUG";
/// How often a waiting point looks whether its proof is gone.
const LOOK_EVERY: Duration = Duration::from_millis(2);

const POINTS: [(Point, &str); 17] = [
    (Point::BeforeSaveVote, "raft.before_save_vote"),
    (Point::AfterSaveVote, "raft.after_save_vote"),
    (Point::BeforeAppend, "raft.before_append"),
    (Point::AfterAppend, "raft.after_append"),
    (Point::BeforeRename, "raft.before_rename"),
    (Point::AfterRename, "raft.after_rename"),
    (Point::StandbyBeforeRetain, "standby.before_retain"),
    (Point::StandbyBeforeSend, "standby.before_send"),
    (Point::StandbyBeforeRelease, "standby.before_release"),
    (Point::OwnerBeforeBegin, "owner.before_begin"),
    (Point::OwnerAfterProduce, "owner.after_produce"),
    (Point::OwnerAfterCommit, "owner.after_commit"),
    (Point::OpeningBeforeInit, "opening.before_init"),
    (Point::OpeningAfterInit, "opening.after_init"),
    (Point::OpeningAfterCheck, "opening.after_check"),
    (Point::OpeningInTail, "opening.in_tail"),
    (Point::OpeningAfterTail, "opening.after_tail"),
];

const BUGS: [(Bug, &str); 9] = [
    (Bug::NoFencing, "no-fencing"),
    (Bug::CheckBeforeInit, "check-before-init"),
    (Bug::NoAlignment, "no-alignment"),
    (Bug::PrefixAcks, "prefix-acks"),
    (Bug::ReleaseBeforeCommit, "release-before-commit"),
    (Bug::DedupOff, "dedup-off"),
    (Bug::FlushWithoutFdatasync, "flush-without-fdatasync"),
    (Bug::UnknownCommitIsSuccess, "unknown-commit-is-success"),
    (Bug::SelfPromotion, "self-promotion"),
];

/// Set once by `arm`; a process that never calls it has neither points nor a bug.
static FAULTS: OnceLock<Faults> = OnceLock::new();

/// Why the process must not start: it would look as if a fault had been survived that never was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no bug is called `{name}`; {BUG_VARIABLE} takes one of {}", names(&BUGS))]
    UnknownBug { name: String },
    #[error("cannot use the directory {} of {DIRECTORY_VARIABLE}; make it and let it be written", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Reads the environment and makes this process faulty accordingly. Called once, first of all.
///
/// # Errors
/// [`Error::UnknownBug`] for a name that is not in the table, [`Error::Directory`] when points could not be armed.
pub fn arm() -> Result<(), Error> {
    let directory = std::env::var_os(DIRECTORY_VARIABLE).map(PathBuf::from);
    let faults = Faults::new(directory, std::env::var(BUG_VARIABLE).ok().as_deref())?;
    // Only `main` calls this, so nothing has been set before.
    let _ = FAULTS.set(faults);
    Ok(())
}

/// A place in blocking code, or in a task that may block for a test's sake.
pub fn point(point: Point) {
    let Some(hit) = FAULTS.get().and_then(|faults| faults.take(point)) else { return };
    hit.strike();
    let multi = Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    let wait = || {
        while hit.stands() {
            thread::sleep(LOOK_EVERY);
        }
    };
    if multi { tokio::task::block_in_place(wait) } else { wait() }
}

/// A place in a task that goes on serving others meanwhile.
pub async fn pass(point: Point) {
    let Some(hit) = FAULTS.get().and_then(|faults| faults.take(point)) else { return };
    hit.strike();
    while hit.stands() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether to make this mistake.
pub fn bug(bug: Bug) -> bool {
    FAULTS.get().is_some_and(|faults| faults.bug == Some(bug))
}

/// The options of a merge with the seeded mistake, if it is one of the merge's.
pub fn seeded(options: twinfeed_dedup::Options) -> twinfeed_dedup::Options {
    let bug = FAULTS.get().and_then(|faults| faults.bug).and_then(of_the_merge);
    twinfeed_dedup::Options { bug, ..options }
}

fn of_the_merge(bug: Bug) -> Option<twinfeed_dedup::Bug> {
    match bug {
        Bug::NoAlignment => Some(twinfeed_dedup::Bug::NoAlignment),
        Bug::PrefixAcks => Some(twinfeed_dedup::Bug::PrefixAcks),
        Bug::ReleaseBeforeCommit => Some(twinfeed_dedup::Bug::ReleaseBeforeCommit),
        Bug::DedupOff => Some(twinfeed_dedup::Bug::DedupOff),
        Bug::NoFencing
        | Bug::CheckBeforeInit
        | Bug::FlushWithoutFdatasync
        | Bug::UnknownCommitIsSuccess
        | Bug::SelfPromotion => None,
    }
}

fn names<T>(table: &[(T, &str)]) -> String {
    table.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}

#[derive(Debug)]
struct Faults {
    directory: Option<PathBuf>,
    bug: Option<Bug>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Kill,
    Stop,
    Pause,
}

/// A point that was armed and has been met; its proof lies in `proof`.
#[derive(Debug)]
struct Hit {
    action: Action,
    proof: PathBuf,
}

impl Faults {
    fn new(directory: Option<PathBuf>, bug: Option<&str>) -> Result<Self, Error> {
        let known = |name: &str| BUGS.iter().find(|(_, known)| *known == name).map(|(bug, _)| *bug);
        let bug = bug.map(|name| known(name).ok_or_else(|| Error::UnknownBug { name: name.to_owned() })).transpose()?;
        if let Some(path) = &directory {
            let listed = POINTS.map(|(_, name)| format!("{name}\n")).concat();
            fs::write(path.join("points"), listed).map_err(|source| Error::Directory { path: path.clone(), source })?;
        }
        Ok(Self { directory, bug })
    }

    /// Takes the order for a point, if there is one: of several that come by at once, one gets it.
    fn take(&self, point: Point) -> Option<Hit> {
        let directory = self.directory.as_ref()?;
        let (_, name) = POINTS.iter().find(|(known, _)| *known == point)?;
        let order = directory.join(name);
        let text = fs::read_to_string(&order).ok()?;
        let action = match text.trim() {
            "kill" => Action::Kill,
            "stop" => Action::Stop,
            "pause" => Action::Pause,
            other => {
                tracing::error!(point = name, order = other, "no such fault: kill, stop or pause");
                return None;
            }
        };
        Hit::prove(directory, name, &order, action).ok()
    }
}

impl Hit {
    fn prove(directory: &Path, name: &str, order: &Path, action: Action) -> io::Result<Self> {
        let taken = directory.join(format!("{name}.taken"));
        fs::rename(order, &taken)?;
        // Complete before it can be seen, and there before anything happens.
        fs::write(&taken, format!("{}\n", getpid().as_raw_nonzero()))?;
        let proof = directory.join(format!("{name}.hit"));
        fs::rename(&taken, &proof)?;
        Ok(Self { action, proof })
    }

    /// A signal to oneself may come a moment later, on another thread: the caller waits behind it in any case.
    fn strike(&self) {
        let signal = match self.action {
            Action::Kill => Signal::KILL,
            Action::Stop => Signal::STOP,
            Action::Pause => return,
        };
        kill_process(getpid(), signal).expect("a process may signal itself");
    }

    fn stands(&self) -> bool {
        self.proof.exists()
    }
}

#[cfg(test)]
#[path = "armed_test.rs"]
mod tests;
