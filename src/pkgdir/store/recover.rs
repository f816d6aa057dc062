//! After a run that was cut short: its last batch is finished, its waiting files go, and what Portage's pass has
//! removed meanwhile counts as held. A backup is removed only where the package itself is there with the same bytes, where
//! it has a second name, or where the note of a batch says that all that was made of it is in place.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;

use rustix::fs::FileType;

use super::super::error::PkgdirError;
use super::super::folder::{Folder, Opened};
use super::commit::sync_folders;
use super::hold::{is_backup_of, open_held};
use super::journal::{self, CommitItem, CommitNote, Journal, Record, Remark};
use super::lock::Lock;
use super::place::path_of_held;
use super::staged::BESIDE_PREFIX;
use super::state::State;
use super::{Store, warn_of};
use crate::portage::index::Entry;
use crate::portage::names::PkgPath;

/// How deep the folders below `held` are looked through.
const DEPTH: usize = 8;

impl Store {
    /// Finishes or undoes what an interrupted run left. Does nothing after a run that ended well.
    ///
    /// What cannot be put in order now is warned of and left for the next run: the packages that are at risk today must
    /// not wait for it.
    pub(super) fn recover(&mut self, journal: Journal) {
        warn_of(journal::remove_half_written(&self.state.folder));
        for record in journal.records {
            self.records.insert(record);
        }
        let finished = self.finish_interrupted_batch();
        if finished.is_ok() {
            // one that could not be understood
            warn_of(CommitNote::remove_any(&self.state.folder));
            // while the note is there, what waits may still be needed
            warn_of(self.remove_staged(&journal.beside));
            self.remove_staged_by_first(&journal.first_staged);
        }
        let is_finished = finished.is_ok();
        warn_of(finished);
        let records: Vec<Record> = self.records.in_order().into_iter().cloned().collect();
        for record in records {
            warn_of(self.recover_record(record));
        }
        match self.state.held() {
            Ok(Some(held)) => warn_of(self.adopt(&held)),
            Ok(None) => {}
            Err(error) => log::warn!("{error}"),
        }
        // a note that is still there knows the first names
        if is_finished {
            self.drop_doubles();
        }
    }

    /// Finishes a batch that came to no end in this or an earlier run; its note is the only thing that knows of it.
    ///
    /// # Errors
    /// It cannot be finished now either.
    pub(crate) fn finish_interrupted_batch(&mut self) -> Result<(), PkgdirError> {
        let Some(note) = CommitNote::read(&self.state.folder)? else { return Ok(()) };
        log::info!("finishing a batch that was interrupted, of packages: {}", note.items.len());
        let lock = self.lock_index()?;
        self.finish_batch(&note, &lock)
    }

    /// Whether a file was put in place by a batch that came to no end.
    pub(super) fn is_in_unfinished_batch(&self, path: &PkgPath, there: &Opened) -> bool {
        let note = CommitNote::read(&self.state.folder).ok().flatten();
        note.is_some_and(|note| {
            note.items.iter().any(|item| item.destination == *path && item.inode == there.identity.inode())
        })
    }

    /// Removes files that wait for a commit that never came.
    fn remove_staged(&self, beside: &[String]) -> Result<(), PkgdirError> {
        if let Some(staged) = self.state.staged()? {
            for (name, kind) in staged.names()? {
                if kind != FileType::Directory {
                    warn_of(staged.remove(&name));
                }
            }
        }
        let we = rustix::process::geteuid().as_raw();
        for path in beside {
            let Some(folder) = self.folder_at(path) else { continue };
            for (name, kind) in folder.names()? {
                let ours = kind == FileType::RegularFile
                    && name.starts_with(BESIDE_PREFIX)
                    && folder.look(&name)?.is_some_and(|facts| facts.st_uid == we);
                if ours {
                    warn_of(folder.remove(&name));
                }
            }
        }
        Ok(())
    }

    /// The same for what binpkg-resign 0.1 left beside packages.
    fn remove_staged_by_first(&self, paths: &[PkgPath]) {
        let we = rustix::process::geteuid().as_raw();
        for path in paths {
            let name = format!(".{}.resign", path.file_name());
            let Some(folder) = self.folder_at(path.folder()) else { continue };
            let ours = |facts: rustix::fs::Stat| {
                FileType::from_raw_mode(facts.st_mode) == FileType::RegularFile && facts.st_uid == we
            };
            if folder.look(&name).is_ok_and(|facts| facts.is_some_and(ours)) {
                warn_of(folder.remove(&name));
            }
        }
    }

    /// A folder below PKGDIR, if it is there.
    fn folder_at(&self, path: &str) -> Option<Folder> {
        if path.is_empty() {
            return Some(self.pkgdir.folder.clone());
        }
        self.pkgdir.folder_named(&PkgPath::new(path).ok()?).ok()
    }

