//! The drills of deploy/drill.sh in a real container engine, as anyone can run them: kill, pause and cut off the owner. Where
//! there is no engine and none can be started, one line says so and the same stories run as processes, under that name:
//! `[compose]` before a test means that containers were broken, `[processes]` that none were. Silences are not judged.

mod engine;

use std::{
    path::Path,
    process::{Command, ExitCode},
    sync::{Arc, OnceLock},
};

use anyhow::{Context as _, Result, bail, ensure};
use engine::Engine;
use libtest_mimic::{Arguments, Failed, Trial};
use twinfeed_chaos::{
    run::{self, Settings},
    scenarios,
    story::Scale,
    verdict::Verdict,
};

/// A drill and the story that is the same with processes.
const QUICK: [(&str, &str); 3] = [
    ("kill-owner", "kill-owner"),
    ("pause-owner", "pause-owner"),
    ("cut-owner-from-peers", "isolate-owner-from-peers"),
];

/// What a debug build carries on two cores beside everything else.
const RATE: u64 = 2_000;
/// A run that proves nothing is followed by another, so often.
const ATTEMPTS_MAX: u64 = 3;
const ABOVE_BASE_BYTES_MAX: u64 = 120_000_000;

/// The drills of one cluster, played once for all tests.
struct Drills {
    engine: Engine,
    output: OnceLock<String>,
}

impl Drills {
    /// The line with the verdict of a drill, and everything that was printed with it.
    fn verdict(&self, name: &str) -> Result<()> {
        let names: Vec<&str> = QUICK.iter().map(|(drill, _)| *drill).collect();
        let mut output = self.output.get_or_init(|| self.play(&names)).clone();
        for _ in 0..ATTEMPTS_MAX {
            let line = output.lines().find(|line| is_verdict_of(line, name)).with_context(|| output.clone())?;
            eprintln!("{line}");
            if line.starts_with("PASS") {
                return Ok(());
            }
            ensure!(line.starts_with("INVALID"), "{output}");
            output = self.play(&[name]);
        }
        bail!("{ATTEMPTS_MAX} runs proved nothing:\n{output}")
    }

    fn play(&self, names: &[&str]) -> String {
        let mut command = self.engine.command(&deploy("drill.sh"));
        match command.arg("--lenient").args(names).output() {
            Ok(output) => String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
            Err(error) => format!("cannot run deploy/drill.sh: {error}"),
        }
    }

    /// What the image promises: small, and nobody's root.
    fn image(&self) -> Result<()> {
        let size = |image: &str| -> Result<u64> {
            Ok(self.engine.docker(&["image", "inspect", "--format", "{{.Size}}", image])?.trim().parse()?)
        };
        let above = size(engine::IMAGE)?.saturating_sub(size(engine::BASE)?);
        eprintln!("{} MB above its base, {} binaries", above / 1_000_000, profile());
        ensure!(above <= ABOVE_BASE_BYTES_MAX, "the image is {above} bytes above its base");
        let user = self.engine.docker(&["image", "inspect", "--format", "{{.Config.User}}", engine::IMAGE])?;
        ensure!(user.trim() == "65532:65532", "the image runs as `{user}`");
        let read_only = ["run", "--rm", "--read-only", "--network", "none", engine::IMAGE, "config", "check"];
        let said = self.engine.docker(&read_only)?;
        ensure!(said.contains("the configuration is fine"), "{said}");
        Ok(())
    }
}

/// As in `PASS kill-owner: nothing lost, doubled or out of order`.
fn is_verdict_of(line: &str, name: &str) -> bool {
    let rest = ["PASS ", "FAIL ", "INVALID "].iter().find_map(|verdict| line.strip_prefix(verdict));
    rest.and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with(':'))
}

fn profile() -> &'static str {
    if cfg!(debug_assertions) { "debug" } else { "release" }
}

fn deploy(file: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(file)
}

fn story(name: &str) -> Result<(), Failed> {
    let settings = Settings { runs: 1, seed: 1, rate: RATE, scale: Scale::Quick, strict: false, bug: None };
    let mut lines = String::new();
    let verdict = run::until_valid(scenarios::find(name)?, &settings, ATTEMPTS_MAX, |result| {
        eprintln!("{}", result.line());
        lines.push_str(&result.line());
    });
    if verdict == Verdict::Pass { Ok(()) } else { Err(lines.into()) }
}

/// With an engine.
fn compose_trials(engine: Engine) -> Vec<Trial> {
    let drills = Arc::new(Drills { engine, output: OnceLock::new() });
    let of_image = Arc::clone(&drills);
    let image = Trial::test("image", move || Ok(of_image.image()?)).with_kind("compose");
    let trial = |(drill, _): &(&'static str, &str)| {
        let (name, drills) = (*drill, Arc::clone(&drills));
        Trial::test(name, move || Ok(drills.verdict(name)?)).with_kind("compose")
    };
    std::iter::once(image).chain(QUICK.iter().map(trial)).collect()
}

/// Without one.
fn process_trials() -> Vec<Trial> {
    let trial = |(_, name): &(&str, &'static str)| {
        let name = *name;
        Trial::test(name, move || story(name)).with_kind("processes")
    };
    QUICK.iter().map(trial).collect()
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // The drills share one cluster and the machine's cores.
    arguments.test_threads = Some(1);
    let wanted = |name: &str| arguments.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()));
    if arguments.list || !QUICK.iter().any(|(drill, story)| wanted(drill) || wanted(story)) {
        return libtest_mimic::run(&arguments, process_trials()).exit_code();
    }
    let trials = match Engine::ready() {
        Ok(engine) => compose_trials(engine),
        Err(engine::Error::Unavailable(why)) => {
            eprintln!("no compose drill is run: {why}; the same stories run as processes");
            process_trials()
        }
        Err(error @ engine::Error::Broken(_)) => {
            let text = error.to_string();
            vec![Trial::test("images", move || Err(text.into())).with_kind("compose")]
        }
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A script of deploy/ in an environment that is apart from everything else that may run on the machine.
fn script(path: &Path) -> Command {
    let (pid, mut command) = (std::process::id(), Command::new(path));
    command.env("TWINFEED_IMAGE", engine::IMAGE).env("COMPOSE_PROJECT_NAME", format!("twinfeed-test-{pid}"));
    // Subnets and host addresses of other runs on this machine are elsewhere, most probably.
    command
        .env("TWINFEED_NET", format!("10.{}", 215 + pid % 40))
        .env("TWINFEED_HOST", format!("127.77.{}.1", pid % 250));
    command
}
