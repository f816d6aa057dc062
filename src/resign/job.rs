//! One package with what is to be done to it.

use crate::outcome::{Outcome, OutcomeKind, Reason};
use crate::pkgdir::store::{AtRisk, Backup};
use crate::plan::{Edit, Work};
use crate::portage::index::Entry;
use crate::portage::names::PkgPath;

/// One package with what is to be done to it.
#[derive(Debug)]
pub(crate) struct Job {
    /// The plan for it.
    pub work: Work,
    /// Its block of the index.
    pub base: Entry,
    /// Where its bytes are.
    pub source: Source,
    /// Its backup; none before it is asked for one.
    pub backup: Option<Backup>,
    /// Whether it was held before this run.
    pub history: History,
}

/// Where the bytes of a package are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// In its place in PKGDIR.
    Package,
    /// Only in its backup.
    Held,
}

/// Whether a package was held before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum History {
    /// This run is the first that is concerned with it.
    New,
    /// An earlier run could not sign it.
    HeldBefore,
    /// The same, but it lies in its place, and the next pass would remove it there.
    HeldAndAtRisk,
    /// Portage's pass had removed it, and the safety net had it.
    Removed,
}

impl History {
    /// Whether an earlier run has made its backup.
    #[must_use]
    pub(crate) fn is_held_before(self) -> bool {
        matches!(self, History::HeldBefore | History::HeldAndAtRisk)
    }
}

impl Job {
    /// A job for a package in its place.
    #[must_use]
    pub(crate) fn new(work: Work, base: Entry) -> Job {
        Job { work, base, source: Source::Package, backup: None, history: History::New }
    }

    /// A job for the package of block `number`, which stays what it is; none where the block is about no package.
    #[must_use]
    pub(crate) fn unchanged(number: usize, base: Entry) -> Option<Job> {
        let path = PkgPath::new(base.get("PATH")?).ok().filter(|path| path.stem().is_some())?;
        let edit = Edit::unchanged(path, &base)?;
        let work = Work {
            number,
            path: edit.path.clone(),
            cpv: edit.cpv.clone(),
            build_id: edit.build_id,
            in_place: Some(edit),
            copies: Vec::new(),
            doomed: None,
        };
        Some(Job::new(work, base))
    }

    /// What is to be made of it.
    pub(crate) fn edits(&self) -> impl Iterator<Item = &Edit> {
        self.work.in_place.iter().chain(&self.work.copies)
    }

    /// What a backup must know of it.
    #[must_use]
    pub(crate) fn at_risk(&self) -> AtRisk {
        let mut updates: Vec<String> = Vec::new();
        for change in self.edits().flat_map(|edit| &edit.changes) {
            if !updates.contains(&change.update) {
                updates.push(change.update.clone());
            }
        }
        AtRisk {
            path: self.work.path.clone(),
            cpv: self.work.cpv.clone(),
            build_id: self.work.build_id,
            updates,
            entry: self.base.to_text(),
        }
    }

    /// The file in PKGDIR that it is about; none where only a backup is left.
    #[must_use]
    pub(crate) fn file(&self) -> Option<&PkgPath> {
        (self.source == Source::Package).then_some(&self.work.path)
    }

    /// A record for this package as a whole.
    #[must_use]
    pub(crate) fn outcome(&self, kind: OutcomeKind, reason: Option<Reason>) -> Outcome {
        Outcome {
            path: self.work.path.to_string(),
            cpv: Some(self.work.cpv.clone()),
            build_id: self.work.build_id,
            kind,
            new_path: None,
            changes: self.edits().map(|edit| edit.changes.as_slice()).collect::<Vec<_>>().concat(),
            metadata: Vec::new(),
            reason,
            since: None,
            size: None,
        }
    }

    /// A record for one of the files to be made of it.
    #[must_use]
    pub(crate) fn outcome_of(&self, edit: &Edit, kind: OutcomeKind, reason: Option<Reason>) -> Outcome {
        let new_path = (edit.path != self.work.path).then(|| edit.path.clone());
        Outcome { new_path, changes: edit.changes.clone(), ..self.outcome(kind, reason) }
    }
}
