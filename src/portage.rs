//! What Portage's own files mean: configuration, update files, atoms, the package index.

pub mod atom;
mod bounded;
pub mod index;
pub mod names;
pub mod settings;
pub mod updates;
