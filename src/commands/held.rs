//! `held list`, `held retry`, `held drop`: packages that are kept safe because they could not be signed.

use std::collections::HashSet;

use super::account::Account;
use super::net::{self, Removed};
use super::{Error, Mode, Run};
use crate::outcome::{Outcome, OutcomeKind, Reason};
use crate::package::gpkg::Codec;
use crate::pkgdir::Pkgdir;
use crate::pkgdir::entry::whole_entry;
use crate::pkgdir::from_files::with_whole_dependencies;
use crate::pkgdir::store::{Backup, Reader, Record};
use crate::plan::{Doom, Edit, Layout, Work};
use crate::portage::atom::CpvBuf;
use crate::portage::index::{Entry, PackageIndex};
use crate::portage::names::{BuildId, PkgPath, SUFFIX};
use crate::portage::updates::{Selection, UpdateSet};
use crate::report::{Report, Status};
use crate::resign::{History, Job, Purpose, Source};

/// `held list`: what is held, since when, and why; all of it, or the packages of these names or paths.
#[must_use]
pub(crate) fn list(run: &Run<'_>, names: &[String]) -> Report {
    let mut account = Account::new("held", run.mode);
    let records = run.pkgdir().and_then(|pkgdir| match pkgdir {
        Some(pkgdir) => chosen(&Reader::new(&pkgdir)?.records()?, names),
        None => chosen(&[], names),
    });
    match records {
        Ok(records) => account.add(records.iter().map(outcome)),
        Err(error) => account.fail(error),
    }
    let report = account.into_report();
    // that something is held is no failure of a list
    let status = if report.status == Status::Incomplete { Status::Done } else { report.status };
    Report { status, ..report }
}

/// `held retry`: does what is still to be done to held packages and brings them back; to all, or to those of these names
/// or paths.
#[must_use]
pub(crate) fn retry(run: &Run<'_>, names: &[String]) -> Report {
    let mut account = Account::new("held", run.mode);
    if let Err(error) = try_again(run, names, &mut account) {
        account.fail(error);
    }
    account.into_report()
}

fn try_again(run: &Run<'_>, names: &[String], account: &mut Account) -> Result<(), Error> {
    let Some(signing) = run.settings.signing()? else {
        account.not_configured(run.why_not_configured()?, run.audience());
        return Ok(());
    };
    let Some(pkgdir) = run.pkgdir()? else { return chosen(&[], names).map(drop) };
    // what is in the net is not held yet, so nobody can have named it
    let mut net = if names.is_empty() { run.stale_net(&pkgdir)? } else { None };
    let removed = net.iter().flat_map(|net| &net.removed);
    if !pkgdir.has_state() && removed.clone().next().is_none() {
        return chosen(&[], names).map(drop);
    }
    if run.mode == Mode::Pretend {
        account.add(removed.map(Removed::outcome));
        let reader = Reader::new(&pkgdir)?;
        let records = chosen(&reader.records()?, names)?;
        let jobs = run.jobs_for_held(&reader, &records.iter().collect::<Vec<_>>(), &HashSet::new())?;
        let (outcomes, error) = run.pretend(&signing, "", &reader, &jobs, Purpose::Updates);
        account.add(outcomes);
        return error.map_or(Ok(()), Err);
    }
    if !names.is_empty() {
        // a name that is wrong costs nothing
        chosen(&Reader::new(&pkgdir)?.records()?, names)?;
    }
    run.refusals()?.forget();
    let mut store = run.open_store(&pkgdir)?;
    if let Some(net) = &mut net {
        account.add(run.take_back(net, &mut store));
    }
    let held: Vec<Record> = store.records().into_iter().cloned().collect();
    let (records, mut ended) = match chosen(&held, names) {
        Ok(records) => (records, Ok(())),
        Err(error) => (Vec::new(), Err(error)),
    };
    let mut jobs = run.jobs_for_held(&store.reader(), &records.iter().collect::<Vec<_>>(), store.removed())?;
    if !jobs.is_empty() {
        run.begin(&mut store, &mut jobs);
        let (results, error) = run.resign(&signing, "", &mut store, &jobs, Purpose::Updates);
        account.add_round(results.settled);
        ended = error.map_or(Ok(()), Err);
    }
    run.fill_net(net.as_ref(), &store);
    account.close(store);
    ended
}

