//! `apply`: the whole walk, from the settings to the report.

use std::path::Path;
use std::time::Instant;

use super::{Error, Run, held};
use crate::pkgdir::store::{self, Store};
use crate::pkgdir::unlisted::Reread;
use crate::plan::{self, Layout, Situation};
use crate::portage::index::PackageIndex;
use crate::portage::settings::Settings;
use crate::portage::updates::{Selection, UpdateSet};
use crate::report::{Kind, Mode, Outcome, Report};
use crate::resign::{History, Job, Purpose};

/// Applies updates to the signed binary packages that are ours: the whole walk.
///
/// # Errors
/// See [`Error`]; what goes wrong with one package is an outcome in the report, not an error.
pub fn apply(run: &Run<'_>, selection: Selection) -> Result<Report, Error> {
    let began = Instant::now();
    let nothing = || Report::nothing("apply", run.mode);
    let settings = run.settings;
    let Some(signing) = settings.signing()? else {
        return Ok(Report::not_configured("apply", run.mode, run.why_not_configured()?));
    };
    let updates = super::read_updates(settings, selection)?;
    for problem in &updates.problems {
        log::warn!("{problem}");
    }
    let pkgdir = settings.pkgdir()?;
    let has_left_overs = Store::has_left_overs(pkgdir);
    if updates.is_empty() && !has_left_overs {
        return Ok(nothing());
    }
    // what an interrupted run left is put in order before anything is planned
    let mut store = if run.mode == Mode::Real && has_left_overs { Some(run.open_store()?) } else { None };
    let planned_from = Store::index_identity(pkgdir);
    let mut jobs = find_jobs(run, &updates, pkgdir, store.as_ref())?;
    if run.mode == Mode::Real && store.is_none() && !jobs.is_empty() {
        let opened = store.insert(run.open_store()?);
        // another run had the lock meanwhile: what it has done must not be done again
        if Store::index_identity(pkgdir) != planned_from || !opened.records().is_empty() {
            jobs = find_jobs(run, &updates, pkgdir, Some(opened))?;
        }
    }
    let outcomes = match &mut store {
        _ if jobs.is_empty() => Vec::new(),
        None => run.pretend(&signing, &jobs, Purpose::Updates)?,
        Some(store) => {
            run.begin(store, &mut jobs)?;
            run.resign(&signing, store, &jobs, Purpose::Updates)?
        }
    };
    let still_held = match store {
        Some(store) => run.finish(store)?,
        None => Store::held_packages(pkgdir)?.len(),
    };
    // a package that was held before and could not be signed now either is counted, and not told of anew
    let told = outcomes.into_iter().filter(|(history, outcome)| *history == History::New || outcome.is_saved());
    let told: Vec<Outcome> = told.map(|(_, outcome)| outcome).collect();
    let new_held = told.iter().filter(|outcome| outcome.outcome == Kind::Held).count();
    let report = Report::new("apply", run.mode, told, began.elapsed());
    Ok(Report { still_held: still_held.saturating_sub(if run.mode == Mode::Real { new_held } else { 0 }), ..report })
}

/// What the updates ask for, and what is still to be done to the packages held in an open store.
fn find_jobs(run: &Run<'_>, updates: &UpdateSet, pkgdir: &Path, store: Option<&Store>) -> Result<Vec<Job>, Error> {
    let held = match store {
        Some(store) => held::jobs(run, store)?,
        None => Vec::new(),
    };
    let mut jobs = new_jobs(run, updates, pkgdir)?;
    jobs.retain(|job| !held.iter().any(|held| held.is_same_file(job)));
    jobs.extend(held);
    Ok(jobs)
}

/// What the updates ask for, package by package of the index.
fn new_jobs(run: &Run<'_>, updates: &UpdateSet, pkgdir: &Path) -> Result<Vec<Job>, Error> {
    if updates.is_empty() {
        return Ok(Vec::new());
    }
    let Some(index) = super::read_index(pkgdir)? else { return Ok(Vec::new()) };
    let reread = match run.settings.trusts_index()? {
        true => None,
        false => Some(Reread::read(&index, pkgdir, &run.codec()?)?),
    };
    let seen = reread.as_ref().map_or(&index, |reread| &reread.index);
    let plan = make_plan(run.settings, seen, updates, pkgdir)?;
    let jobs = plan.works.into_iter().filter_map(|work| {
        let base = match &reread {
            Some(reread) => reread.base(&index, work.number),
            None => index.entry(work.number),
        };
        Some(Job::new(work, base?))
    });
    let mut jobs: Vec<Job> = jobs.collect();
    super::foresee_collisions(&mut jobs, &plan.collisions, seen, pkgdir);
    Ok(jobs)
}

/// Foresees Portage's pass over an index.
pub(crate) fn make_plan(
    settings: &Settings,
    index: &PackageIndex,
    updates: &UpdateSet,
    pkgdir: &Path,
) -> Result<plan::Plan, Error> {
    let layout = if settings.has_feature("binpkg-multi-instance")? { Layout::MultiInstance } else { Layout::Flat };
    let main_repository = settings.repositories()?.main().map(|repository| repository.name.as_str());
    let is_taken = |path: &str| store::is_taken(pkgdir, path);
    Ok(plan::plan(&Situation { index, updates, main_repository, layout, is_taken: &is_taken }))
}
