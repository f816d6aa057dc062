//! Pure: the updates and the index → what changes in which package, and why.
//!
//! The plan foresees Portage's update pass (`portage/_global_updates.py`) as if every package were unsigned, in
//! Portage's own order, and repeats it until a pass has nothing left to do: since Portage's pass runs after ours, what
//! we leave behind must be a fixed point of it. Which packages are ours is not known here; that is verified later.

mod gather;
mod instance;
mod simulation;

use std::collections::HashSet;
use std::sync::Arc;

use crate::portage::atom::{Candidate, CpvBuf, Eapi, Slot};
use crate::portage::index::{DEPENDENCY_KEYS, Entry, PackageIndex};
use crate::portage::names::{BuildId, PkgPath};
use crate::portage::updates::{Rewriter, Update, UpdateSet};

/// How packages lie in PKGDIR (`FEATURES=binpkg-multi-instance`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `category/name/name-version-BUILDID.gpkg.tar`
    MultiInstance,
    /// `category/name-version.gpkg.tar`
    Flat,
}

/// What is to be done, package by package, in the index's order.
#[derive(Debug)]
pub struct Plan {
    /// The packages that change or are copied.
    pub works: Vec<Work>,
    /// Moves that would put a package over another one.
    pub collisions: Vec<Collision>,
    /// Packages that would change, and whose `PATH` leads out of PKGDIR.
    pub astray: Vec<Astray>,
}

/// A package of the index that would change, and whose `PATH` leads out of PKGDIR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Astray {
    /// The path as the index has it.
    pub path: String,
    /// Category, name and version.
    pub cpv: CpvBuf,
}

/// Why a package can only be kept safe, whatever is signed: Portage would take it away all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Doom {
    /// Portage's pass never comes to rest with it.
    #[error("the updates never come to an end with it: every pass repeats `{update}`")]
    Endless {
        /// The update.
        update: String,
    },
    /// Portage moves another package over it.
    #[error("Portage moves the unsigned {source_path} over it ({update})")]
    Overwritten {
        /// The other package, below PKGDIR.
        source_path: PkgPath,
        /// The update.
        update: String,
    },
    /// The index has another text for its path than the path itself, so that no entry of ours would take its place.
    #[error("the index has it as {path}; `binpkg-resign index` corrects that, then `binpkg-resign held retry`")]
    OddPath {
        /// The text in the index.
        path: String,
    },
    /// Another build lies where it would have to come back.
    #[error("a newer build has taken its name; `binpkg-resign held drop` gives this one up")]
    NewerBuild,
}

/// What is to be done with one package of the index.
#[derive(Debug, Clone)]
pub struct Work {
    /// Its block in the index.
    pub number: usize,
    /// Its file.
    pub path: PkgPath,
    /// Category, name and version.
    pub cpv: CpvBuf,
    /// Its build id, if it has one.
    pub build_id: Option<BuildId>,
    /// What changes in the package itself; Portage removes a signed one for it.
    pub in_place: Option<Edit>,
    /// Copies under new names (`move`); the package itself stays.
    pub copies: Vec<Edit>,
    /// Why it can only be kept safe.
    pub doomed: Option<Doom>,
}

impl Work {
    /// Whether Portage's pass would remove the package if it is signed.
    #[must_use]
    pub fn is_at_risk(&self) -> bool {
        self.in_place.is_some() || self.doomed.is_some()
    }
}

/// A package as it shall become, in place or as a copy.
#[derive(Debug, Clone)]
pub struct Edit {
    /// Category, name and version that it will have.
    pub cpv: CpvBuf,
    /// Where it will lie.
    pub path: PkgPath,
    /// The build id that it will have.
    pub build_id: Option<BuildId>,
    /// Its slot, with the sub-slot where it has one.
    pub slot: String,
    /// What is done to its metadata, in order.
    pub steps: Vec<Step>,
    /// The same for people: which update changes which keys.
    pub changes: Vec<Change>,
}

/// One step of a change, to be repeated on the metadata in the file.
#[derive(Debug, Clone)]
pub enum Step {
    /// The package is renamed (`binarytree.move_ent`).
    Move {
        /// The update.
        update: Arc<Update>,
        /// The package as it was before.
        before: Name,
        /// Category, name and version after it.
        cpv: CpvBuf,
    },
    /// The package's slot is set (`dbapi.move_slot_ent`).
    Slot {
        /// The new value of `SLOT`.
        slot: String,
    },
    /// The dependencies are rewritten (`dbapi.update_ents`).
    Dependencies {
        /// The updates of the package's repository.
        rewriter: Arc<Rewriter>,
        /// The package as it was then: blockers against itself are left alone.
        package: Name,
    },
}