/// `held drop`: gives held packages up, by the names or paths that `held list` shows; each name must be that of one.
#[must_use]
pub(crate) fn give_up(run: &Run<'_>, names: &[String]) -> Report {
    let mut account = Account::new("held", run.mode);
    if let Err(error) = drop_held(run, names, &mut account) {
        account.fail(error);
    }
    account.into_report()
}

fn drop_held(run: &Run<'_>, names: &[String], account: &mut Account) -> Result<(), Error> {
    let Some(pkgdir) = run.pkgdir()?.filter(Pkgdir::has_state) else { return chosen(&[], names).map(drop) };
    if run.mode == Mode::Pretend {
        account.add(chosen_one_by_one(&Reader::new(&pkgdir)?.records()?, names)?.iter().map(given_up));
        return Ok(());
    }
    let mut store = run.open_store(&pkgdir)?;
    let held: Vec<Record> = store.records().into_iter().cloned().collect();
    let ended = match chosen_one_by_one(&held, names) {
        Ok(records) => {
            if let Some((net, given_up)) = net::given_up(&store.reader(), &records) {
                net.forget(&given_up)?;
            }
            store.release_for_good(records.iter().map(|record| &record.held))?;
            account.add(records.iter().map(given_up));
            Ok(())
        }
        Err(error) => Err(error),
    };
    account.close(store);
    ended
}

/// The held packages of these names or paths, in their order; every one where none is named. All or none: a name that is
/// wrong may not be the only one.
fn chosen(held: &[Record], names: &[String]) -> Result<Vec<Record>, Error> {
    let is_wrong = |name: &&String| !held.iter().any(|record| is_called(record, name));
    if let Some(name) = names.iter().find(is_wrong) {
        return Err(Error::NotHeld { name: name.clone() });
    }
    let is_chosen = |record: &&Record| names.is_empty() || names.iter().any(|name| is_called(record, name));
    Ok(held.iter().filter(is_chosen).cloned().collect())
}

/// The same where a name may not mean more than its user thinks of: the held copies may be the only ones.
fn chosen_one_by_one(held: &[Record], names: &[String]) -> Result<Vec<Record>, Error> {
    for name in names {
        let builds = held.iter().filter(|record| is_called(record, name) && record.held.as_str() != name);
        let builds: Vec<&str> = builds.map(|record| record.held.as_str()).collect();
        if builds.len() > 1 {
            return Err(Error::HeldMoreThanOnce { name: name.clone(), builds: builds.join(", ") });
        }
    }
    chosen(held, names)
}

fn is_called(record: &Record, name: &str) -> bool {
    let shown = outcome(record).name();
    let cpv = record.cpv.as_ref().map(CpvBuf::as_str);
    [record.path.as_str(), record.held.as_str(), &shown].contains(&name) || cpv == Some(name)
}

fn outcome(record: &Record) -> Outcome {
    Outcome {
        path: record.path.to_string(),
        cpv: record.cpv.clone(),
        build_id: record.build_id,
        kind: OutcomeKind::Held,
        new_path: None,
        changes: Vec::new(),
        metadata: Vec::new(),
        reason: Some(record.reason.clone().map_or(Reason::UnderWay, Reason::Remembered)),
        since: Some(record.since),
        size: Some(record.size),
    }
}

fn given_up(record: &Record) -> Outcome {
    Outcome { kind: OutcomeKind::Skipped, reason: Some(Reason::GivenUp), ..outcome(record) }
}

