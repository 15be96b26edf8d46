//! docs/twinfeed.md against the command tree of `main.rs`; `just docs` writes the page instead.

use std::path::Path;

use clap::CommandFactory as _;
use twinfeed_chaos::reference;

use super::Arguments;

/// What is true of every command.
const PREFACE: &str = "\
One binary: the node, and tools that need no cluster. The examples below are run by a test, in this order, against a real
Kafka and a real cluster.

## Exit codes

| code | `node` | `config` | `healthcheck` | `demo`, `feed`, `verify` |
|---|---|---|---|---|
| 0 | orderly stop | the configuration is fine | the probe passes | nothing was lost, doubled or reordered |
| 1 | the node cannot go on; the last log line says why | | it does not | something was |
| 2 | wrong usage | wrong usage | wrong usage | wrong usage, or no verdict: the text says why |
| 78 | the configuration cannot be used | the same | | |
";

#[test]
fn the_document_has_not_drifted() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/twinfeed.md");
    reference::hold_against(&file, &reference::page(Arguments::command(), PREFACE)).unwrap();
}

#[test]
fn every_argument_has_help_and_every_command_an_example() {
    assert_eq!(reference::undocumented(Arguments::command()), Vec::<String>::new());
}
