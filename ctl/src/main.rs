//! `wsctl`, the command line of Twinfeed: parses the arguments, runs one command, turns its end into an exit code.
//! Everything it knows of a cluster it learns through the admin API; it depends on no other crate than the protocol.

mod cli;
mod commands;
mod connection;
mod error;
mod invocation;
mod json;
mod output;
mod text;

use std::process::ExitCode;

use clap::Parser;

use crate::{cli::Cli, error::Error};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = tokio::select! {
        ended = commands::run(cli) => ended,
        _ = tokio::signal::ctrl_c() => Err(Error::Interrupted),
    };
    let code = match ended {
        Ok(code) => code,
        Err(error) => {
            eprint!("{}", error.report());
            error.exit_code()
        }
    };
    ExitCode::from(code)
}
