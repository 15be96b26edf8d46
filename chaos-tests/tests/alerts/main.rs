//! Every alert of deploy/alerts/alert-rules.yml against what real nodes expose, over scenes of trouble and of everyday work:
//! each fires when it must, for the connector that it must, and is quiet otherwise. Prometheus's own `promtool` evaluates;
//! where there is none, one line says so and nothing is tested.

mod house;
mod rules;
mod scenes;
mod series;
mod stranger;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    sync::{Arc, OnceLock},
};

use anyhow::{Context as _, Result};
use house::House;
use libtest_mimic::{Arguments, Failed, Trial};
use rules::{CLUSTER, Rules, TWIN};
use scenes::Scene;
use series::{Series, Span};

/// How long everything is well before something happens, in seconds.
const WELL_S: u64 = 3;

/// What came of each scene, by its name.
type Outcomes = BTreeMap<&'static str, Result<(), String>>;

fn play(scenes: &[&Scene]) -> Result<Outcomes> {
    let rules = Rules::read()?;
    let wanted = series::names(&rules.text);
    let mut house = House::open()?;
    let mut files = tempfile::tempdir()?;
    files.disable_cleanup(std::env::var_os("TWINFEED_KEEP").is_some());
    let judge = |scene: &Scene, series: &Series, twin: &Series| {
        let judged = rules::Scene { series, twin, lasting: scene.lasting as usize, expected: &scene.expected };
        let outcome = rules.judge(&files.path().join(format!("{}.yml", scene.name)), &judged);
        let outcome = outcome.map_err(|error| format!("{error:#}"));
        eprintln!("{}: {}", scene.name, if outcome.is_ok() { "as expected" } else { "not as expected" });
        outcome
    };
    // The next scene is played while the one before is judged.
    std::thread::scope(|threads| {
        let (mut judging, mut twin) = (BTreeMap::new(), None);
        for &scene in scenes {
            let series = watched(&mut house, scene, &wanted).map_err(|error| format!("{error:#}"));
            let twin = series
                .as_ref()
                .ok()
                .map(|series| Arc::clone(twin.get_or_insert_with(|| Arc::new(series.as_ever(TWIN, CLUSTER)))));
            let judged = threads.spawn(move || {
                let (series, twin) = (series?, twin.ok_or("no scene was seen before")?);
                judge(scene, &series, &twin)
            });
            judging.insert(scene.name, judged);
        }
        let join = |judged: std::thread::ScopedJoinHandle<'_, _>| judged.join().expect("a judge does not panic");
        Ok(judging.into_iter().map(|(name, judged)| (name, join(judged))).collect())
    })
}

/// What the nodes said in a scene.
fn watched(house: &mut House, scene: &Scene, wanted: &BTreeSet<String>) -> Result<Series> {
    house.refresh().context("before the scene")?;
    (scene.prepare)(house).context("in preparation of the scene")?;
    let from = house.watch.now() + 1;
    house.seconds(WELL_S);
    let played = (scene.fault)(house);
    house.seconds(scene.watched);
    let to = house.watch.now();
    (scene.mend)(house).context("after the scene")?;
    played.context("in the scene")?;
    let span = Span { from, to, at: house.watch.began_at + from as f64 };
    Ok(Series::of(&house.watch.between(from, to), span, CLUSTER, wanted))
}

/// No rule without a scene in which it fires.
fn every_alert_fires() -> Result<(), Failed> {
    let rules = Rules::read()?;
    let expected = scenes::ALL.iter().flat_map(|scene| [scene.expected.soon, scene.expected.late]).flatten();
    let fired: BTreeSet<&str> = expected.filter_map(|alert| alert.split(' ').next()).collect();
    let missing: Vec<_> = rules.alerts().into_iter().filter(|alert| !fired.contains(alert)).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("no scene in which they fire: {missing:?}").into()) }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The scenes share one cluster.
    arguments.test_threads = Some(1);
    let can = Rules::can_be_evaluated();
    if !can {
        eprintln!("SKIPPED: no alert is evaluated, as promtool is not installed (Debian: prometheus)");
    }
    let filter = arguments.filter.clone();
    let outcomes = Arc::new(OnceLock::new());
    let trials = scenes::ALL.iter().map(|scene| {
        let (outcomes, filter) = (Arc::clone(&outcomes), filter.clone());
        let trial = Trial::test(scene.name, move || {
            let wanted = |scene: &&Scene| filter.as_ref().is_none_or(|filter| scene.name.contains(filter.as_str()));
            let scenes: Vec<&Scene> = scenes::ALL.iter().filter(wanted).collect();
            let played = outcomes.get_or_init(|| play(&scenes).map_err(|error| format!("{error:#}")));
            let outcome = played.as_ref()?.get(scene.name).ok_or("it was not played")?;
            Ok(outcome.clone()?)
        });
        trial.with_ignored_flag(!can)
    });
    let coverage = Trial::test("every_alert_fires_in_a_scene", every_alert_fires);
    let trials = trials.chain([coverage]).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
