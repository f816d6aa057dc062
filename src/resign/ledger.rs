//! Batches of finished packages, and what became of each.

use super::examine::{foreign_kind, keep, release, signed_by};
use super::{History, Job, Made, Unmade};
use crate::pkgdir::store::{Committed, Ready, Store};
use crate::portage::settings::Foreign;
use crate::report::{Kind, Outcome};

/// A batch is put in place when it has this many packages, …
const BATCH_PACKAGES: usize = 64;
/// … or this many bytes: so much more disk a run needs at the most.
const BATCH_BYTES: u64 = 512 << 20;

/// Collects batches, commits them, and writes down what became of each package.
pub(super) struct Ledger<'run> {
    foreign: Foreign,
    store: &'run mut Store,
    jobs: &'run [Job],
    outcomes: Vec<(History, Outcome)>,
    batch: Vec<Made>,
    bytes: u64,
}

impl<'run> Ledger<'run> {
    pub(super) fn new(foreign: Foreign, store: &'run mut Store, jobs: &'run [Job]) -> Ledger<'run> {
        Ledger { foreign, store, jobs, outcomes: Vec::new(), batch: Vec::new(), bytes: 0 }
    }

    pub(super) fn into_outcomes(self) -> Vec<(History, Outcome)> {
        self.outcomes
    }

    /// Takes in what a thread has made of a job.
    pub(super) fn enter(&mut self, place: usize, result: Result<Vec<Made>, Unmade>) {
        match result {
            Ok(made) => {
                self.bytes += made.iter().map(|made| made.ready.size).sum::<u64>();
                self.batch.extend(made);
                if self.batch.len() >= BATCH_PACKAGES || self.bytes >= BATCH_BYTES {
                    self.commit();
                }
            }
            Err(unmade) => self.settle(place, unmade),
        }
    }

    /// Puts what has been collected in place.
    pub(super) fn commit(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        self.bytes = 0;
        let (tags, batch): (Vec<(usize, Option<usize>)>, Vec<Ready>) = std::mem::take(&mut self.batch)
            .into_iter()
            .map(|made| ((made.ready.package, made.copy), made.ready))
            .unzip();
        match self.store.commit(batch) {
            Ok(committed) => {
                for ((place, copy), committed) in tags.into_iter().zip(committed) {
                    self.settle_commit(place, copy, committed);
                }
            }
            Err(error) => {
                let mut places: Vec<usize> = tags.into_iter().map(|(place, _)| place).collect();
                places.dedup();
                for place in places {
                    self.settle(place, Unmade::Failed(error.to_string()));
                }
            }
        }
    }

    fn settle_commit(&mut self, place: usize, copy: Option<usize>, committed: Committed) {
        let Some(job) = self.jobs.get(place) else { return };
        let edit = match copy {
            None => job.work.in_place.as_ref(),
            Some(number) => job.work.copies.get(number),
        };
        let Some(edit) = edit else { return };
        let changed = committed == Committed::Changed;
        let (kind, reason) = match committed {
            // told of with the other file
            Committed::Apart => return,
            Committed::Done if copy.is_some() => (Kind::Moved, None),
            Committed::Done => (Kind::Resigned, None),
            Committed::Changed => {
                (Kind::Skipped, Some("another program has replaced it meanwhile; its version stays".to_owned()))
            }
            Committed::Gone => {
                let reason = "it disappeared from PKGDIR while it was being signed";
                (keep(self.store, job, reason), Some(reason.to_owned()))
            }
            Committed::Taken => {
                let reason = format!("another package has taken the name {} meanwhile", edit.path);
                (keep(self.store, job, &reason), Some(reason))
            }
            Committed::Failed(reason) => (keep(self.store, job, &reason), Some(reason)),
        };
        if changed {
            release(self.store, job);
        }
        let new_path = (edit.path != job.work.path).then(|| edit.path.clone());
        let outcome = Outcome { new_path, changes: edit.changes.clone(), ..job.outcome(kind, reason) };
        self.outcomes.push((job.history, outcome));
    }

    /// Writes down what became of a package that was not signed.
    pub(super) fn settle(&mut self, place: usize, unmade: Unmade) {
        let Some(job) = self.jobs.get(place) else { return };
        let (kind, reason) = match unmade {
            Unmade::NothingToDo => return release(self.store, job),
            Unmade::Missing(reason) => (Kind::Skipped, reason),
            Unmade::Foreign(signers) => {
                let reason = signed_by(&signers);
                match foreign_kind(job, self.foreign) {
                    Kind::Held => (keep(self.store, job, &reason), reason),
                    kind => {
                        release(self.store, job);
                        (kind, reason)
                    }
                }
            }
            Unmade::Failed(reason) => (keep(self.store, job, &reason), reason),
        };
        self.outcomes.push((job.history, job.outcome(kind, Some(reason))));
    }
}
