//! The promise on a real broker: every story of the fault matrix at least once, one test each, one after the other. Only
//! silences are not judged: a debug build on a busy machine says nothing about them. `TWINFEED_RUNS` repeats the faults.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use twinfeed_chaos::{
    run::{self, Settings},
    scenarios,
    story::{Scale, Story},
    verdict::Verdict,
};

/// What a debug build carries on two cores beside everything else.
const RATE: u64 = 2_000;

/// Until one is valid.
const RUNS_MAX: u64 = 3;

fn play(story: &dyn Story) -> Result<(), Failed> {
    let runs = std::env::var("TWINFEED_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let mut lines = String::new();
    let settings = Settings { runs, seed: 1, rate: RATE, scale: Scale::Quick, strict: false, bug: None };
    let verdict = run::until_valid(story, &settings, RUNS_MAX, |result| {
        eprintln!("{}", result.line());
        lines.push_str(&result.line());
    });
    if verdict == Verdict::Pass { Ok(()) } else { Err(lines.into()) }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The stories share the machine's two cores with the nodes that they drive.
    arguments.test_threads = arguments.test_threads.or(Some(1));
    let stories = scenarios::ALL.iter().filter(|story| !story.facts().rows.is_empty());
    let trials = stories.map(|story| Trial::test(story.facts().name, || play(*story))).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
