//! Keeps signed Gentoo binary packages through package moves.
