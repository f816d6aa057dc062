//! The command `binpkg-resign`: parses, runs, prints, and ends with the contract's exit status.

use std::process::ExitCode;

fn main() -> ExitCode {
    binpkg_resign::terminal::start()
}
