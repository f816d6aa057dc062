//! Batches of finished packages, and what became of each.

use std::collections::HashMap;
use std::sync::Arc;

use super::make::{Made, Unmade};
use super::{History, Job, Purpose, Source};
use crate::outcome::{Outcome, OutcomeKind, Reason};
use crate::pkgdir::Identity;
use crate::pkgdir::store::{Backup, Committed, Ready, Store};
use crate::portage::names::PkgPath;
use crate::portage::settings::Foreign;

/// A batch is put in place when it has this many files: more where there are more to be made, since each batch writes the
/// whole index, and not too many, since of every file a descriptor is open until then.
const BATCH_PACKAGES: std::ops::RangeInclusive<usize> = 64..=256;
/// A run has no more batches than this, as long as they do not get larger than that.
const BATCHES: usize = 64;
/// A batch is put in place with this many bytes at the latest: so much more disk a run needs at the most.
const BATCH_BYTES: u64 = 512 << 20;

/// How many files a batch of a run of so many jobs has.
fn batch_packages(jobs: usize) -> usize {
    // tests may ask for smaller ones, so that a run of few packages has several
    #[cfg(feature = "fault-injection")]
    if let Some(wanted) = std::env::var("BINPKG_RESIGN_BATCH").ok().and_then(|wanted| wanted.parse().ok()) {
        return wanted;
    }
    (jobs / BATCHES).clamp(*BATCH_PACKAGES.start(), *BATCH_PACKAGES.end())
}

/// What became of one package, for the rest of the run.
#[derive(Debug)]
pub(crate) struct Settled {
    /// Whether it was held before this run.
    pub history: History,
    /// What there is to say of it.
    pub outcome: Outcome,
    /// The name of its backup below `held`, if it has one.
    pub held: Option<PkgPath>,
}

/// What a round came to.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// What became of the packages.
    pub settled: Vec<Settled>,
    /// Packages that are somebody else's business, and what lay under their names then; none where nothing did.
    pub passed_over: HashMap<PkgPath, Option<Identity>>,
}

/// Collects batches, commits them, and writes down what became of each package.
pub(super) struct Ledger<'run> {
    foreign: Foreign,
    purpose: Purpose,
    store: &'run mut Store,
    jobs: &'run [Job],
    results: Results,
    batch: Vec<Made>,
    bytes: u64,
}

