//! Held packages: what is still to be done to them, and the commands `held list`, `held retry`, `held drop`.

use std::path::Path;
use std::time::Instant;

use super::apply::make_plan;
use super::{Error, Run};
use crate::package::gpkg::Codec;
use crate::pkgdir::store::{self, Record, Store};
use crate::pkgdir::unlisted;
use crate::plan::{Edit, Layout, Work};
use crate::portage::index::{Entry, PackageIndex};
use crate::portage::settings::Settings;
use crate::portage::updates::{Selection, UpdateSet};
use crate::report::{Kind, Outcome, Report, Status};
use crate::resign::{History, Job, Purpose, Source};

/// `held list`: what is held, since when, and why.
///
/// # Errors
/// The configuration or the journal cannot be read.
pub fn list(run: &Run<'_>) -> Result<Report, Error> {
    let began = Instant::now();
    let records = Store::held_packages(run.settings.pkgdir()?)?;
    let outcomes: Vec<Outcome> = records.iter().map(outcome).collect();
    let mut report = Report::new("held", run.mode, outcomes, began.elapsed());
    if !report.packages.is_empty() {
        report.status = Status::Done;
    }
    Ok(report)
}

/// `held retry`: does what is still to be done to held packages and brings them back.
///
/// # Errors
/// See [`Error`]; a package that cannot be signed now either is an outcome.
pub fn retry(run: &Run<'_>) -> Result<Report, Error> {
    let began = Instant::now();
    let Some(signing) = run.settings.signing()? else {
        return Ok(Report::not_configured("held", run.mode, run.why_not_configured()?));
    };
    if !Store::has_left_overs(run.settings.pkgdir()?) {
        return Ok(Report::nothing("held", run.mode));
    }
    let mut store = run.open_store()?;
    let mut jobs = jobs(run, &store)?;
    let outcomes = match jobs.is_empty() {
        true => Vec::new(),
        false => {
            run.begin(&mut store, &mut jobs)?;
            run.resign(&signing, &mut store, &jobs, Purpose::Updates)?
        }
    };
    run.finish(store)?;
    let outcomes = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    Ok(Report::new("held", run.mode, outcomes, began.elapsed()))
}

/// `held drop`: gives held packages up, named by their paths below PKGDIR, with or without `.held`.
///
/// # Errors
/// Nothing is held under such a path; then nothing was dropped.
pub fn give_up(run: &Run<'_>, paths: &[String]) -> Result<Report, Error> {
    let began = Instant::now();
    let mut store = run.open_store()?;
    let mut chosen: Vec<Record> = Vec::new();
    for path in paths {
        let named = |record: &&Record| record.path == *path || record.held == *path;
        let found: Vec<Record> = store.records().iter().filter(named).cloned().collect();
        if found.is_empty() {
            store.finish()?;
            return Err(Error::NotHeld { path: path.clone() });
        }
        chosen.extend(found);
    }
    let mut outcomes = Vec::new();
    for record in chosen {
        store.release(&record.held)?;
        outcomes.push(Outcome { outcome: Kind::Skipped, reason: Some("given up".to_owned()), ..outcome(&record) });
    }
    store.finish()?;
    Ok(Report::new("held", run.mode, outcomes, began.elapsed()))
}

fn outcome(record: &Record) -> Outcome {
    Outcome {
        path: record.path.clone(),
        cpv: record.cpv.clone(),
        build_id: record.build_id.clone(),
        outcome: Kind::Held,
        new_path: None,
        changes: Vec::new(),
        reason: Some(record.reason.clone().unwrap_or_else(|| "a run is under way".to_owned())),
        since: Some(record.since),
        size: Some(record.size),
    }
}

/// What is still to be done to the packages held from earlier runs: planned anew from their blocks of the index, with
/// all update files (as `emaint movebin --fix` would) and with the updates they were held for.
///
/// # Errors
/// The repositories cannot be read.
pub(crate) fn jobs(run: &Run<'_>, store: &Store) -> Result<Vec<Job>, Error> {
    let settings = run.settings;
    let mut described = Vec::new();
    for record in store.records() {
        described.extend(describe(record, run, store.pkgdir())?);
    }
    if described.is_empty() {
        return Ok(Vec::new());
    }
    let records: Vec<&Record> = described.iter().collect();
    let updates = updates_for(settings, &records)?;
    let (index, first) = match settings.trusts_index()? {
        true => index_with(&records, store, |record| record.entry.clone())?,
        false => {
            let codec = run.codec()?;
            index_with(&records, store, |record| whole_block(record, store.pkgdir(), &codec))?
        }
    };
    let mut works = make_plan(settings, &index, &updates, store.pkgdir())?.works;
    let mut jobs = Vec::new();
    for (place, record) in records.into_iter().enumerate() {
        let number = first + place;
        let base = Entry::from_text(&record.entry);
        let planned = works.iter().position(|work| work.number == number).map(|place| works.swap_remove(place));
        let in_place = store.is_in_place(record);
        let work = planned.unwrap_or_else(|| as_it_was(number, record, &base));
        let source = if in_place { Source::Package } else { Source::Held };
        let mut job = Job { work, base, source, held: Some(record.held.clone()), history: History::HeldBefore };
        if source == Source::Held {
            find_place(&mut job, settings, store.pkgdir())?;
        }
        jobs.push(job);
    }
    Ok(jobs)
}

