//! `wsctl help [COMMAND...]` and `wsctl help exit-codes`.

use std::io::Write;

use clap::CommandFactory;

use crate::{
    cli::Cli,
    error::{EXIT_CODES, Error},
};

/// Prints the exit codes, or the long help of the named command.
pub(crate) fn run(topic: &[String]) -> Result<(), Error> {
    let text = match topic {
        [only] if only == "exit-codes" => EXIT_CODES.to_owned(),
        path => long_help(path)?,
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn long_help(path: &[String]) -> Result<String, Error> {
    let mut tree = Cli::command();
    // Propagates the global flags and the full command names downwards.
    tree.build();
    let mut command = &mut tree;
    for word in path {
        command = command
            .find_subcommand_mut(word)
            .ok_or_else(|| Error::usage(format!("there is no help on {word:?}"), "see: wsctl --help"))?;
    }
    Ok(command.render_long_help().to_string())
}