impl<'run> Ledger<'run> {
    pub(super) fn new(foreign: Foreign, purpose: Purpose, store: &'run mut Store, jobs: &'run [Job]) -> Ledger<'run> {
        let results = Results { settled: Vec::with_capacity(jobs.len()), ..Results::default() };
        Ledger { foreign, purpose, store, jobs, results, batch: Vec::new(), bytes: 0 }
    }

    pub(super) fn into_results(self) -> Results {
        self.results
    }

    /// Takes in what a thread has made of a job.
    pub(super) fn enter(&mut self, place: usize, result: Result<Vec<Made>, Unmade>) {
        match result {
            #[cfg(feature = "fault-injection")]
            Ok(_) if self.is_to_be_lied_about(place) => self.lie(place),
            Ok(made) => {
                self.bytes += made.iter().map(|made| made.ready.size).sum::<u64>();
                self.batch.extend(made);
                if self.batch.len() >= batch_packages(self.jobs.len()) || self.bytes >= BATCH_BYTES {
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
                let reason = Reason::Pkgdir(Arc::new(error));
                let mut places: Vec<usize> = tags.into_iter().map(|(place, _)| place).collect();
                places.dedup();
                for place in places {
                    self.settle(place, Unmade::Failed(reason.clone()));
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
        let (kind, reason) = match committed {
            // told of with the other file
            Committed::Apart => return,
            Committed::Done if copy.is_some() => (OutcomeKind::Moved, None),
            Committed::Done if job.history == History::Removed => (OutcomeKind::Restored, None),
            Committed::Done if self.purpose == Purpose::Sign => (OutcomeKind::Signed, None),
            Committed::Done => (OutcomeKind::Resigned, None),
            // there is no next round
            Committed::Changed if self.purpose != Purpose::Updates => {
                (OutcomeKind::Skipped, Some(Reason::ChangedMeanwhile))
            }
            // nor for this one: what lies in its place is another package now
            Committed::Changed if job.history == History::HeldBefore => self.keep(job, Reason::ChangedMeanwhile),
            // the next round takes it up again; a backup of bytes that are there no more is of no use
            Committed::Changed => return release_outdated(self.store, job),
            Committed::Gone => self.keep(job, Reason::Gone),
            Committed::Taken => self.keep(job, Reason::Taken(edit.path.clone())),
            Committed::Failed(error) => self.keep(job, Reason::Pkgdir(error)),
        };
        self.add(job, job.outcome_of(edit, kind, reason));
    }

    fn add(&mut self, job: &Job, outcome: Outcome) {
        let held = job.backup.as_ref().and_then(|backup| backup.held().cloned());
        self.results.settled.push(Settled { history: job.history, outcome, held });
    }

    /// Writes down what became of a package that was not signed.
    pub(super) fn settle(&mut self, place: usize, unmade: Unmade) {
        let Some(job) = self.jobs.get(place) else { return };
        let (kind, reason) = match unmade {
            Unmade::NothingToDo => {
                self.pass_over(job);
                return release(self.store, job);
            }
            // it was there when it got its backup: whoever took it away did so behind our back
            Unmade::Missing if job.source == Source::Package && matches!(job.backup, Some(Backup::Made(_))) => {
                self.keep(job, Reason::Gone)
            }
            Unmade::Missing => {
                self.results.passed_over.insert(job.work.path.clone(), None);
                (OutcomeKind::Skipped, Some(Reason::Missing))
            }
            Unmade::Foreign(signers) => {
                let reason = Reason::Foreign(signers);
                match foreign_kind(job, self.foreign) {
                    // it was left to Portage, which has taken it
                    kind if job.history == History::Removed && kind != OutcomeKind::Held => {
                        return release(self.store, job);
                    }
                    OutcomeKind::Held => self.keep(job, reason),
                    kind => {
                        self.pass_over(job);
                        release(self.store, job);
                        (kind, Some(reason))
                    }
                }
            }
            Unmade::Failed(reason) => self.keep(job, reason),
        };
        self.add(job, job.outcome(kind, reason));
    }

    /// Leaves a package to others, as long as it stays what it is.
    fn pass_over(&mut self, job: &Job) {
        if let Ok(identity) = self.store.pkgdir().identity(&job.work.path) {
            self.results.passed_over.insert(job.work.path.clone(), identity);
        }
    }

    fn keep(&mut self, job: &Job, reason: Reason) -> (OutcomeKind, Option<Reason>) {
        let kind = keep(self.store, job, &reason);
        (kind, Some(reason))
    }

    /// Whether a test wants this package to be reported as done though nothing was done.
    #[cfg(feature = "fault-injection")]
    fn is_to_be_lied_about(&self, place: usize) -> bool {
        let path = self.jobs.get(place).map(|job| job.work.path.as_str());
        path.is_some() && std::env::var("BINPKG_RESIGN_LIE").ok().as_deref() == path
    }

    #[cfg(feature = "fault-injection")]
    fn lie(&mut self, place: usize) {
        let Some(job) = self.jobs.get(place) else { return };
        release(self.store, job);
        self.add(job, job.outcome(OutcomeKind::Resigned, None));
    }
}

/// Keeps a package that was not signed; says what it is then.
pub(crate) fn keep(store: &mut Store, job: &Job, reason: &Reason) -> OutcomeKind {
    match &job.backup {
        // nobody but us is about to touch it
        None => OutcomeKind::Skipped,
        Some(Backup::Made(held)) if store.keep(held, reason.remark()) => OutcomeKind::Held,
        // there is nothing that Portage could remove
        Some(Backup::Absent) => OutcomeKind::Skipped,
        // Portage leaves a signed package alone that it would only copy
        _ if !job.work.is_at_risk() => OutcomeKind::Skipped,
        _ => OutcomeKind::Exposed,
    }
}

/// Takes the backup of a package away that needs none, if this run made it.
pub(super) fn release(store: &mut Store, job: &Job) {
    if let Some(held) = backup_of_this_run(job)
        && let Err(error) = store.release(held)
    {
        log::warn!("{error}");
    }
}

/// The same for one that is not in PKGDIR any more: after a power cut it must not come back as a second build.
fn release_outdated(store: &mut Store, job: &Job) {
    if let Err(error) = store.release_for_good(backup_of_this_run(job).into_iter()) {
        log::warn!("{error}");
    }
}

fn backup_of_this_run(job: &Job) -> Option<&PkgPath> {
    let backup = job.backup.as_ref().filter(|_| !job.history.is_held_before())?;
    backup.held()
}

/// What becomes of a package of somebody else: Portage removes it only where it must change in place.
pub(super) fn foreign_kind(job: &Job, foreign: Foreign) -> OutcomeKind {
    match foreign {
        _ if !job.work.is_at_risk() => OutcomeKind::Skipped,
        Foreign::Hold => OutcomeKind::Held,
        Foreign::Leave => OutcomeKind::Foreign,
    }
}
