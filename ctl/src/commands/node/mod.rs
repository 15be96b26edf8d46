//! `wsctl node`: take a node out for a while, or for good.

mod drain;
mod remove;
mod undrain;

use clap::Subcommand;
use serde_json::json;

use crate::{error::Error, invocation::Invocation, output::Item};

/// Verbs of `node`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Nodes with their Raft position
    #[command(visible_aliases = ["list", "ps"], after_help = "Examples:\n  wsctl node ls")]
    Ls,
    /// Move everything off a node, make before break; answers when the node is empty
    #[command(after_help = "Examples:\n  wsctl node drain n2")]
    Drain {
        /// Name of the node
        node: String,
    },
    /// Let a drained node take work again
    #[command(after_help = "Examples:\n  wsctl node undrain n2")]
    Undrain {
        /// Name of the node
        node: String,
    },
    /// Remove a dead node for good: its id never comes back
    #[command(visible_alias = "rm", after_help = "Examples:\n  wsctl node remove n3 --yes")]
    Remove {
        /// Name of the node
        node: String,
    },
}

pub(crate) async fn run(invocation: &mut Invocation, command: Command) -> Result<(), Error> {
    match command {
        Command::Ls => super::cluster::members::run(invocation).await,
        Command::Drain { node } => drain::run(invocation, node).await,
        Command::Undrain { node } => undrain::run(invocation, node).await,
        Command::Remove { node } => remove::run(invocation, node).await,
    }
}

/// A changed node: the words for people, its name for scripts.
fn changed(invocation: &Invocation, node: &str, words: &str) -> Result<(), Error> {
    let item = Item { name: format!("node/{node}"), json: json!({ "node": node, "result": words }), cells: Vec::new() };
    Ok(invocation.output.one(&item, &format!("node/{node} {words}\n"))?)
}
