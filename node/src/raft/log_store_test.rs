//! The log store against openraft's suite, its persisted layout, damage, and a process killed in the middle of writing.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::{
    collections::BTreeSet,
    env,
    io::{BufRead, BufReader},
    process::{Command as Process, Stdio},
};

use openraft::{
    CommittedLeaderId, EntryPayload, Membership,
    storage::RaftLogStorageExt,
    testing::{StoreBuilder, Suite},
};

use super::*;
use crate::{
    model::command::{Command, Proposal},
    raft::state_machine::StateMachine,
};

const CHILD_DIR: &str = "TWINFEED_TEST_LOG_CHILD_DIR";

fn expected(exists: bool) -> Expected {
    Expected { node_id: 7, node_name: "n1".to_owned(), exists }
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term, 7), index)
}

fn restart_entry(index: u64, name: &str) -> Entry {
    let command = Command::Restart { name: name.to_owned(), rolls: false };
    let proposal = Proposal { request_id: String::new(), asked: 0, proposed_at_ms: 1, command };
    Entry { log_id: log_id(1, index), payload: EntryPayload::Normal(proposal) }
}

async fn reopen(dir: &Path, store: (LogStore, Closed)) -> Result<(LogStore, Closed), Error> {
    drop(store.0);
    let _ = store.1.await;
    LogStore::open(dir, &expected(true))
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (store, _) = LogStore::open(&dir.path().join("log"), &expected(false)).expect("a new store");
        let published = tokio::sync::watch::Sender::default();
        let machine = StateMachine::open(&dir.path().join("snapshot"), "n1", published).expect("a new state machine");
        Ok((dir, store, machine))
    }
}

#[test]
fn openraft_accepts_the_store() {
    Suite::test_all(Builder).expect("the suite passes");
}

