//! The `twinfeed-faulty` binary: `twinfeed` with failpoints and seeded bugs, for tests only. It reads what to do to
//! itself from its environment (`faults/armed.rs`), then lives the same life. It is never part of a release.

#[path = "main.rs"]
mod ordinary;

use std::process::ExitCode;

use twinfeed_node::{config, faults, node};

fn main() -> ExitCode {
    if let Err(error) = faults::arm() {
        node::complain(&error);
        return ExitCode::from(config::EXIT_CODE);
    }
    ordinary::main()
}
