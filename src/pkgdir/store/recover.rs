//! After a run that was cut short: its last batch is finished, its temporary files go, and what Portage's pass has
//! removed meanwhile counts as held.

use std::collections::BTreeSet;
use std::path::Path;

use super::hold::warn_of;
use super::journal::{self, CommitItem, CommitNote, Record};
use super::{Identity, Store, StoreError, below, disk};
use crate::portage::index::Entry;

/// Why a package is held that an interrupted run left behind.
const INTERRUPTED: &str = "the run that should have signed it was interrupted";

impl Store {
    /// Finishes or undoes what an interrupted run left. Does nothing after a run that ended well.
    ///
    /// What cannot be put in order now is warned of and left for the next run: the packages that are at risk today must
    /// not wait for it.
    pub(super) fn recover(&mut self) {
        warn_of(journal::remove_half_written(&self.state()));
        warn_of(self.remove_half_written_index());
        warn_of(self.finish_interrupted_batch());
        for destination in std::mem::take(&mut self.journal.staged) {
            let temporary = below(&self.pkgdir, &destination).map(|path| disk::temporary(&path));
            warn_of(temporary.and_then(|path| disk::remove_if_there(&path)));
        }
        for record in std::mem::take(&mut self.journal.records) {
            let kept = record.clone();
            if let Err(error) = self.recover_record(record) {
                log::warn!("{error}");
                self.journal.records.push(kept);
            }
        }
        let held = self.held_directory();
        warn_of(self.adopt(&held, ""));
    }

    fn finish_interrupted_batch(&mut self) -> Result<(), StoreError> {
        let Some(note) = CommitNote::read(&self.state())? else { return Ok(()) };
        log::info!("finishing a batch of {} packages that was interrupted", note.items.len());
        self.finish_batch(&note)
    }

    /// Second names that no journal speaks of: the run ended before it was written. They go where the package still is
    /// what it was, and are held where it is not.
    fn adopt(&mut self, folder: &Path, below_held: &str) -> Result<(), StoreError> {
        let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let held = format!("{below_held}{name}");
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.adopt(&entry.path(), &format!("{held}/"))?,
                Ok(kind) if kind.is_file() && !self.journal.records.iter().any(|record| record.held == held) => {
                    let Some(path) = held_path(&held) else {
                        // a copy that was not finished
                        disk::remove_if_there(&entry.path())?;
                        continue;
                    };
                    let size = entry.metadata().map_or(0, |facts| facts.len());
                    let cpv = path.strip_suffix(".gpkg.tar").unwrap_or(path).to_owned();
                    let path = path.to_owned();
                    self.recover_record(Record {
                        path,
                        held,
                        cpv,
                        build_id: None,
                        size,
                        since: 0,
                        reason: None,
                        updates: Vec::new(),
                        entry: String::new(),
                    })?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Rolls a batch forward: what was not renamed yet is renamed now, then the index gets its entries.
    fn finish_batch(&mut self, note: &CommitNote) -> Result<(), StoreError> {
        let _lock = self.lock_index()?;
        let mut folders = BTreeSet::new();
        let mut entries = Vec::new();
        let mut unfinished = BTreeSet::new();
        for item in &note.items {
            let destination = below(&self.pkgdir, &item.destination)?;
            let temporary = disk::temporary(&destination);
            let parted = item.releases.as_deref().is_some_and(|held| unfinished.contains(held));
            if !parted && temporary.symlink_metadata().is_ok() && self.may_place(item)? {
                disk::rename(&temporary, &destination)?;
                folders.insert(disk::parent(&destination).to_owned());
            }
            if self.is_committed(item)? {
                entries.push(Entry::from_text(&item.entry));
            } else {
                // Portage's pass was here: what was made of the package is not all there, so it stays held
                unfinished.extend(item.releases.as_deref());
            }
        }
        folders.iter().try_for_each(|folder| disk::sync_directory(folder))?;
        if !entries.is_empty() {
            let (path, mut index) = self.read_index()?;
            index.inject_all(entries);
            self.write_index_aside(&path, &index)?.put_in_place()?;
        }
        for held in note.items.iter().filter_map(|item| item.releases.as_deref()) {
            if !unfinished.contains(held) {
                self.release(held)?;
            }
        }
        CommitNote::remove(&self.state())
    }

    /// Whether the new file may still go to its place: over the package it was made from, or where nothing is. A
    /// package that another program has built there since stays.
    fn may_place(&self, item: &CommitItem) -> Result<bool, StoreError> {
        let Ok(there) = below(&self.pkgdir, &item.destination)?.symlink_metadata() else { return Ok(true) };
        if !item.replaces {
            return Ok(false);
        }
        let Some(held) = &item.releases else { return Ok(false) };
        let held = below(&self.held_directory(), held)?.symlink_metadata();
        Ok(held.is_ok_and(|held| Identity::of(&there).is_copy_of(&Identity::of(&held))))
    }

    fn is_committed(&self, item: &CommitItem) -> Result<bool, StoreError> {
        use std::os::unix::fs::MetadataExt;
        let there = below(&self.pkgdir, &item.destination)?.symlink_metadata();
        Ok(there.is_ok_and(|facts| facts.size() == item.size && facts.mtime() == item.mtime))
    }

    /// Decides what becomes of a second name that an earlier run made.
    fn recover_record(&mut self, mut record: Record) -> Result<(), StoreError> {
        let held = below(&self.held_directory(), &record.held)?;
        let half_made = disk::temporary(&held);
        disk::remove_if_there(&half_made)?;
        let Ok(held_facts) = held.symlink_metadata() else { return Ok(()) };
        let there = below(&self.pkgdir, &record.path)?.symlink_metadata();
        match (&record.reason, there) {
            // still where it was: Portage's pass has not touched it, and what it needs will be planned anew
            (None, Ok(there)) if Identity::of(&there).is_copy_of(&Identity::of(&held_facts)) => {
                disk::remove_if_there(&held)
            }
            (None, Ok(_)) if self.index_knows(&record.path)? => disk::remove_if_there(&held),
            (None, _) => {
                record.reason = Some(INTERRUPTED.to_owned());
                self.journal.records.push(record);
                Ok(())
            }
            (Some(_), _) => {
                self.journal.records.push(record);
                Ok(())
            }
        }
    }

    /// Whether the index has an entry for `path` that fits the file there: then that package is whole.
    fn index_knows(&self, path: &str) -> Result<bool, StoreError> {
        use std::os::unix::fs::MetadataExt;
        let (_, index) = self.read_index()?;
        let facts = below(&self.pkgdir, path)?.symlink_metadata();
        let Ok(facts) = facts else { return Ok(false) };
        let fits = |number: usize| {
            index.entry(number).is_some_and(|entry| {
                entry.get("SIZE") == Some(facts.size().to_string().as_str())
                    // what was made for a file that the index did not list has none
                    && entry.get("MTIME").is_none_or(|mtime| mtime == facts.mtime().to_string())
            })
        };
        Ok(index.at_path(path).into_iter().any(fits))
    }
}

/// The path below PKGDIR of a held file, from its name below the folder `held`.
fn held_path(held: &str) -> Option<&str> {
    let numberless = match held.rsplit_once('.') {
        Some((head, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => head,
        _ => held,
    };
    numberless.strip_suffix(".held")
}
