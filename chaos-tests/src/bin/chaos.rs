//! `chaos NAME --runs N --seed S`: runs one scenario and prints its report as one JSON line.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use twinfeed_chaos::scenarios::{self, Settings};

/// Runs a failover story against a real broker.
#[derive(Debug, Parser)]
struct Args {
    /// Name of the scenario, or `list`.
    name: String,
    /// Faults in a row.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Messages a second of the feed.
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    if args.name == "list" {
        scenarios::names().iter().for_each(|name| println!("{name}"));
        return Ok(ExitCode::SUCCESS);
    }
    let report = scenarios::run(&args.name, &Settings { runs: args.runs, seed: args.seed, rate: args.rate })?;
    println!("{}", serde_json::to_string(&report)?);
    if !report.holds() {
        eprintln!(
            "FAIL; repeat: cargo run -p twinfeed-chaos --bin chaos -- {} --runs {} --seed {} --rate {}",
            args.name, args.runs, args.seed, args.rate
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