impl Run<'_> {
    /// What is still to be done to packages held from earlier runs: planned anew from their blocks of the index, with
    /// all update files (as `emaint movebin --fix` would) and with the updates they were held for.
    ///
    /// Those in `removed` were not held before, but taken from the safety net.
    pub(super) fn jobs_for_held(
        &self,
        reader: &Reader,
        records: &[&Record],
        removed: &HashSet<PkgPath>,
    ) -> Result<Vec<Job>, Error> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let codec = self.codec()?;
        let described: Vec<Record> = records.iter().filter_map(|record| describe(record, reader, &codec)).collect();
        let updates = self.updates_for(&described)?;
        let trusted = self.settings.trusts_index()?;
        let in_place: Vec<bool> = described.iter().map(|record| reader.is_in_place(record)).collect();
        let block = |record: &Record| match trusted {
            true => record.entry.clone(),
            false => whole_block(record, reader, &codec),
        };
        let (index, first) = index_with(&described, &in_place, reader, block)?;
        let pkgdir = reader.pkgdir();
        let mut works = self.plan(&index, &updates, pkgdir)?.works;
        let mut promised: HashSet<PkgPath> = HashSet::new();
        let layout = self.layout()?;
        let mut jobs = Vec::new();
        for (place, record) in described.into_iter().enumerate() {
            let number = first + place;
            let base = Entry::from_text(&record.entry);
            let planned = works.iter().position(|work| work.number == number).map(|place| works.swap_remove(place));
            // every one that is described has a name
            let Some(mut work) = planned.or_else(|| as_it_was(number, &record, &base)) else { continue };
            work.path = record.path.clone();
            if let Some(edit) = &mut work.in_place {
                edit.path = record.path.clone();
            }
            let is_there = in_place.get(place).copied().unwrap_or_default();
            let source = if is_there { Source::Package } else { Source::Held };
            let backup = Some(Backup::Made(record.held.clone()));
            let history = if removed.contains(&record.held) { History::Removed } else { History::HeldBefore };
            let mut job = Job { work, base, source, backup, history };
            if source == Source::Held {
                let is_taken = |path: &PkgPath| promised.contains(path) || pkgdir.is_taken(path);
                find_place(&mut job, layout, is_taken);
            }
            promised.extend(job.edits().map(|edit| edit.path.clone()));
            jobs.push(job);
        }
        Ok(jobs)
    }

    /// Every update there is, and before them those that the packages were held for and whose files may be gone.
    fn updates_for(&self, records: &[Record]) -> Result<UpdateSet, Error> {
        let mut updates = self.updates(Selection::All)?;
        let main = self.settings.repositories()?.main().map(|repository| repository.name.clone());
        for record in records {
            let entry = Entry::from_text(&record.entry);
            let own = entry.get("REPO").unwrap_or_default();
            let list = updates.for_repository(own, main.as_deref());
            let known = |text: &String| list.is_some_and(|list| list.updates.iter().any(|update| update.text == *text));
            for text in record.updates.iter().filter(|text| !known(text)) {
                log::warn!(
                    "{} was held for `{text}`, which no update file has any more; it is applied all the same",
                    record.path
                );
            }
            let name = list.map(|list| list.name.clone());
            if let Some(name) = name.or_else(|| main.clone()) {
                updates.put_first(&name, &record.updates);
            }
        }
        Ok(updates)
    }
}

/// A record with its block of the index; where the journal was lost, the block is made from the file, as Portage would
/// make it. None, and a warning, where that cannot be done.
fn describe(record: &Record, reader: &Reader, codec: &Codec) -> Option<Record> {
    if let Some(cpv) = Entry::from_text(&record.entry).get("CPV").and_then(CpvBuf::new) {
        return Some(Record { cpv: Some(cpv), ..record.clone() });
    }
    let pkgdir = reader.pkgdir();
    // it was there when it was counted
    let opened = reader.open_held(&record.held).ok()?;
    match whole_entry(&opened, pkgdir, &record.path, codec) {
        Ok(entry) => Some(Record {
            cpv: entry.get("CPV").and_then(CpvBuf::new),
            build_id: entry.get("BUILD_ID").and_then(BuildId::new),
            entry: entry.to_text(),
            ..record.clone()
        }),
        Err(error) => {
            log::warn!(
                "{} is held, but what the index said of it is lost, and its file does not tell: {error}; put \
                 .binpkg-resign/held/{} back there and run `binpkg-resign index`",
                pkgdir.path().join(record.path.as_str()).display(),
                record.held
            );
            None
        }
    }
}

