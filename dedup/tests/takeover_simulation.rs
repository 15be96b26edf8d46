//! The promise under random kills, reconnects and relay breaks: nothing lost, nothing repeated, order kept.
//!
//! `TWINFEED_SEEDS` sets the seeds per test and share of repeats (default 250; the slow profile is 10,000; tests with longer
//! runs take a part of them), `TWINFEED_SEED` runs a single one. A failure names its seed and the command that repeats it.

mod simulation;

use std::env;

use simulation::{Bug, Outcome, Scenario, run};

const SEEDS: u64 = 250;

/// What a number of runs came to.
#[derive(Debug, Default)]
struct Total {
    runs: u64,
    lost: u64,
    duplicated: u64,
    disordered: u64,
    kills: u64,
    flaps: u64,
    relay_breaks: u64,
    silences: u64,
    missed: u64,
    falsely_behind: u64,
    first_bad_seed: Option<u64>,
}

impl Total {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.runs += 1;
        self.lost += outcome.lost;
        self.duplicated += outcome.duplicated;
        self.disordered += outcome.disordered;
        self.kills += u64::from(outcome.kills);
        self.flaps += u64::from(outcome.flaps);
        self.relay_breaks += u64::from(outcome.relay_breaks);
        self.silences += u64::from(outcome.silences);
        self.missed += u64::from(outcome.missed);
        self.falsely_behind += u64::from(outcome.falsely_behind);
        if outcome.lost + outcome.duplicated + outcome.disordered > 0 || outcome.missed + outcome.falsely_behind > 0 {
            self.first_bad_seed.get_or_insert(seed);
        }
    }

    fn per_takeover(&self) -> f64 {
        (self.lost + self.duplicated) as f64 / self.kills.max(1) as f64
    }
}

fn setting(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}

/// Runs a part (one in `share`) of the configured seeds.
fn runs(name: &str, scenario: &Scenario, share: u64) -> Total {
    let mut total = Total::default();
    let seeds = match setting("TWINFEED_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..setting("TWINFEED_SEEDS").unwrap_or(SEEDS).div_ceil(share),
    };
    for seed in seeds {
        total.add(seed, run(scenario, seed));
    }
    let Total { runs, lost, duplicated, disordered, kills, flaps, relay_breaks, .. } = total;
    println!(
        "{name}: repeats {:.0} %, reorder {} ms: {runs} runs, {kills} kills, {flaps} reconnects, {relay_breaks} relay breaks: \
         {lost} lost, {duplicated} duplicated, {disordered} out of order",
        scenario.repeats * 100.0,
        scenario.reorder_ms
    );
    assert!(kills * 2 > runs * u64::from(scenario.kills), "too few kills happened for the run to count: {total:?}");
    assert!(
        flaps * 2 > runs * u64::from(scenario.flaps),
        "too few reconnects happened for the run to count: {total:?}"
    );
    assert!(
        total.silences * 2 >= runs * u64::from(scenario.silences),
        "too few silences for the run to count: {total:?}"
    );
    total
}

fn assert_exact(name: &str, scenario: &Scenario, share: u64) {
    let total = runs(name, scenario, share);
    if let Some(seed) = total.first_bad_seed {
        panic!(
            "{} lost, {} duplicated, {} out of order, {} silences missed, {} lines falsely behind, first with seed {seed} at {:.0} % repeats; repeat it with \
             TWINFEED_SEED={seed} cargo test -p twinfeed-dedup --test takeover_simulation {name} -- --nocapture",
            total.lost,
            total.duplicated,
            total.disordered,
            total.missed,
            total.falsely_behind,
            scenario.repeats * 100.0
        );
    }
}

#[test]
fn in_order_feeds_are_exact() {
    for repeats in [0.0, 0.3, 0.7, 0.95] {
        assert_exact("in_order_feeds_are_exact", &Scenario::of_the_model(repeats, 0.0), 1);
    }
}

/// Rarely repeated payloads stay exact; what heavily repeated ones leave is the residue of the executable model.
#[test]
fn interleaving_feeds_are_exact_up_to_thirty_percent_repeats() {
    for repeats in [0.0, 0.3] {
        let name = "interleaving_feeds_are_exact_up_to_thirty_percent_repeats";
        assert_exact(name, &Scenario::of_the_model(repeats, 3.0), 1);
    }
}

#[test]
fn interleaving_feeds_with_many_repeats_leave_no_more_than_the_model() {
    for (repeats, residue_max) in [(0.7, 0.05), (0.95, 0.3)] {
        let name = "interleaving_feeds_with_many_repeats_leave_no_more_than_the_model";
        let total = runs(name, &Scenario::of_the_model(repeats, 3.0), 1);
        println!("    {:.3} messages per takeover", total.per_takeover());
        if setting("TWINFEED_SEED").is_none() {
            assert!(total.per_takeover() <= residue_max, "{:.3} messages per takeover", total.per_takeover());
        }
    }
}

/// A relay that stalls for longer than the span must not make anything look new.
#[test]
fn broken_relays_are_exact() {
    for repeats in [0.0, 0.3, 0.7, 0.95] {
        let scenario = Scenario { relay_breaks: 3, messages: 12_000, ..Scenario::of_the_model(repeats, 0.0) };
        assert_exact("broken_relays_are_exact", &scenario, 5);
    }
}

