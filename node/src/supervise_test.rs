//! Tests of `supervise.rs`: policies, outcomes, order of the stop. Time is paused, so drain times cost nothing.

use std::{future::pending, sync::mpsc};

use super::*;

fn observed() -> (Supervisor, mpsc::Receiver<Ended>) {
    let (sender, receiver) = mpsc::channel();
    let observer: Observer = Box::new(move |ended| sender.send(ended.clone()).expect("the test listens"));
    (Supervisor::new(observer), receiver)
}

/// With paused time the deadline passes at once when nothing else can happen: red instead of hanging.
async fn fatal(supervisor: &Supervisor) -> Ended {
    timeout_at(Instant::now() + Duration::from_secs(60), supervisor.fatal()).await.expect("a fatal task is reported")
}

#[test]
fn every_kind_has_a_slot_of_its_own() {
    let mut slots: Vec<usize> = TaskKind::STOP_ORDER.iter().map(|kind| *kind as usize).collect();
    slots.sort_unstable();
    assert_eq!(slots, (0..TaskKind::STOP_ORDER.len()).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn exit_error_and_panic_are_three_outcomes() {
    let (supervisor, ended) = observed();
    let spawner = supervisor.spawner();
    let exit = spawner.spawn(TaskKind::Writer, "a", |_| async { Ok(()) });
    let error = spawner.spawn(TaskKind::Writer, "b", |_| async { Err("disk on fire".into()) });
    let panic = spawner.spawn(TaskKind::Writer, "c", |_| async { panic!("broken {}", "invariant") });
    assert_eq!(exit.ended().await, Outcome::Exit);
    assert_eq!(error.ended().await, Outcome::Error("disk on fire".to_owned()));
    assert_eq!(panic.ended().await, Outcome::Panic("broken invariant".to_owned()));
    let counted: Vec<&str> = ended.try_iter().map(|ended| ended.outcome.as_str()).collect();
    assert_eq!(counted, ["exit", "error", "panic"]);
}

#[tokio::test(start_paused = true)]
async fn an_error_shows_its_sources() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the store")]
    struct Outer(#[source] std::io::Error);
    let supervisor = Supervisor::default();
    let task = supervisor
        .spawner()
        .spawn(TaskKind::Relay, "r", |_| async { Err(Outer(std::io::Error::other("no space left")).into()) });
    assert_eq!(task.ended().await, Outcome::Error("cannot open the store: no space left".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_failed_server_is_fatal_and_a_failed_writer_is_not() {
    let supervisor = Supervisor::default();
    let spawner = supervisor.spawner();
    spawner.spawn(TaskKind::Writer, "w", |_| async { Err("fenced".into()) }).ended().await;
    assert!(supervisor.fatal().now_or_never().is_none());
    spawner.spawn(TaskKind::InternalServer, "peers", |_| async { Err("port taken".into()) }).ended().await;
    let fatal = fatal(&supervisor).await;
    assert_eq!((fatal.kind, fatal.name.as_str()), (TaskKind::InternalServer, "peers"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_returns_unasked_is_fatal() {
    let supervisor = Supervisor::default();
    supervisor.spawner().spawn(TaskKind::Worker, "worker", |_| async { Ok(()) });
    assert_eq!(fatal(&supervisor).await.outcome, Outcome::Exit);
}

#[tokio::test(start_paused = true)]
async fn a_draining_task_finishes_and_a_stuck_one_is_dropped_after_its_drain_time() {
    let supervisor = Supervisor::default();
    let spawner = supervisor.spawner();
    let drains = spawner.spawn(TaskKind::Writer, "drains", |stop| async move {
        stop.cancelled().await;
        sleep(Duration::from_millis(9_000)).await;
        Ok(())
    });
    let stuck = spawner.spawn(TaskKind::Writer, "stuck", |_| pending());
    let aborts = spawner.spawn(TaskKind::Coordinator, "aborts", |_| pending());
    assert_eq!(drains.stop().await, Outcome::Exit);
    assert_eq!(stuck.stop().await, Outcome::Aborted);
    let before = Instant::now();
    assert_eq!(aborts.stop().await, Outcome::Aborted);
    assert_eq!(Instant::now(), before, "an aborted kind needs no drain time");
}

#[tokio::test(start_paused = true)]
async fn stop_ends_kinds_in_order_and_reports_them() {
    let supervisor = Supervisor::default();
    let spawner = supervisor.spawner();
    for kind in TaskKind::STOP_ORDER.iter().rev() {
        spawner.spawn(*kind, "one", |stop| async move {
            stop.cancelled().await;
            Ok(())
        });
    }
    let report = supervisor.stop(Duration::from_secs(20)).await;
    let kinds: Vec<TaskKind> = report.ended.iter().map(|ended| ended.kind).collect();
    assert_eq!(kinds, TaskKind::STOP_ORDER);
    assert!(report.left.is_empty());
}

#[tokio::test(start_paused = true)]
async fn stop_names_what_outlives_the_grace() {
    let supervisor = Supervisor::default();
    let spawner = supervisor.spawner();
    spawner.spawn(TaskKind::Writer, "slow", |_| pending());
    let later = spawner.spawn(TaskKind::HttpServer, "http", |stop| async move {
        stop.cancelled().await;
        Ok(())
    });
    let report = supervisor.stop(Duration::from_secs(1)).await;
    assert!(report.left.contains(&(TaskKind::Writer, "slow".to_owned())), "{report:?}");
    assert_eq!(later.ended().await, Outcome::Exit, "the kinds behind it are told to stop, too");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_supervisor_stops_its_tasks_and_refuses_new_ones() {
    let supervisor = Supervisor::default();
    let spawner = supervisor.spawner();
    let task = spawner.spawn(TaskKind::Tool, "t", |_| pending());
    drop(supervisor);
    assert_eq!(task.ended().await, Outcome::Aborted);
    assert_eq!(spawner.spawn(TaskKind::Tool, "late", |_| pending()).ended().await, Outcome::Aborted);
}
