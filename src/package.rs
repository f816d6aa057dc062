//! One package: its container, its signatures, whether it is ours, and its new metadata.

pub mod gpkg;
pub mod openpgp;
pub(crate) mod rewrite;
pub mod verify;
