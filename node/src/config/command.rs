//! `twinfeed config …`: looks at a configuration without starting a node. Answers go to stdout, problems to stderr;
//! the exit code is 0 or `EXIT_CODE`.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Subcommand;

use super::{EXIT_CODE, document, load};

/// What to do with a configuration.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check file and environment and name every problem; exit code 78 if there is one
    #[command(after_help = "Examples:\n  twinfeed config check --config node.toml")]
    Check {
        /// The node's TOML file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print the effective values and where each was set; secrets are hidden
    #[command(after_help = "Examples:\n  twinfeed config print-effective --config node.toml")]
    PrintEffective {
        /// The node's TOML file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print the documentation of every key as Markdown
    #[command(after_help = "Examples:\n  twinfeed config docs")]
    Docs,
}

/// Runs the command.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(command: Command) -> io::Result<ExitCode> {
    let (path, effective) = match command {
        Command::Docs => {
            io::stdout().write_all(document().as_bytes())?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Check { config } => (config, false),
        Command::PrintEffective { config } => (config, true),
    };
    let loaded = match load(path.as_deref()) {
        Ok(loaded) => loaded,
        Err(error) => {
            let why = std::error::Error::source(&error).map_or(String::new(), |source| format!(": {source}"));
            writeln!(io::stderr(), "error: {error}{why}")?;
            return Ok(ExitCode::from(EXIT_CODE));
        }
    };
    for warning in &loaded.warnings {
        writeln!(io::stderr(), "warning: {warning}")?;
    }
    let answer = if effective { loaded.effective() } else { "the configuration is fine\n".to_owned() };
    io::stdout().write_all(answer.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
