//! Runs stories: sets the stage, repeats the fault, waits for recovery, closes the books and has them judged.

use std::time::Instant;

use rand::{SeedableRng as _, rngs::StdRng};

use crate::{
    harness,
    stage::Stage,
    story::{Scale, Story},
    verdict::{RunResult, Verdict},
};

/// How to run a story.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Faults in all.
    pub runs: usize,
    /// Of the first stage; each further stage takes the next.
    pub seed: u64,
    /// Messages a second of the numbered feed, where the story leaves it open.
    pub rate: u64,
    pub scale: Scale,
    /// Judge silences too: only on a quiet machine and a release build.
    pub strict: bool,
    /// One of the seeded bugs, for the suite's check of itself.
    pub bug: Option<String>,
}

/// Runs a story stage by stage and hands each result to `report`; the worst verdict.
pub fn run(story: &dyn Story, settings: &Settings, mut report: impl FnMut(&RunResult)) -> Verdict {
    let per_stage = story.facts().faults_per_stage.max(1);
    let mut worst = Verdict::Pass;
    let (mut left, mut seed) = (settings.runs.max(1), settings.seed);
    while left > 0 {
        let faults = left.min(per_stage);
        let result = stage(story, settings, seed, faults);
        worst = worst.max(result.verdict);
        report(&result);
        left -= faults;
        seed += 1;
    }
    worst
}

/// Runs of one story until one is valid, each with the next seed, at most so many: a run that proves nothing is not green,
/// another has to prove it. One that fails has failed.
pub fn until_valid(
    story: &dyn Story,
    settings: &Settings,
    runs_max: u64,
    mut report: impl FnMut(&RunResult),
) -> Verdict {
    let mut verdict = Verdict::Invalid;
    for seed in (settings.seed..).take(runs_max as usize) {
        verdict = run(story, &Settings { seed, ..settings.clone() }, &mut report);
        if verdict != Verdict::Invalid {
            break;
        }
    }
    verdict
}

fn stage(story: &dyn Story, settings: &Settings, seed: u64, faults: usize) -> RunResult {
    let (facts, began) = (story.facts(), Instant::now());
    let mut result = match play(story, settings, seed, faults) {
        Ok(seen) => RunResult::judge(&facts, seed, settings.strict, &seen),
        Err(error) => {
            // What the cluster said of itself is long; the line of results names the cause.
            if settings.bug.is_none() {
                eprintln!("{error:#}");
            }
            RunResult::invalid(&facts, seed, error.root_cause().to_string())
        }
    };
    result.took_s = began.elapsed().as_secs();
    result.repeat = format!("just chaos {} --runs {faults} --seed {seed} --rate {}", facts.name, settings.rate);
    if settings.scale == Scale::Full {
        result.repeat.push_str(" --full");
    }
    if let Some(bug) = &settings.bug {
        result.repeat.push_str(&format!(" --bug {bug}"));
    }
    result
}

fn play(
    story: &dyn Story,
    settings: &Settings,
    seed: u64,
    faults: usize,
) -> anyhow::Result<crate::observation::Observation> {
    let facts = story.facts();
    let mut options = story.stage_at(settings.scale, seed)?;
    options.scale = settings.scale;
    options.feed.seed = seed;
    options.feed.rate = options.feed.rate.or(Some(settings.rate));
    options.faulty_node |= facts.needs_faulty_node || settings.bug.is_some();
    options.bug.clone_from(&settings.bug);
    if options.faulty_node {
        // One from an earlier state of the source would be judged in its place.
        harness::build_faulty_node()?;
    }
    let mut random = StdRng::seed_from_u64(seed);
    let mut stage = Stage::set(&options)?;
    for n in 0..faults {
        stage.wait_traffic()?;
        let before = stage.faults();
        if let Err(error) = story.fault(&mut stage, &mut random) {
            stage.cluster.look_at_nodes();
            // Whatever a story stumbles over: a node that ended unasked is a finding, not a stage that could not be set.
            if stage.cluster.lives().iter().any(|life| life.died.is_some()) {
                return stage.close();
            }
            return Err(stage.explain(error));
        }
        anyhow::ensure!(stage.faults() > before, "fault {n} did not happen");
        if !stage.converge() {
            // What follows would be judged from a state that the story does not know.
            break;
        }
    }
    story.epilogue(&mut stage).map_err(|error| stage.explain(error))?;
    stage.close()
}
