//! Names, versions, slots and atoms: strings only, no files.
//!
//! Everything here follows Portage's reading of the Package Manager Specification (PMS), not the
//! letter of PMS: what Portage takes for an atom is what its update pass acts on. Where the two
//! differ, Portage's `portage.dep` and `portage.versions` are the measure, and `tests/atoms.rs`
//! compares them.
//!
//! - [`Eapi`]: which syntax an atom may use.
//! - [`vercmp`]: the order of versions.
//! - [`Cpv`], [`Slot`]: a package's name and slot, taken apart.
//! - [`Atom`]: a dependency atom; [`Candidate`]: a package to match it with.

mod cpv;
mod eapi;
mod matching;
mod parse;
mod use_deps;
mod version;

pub use cpv::{Cpv, Slot, UNKNOWN_REPO, repository_name};
pub use eapi::Eapi;
pub use matching::Candidate;
pub use parse::{Atom, AtomError, Blocker, Operator, SlotOperator};
pub use use_deps::{UseDefault, UseDep, UseState};
pub use version::vercmp;

pub(crate) use cpv::is_slot_name;
pub(crate) use parse::name_in_token;
