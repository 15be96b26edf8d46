//! The `twinfeed` binary: arguments, then one of its lives: a node, or one of its tools.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use twinfeed_node::{config, healthcheck, node, tools};

/// Carries WebSocket feeds into Kafka, twice read and once written
#[derive(Debug, Parser)]
#[command(name = "twinfeed", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node; with defaults, a cluster of one in ./twinfeed-data
    Node(node::Args),
    /// Ask a node on this machine whether it may take work: exit code 0 or 1, and why
    Healthcheck(healthcheck::Args),
    /// Show a three-node cluster survive kills of its owner, in one terminal
    Demo(tools::demo::Args),
    /// Serve a numbered A/B test feed, or replay a capture
    Feed(tools::feed::Args),
    /// Read a topic independently and say what was lost, doubled or reordered
    Verify(tools::verify::Args),
    /// Check, print or document the node's configuration
    #[command(subcommand)]
    Config(config::Command),
}

pub(crate) fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Node(args) => node::run(&args),
        Command::Healthcheck(args) => healthcheck::run(&args),
        Command::Demo(args) => tool(tools::demo::run(args)),
        Command::Feed(args) => tool(async { tools::feed::run(args).await.map(|()| true) }),
        Command::Verify(args) => tool(tools::verify::run(args)),
        Command::Config(command) => config::run(command).unwrap_or(ExitCode::FAILURE),
    }
}

/// Runs a tool to its end; exit code 0 if its answer is good, 1 if it is bad, 2 if there is none.
fn tool<E: std::error::Error>(life: impl Future<Output = Result<bool, E>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            node::complain(&error);
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(life) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            node::complain(&error);
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
#[path = "main_test.rs"]
mod tests;
