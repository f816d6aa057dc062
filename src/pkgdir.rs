//! The folder of packages.

pub mod store;
pub(crate) mod unlisted;
