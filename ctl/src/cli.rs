//! The command tree: nouns, verbs, aliases and the flags that all commands share. What a verb takes stands beside
//! the verb, in `commands/`.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::{
    commands::{cluster, connector, events, node, wait},
    output::Format,
};

/// Operates a Twinfeed cluster through its admin API.
#[derive(Debug, Parser)]
#[command(name = "wsctl", version, propagate_version = true, disable_help_subcommand = true)]
#[command(after_help = "Exit codes: wsctl help exit-codes")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Nodes to ask; the next one is tried when one cannot help
    #[arg(
        long,
        global = true,
        env = "WSCTL_ENDPOINTS",
        value_name = "HOST:PORT,...",
        value_delimiter = ',',
        default_value = "127.0.0.1:9090"
    )]
    pub(crate) endpoints: Vec<String>,
    /// Longest wait, such as 500ms or 2m (else 5s for reads, 10s for changes, 60s for moves and waits)
    #[arg(long, global = true, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Form of the data on stdout
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// Leave out the header line of tables
    #[arg(long, global = true)]
    pub(crate) no_headers: bool,
    /// No progress on stderr
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Do not ask before destructive changes
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,
    /// Never ask: a question becomes an error that names the flag
    #[arg(long, global = true)]
    pub(crate) no_input: bool,
    /// Repeat an earlier change whose outcome was unknown; it happens at most once
    #[arg(long, global = true, value_name = "UUID")]
    pub(crate) request_id: Option<uuid::Uuid>,
}

/// Nouns, and the verbs that need none.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// One screen: cluster, connectors, problems (exit 0 healthy, 1 degraded, 2 critical)
    #[command(after_help = "Examples:\n  wsctl status\n  wsctl status -o json")]
    Status,
    /// Connectors: a WebSocket feed into a Kafka topic
    #[command(visible_aliases = ["connectors", "conn"], subcommand)]
    Connector(connector::Command),
    /// The cluster and its Raft group
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Single nodes: drain for maintenance, remove for good
    #[command(visible_alias = "nodes", subcommand)]
    Node(node::Command),
    /// What happened: takeovers, reconnects, gaps, leader changes; docs/operations.md says what to do about each
    #[command(after_help = events::EXAMPLES)]
    Events(events::Arguments),
    /// Wait until a connector is in a state; exit 8 if it was not in time
    #[command(after_help = wait::EXAMPLES)]
    Wait(wait::Arguments),
    /// `get connectors`, `get nodes`, for fingers trained by kubectl
    #[command(hide = true)]
    Get {
        #[arg(value_parser = ["connectors", "connector", "nodes", "node", "members"])]
        noun: String,
        name: Option<String>,
    },
    /// Help for a command, or for `exit-codes`
    #[command(after_help = "Examples:\n  wsctl help connector create\n  wsctl help exit-codes")]
    Help {
        /// A command, or `exit-codes`
        topic: Vec<String>,
    },
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory as _;
    use twinfeed_chaos::reference;

    use super::Cli;
    use crate::error::EXIT_CODES;

    /// What is true of every command.
    fn preface() -> String {
        let codes: String = EXIT_CODES
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(code, means)| format!("| {code} | {} |\n", means.trim()))
            .collect();
        format!(
            "It asks any node; each answers for the whole cluster. Data goes to stdout, progress and problems to stderr, and a \
             problem comes with what to do next. The examples below are run by a test, in this order, against a real cluster.\n\n\
             ## Exit codes\n\n| code | means |\n|---|---|\n{codes}"
        )
    }

    /// `just docs` writes the page instead.
    #[test]
    fn the_document_has_not_drifted() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/wsctl.md");
        reference::hold_against(&file, &reference::page(Cli::command(), &preface())).unwrap();
    }

    #[test]
    fn every_argument_has_help_and_every_command_an_example() {
        assert_eq!(reference::undocumented(Cli::command()), Vec::<String>::new());
    }
}
