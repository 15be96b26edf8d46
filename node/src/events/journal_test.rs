//! The journal over restarts, damage, full disks and storms.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;
use crate::{
    events::{
        kept::{LOSSES_MAX, PASSING_MAX},
        log::tests::event,
    },
    model::event::EventId,
    supervise::{Supervisor, TaskKind},
};

fn write(journal: &mut Journal) -> bool {
    let log = journal.log.clone();
    journal.file.write_all_of(&log)
}

fn shown(log: &EventLog) -> Vec<(String, u64)> {
    log.follow().0.iter().map(|event| (event.event.kind.clone(), event.event.at_ms)).collect()
}

fn gaps(times: &[u64]) -> Vec<(String, u64)> {
    times.iter().map(|at_ms| ("gap".to_owned(), *at_ms)).collect()
}

#[test]
fn what_may_be_missing_is_there_after_a_restart_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut journal) = open(dir.path(), 1, 1_000);
    log.record(event("gap", "btc", 20));
    log.record(event("subscription.lost", "btc", 25));
    // Another node's, of earlier.
    log.hear(Numbered { id: EventId { node: 2, life: 3, number: 1 }, event: event("gap", "eth", 10) });
    assert!(write(&mut journal));
    drop(journal);
    // The clock went back over the restart.
    let (log, mut journal) = open(dir.path(), 1, 500);
    assert_eq!(shown(&log), gaps(&[10, 20]));
    assert_eq!(log.life(), 1_001);
    log.record(event("gap", "btc", 30));
    assert!(write(&mut journal));
    let (log, _) = open(dir.path(), 1, 500);
    assert_eq!(shown(&log), gaps(&[10, 20, 30]));
    assert_eq!(log.life(), 1_002);
}

#[test]
fn a_damaged_file_costs_the_damaged_lines_and_says_how_many() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let (log, mut journal) = open(dir.path(), 1, 1_000);
    for at_ms in 1..=4 {
        log.record(event("gap", "btc", at_ms));
        assert!(write(&mut journal));
    }
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5);
    lines[2] = "\u{0}\u{0}not json";
    let mut text = lines.join("\n");
    // The last one was cut off by a power cut.
    text.truncate(text.len() - 10);
    fs::write(&path, text).unwrap();
    let (log, mut journal) = open(dir.path(), 1, 1_000);
    assert_eq!(shown(&log), gaps(&[1, 3]));
    assert_eq!(log.forgotten().losses, 2);
    log.record(event("gap", "btc", 5));
    assert!(write(&mut journal));
    let (log, _) = open(dir.path(), 1, 1_000);
    assert_eq!(shown(&log), gaps(&[1, 3, 5]));
    assert_eq!(log.forgotten().losses, 2, "it stays known, and is not counted again");
}

#[test]
fn a_file_of_any_bytes_is_read_without_panic_and_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE), [0_u8, 159, 146, 150, b'\n', b'{', b'}', b'\n', b'"', b'\n']).unwrap();
    let (log, mut journal) = open(dir.path(), 1, 1_000);
    assert_eq!(log.forgotten().losses, 3);
    log.record(event("gap", "btc", 5));
    assert!(write(&mut journal));
    assert_eq!(shown(&open(dir.path(), 1, 1_000).0), gaps(&[5]));
}

#[test]
fn a_storm_leaves_a_bounded_file_and_the_count_of_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut journal) = open(dir.path(), 1, 1_000);
    for round in 0..20_u64 {
        for at_ms in 0..1_000 {
            let mut event = event("gap", &format!("stream{at_ms}"), round * 1_000 + at_ms);
            event.message = "x".repeat(1_000);
            log.record(event);
        }
        assert!(write(&mut journal));
    }
    assert!(write(&mut journal));
    assert!(fs::metadata(dir.path().join(FILE)).unwrap().len() <= FILE_BYTES_MAX + (4 << 20));
    let kept = log.follow().0.len();
    assert!(kept < LOSSES_MAX && kept > 1_000, "{kept}");
    let (again, _) = open(dir.path(), 1, 1_000);
    assert_eq!(again.follow().0.len(), kept);
    assert_eq!(again.forgotten().losses + kept as u64, 20_000);
}

#[test]
fn what_a_failed_write_left_out_is_written_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let (log, mut journal) = open(&data, 1, 1_000);
    // The disk goes away, and comes back.
    fs::remove_dir_all(&data).unwrap();
    journal.file.open = None;
    log.record(event("gap", "btc", 1));
    assert!(!write(&mut journal));
    log.record(event("gap", "btc", 2));
    assert!(!write(&mut journal));
    fs::create_dir(&data).unwrap();
    assert!(write(&mut journal));
    assert_eq!(shown(&open(&data, 1, 1_000).0), gaps(&[1, 2]));
}

#[tokio::test]
async fn the_task_writes_what_is_left_when_it_is_told_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    let (log, journal) = open(dir.path(), 1, 1_000);
    let supervisor = Supervisor::default();
    let task = supervisor.spawner().spawn(TaskKind::EventJournal, "journal", |stop| journal.run(stop));
    (0..PASSING_MAX as u64).for_each(|at_ms| log.record(event("gap", "btc", at_ms)));
    task.stop().await;
    assert_eq!(open(dir.path(), 1, 1_000).0.follow().0.len(), PASSING_MAX);
}

/// A format that is on disks: a change of it must read this still.
#[test]
fn the_format_is_golden() {
    let golden = concat!(
        r#"{"begins":{"life":7,"forgotten":{"losses":2,"until_ms":9}}}"#,
        "\n",
        r#"{"event":{"id":{"node":1,"life":7,"number":3},"event":{"at_ms":20,"kind":"gap","node":"n1","#,
        r#""connector":"btc","epoch":1,"message":"","attributes":{}}}}"#,
        "\n"
    );
    let contents = Contents::of(golden.as_bytes());
    assert_eq!((contents.damaged, contents.life, contents.events.len()), (0, 7, 1));
    let begins = Begins { life: 7, forgotten: contents.forgotten };
    let mut written = line(&Line { begins: Some(begins), event: None }).unwrap();
    written.extend(lines(&contents.events.into_iter().map(Arc::new).collect::<Vec<_>>()).unwrap());
    assert_eq!(String::from_utf8(written).unwrap(), golden);
}
