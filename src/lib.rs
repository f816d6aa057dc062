//! Keeps signed Gentoo binary packages through package moves.
//!
//! When a repository renames a package (`profiles/updates`), Portage rewrites the dependencies inside all binary
//! packages. It cannot do that to a signed one (gpkg, GLEP 78), so it removes it. binpkg-resign runs between the sync
//! and Portage's update pass: it applies the updates to the packages that are ours as Portage would, signs them again
//! with the same key, and renews the index, so that Portage finds nothing left to do.
//!
//! One run is one straight walk, each stage in its own room:
//!
//! | stage | room | makes |
//! |---|---|---|
//! | settings | [`settings`] | what Portage's configuration comes to |
//! | updates | [`updates`] | the update files that Portage has yet to process, as ordered commands |
//! | index | [`index`] | the `Packages` file |
//! | plan | [`plan`](mod@plan) | what changes in which package, and why |
//! | verify | [`verify`] on [`gpkg`] and [`openpgp`] | packages that are ours and whole |
//! | rewrite | [`rewrite`](mod@rewrite) | their new metadata |
//! | sign | [`openpgp::sign`], in [`pipeline`] | their new signatures |
//! | commit | [`store`] | new files and the new index in place |
//! | report | [`report`] | what a person or a script reads |

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod cli;
pub mod commands;
pub mod interrupt;
pub mod outcome;
pub mod package;
pub mod pkgdir;
pub mod plan;
pub mod portage;
pub mod report;
pub mod resign;
pub mod terminal;
