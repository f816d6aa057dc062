//! Keeps signed Gentoo binary packages through package moves.

pub mod atom;
pub mod index;
pub mod plan;
pub mod updates;