#[tokio::test]
async fn the_persisted_layout_is_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = LogStore::open(dir.path(), &expected(false)).unwrap();
    let members = Membership::new(vec![BTreeSet::from([7])], None);
    let entries = [
        Entry { log_id: log_id(0, 0), payload: EntryPayload::Membership(members) },
        Entry { log_id: log_id(1, 1), payload: EntryPayload::Blank },
        restart_entry(2, "c"),
    ];
    store.blocking_append(entries).await.unwrap();
    store.save_vote(&Vote::new_committed(3, 7)).await.unwrap();
    store.purge(log_id(0, 0)).await.unwrap();
    store.save_committed(Some(log_id(1, 1))).await.unwrap();

    let rows = |tree: &sled::Tree| -> Vec<(Vec<u8>, String)> {
        let text = |value: sled::IVec| String::from_utf8_lossy(&value).into_owned();
        tree.iter().map(|row| row.map(|(key, value)| (key.to_vec(), text(value))).unwrap()).collect()
    };
    let named = |name: &str, value: &str| (name.as_bytes().to_vec(), value.to_owned());
    assert_eq!(
        rows(&store.trees.meta),
        [
            named("committed", r#"{"leader_id":{"term":1,"node_id":7},"index":1}"#),
            named("layout", "1"),
            named("node_id", "7"),
            named("purged", r#"{"leader_id":{"term":0,"node_id":7},"index":0}"#),
            named("vote", r#"{"leader_id":{"term":3,"node_id":7},"committed":true}"#),
        ]
    );
    let keyed = |index: u8, json: &str| (vec![0, 0, 0, 0, 0, 0, 0, index, 0, 0, 0, 0], format!("\0\0\0\u{1}{json}"));
    assert_eq!(
        rows(&store.trees.log),
        [
            keyed(1, r#"{"log_id":{"leader_id":{"term":1,"node_id":7},"index":1},"payload":"Blank"}"#),
            keyed(
                2,
                r#"{"log_id":{"leader_id":{"term":1,"node_id":7},"index":2},"payload":{"Normal":{"request_id":"","proposed_at_ms":1,"command":{"Restart":{"name":"c","rolls":false}}}}}"#
            ),
        ]
    );
}

#[tokio::test]
async fn large_entries_survive_a_reopen_and_never_become_unsynced_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = LogStore::open(dir.path(), &expected(false)).unwrap();
    let entries: Vec<_> = (0..40).map(|i| restart_entry(i, &"é".repeat(10_000 * (i as usize % 15)))).collect();
    opened.0.blocking_append(entries.clone()).await.unwrap();
    opened.0.truncate(log_id(1, 35)).await.unwrap();
    opened.0.purge(log_id(1, 4)).await.unwrap();
    let blobs = fs::read_dir(dir.path().join("blobs")).unwrap().count();
    assert_eq!(blobs, 0, "sled wrote pages to files that nobody syncs");
    let mut opened = reopen(dir.path(), opened).await.unwrap();
    assert_eq!(opened.0.try_get_log_entries(..).await.unwrap(), entries[5..35]);
    let limited = opened.0.limited_get_log_entries(5, 35).await.unwrap();
    assert!(!limited.is_empty() && limited.len() < 30, "one message holds {} entries", limited.len());
    assert_eq!(limited, entries[5..5 + limited.len()]);
}

#[tokio::test]
async fn a_store_that_lost_its_content_is_refused_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let missing = LogStore::open(&dir.path().join("gone"), &expected(true)).err().expect("refused");
    assert!(missing.to_string().contains("wsctl node remove n1"), "{missing}");

    let path = dir.path().join("log");
    let mut opened = LogStore::open(&path, &expected(false)).unwrap();
    opened.0.blocking_append((0..20).map(|i| restart_entry(i, "c"))).await.unwrap();
    opened.0.trees.log.remove(log_rows::key(7, 0)).unwrap();
    let hole = reopen(&path, opened).await.err().expect("refused");
    assert!(matches!(&hole, Error::Damaged { why, .. } if why == "log entry 7 is missing"), "{hole}");

    let opened = LogStore::open(&dir.path().join("other"), &expected(false)).unwrap();
    drop(opened.0);
    let _ = opened.1.await;
    let stranger = Expected { node_id: 8, ..expected(true) };
    let foreign = LogStore::open(&dir.path().join("other"), &stranger).err().expect("refused");
    assert!(matches!(&foreign, Error::Damaged { why, .. } if why.contains("another node")), "{foreign}");
}

#[tokio::test]
async fn a_file_full_of_noise_is_an_error_and_not_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = LogStore::open(dir.path(), &expected(false)).unwrap();
    opened.0.blocking_append((0..200).map(|i| restart_entry(i, "c"))).await.unwrap();
    drop(opened.0);
    let _ = opened.1.await;
    let db = dir.path().join("db");
    let noise: Vec<u8> = fs::read(&db).unwrap().iter().enumerate().map(|(i, b)| b ^ (i % 251) as u8).collect();
    fs::write(&db, noise).unwrap();
    let error = LogStore::open(dir.path(), &expected(true)).err().expect("refused");
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}

