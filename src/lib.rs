//! Keeps signed Gentoo binary packages through package moves.

pub mod atom;
pub mod updates;