/// Nothing is left to do but to bring the package back.
fn as_it_was(number: usize, record: &Record, base: &Entry) -> Option<Work> {
    Some(Work {
        number,
        path: record.path.clone(),
        cpv: record.cpv.clone()?,
        build_id: record.build_id,
        in_place: Some(Edit::unchanged(record.path.clone(), base)?),
        copies: Vec::new(),
        doomed: None,
    })
}

/// Where a package comes back whose name another build may have taken meanwhile: under the next build id, or, in the
/// flat layout, not at all, since the newer build is the one that counts.
fn find_place(job: &mut Job, layout: Layout, is_taken: impl Fn(&PkgPath) -> bool) {
    let Some(edit) = job.work.in_place.as_mut().filter(|edit| is_taken(&edit.path)) else { return };
    let numbered =
        edit.build_id.and_then(|id| Some((id, edit.path.as_str().strip_suffix(&format!("-{id}.gpkg.tar"))?)));
    match (layout, numbered) {
        (Layout::MultiInstance, Some((own, stem))) => {
            let mut id = own.next();
            loop {
                let Ok(path) = PkgPath::new(&format!("{stem}-{id}.gpkg.tar")) else { return };
                if !is_taken(&path) {
                    edit.path = path;
                    edit.build_id = Some(id);
                    return;
                }
                id = id.next();
            }
        }
        _ => job.work.doomed = Some(Doom::NewerBuild),
    }
}

/// A held package's block with the dependencies as its file has them.
fn whole_block(record: &Record, reader: &Reader, codec: &Codec) -> String {
    let entry = Entry::from_text(&record.entry);
    let shown = reader.pkgdir().path().join(record.path.as_str());
    match reader.open_held(&record.held) {
        Ok(opened) => with_whole_dependencies(&entry, opened.file, &shown, codec).to_text(),
        Err(_) => record.entry.clone(),
    }
}

/// The index with the blocks of the held packages behind the others, and the number of the first of them. The others
/// are there to be seen by moves: a copy may have been made before.
fn index_with(
    records: &[Record],
    in_place: &[bool],
    reader: &Reader,
    block: impl Fn(&Record) -> String,
) -> Result<(PackageIndex, usize), Error> {
    let mut text = "VERSION: 0\n\n".to_owned();
    let mut first = 0;
    if let Ok(Some(index)) = reader.pkgdir().read_index() {
        let there = records.iter().zip(in_place).filter(|(_, in_place)| **in_place);
        let twins: HashSet<&str> = there.map(|(record, _)| record.path.as_str()).collect();
        for entry in index.entries() {
            if entry.get("PATH").is_none_or(|path| !twins.contains(path)) {
                text += &entry.to_text();
                text += "\n";
                first += 1;
            }
        }
    }
    let mut seen: HashSet<&PkgPath> = HashSet::new();
    for (number, record) in records.iter().enumerate() {
        let mut block = Entry::from_text(&block(record));
        if !seen.insert(&record.path) {
            // two builds of one name are two packages
            block.set("PATH", &format!("{}.{number}{SUFFIX}", record.path));
        }
        text += &block.to_text();
        text += "\n";
    }
    let index = PackageIndex::parse(text.into_bytes(), reader.pkgdir().path());
    Ok((index.map_err(crate::pkgdir::PkgdirError::from)?, first))
}
