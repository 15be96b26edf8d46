//! The suite's check of itself, one test a seeded bug: a story must fail on nodes that have it. `chaos self-test` tells more.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use twinfeed_chaos::self_test;

/// What a debug build carries on two cores beside everything else.
const RATE: u64 = 2_000;

fn notice(bug: &str) -> Result<(), Failed> {
    let mut lines = String::new();
    let noticed = self_test::run(RATE, |known| known == bug, |outcome| lines = outcome.to_string())?;
    eprintln!("{lines}");
    if noticed { Ok(()) } else { Err(lines.into()) }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The stories share the machine's two cores with the nodes that they drive.
    arguments.test_threads = arguments.test_threads.or(Some(1));
    let trials = self_test::bugs().map(|bug| Trial::test(format!("{bug} is noticed"), move || notice(bug))).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