/// Appends, votes and purges for ever; says what is acknowledged only when it is.
#[tokio::test]
#[ignore = "the child process of `a_killed_process_loses_nothing_acknowledged`"]
async fn child_that_writes_until_killed() {
    let dir = env::var_os(CHILD_DIR).expect("set by the parent");
    let (mut store, _) = LogStore::open(Path::new(&dir), &expected(true)).expect("the store of the last round opens");
    let state = store.get_log_state().await.unwrap();
    let mut next = state.last_log_id.map_or(0, |id| id.index + 1);
    loop {
        let count = next % 5 + 1;
        let name = "x".repeat((next as usize * 613) % 9000);
        // A power cut fails every further write; the parent checks what was acknowledged before.
        let entries = (next..next + count).map(|i| restart_entry(i, &name));
        let Ok(()) = store.blocking_append(entries).await else { return };
        next += count;
        println!("acked entry {}", next - 1);
        let Ok(()) = store.save_vote(&Vote::new(next, 7)).await else { return };
        println!("acked vote {next}");
        if next > 60 && next.is_multiple_of(4) {
            let Ok(()) = store.purge(log_id(1, next - 50)).await else { return };
        }
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let (store, closed) = LogStore::open(dir.path(), &expected(false)).unwrap();
    drop(store);
    let _ = closed.await;
    for round in 0..8 {
        let (entry, vote) = write_until(dir.path(), 8 + 9 * round, || {});
        let (mut store, closed) = LogStore::open(dir.path(), &expected(true)).unwrap();
        check_acknowledged(&mut store, entry, vote).await;
        drop(store);
        let _ = closed.await;
    }
}

async fn check_acknowledged(store: &mut LogStore, entry: u64, vote: u64) {
    let last = store.get_log_state().await.unwrap().last_log_id.unwrap().index;
    assert!(last >= entry, "entry {entry} was acknowledged, the log ends at {last}");
    let kept = store.read_vote().await.unwrap().unwrap();
    assert!(kept >= Vote::new(vote, 7), "vote {vote} was acknowledged, the store holds {kept}");
}

/// Runs the child until it has acknowledged so many writes, does `strike`, and kills it in whatever it is writing.
/// Returns the last acknowledged entry and vote.
fn write_until(dir: &Path, acks_wanted: u64, strike: impl FnOnce()) -> (u64, u64) {
    let child = "raft::log_store::tests::child_that_writes_until_killed";
    let mut process = Process::new(env::current_exe().unwrap())
        .args([child, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
    let (mut entry, mut vote, mut acks) = (0, 0, 0);
    for line in lines.by_ref() {
        acks += note_ack(&line, &mut entry, &mut vote);
        if acks == acks_wanted {
            break;
        }
    }
    strike();
    process.kill().unwrap();
    process.wait().unwrap();
    for line in lines {
        note_ack(&line, &mut entry, &mut vote);
    }
    assert!(acks >= acks_wanted, "the child stopped by itself");
    (entry, vote)
}

fn note_ack(line: &str, entry: &mut u64, vote: &mut u64) -> u64 {
    // The test harness prints its own words on the same line.
    let Some((_, ack)) = line.split_once("acked ") else { return 0 };
    match ack.split_once(' ') {
        Some(("entry", index)) => *entry = index.parse().unwrap(),
        Some(("vote", term)) => *vote = term.parse().unwrap(),
        _ => panic!("unknown line {line}"),
    }
    1
}

/// An ext4 image that can lose its power: `EXT4_IOC_SHUTDOWN` without flushing the journal drops all that was not synced.
struct PowerCut {
    root: tempfile::TempDir,
}

impl PowerCut {
    /// None, with a note, where the test may not mount.
    fn prepare() -> Option<Self> {
        let disk = Self { root: tempfile::tempdir().unwrap() };
        fs::create_dir(disk.mount_point()).unwrap();
        let image = disk.image();
        let made = run("truncate", &["-s", "64M", &image]).and_then(|()| run("mkfs.ext4", &["-q", "-F", &image]));
        let able = made.and_then(|()| disk.mount()).and_then(|()| run("python3", &["-c", "import fcntl"]));
        if let Err(why) = able {
            println!("NOT RUN: power cuts need root, loop mounts, mkfs.ext4 and python3: {why}");
            return None;
        }
        Some(disk)
    }

    fn image(&self) -> String {
        self.root.path().join("image").display().to_string()
    }

    fn mount_point(&self) -> String {
        self.root.path().join("disk").display().to_string()
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &["-o", "loop", &self.image(), &self.mount_point()])
    }

    fn cut(&self) {
        // EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH.
        let script = "import fcntl, os, struct, sys; \
            fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";
        run("python3", &["-c", script, &self.mount_point()]).unwrap();
    }

    fn restore_power(&self) {
        run("umount", &[&self.mount_point()]).unwrap();
        self.mount().unwrap();
    }
}

impl Drop for PowerCut {
    fn drop(&mut self) {
        let _ = run("umount", &[&self.mount_point()]);
    }
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Process::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    let error = || format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    output.status.success().then_some(()).ok_or_else(error)
}

#[tokio::test]
async fn a_power_cut_loses_nothing_acknowledged() {
    let Some(disk) = PowerCut::prepare() else { return };
    let dir = Path::new(&disk.mount_point()).join("log");
    fs::create_dir(&dir).unwrap();
    let (store, closed) = LogStore::open(&dir, &expected(false)).unwrap();
    drop(store);
    let _ = closed.await;
    for round in 0..12 {
        let (entry, vote) = write_until(&dir, 5 + 7 * round, || disk.cut());
        disk.restore_power();
        let (mut store, closed) = LogStore::open(&dir, &expected(true)).unwrap();
        check_acknowledged(&mut store, entry, vote).await;
        drop(store);
        let _ = closed.await;
    }
}
