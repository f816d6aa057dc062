//! `rekey`: signs again what a migrated key has signed, over the whole PKGDIR, updates or not.

use std::time::Instant;

use super::{Error, Run};
use crate::plan::{Edit, Work};
use crate::report::{Kind, Mode, Report, Status};
use crate::resign::{Job, Purpose};

/// Signs every package of the migrated keys (`BINPKG_GPG_SIGNING_KEY_MIGRATION`) anew.
///
/// Portage removes none of them meanwhile, and a new package takes its place in one step, so nothing is held here.
///
/// # Errors
/// See [`Error`]; a package that could not be signed is an outcome, and the report incomplete.
pub fn rekey(run: &Run<'_>) -> Result<Report, Error> {
    let began = Instant::now();
    let settings = run.settings;
    let Some(signing) = settings.signing()? else {
        return Ok(Report::not_configured("rekey", run.mode, run.why_not_configured()?));
    };
    if settings.key_migrations()?.is_empty() {
        log::warn!("BINPKG_GPG_SIGNING_KEY_MIGRATION is not set (OLD=NEW, fingerprints): no key has been replaced");
        return Ok(Report::nothing("rekey", run.mode));
    }
    let pkgdir = settings.pkgdir()?;
    let Some(mut index) = super::read_index(pkgdir)? else { return Ok(Report::nothing("rekey", run.mode)) };
    let store = if run.mode == Mode::Real { Some(run.open_store()?) } else { None };
    if store.is_some() {
        // another run may have had the lock until now
        index = super::read_index(pkgdir)?.unwrap_or(index);
    }
    let mut jobs: Vec<Job> = Vec::new();
    for number in 0..index.len() {
        let Some(base) = index.entry(number) else { continue };
        let edit = Edit::unchanged(&base);
        if !edit.path.ends_with(".gpkg.tar") || edit.cpv.is_empty() {
            continue;
        }
        let work = Work {
            number,
            path: edit.path.clone(),
            cpv: edit.cpv.clone(),
            build_id: edit.build_id.clone(),
            in_place: Some(edit),
            copies: Vec::new(),
            doomed: None,
        };
        jobs.push(Job::new(work, base));
    }
    run.refusals()?.forget();
    let outcomes = match store {
        None => run.pretend(&signing, &jobs, Purpose::Rekey)?,
        Some(mut store) => {
            let staged = jobs.iter().map(|job| job.work.path.clone()).collect();
            store.begin(Vec::new(), staged)?;
            let outcomes = run.resign(&signing, &mut store, &jobs, Purpose::Rekey)?;
            run.finish(store)?;
            outcomes
        }
    };
    let outcomes = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    let mut report = Report::new("rekey", run.mode, outcomes, began.elapsed());
    if report.packages.iter().any(|package| package.outcome == Kind::Skipped) {
        report.status = Status::Incomplete;
    }
    Ok(report)
}