/// A record with its block of the index; where the journal was lost, the block is made from the file, as Portage would
/// make it. None, and a warning, where that cannot be done.
fn describe(record: &Record, run: &Run<'_>, pkgdir: &Path) -> Result<Option<Record>, Error> {
    if !record.entry.is_empty() {
        return Ok(Some(record.clone()));
    }
    let file = store::open_held(pkgdir, &record.held).ok();
    let codec = run.codec()?;
    let Some(entry) = file.and_then(|(file, _)| unlisted::entry_of(file, pkgdir, &record.path, &codec)) else {
        log::warn!(
            "{} is held, but what the index said of it is lost, and it cannot be read: put {} back as {} and run \
             `emaint binhost --fix`",
            record.path,
            record.held_file(pkgdir)?.display(),
            pkgdir.join(&record.path).display()
        );
        return Ok(None);
    };
    log::warn!(
        "what the index said of {} is lost, so it is read from the file; run `emaint binhost --fix` afterwards, which \
         completes its entry",
        record.path
    );
    Ok(Some(Record {
        cpv: entry.get("CPV").unwrap_or_default().to_owned(),
        build_id: entry.get("BUILD_ID").map(str::to_owned),
        entry: entry.to_text(),
        ..record.clone()
    }))
}

impl Job {
    /// Whether both are about the same file in PKGDIR.
    pub(crate) fn is_same_file(&self, other: &Job) -> bool {
        (self.source, other.source) == (Source::Package, Source::Package) && self.work.path == other.work.path
    }
}

/// Nothing is left to do but to bring the package back.
fn as_it_was(number: usize, record: &Record, base: &Entry) -> Work {
    Work {
        number,
        path: record.path.clone(),
        cpv: record.cpv.clone(),
        build_id: record.build_id.clone(),
        in_place: Some(Edit::unchanged(base)),
        copies: Vec::new(),
        doomed: None,
    }
}

/// Where a package comes back whose name another build may have taken meanwhile: under the next build id, or, in the
/// flat layout, not at all, since the newer build is the one that counts.
fn find_place(job: &mut Job, settings: &Settings, pkgdir: &Path) -> Result<(), Error> {
    let is_taken = |path: &str| store::is_taken(pkgdir, path);
    let Some(edit) = job.work.in_place.as_mut().filter(|edit| is_taken(&edit.path)) else { return Ok(()) };
    let layout = if settings.has_feature("binpkg-multi-instance")? { Layout::MultiInstance } else { Layout::Flat };
    let stem = edit.build_id.as_deref().and_then(|id| edit.path.strip_suffix(&format!("-{id}.gpkg.tar")));
    match (layout, stem) {
        (Layout::MultiInstance, Some(stem)) => {
            let path = |id: u64| format!("{stem}-{id}.gpkg.tar");
            let own = edit.build_id.as_deref().and_then(|id| id.parse::<u64>().ok()).unwrap_or(0);
            let free = (own + 1..).find(|&id| !is_taken(&path(id))).unwrap_or(own);
            edit.path = path(free);
            edit.build_id = Some(free.to_string());
        }
        _ => {
            let reason = "a newer build has taken its name; `binpkg-resign held drop` gives this one up";
            job.work.doomed = Some(reason.to_owned());
        }
    }
    Ok(())
}

/// A held package's block with the dependencies as its file has them.
fn whole_block(record: &Record, pkgdir: &Path, codec: &Codec) -> String {
    let entry = Entry::from_text(&record.entry);
    match store::open_held(pkgdir, &record.held) {
        Ok((file, _)) => unlisted::with_whole_dependencies(&entry, file, &pkgdir.join(&record.path), codec).to_text(),
        Err(_) => record.entry.clone(),
    }
}

/// Every update there is, and before them those that the packages were held for and whose files may be gone.
fn updates_for(settings: &Settings, records: &[&Record]) -> Result<UpdateSet, Error> {
    let mut updates = super::read_updates(settings, Selection::All)?;
    let main = settings.repositories()?.main().map(|repository| repository.name.clone());
    for record in records {
        let entry = Entry::from_text(&record.entry);
        let own = entry.get("REPO").unwrap_or_default();
        let list = updates.for_repository(own, main.as_deref()).map(|list| list.name.clone());
        if let Some(name) = list.or_else(|| main.clone()) {
            updates.put_first(&name, &record.updates);
        }
    }
    Ok(updates)
}

/// The index with the blocks of the held packages behind the others, and the number of the first of them. The others
/// are there to be seen by moves: a copy may have been made before.
fn index_with(
    records: &[&Record],
    store: &Store,
    block: impl Fn(&Record) -> String,
) -> Result<(PackageIndex, usize), Error> {
    let mut text = "VERSION: 0\n\n".to_owned();
    let mut first = 0;
    if let Ok(Some(index)) = super::read_index(store.pkgdir()) {
        let twins: Vec<&str> = records.iter().filter(|r| store.is_in_place(r)).map(|r| r.path.as_str()).collect();
        for entry in (0..index.len()).filter_map(|number| index.entry(number)) {
            if entry.get("PATH").is_none_or(|path| !twins.contains(&path)) {
                text += &entry.to_text();
                text += "\n";
                first += 1;
            }
        }
    }
    for record in records {
        let block = block(record);
        text += &block;
        text += if block.ends_with('\n') { "\n" } else { "\n\n" };
    }
    Ok((PackageIndex::parse(text.into_bytes(), Path::new("held packages"))?, first))
}