    /// Rolls a batch forward: what was not renamed yet is renamed now, then the index gets its entries.
    pub(super) fn finish_batch(&mut self, note: &CommitNote, _lock: &Lock) -> Result<(), PkgdirError> {
        let mut folders: Vec<Folder> = Vec::new();
        let mut entries = Vec::new();
        let mut unfinished: HashSet<&PkgPath> = HashSet::new();
        for item in &note.items {
            let parted = item.releases.as_ref().is_some_and(|held| unfinished.contains(held));
            let to = self.folder_at(item.destination.folder()).filter(|_| is_sound(item));
            let Some(to) = to else {
                unfinished.extend(&item.releases);
                continue;
            };
            if !parted && self.may_place(item, &to)? {
                let from = if item.beside { Some(to.clone()) } else { self.state.staged()? };
                let waits = from.filter(|from| is_waiting(from, item));
                if let Some(from) = waits {
                    from.rename(&item.temporary, &to, item.destination.file_name())?;
                }
            }
            if is_committed(&to, item)? {
                entries.push(Entry::from_text(&item.entry));
                // renamed now or before: whoever did it then may not have come to make the name last
                folders.push(to);
            } else {
                // Portage's pass was here: what was made of the package is not all there, so it stays held
                unfinished.extend(&item.releases);
            }
        }
        sync_folders(folders.iter())?;
        if !entries.is_empty() {
            let mut index = self.read_index()?;
            index.inject_all(entries);
            self.write_index_aside(&index)?.put_in_place()?;
        }
        let done: Vec<PkgPath> = note.items.iter().filter_map(|item| item.releases.clone()).collect();
        self.release_for_good(done.iter().filter(|held| !unfinished.contains(held)))?;
        CommitNote::remove(&self.state.folder)
    }

    /// Whether the new file may still go to its place: over the package it was made from, or where nothing is. A
    /// package that another program has built there since stays.
    fn may_place(&self, item: &CommitItem, to: &Folder) -> Result<bool, PkgdirError> {
        let name = item.destination.file_name();
        if to.look(name)?.is_none() {
            return Ok(true);
        }
        let Some(held) = item.releases.as_ref().filter(|_| item.replaces) else { return Ok(false) };
        Ok(match (to.file(name), self.open_held(held)) {
            (Ok(there), Ok(held)) => is_backup_of(&held, &there),
            _ => false,
        })
    }

    /// Decides what becomes of a backup that an earlier run made.
    fn recover_record(&mut self, mut record: Record) -> Result<(), PkgdirError> {
        let held = match self.open_held(&record.held) {
            Ok(held) => held,
            Err(error) if error.is_absence() => {
                self.records.remove(&record.held);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if record.reason.is_some() {
            return Ok(());
        }
        // still where it was: Portage's pass has not touched it, and what it needs will be planned anew
        if self.pkgdir.open_package(&record.path).is_ok_and(|there| is_backup_of(&held, &there)) {
            return self.release(&record.held);
        }
        let text = "the run that should have signed it was interrupted".to_owned();
        record.reason = Some(Remark { code: "interrupted".to_owned(), text });
        self.records.insert(record);
        Ok(())
    }

    /// Backups that no journal speaks of: the run ended before it was written, or it is lost. They go where the package
    /// still is what it was, and are held where it is not.
    fn adopt(&mut self, folder: &Folder) -> Result<(), PkgdirError> {
        for held in files_below(folder)? {
            if !self.records.contains(&held)
                && let Some(record) = unrecorded(&self.state, held)
            {
                warn_of(self.recover_record(record));
            }
        }
        Ok(())
    }
}

/// A record of a held file of which no journal speaks; none where its name is not one of ours.
pub(super) fn unrecorded(state: &State, held: PkgPath) -> Option<Record> {
    let path = path_of_held(&held)?;
    let opened = open_held(state, &held).ok()?;
    let size = opened.identity.size();
    // its last change of name
    let since = opened.file.metadata().ok().and_then(|facts| u64::try_from(facts.ctime()).ok()).unwrap_or_default();
    let (cpv, build_id, reason, updates, entry) = (None, None, None, Vec::new(), String::new());
    Some(Record { path, held, cpv, build_id, size, since, reason, updates, entry })
}

/// The regular files below the folder of held packages, by their names there.
pub(super) fn files_below(folder: &Folder) -> Result<Vec<PkgPath>, PkgdirError> {
    let mut found = Vec::new();
    let mut ahead = vec![(folder.clone(), String::new(), DEPTH)];
    while let Some((folder, below, depth)) = ahead.pop() {
        for (name, kind) in folder.names()? {
            let Ok(held) = PkgPath::new(&format!("{below}{name}")) else { continue };
            match kind {
                FileType::Directory if depth > 0 => match folder.real_folder(&name) {
                    Ok(inner) => ahead.push((inner, format!("{held}/"), depth - 1)),
                    Err(error) => log::warn!("{error}"),
                },
                FileType::RegularFile => found.push(held),
                _ => {}
            }
        }
    }
    Ok(found)
}

/// Whether what the note says of a file agrees with itself: the name in its block of the index is its name, and only the
/// new version of a package takes that one's place.
fn is_sound(item: &CommitItem) -> bool {
    let entry = Entry::from_text(&item.entry);
    let replaced = item.releases.as_ref().filter(|_| item.replaces).and_then(path_of_held);
    entry.get("PATH") == Some(item.destination.as_str()) && replaced.is_none_or(|path| path == item.destination)
}

/// Whether the file that waits is the one that the note speaks of.
fn is_waiting(folder: &Folder, item: &CommitItem) -> bool {
    let there = folder.identity(&item.temporary).ok().flatten();
    there.is_some_and(|there| (there.size(), there.mtime(), there.inode()) == (item.size, item.mtime, item.inode))
}

fn is_committed(to: &Folder, item: &CommitItem) -> Result<bool, PkgdirError> {
    let there = to.identity(item.destination.file_name())?;
    Ok(there.is_some_and(|there| (there.size(), there.mtime(), there.inode()) == (item.size, item.mtime, item.inode)))
}
