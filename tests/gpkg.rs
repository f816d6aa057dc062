//! The gpkg container against the real Portage: what it writes is read, what it accepts is accepted, what is malformed
//! is refused, and the other way round.
//!
//! Portage is found in `BINPKG_RESIGN_PORTAGE_PYTHON` (a Python that can import it), else in `target/portage-*`; without
//! one the comparisons are skipped, and say so. `BINPKG_RESIGN_FULL=1` adds containers of more than 8 GiB.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy.toml allows them in #[test] functions, not in their helpers"
)]

#[path = "gpkg/build.rs"]
mod build;
mod cases;
#[path = "gpkg/fuzz.rs"]
mod fuzz;
#[path = "gpkg/large.rs"]
mod large;
#[path = "gpkg/malformed.rs"]
mod malformed;
#[path = "gpkg/oracle.rs"]
mod oracle;
#[path = "gpkg/reading.rs"]
mod reading;
#[path = "gpkg/writing.rs"]
mod writing;
