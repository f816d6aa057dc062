//! Package after package through verify → rewrite → sign → commit: several are verified and prepared ahead while the
//! signing command works on others, and what is ready is put in place a batch at a time.

mod job;
mod ledger;
mod make;
mod way;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::interrupt::Interrupt;
use crate::outcome::{Outcome, OutcomeKind, Reason};
use crate::package::gpkg::{Codec, Compression};
use crate::package::openpgp::{Keyring, Signer, SigningCommand};
use crate::pkgdir::store::{Reader, Stager, Store};
use crate::portage::settings::Foreign;

pub(crate) use job::{History, Job, Source};
pub(crate) use ledger::{Results, Settled};

pub(crate) use ledger::keep;

use crate::progress::{Meter, Step};
use ledger::{Ledger, foreign_kind};
use way::Way;

use make::{Made, Tools, Unlocked, Unmade, unexamined};

/// So often it is told how far a run is while nothing else is to be told.
const TICK: Duration = Duration::from_millis(250);

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Updates are applied.
    Updates,
    /// What a migrated key has signed is signed anew; nothing else is touched.
    Rekey,
    /// What nobody has signed is signed; nothing else is touched.
    Sign,
}

impl Purpose {
    /// What becomes of a package that cannot be signed: nobody but Portage's update pass would take it away.
    fn unsigned_kind(self) -> OutcomeKind {
        match self {
            Purpose::Updates => OutcomeKind::Held,
            Purpose::Rekey | Purpose::Sign => OutcomeKind::Skipped,
        }
    }
}

/// What all the threads of a run share.
pub(crate) struct Crew<'run> {
    /// The certificates that count as ours.
    pub keyring: &'run Keyring,
    /// The signing command.
    pub command: &'run SigningCommand,
    /// The programs and settings for packing metadata.
    pub codec: &'run Codec,
    /// How new metadata is packed; as the old one was where `BINPKG_COMPRESS` is nothing that Portage knows.
    pub compression: Option<Compression>,
    /// Reads the packages.
    pub reader: &'run Reader,
    /// The repository of packages of which the index names none.
    pub repository: &'run str,
    /// What to do about packages signed by somebody else.
    pub foreign: Foreign,
    /// What the run is for.
    pub purpose: Purpose,
    /// How many packages are prepared at once.
    pub jobs: usize,
    /// Ends the run early.
    pub interrupt: &'run Interrupt,
    /// Told how far it is.
    pub progress: &'run (dyn Fn(Step) + Sync),
    /// Counts what the threads write.
    pub meter: Meter,
}

