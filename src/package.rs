//! One package: its container, its signatures, whether it is ours, and its new metadata.

pub mod gpkg;
mod identity;
pub mod openpgp;
pub(crate) mod rewrite;
pub mod verify;

pub use identity::{Misnamed, Whence, check_identity};
