//! `chaos NAME --runs N --seed S`: runs stories against a real broker and prints a line for each stage: verdict, seed,
//! silences, what was lost or doubled, and the command that repeats it.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::{Parser, Subcommand};
use twinfeed_chaos::{
    results,
    run::{self, Settings},
    scenarios, self_test,
    story::{Scale, Story},
    verdict::Verdict,
};

/// Runs failover stories against a real broker. Exit code 0: all PASS; 1: a FAIL; 2: none, but an INVALID.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Names of stories, or `all`.
    #[arg(required = true)]
    names: Vec<String>,
    /// Faults of each story.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Seed of the first stage of each story.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Messages a second of the feed.
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
    /// Do not judge how long the topic was silent: for debug builds and busy machines.
    #[arg(long)]
    lenient: bool,
    /// Faults as long and as many as the fault matrix asks for, in stories that have a shorter form for the test suite.
    #[arg(long)]
    full: bool,
    /// Run the nodes with this seeded bug: the story should FAIL.
    #[arg(long)]
    bug: Option<String>,
    /// Append results to this file, one JSON object a line.
    #[arg(long)]
    results: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Plays compositions of random faults, each with the next seed, until the time is over.
    Soak {
        #[arg(long, default_value_t = 10)]
        minutes: u64,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Append results to this file, one JSON object a line.
        #[arg(long)]
        results: Option<PathBuf>,
    },
    /// Names the stories with their rows of the fault matrix.
    List,
    /// Seeds every bug into the nodes and sees a story fail for each. Exit code 1: a bug went unnoticed.
    SelfTest {
        /// These bugs only.
        bugs: Vec<String>,
        #[arg(long, default_value_t = 2_000)]
        rate: u64,
    },
    /// Prints results as a Markdown table.
    Table { files: Vec<PathBuf> },
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    match args.command {
        Some(Command::List) => {
            for facts in scenarios::ALL.iter().map(|story| story.facts()) {
                let rows = facts.rows.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
                println!("{:<26} {rows:<8} {}", facts.name, facts.tells);
            }
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Table { files }) => {
            let mut all = Vec::new();
            for file in files {
                all.extend(results::read(&file)?);
            }
            print!("{}", results::table(&all));
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::SelfTest { bugs, rate }) => self_test(&bugs, rate),
        Some(Command::Soak { minutes, seed, results }) => soak(Duration::from_secs(minutes * 60), seed, results),
        None => play(&args),
    }
}

fn self_test(bugs: &[String], rate: u64) -> Result<ExitCode> {
    if let Some(unknown) = bugs.iter().find(|bug| self_test::bugs().all(|known| known != *bug)) {
        anyhow::bail!("no bug `{unknown}`; known: {}", self_test::bugs().collect::<Vec<_>>().join(", "));
    }
    let wanted = |bug: &str| bugs.is_empty() || bugs.iter().any(|wanted| wanted == bug);
    let noticed = self_test::run(rate, wanted, |outcome| println!("{outcome}"))?;
    Ok(if noticed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints results as they come and keeps the worst verdict.
struct Ledger {
    results: Option<PathBuf>,
    worst: Verdict,
    unwritten: Option<anyhow::Error>,
}

impl Ledger {
    fn new(results: Option<PathBuf>) -> Self {
        Self { results, worst: Verdict::Pass, unwritten: None }
    }

    fn play(&mut self, story: &dyn Story, settings: &Settings) {
        let verdict = run::run(story, settings, |result| {
            println!("{}", result.line());
            if let Some(path) = &self.results {
                self.unwritten = results::append(path, result).err().or(self.unwritten.take());
            }
        });
        self.worst = self.worst.max(verdict);
    }

    fn exit_code(self) -> Result<ExitCode> {
        match (self.unwritten, self.worst) {
            (Some(error), _) => Err(error.context("results were not written")),
            (None, Verdict::Pass) => Ok(ExitCode::SUCCESS),
            (None, Verdict::Fail) => Ok(ExitCode::FAILURE),
            (None, Verdict::Invalid) => Ok(ExitCode::from(2)),
        }
    }
}

fn soak(time: Duration, seed: u64, results: Option<PathBuf>) -> Result<ExitCode> {
    let story = scenarios::find("composition")?;
    let per_stage = story.facts().faults_per_stage;
    let (until, mut ledger) = (Instant::now() + time, Ledger::new(results));
    for seed in seed.. {
        ledger.play(
            story,
            &Settings { runs: per_stage, seed, rate: 2_000, scale: Scale::Full, strict: false, bug: None },
        );
        if Instant::now() > until {
            break;
        }
    }
    ledger.exit_code()
}

fn play(args: &Args) -> Result<ExitCode> {
    let stories: Vec<&dyn Story> = if args.names == ["all"] {
        scenarios::ALL.to_vec()
    } else {
        args.names.iter().map(|name| scenarios::find(name)).collect::<Result<_>>()?
    };
    let settings = Settings {
        runs: args.runs,
        seed: args.seed,
        rate: args.rate,
        scale: if args.full { Scale::Full } else { Scale::Quick },
        strict: !args.lenient,
        bug: args.bug.clone(),
    };
    let mut ledger = Ledger::new(args.results.clone());
    stories.into_iter().for_each(|story| ledger.play(story, &settings));
    ledger.exit_code()
}
