//! Keeps signed Gentoo binary packages through package moves.
//!
//! When a repository renames a package (`profiles/updates`), Portage rewrites the dependencies inside all binary
//! packages. It cannot do that to a signed one (gpkg, GLEP 78), so it removes it. binpkg-resign runs between the sync
//! and Portage's update pass: it applies the updates to the packages that are ours as Portage would, signs them again
//! with our key, and renews the index, so that Portage finds nothing left to do.
//!
//! One run is one straight walk, and [`commands::apply`] reads like it:
//!
//! ```text
//! settings → updates → index → plan → verify → rewrite → sign → commit → report
//! ```
//!
//! | room | what it is for | what it may touch | what it hands on |
//! |---|---|---|---|
//! | [`terminal`], [`cli`] | what stands between a person and the commands | standard streams, signals | [`commands::Run`] |
//! | [`commands`] | one room a command; the context of a run | files of other programs (`doctor`) and packages outside PKGDIR (`verify`), read-only | [`report::Report`], or what `verify`, `status`, `doctor` and `index` found |
//! | [`report`] | what became of packages, for people and programs | nothing | text, JSON, exit status |
//! | [`resign`] | jobs of a plan through workers and batches | what the rooms below it do | [`outcome::Outcome`] |
//! | [`outcome`] | what became of one package, why, and whether that is safe | nothing | [`outcome::Outcome`] |
//! | [`pkgdir`] | PKGDIR: the one door to it, and the one writer | PKGDIR | [`pkgdir::Opened`], [`pkgdir::store::Store`] |
//! | [`package`] | one package: container, signatures, verification, new metadata | open files, gpg, packers, temporary homes, what is remembered in `/var/lib/binpkg-resign` | [`package::verify::Verified`] |
//! | [`plan`](mod@plan) | what Portage's pass would do, to a fixed point | nothing | [`plan::Plan`] |
//! | [`portage`] | what Portage's own files mean: settings, updates, atoms, index, names of packages and keys | the configuration, the repositories and Portage's mtimedb, read-only | settings, updates, [`portage::names::PkgPath`], [`portage::fingerprint::Fingerprint`] |
//!
//! A room imports only from rooms below it in this list, or beside it within its group; [`interrupt`], [`progress`] and [`children`] are for all of them.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod children;
pub mod cli;
mod commands;
mod interrupt;
mod outcome;
pub mod package;
mod pkgdir;
pub mod plan;
pub mod portage;
pub mod progress;
mod report;
mod resign;
pub mod terminal;
