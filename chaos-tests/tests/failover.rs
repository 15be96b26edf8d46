//! The promise on a real broker, each story at least once. `TWINFEED_RUNS` repeats the faults of a story.

use twinfeed_chaos::scenarios::{self, Report, Settings};

fn run(name: &str) -> Report {
    let runs = std::env::var("TWINFEED_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(2);
    let settings = Settings { runs, seed: 1, rate: 2_000 };
    let report = scenarios::run(name, &settings).unwrap_or_else(|error| panic!("{name} is INVALID: {error:?}"));
    eprintln!("{report:?}");
    assert!(report.holds(), "{report:?}");
    report
}

#[test]
fn a_killed_owner_loses_and_doubles_nothing() {
    run("kill-owner");
}

#[test]
fn a_killed_standby_loses_and_doubles_nothing() {
    run("kill-standby");
}

#[test]
fn a_killed_leader_loses_and_doubles_nothing() {
    run("kill-leader");
}

#[test]
fn a_killed_owner_that_led_loses_and_doubles_nothing() {
    run("kill-owner-and-leader");
}

#[test]
fn a_paused_owner_wakes_and_cannot_write() {
    run("pause-owner");
}

#[test]
fn a_planned_move_loses_and_doubles_nothing() {
    run("planned-move");
}