#[test]
fn connections_that_drop_while_joining_are_exact() {
    for repeats in [0.0, 0.3, 0.7, 0.95] {
        let scenario = Scenario { flaps: 12, flaps_while_joining: true, ..Scenario::of_the_model(repeats, 0.0) };
        assert_exact("connections_that_drop_while_joining_are_exact", &scenario, 2);
    }
}

/// A line falls silent while its twin goes on: it is found in time and connected anew, and nothing is lost or repeated.
#[test]
fn silent_lines_are_found_and_exact() {
    for (gap_ms, repeats, reorder_ms) in
        [(1.0, 0.0, 0.0), (1.0, 0.7, 0.0), (1.0, 0.3, 3.0), (20.0, 0.3, 0.0), (100.0, 0.0, 0.0)]
    {
        let messages = (60_000.0 / gap_ms) as usize;
        let base = Scenario::of_the_model(repeats, reorder_ms);
        let scenario = Scenario { gap_ms, messages, silences: 4, flaps: 2, kills: 2, relay_breaks: 1, ..base };
        assert_exact("silent_lines_are_found_and_exact", &scenario, 12);
    }
}

/// Few messages: newcomers have to be believed early, or nothing is ever redundant.
#[test]
fn slow_feeds_align_and_are_exact() {
    for (gap_ms, repeats) in [(20.0, 0.0), (20.0, 0.3), (200.0, 0.0), (200.0, 0.3), (1_000.0, 0.3)] {
        let messages = (120_000.0 / gap_ms) as usize;
        let base = Scenario::of_the_model(repeats, 0.0);
        let scenario = Scenario { gap_ms, messages: messages.max(300), kills: 2, flaps: 2, ..base };
        assert_exact("slow_feeds_align_and_are_exact", &scenario, 5);
    }
}

#[test]
fn fast_feeds_are_exact() {
    for repeats in [0.0, 0.3, 0.95] {
        let scenario = Scenario { gap_ms: 0.05, messages: 120_000, ..Scenario::of_the_model(repeats, 0.0) };
        assert_exact("fast_feeds_are_exact", &scenario, 50);
    }
}

fn chased_by_kills(repeats: f64) -> Scenario {
    Scenario { kills_chase_flaps: true, kills: 6, flaps: 6, messages: 20_000, ..Scenario::of_the_model(repeats, 0.0) }
}

/// Acks from before a reconnect arrive after it: they must not make the new subscription redundant.
#[test]
fn kills_right_after_reconnects_are_exact() {
    for repeats in [0.0, 0.3, 0.7, 0.95] {
        assert_exact("kills_right_after_reconnects_are_exact", &chased_by_kills(repeats), 12);
    }
}

/// The bugs that the suite seeds into whole nodes, here in the merge alone. `cargo test -p twinfeed-dedup --features faults`.
#[cfg(feature = "faults")]
#[test]
fn each_seeded_bug_is_noticed() {
    use twinfeed_dedup::Bug::{DedupOff, NoAlignment, PrefixAcks, ReleaseBeforeCommit};
    for bug in [NoAlignment, PrefixAcks, ReleaseBeforeCommit, DedupOff] {
        // Only where the connections interleave differently is a later frame resolved first.
        let (repeats, reorder_ms) = if bug == PrefixAcks { (0.0, 10.0) } else { (0.7, 0.0) };
        let mut scenario = Scenario::of_the_model(repeats, reorder_ms);
        let mut total = Total::default();
        (0..60).for_each(|seed| total.add(seed, run(&scenario, seed)));
        assert_eq!(total.first_bad_seed, None, "without {bug:?}: {total:?}");
        scenario.options.bug = Some(bug);
        (0..60).for_each(|seed| total.add(seed, run(&scenario, seed)));
        println!("{bug:?}: {} lost, {} duplicated in {} kills", total.lost, total.duplicated, total.kills);
        assert!(total.lost + total.duplicated > 0, "{bug:?} went unnoticed");
    }
}

/// Every rule of the protocol is needed: without it the simulation must lose or repeat messages.
#[test]
fn each_rule_taken_away_is_noticed() {
    for bug in [
        Bug::NoAlignment,
        Bug::NoWaitForRedundant,
        Bug::AckWithoutSubscription,
        Bug::PrefixAcks,
        Bug::ReleasedBeforeCommit,
        Bug::NoTailRead,
    ] {
        let mut scenario = Scenario { bug, ..Scenario::of_the_model(0.7, 0.0) };
        if bug == Bug::NoAlignment {
            scenario.options.reference_silence_ms_max = 0;
            scenario.options.fiat_wait_ms = 0;
        }
        match bug {
            Bug::AckWithoutSubscription => scenario = Scenario { bug, ..chased_by_kills(0.7) },
            // Only where the connections interleave differently is a later frame resolved first.
            Bug::PrefixAcks => scenario = Scenario { bug, ..Scenario::of_the_model(0.0, 10.0) },
            _ => {}
        }
        let mut total = Total::default();
        for seed in 0..60 {
            total.add(seed, run(&scenario, seed));
        }
        let Total { kills, lost, duplicated, disordered, .. } = total;
        println!("{bug:?}: {kills} kills: {lost} lost, {duplicated} duplicated, {disordered} out of order");
        assert!(lost + duplicated > 0, "{bug:?} went unnoticed");
    }
}