impl Step {
    /// What this step makes of a text of dependencies; `None` if it leaves it alone.
    fn rewrite(&self, text: &str) -> Option<String> {
        match self {
            Step::Move { update, before, .. } => update.rewrite(text, before.eapi, Some(&before.candidate())),
            Step::Slot { .. } => None,
            Step::Dependencies { rewriter, package } => {
                rewriter.rewrite(text, package.eapi, Some(&package.candidate()))
            }
        }
    }
}

/// What a package is called at some moment, as far as updates look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// `category/name`.
    pub cp: String,
    /// The version with its revision.
    pub version: String,
    /// `SLOT`.
    pub slot: String,
    /// `EAPI`.
    pub eapi: Eapi,
    /// The repository.
    pub repo: String,
}

impl Name {
    /// Category, name and version.
    #[must_use]
    pub fn cpv(&self) -> String {
        format!("{}-{}", self.cp, self.version)
    }

    /// The package in the form that atoms are matched with, without build id and USE flags: those do not count in texts.
    pub(crate) fn candidate(&self) -> Candidate<'_> {
        let slot = Slot::parse(&self.slot, self.eapi);
        Candidate {
            cp: &self.cp,
            version: &self.version,
            slot: slot.slot,
            sub_slot: slot.sub_slot,
            repo: Some(&self.repo),
            build_id: None,
            eapi: self.eapi,
            iuse: "",
            use_flags: "",
        }
    }
}

/// An update and the keys it changes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// The update, as it stands in its file.
    pub update: String,
    /// The metadata keys.
    pub keys: Vec<String>,
}

/// A move that Portage would carry out over another package (flat layout), or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Collision {
    /// The package that would be moved: its block in the index.
    pub source: usize,
    /// Its path below PKGDIR.
    pub source_path: String,
    /// The package at the destination: its path below PKGDIR.
    pub destination: String,
    /// The update.
    pub update: String,
    /// Whether Portage would overwrite the destination, or leave the source under its old name.
    pub overwrites: Overwrites,
}

/// What Portage does about a package that is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Overwrites {
    /// The destination is replaced: only the category changes, in the flat layout.
    Yes,
    /// The move is skipped.
    No,
}

/// Where things stand, for the plan.
pub struct Situation<'a> {
    /// The index.
    pub index: &'a PackageIndex,
    /// The updates to apply.
    pub updates: &'a UpdateSet,
    /// The main repository's name.
    pub main_repository: Option<&'a str>,
    /// How new packages lie in PKGDIR.
    pub layout: Layout,
    /// Whether something lies at a path below PKGDIR, in the flat layout or a new folder's.
    pub is_taken: &'a dyn Fn(&str) -> bool,
}

/// Foresees Portage's pass over the whole index.
#[must_use]
pub fn plan(situation: &Situation<'_>) -> Plan {
    simulation::Simulation::new(situation).run()
}

impl Edit {
    /// The package at `path`, which stays as its block of the index says; none where that has no full name.
    #[must_use]
    pub fn unchanged(path: PkgPath, entry: &Entry) -> Option<Edit> {
        Some(Edit {
            cpv: entry.get("CPV").and_then(CpvBuf::new)?,
            path,
            build_id: entry.get("BUILD_ID").and_then(BuildId::new),
            slot: entry.get("SLOT").unwrap_or("0").to_owned(),
            steps: Vec::new(),
            changes: Vec::new(),
        })
    }

    /// The block of the index for this package, made from that of the package it comes from; size, time and digests are
    /// still those of the old file.
    #[must_use]
    pub fn entry(&self, base: &Entry) -> Entry {
        let mut entry = base.clone();
        entry.set("CPV", self.cpv.as_str());
        entry.set("PATH", self.path.as_str());
        entry.set("SLOT", &self.slot);
        if let Some(id) = self.build_id.filter(|id| base.get("BUILD_ID").and_then(BuildId::new) != Some(*id)) {
            entry.set("BUILD_ID", &id.to_string());
        }
        for key in DEPENDENCY_KEYS {
            // the index has them reduced by USE, the plan may have been made from the whole ones
            let mut value = base.get(key).unwrap_or_default().to_owned();
            for step in &self.steps {
                if let Some(rewritten) = step.rewrite(&value) {
                    value = rewritten;
                }
            }
            entry.set(key, &value);
        }
        entry
    }
}

/// The names that updates speak of: packages called so must be looked at whatever they depend on.
fn names_in(updates: &UpdateSet) -> HashSet<&str> {
    use crate::portage::updates::UpdateCommand;
    let mut names = HashSet::new();
    for update in updates.repos.iter().flat_map(|repo| repo.updates.iter()) {
        match &update.command {
            UpdateCommand::Move { old, new } => names.extend([old.as_str(), new.as_str()]),
            UpdateCommand::SlotMove { atom, .. } => {
                names.insert(atom.cp());
            }
        }
    }
    names
}

#[cfg(test)]
mod tests;
