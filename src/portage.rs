//! What Portage's own files mean: configuration, update files, atoms, the package index, dependency strings reduced by
//! USE, names of packages and keys.

pub mod atom;
pub(crate) mod bounded;
pub mod fingerprint;
pub mod index;
pub mod names;
pub mod reduce;
pub mod settings;
pub mod updates;