impl Crew<'_> {
    /// Does the jobs. Every package at risk must have been asked for its backup ([`Store::begin`]).
    pub(crate) fn run(&self, store: &mut Store, jobs: &[Job]) -> Results {
        let next = AtomicUsize::new(0);
        let unlocked = Unlocked::new();
        let (sender, receiver) = mpsc::sync_channel(self.jobs);
        let stager = store.stager();
        let mut ledger = Ledger::new(self.foreign, self.purpose, store, jobs);
        let mut seen = vec![false; jobs.len()];
        std::thread::scope(|scope| {
            // two more than there are processors, so that the signing command never waits for a package to be prepared
            for _ in 0..(self.jobs + 2).min(jobs.len()) {
                let sender = sender.clone();
                let (next, unlocked, stager) = (&next, &unlocked, stager.clone());
                scope.spawn(move || self.work_on(jobs, next, stager, unlocked, &sender));
            }
            drop(sender);
            let mut way = Way::new(jobs);
            loop {
                match receiver.recv_timeout(TICK) {
                    Ok((place, result)) => {
                        if let Some(seen) = seen.get_mut(place) {
                            *seen = true;
                        }
                        way.pass(jobs.get(place), &result);
                        ledger.enter(place, result);
                    }
                    // a large package takes its time
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                (self.progress)(way.step(self.meter.bytes()));
            }
        });
        ledger.commit();
        for place in seen.iter().enumerate().filter(|(_, seen)| !**seen).map(|(place, _)| place) {
            ledger.settle(place, Unmade::Failed(Reason::Interrupted));
        }
        ledger.into_results()
    }

    /// One thread: takes the next job until there are no more.
    fn work_on(
        &self,
        jobs: &[Job],
        next: &AtomicUsize,
        stager: Stager,
        unlocked: &Unlocked,
        sender: &mpsc::SyncSender<(usize, Result<Vec<Made>, Unmade>)>,
    ) {
        let signer = self.keyring.verifier().map(|verifier| Signer::new(self.command, verifier));
        let tools = signer.map(|signer| Tools { stager, signer, unlocked });
        let mut tools = tools.map_err(|error| Reason::Gpg(Arc::new(error)));
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(place) else { return };
            if self.interrupt.signal().is_some() {
                return;
            }
            let result = match &mut tools {
                Ok(tools) => self.make(place, job, tools),
                Err(reason) => Err(Unmade::Failed(reason.clone())),
            };
            if sender.send((place, result)).is_err() {
                return;
            }
        }
    }

    /// What a run would do, without writing or signing anything: every package is verified.
    #[must_use]
    pub(crate) fn pretend(&self, jobs: &[Job]) -> Vec<Outcome> {
        let mut verifier = self.keyring.verifier().map_err(|error| Reason::Gpg(Arc::new(error)));
        let mut outcomes = Vec::new();
        for job in jobs {
            let examined = match &mut verifier {
                Ok(verifier) => self.examine(job, verifier),
                Err(reason) => Err(Unmade::Failed(reason.clone())),
            };
            let doomed = || job.work.doomed.clone().map(Reason::Doomed);
            match (examined, self.keyring.problem().map(Reason::Key).or_else(doomed)) {
                (Ok(examined), None) => outcomes.extend(job.edits().map(|edit| {
                    let in_place = job.work.in_place.as_ref().is_some_and(|own| std::ptr::eq(own, edit));
                    let kind = match self.purpose {
                        Purpose::Sign => OutcomeKind::Signed,
                        _ if in_place => OutcomeKind::Resigned,
                        _ => OutcomeKind::Moved,
                    };
                    Outcome { metadata: examined.differences(edit), ..job.outcome_of(edit, kind, None) }
                })),
                (Ok(_), Some(reason)) => outcomes.push(job.outcome(self.purpose.unsigned_kind(), Some(reason))),
                (Err(unmade), _) => outcomes.extend(self.would_be(job, unmade)),
            }
        }
        outcomes
    }

    fn would_be(&self, job: &Job, unmade: Unmade) -> Option<Outcome> {
        let (kind, reason) = match unmade {
            Unmade::NothingToDo => return None,
            Unmade::Missing => (OutcomeKind::Skipped, Reason::Missing),
            Unmade::Foreign(signers) => (foreign_kind(job, self.foreign), Reason::Foreign(signers)),
            Unmade::Failed(reason) => (self.purpose.unsigned_kind(), reason),
        };
        Some(job.outcome(kind, Some(reason)))
    }
}

/// Where our keys cannot be used at all, nobody knows whose a package is: everything that is signed, or cannot be
/// read, is kept safe.
pub(crate) fn keep_all(store: &mut Store, jobs: &[Job], reason: &Reason) -> Results {
    let reader = store.reader();
    let mut ledger = Ledger::new(Foreign::Hold, Purpose::Updates, store, jobs);
    for (place, job) in jobs.iter().enumerate() {
        ledger.settle(place, unexamined(&reader, job, reason));
    }
    ledger.into_results()
}

/// What [`keep_all`] would do.
#[must_use]
pub(crate) fn would_keep_all(reader: &Reader, jobs: &[Job], purpose: Purpose, reason: &Reason) -> Vec<Outcome> {
    let outcome = |job: &Job| match unexamined(reader, job, reason) {
        Unmade::NothingToDo | Unmade::Foreign(_) => None,
        Unmade::Missing => Some(job.outcome(OutcomeKind::Skipped, Some(Reason::Missing))),
        Unmade::Failed(reason) => Some(job.outcome(purpose.unsigned_kind(), Some(reason))),
    };
    jobs.iter().filter_map(outcome).collect()
}
