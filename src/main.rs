//! The command `binpkg-resign`: parses, runs, prints, and ends with the contract's exit status.

use std::process::ExitCode;

use binpkg_resign::cli::Cli;
use clap::Parser;

fn main() -> ExitCode {
    binpkg_resign::terminal::run(&Cli::parse())
}
