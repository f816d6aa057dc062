//! The command `binpkg-resign`: `terminal` does everything.

use std::process::ExitCode;

fn main() -> ExitCode {
    binpkg_resign::terminal::start()
}
