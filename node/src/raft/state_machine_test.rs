//! Snapshots on disk: found again, refused when damaged, never half written.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;

use openraft::CommittedLeaderId;

use super::*;
use crate::model::{
    command::{Command, Proposal},
    ids::ClusterId,
};

fn open(path: &Path) -> Result<StateMachine, Error> {
    StateMachine::open(path, "n1", watch::Sender::default())
}

fn init(index: u64, name: &str) -> Entry {
    let command = Command::InitCluster { id: ClusterId(format!("id-{name}")), name: name.to_owned() };
    let proposal = Proposal { request_id: String::new(), asked: 0, proposed_at_ms: 1, command };
    Entry { log_id: LogId::new(CommittedLeaderId::new(1, 7), index), payload: EntryPayload::Normal(proposal) }
}

/// Applies one entry and takes a snapshot of it.
async fn snapshot(path: &Path) -> Snapshot<TypeConfig> {
    let mut machine = open(path).unwrap();
    machine.apply([init(3, "test")]).await.unwrap();
    machine.get_snapshot_builder().await.build_snapshot().await.unwrap()
}

#[tokio::test]
async fn a_snapshot_is_found_again_with_its_position() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    let taken = snapshot(&path).await;
    let mut machine = open(&path).unwrap();
    assert_eq!(machine.state.cluster_name(), "test");
    assert_eq!(machine.applied_state().await.unwrap().0, taken.meta.last_log_id);
    let found = machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!((found.meta, found.snapshot), (taken.meta, taken.snapshot));
}

#[tokio::test]
async fn a_snapshot_with_one_changed_digit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    snapshot(&path).await;
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("id-test"));
    fs::write(&path, text.replace("id-test", "id-tesu")).unwrap();
    let error = open(&path).err().expect("refused");
    assert!(matches!(&error, Error::Damaged { why, .. } if why.contains("checksum")), "{error}");
    fs::write(&path, "").unwrap();
    assert!(matches!(open(&path), Err(Error::Damaged { .. })));
}

#[tokio::test]
async fn a_write_that_was_cut_off_leaves_the_old_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    let taken = snapshot(&path).await;
    fs::write(dir.path().join("snapshot.tmp"), "half").unwrap();
    assert_eq!(open(&path).unwrap().last_applied, taken.meta.last_log_id);
}

#[tokio::test]
async fn a_received_snapshot_that_cannot_be_read_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    let taken = snapshot(&path).await;
    let before = fs::read(&path).unwrap();
    let mut machine = open(&path).unwrap();
    let torn = Box::new(Cursor::new(b"{\"version\":1".to_vec()));
    machine.install_snapshot(&taken.meta, torn).await.unwrap_err();
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(machine.state.cluster_name(), "test");
}
