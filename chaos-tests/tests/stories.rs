//! The promise on a real broker: every story of the fault matrix at least once, one test each, one after the other. Only
//! silences are not judged: a debug build on a busy machine says nothing about them. `TWINFEED_RUNS` repeats the faults.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use twinfeed_chaos::{
    harness,
    run::{Settings, run},
    scenarios,
    story::Story,
    verdict::Verdict,
};

/// What a debug build carries on two cores beside everything else.
const RATE: u64 = 2_000;

/// Runs until one is valid.
const ATTEMPTS_MAX: u64 = 3;

fn play(story: &dyn Story) -> Result<(), Failed> {
    let runs = std::env::var("TWINFEED_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    if story.facts().needs_faulty_node {
        harness::build_faulty_node()?;
    }
    let mut lines = String::new();
    // A run that proves nothing is not green: another has to prove it. One that fails has failed.
    for seed in 1..=ATTEMPTS_MAX {
        let settings = Settings { runs, seed, rate: RATE, strict: false, bug: None };
        let verdict = run(story, &settings, |result| {
            eprintln!("{}", result.line());
            lines.push_str(&result.line());
        });
        match verdict {
            Verdict::Pass => return Ok(()),
            Verdict::Fail => break,
            Verdict::Invalid => {}
        }
    }
    Err(lines.into())
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The stories share the machine's two cores with the nodes that they drive.
    arguments.test_threads = arguments.test_threads.or(Some(1));
    let stories = scenarios::ALL.iter().filter(|story| !story.facts().rows.is_empty());
    let trials = stories.map(|story| Trial::test(story.facts().name, || play(*story))).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
