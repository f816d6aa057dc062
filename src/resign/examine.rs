//! Whose the packages are, and what is to be said where that is all that can be found out.

use std::fs::File;
use std::path::Path;

use super::{History, Job, Purpose, Source, Unmade};
use crate::package::gpkg::{Codec, Container};
use crate::package::openpgp::{Keyring, Verifier};
use crate::package::verify::{self, Verdict, Verified, Whose};
use crate::pkgdir::store::{self, Identity, Store, StoreError};
use crate::portage::settings::Foreign;
use crate::report::{Kind, Outcome, SIGNED_BY};

/// Opens a package and finds out whose it is.
pub(super) fn package(
    pkgdir: &Path,
    job: &Job,
    codec: &Codec,
    purpose: Purpose,
    verifier: &mut Verifier<'_>,
) -> Result<(Box<Verified>, Identity), Unmade> {
    let (file, identity) = open(pkgdir, job)?;
    match verify::verify(file, &pkgdir.join(&job.work.path), codec, verifier) {
        Verdict::Ours(verified) if purpose == Purpose::Rekey && verified.whose() == Whose::Current => {
            Err(Unmade::NothingToDo)
        }
        Verdict::Ours(verified) => Ok((verified, identity)),
        Verdict::Foreign { .. } if purpose == Purpose::Rekey => Err(Unmade::NothingToDo),
        Verdict::Unsigned => Err(Unmade::NothingToDo),
        Verdict::Foreign { signers } => Err(Unmade::Foreign(signers)),
        Verdict::Refused { reason } => Err(Unmade::Failed(reason)),
    }
}

fn open(pkgdir: &Path, job: &Job) -> Result<(File, Identity), Unmade> {
    let opened = match (job.source, &job.held) {
        (Source::Held, Some(held)) => store::open_held(pkgdir, held),
        _ => store::open_package(pkgdir, &job.work.path),
    };
    opened.map_err(|error| match &error {
        StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Unmade::Missing(format!("{error}; the index is out of date, `emaint binhost --fix` makes it anew"))
        }
        _ => Unmade::Failed(error.to_string()),
    })
}

/// What a run would do, without writing or signing anything: every package is verified.
pub fn pretend(
    pkgdir: &Path,
    jobs: &[Job],
    keyring: &Keyring,
    codec: &Codec,
    foreign: Foreign,
    purpose: Purpose,
) -> Vec<(History, Outcome)> {
    let mut verifier = keyring.verifier();
    let mut outcomes = Vec::new();
    for job in jobs {
        let examined = match &mut verifier {
            Ok(verifier) => package(pkgdir, job, codec, purpose, verifier).map(|_| ()),
            Err(error) => Err(Unmade::Failed(error.to_string())),
        };
        let problem = keyring.unusable().map(ToString::to_string).or_else(|| job.work.doomed.clone());
        match (examined, problem) {
            (Ok(()), None) => {
                let copies = job.work.copies.iter().map(|edit| (Kind::Moved, edit));
                for (kind, edit) in job.work.in_place.iter().map(|edit| (Kind::Resigned, edit)).chain(copies) {
                    let new_path = (kind == Kind::Moved).then(|| edit.path.clone());
                    let outcome = Outcome { new_path, changes: edit.changes.clone(), ..job.outcome(kind, None) };
                    outcomes.push((job.history, outcome));
                }
            }
            (Ok(()), Some(problem)) => outcomes.push((job.history, job.outcome(Kind::Held, Some(problem)))),
            (Err(Unmade::NothingToDo), _) => {}
            (Err(Unmade::Missing(reason)), _) => outcomes.push((job.history, job.outcome(Kind::Skipped, Some(reason)))),
            (Err(Unmade::Foreign(signers)), _) => {
                let kind = foreign_kind(job, foreign);
                outcomes.push((job.history, job.outcome(kind, Some(signed_by(&signers)))));
            }
            (Err(Unmade::Failed(reason)), _) => outcomes.push((job.history, job.outcome(Kind::Held, Some(reason)))),
        }
    }
    outcomes
}

/// Where our keys cannot be used at all, nobody knows whose a package is: everything that is signed, or cannot be
/// read, is kept safe.
pub fn keep_all(store: &mut Store, jobs: &[Job], reason: &str) -> Vec<(History, Outcome)> {
    let mut outcomes = Vec::new();
    for job in jobs {
        match unexamined(store.pkgdir(), job, reason) {
            Unmade::NothingToDo => release(store, job),
            Unmade::Missing(reason) => outcomes.push((job.history, job.outcome(Kind::Skipped, Some(reason)))),
            Unmade::Foreign(_) => {}
            Unmade::Failed(reason) => {
                outcomes.push((job.history, job.outcome(keep(store, job, &reason), Some(reason))))
            }
        }
    }
    outcomes
}

/// The same for a run that only says what it would do.
pub fn would_keep_all(pkgdir: &Path, jobs: &[Job], reason: &str) -> Vec<(History, Outcome)> {
    let outcome = |job: &Job| match unexamined(pkgdir, job, reason) {
        Unmade::NothingToDo | Unmade::Foreign(_) => None,
        Unmade::Missing(reason) => Some((job.history, job.outcome(Kind::Skipped, Some(reason)))),
        Unmade::Failed(reason) => Some((job.history, job.outcome(Kind::Held, Some(reason)))),
    };
    jobs.iter().filter_map(outcome).collect()
}

/// What is to be said of a package whose signatures cannot be verified, for this reason.
fn unexamined(pkgdir: &Path, job: &Job, reason: &str) -> Unmade {
    let signed = open(pkgdir, job).and_then(|(file, _)| {
        let container = Container::open(file, &pkgdir.join(&job.work.path));
        container.and_then(|container| container.has_signatures()).map_err(|error| Unmade::Failed(error.to_string()))
    });
    match signed {
        Ok(true) => Unmade::Failed(reason.to_owned()),
        Ok(false) => Unmade::NothingToDo,
        Err(unmade) => unmade,
    }
}

/// Keeps a package that was not signed; one that has no second name (any more) was not there to be lost, or is saved.
pub(super) fn keep(store: &mut Store, job: &Job, reason: &str) -> Kind {
    let kept = job.held.as_deref().is_some_and(|held| store.keep(held, reason));
    if kept { Kind::Held } else { Kind::Skipped }
}

/// Takes the second name of a package away that needs none, if this run made it.
pub(super) fn release(store: &mut Store, job: &Job) {
    if job.history == History::HeldBefore {
        return;
    }
    if let Some(Err(error)) = job.held.as_deref().map(|held| store.release(held)) {
        log::warn!("{error}");
    }
}

pub(super) fn signed_by(signers: &[String]) -> String {
    format!("{SIGNED_BY}{}", signers.join(", "))
}

/// What becomes of a package of somebody else: Portage removes it only where it must change in place.
pub(super) fn foreign_kind(job: &Job, foreign: Foreign) -> Kind {
    match foreign {
        _ if !job.work.is_at_risk() => Kind::Skipped,
        Foreign::Hold => Kind::Held,
        Foreign::Leave => Kind::Foreign,
    }
}

impl Job {
    /// A record for this package as a whole.
    pub(super) fn outcome(&self, outcome: Kind, reason: Option<String>) -> Outcome {
        let edits = self.work.in_place.iter().chain(&self.work.copies);
        Outcome {
            path: self.work.path.clone(),
            cpv: self.work.cpv.clone(),
            build_id: self.work.build_id.clone(),
            outcome,
            new_path: None,
            changes: edits.flat_map(|edit| edit.changes.clone()).collect(),
            reason,
            since: None,
            size: None,
        }
    }
}
