//! Putting new packages in place, a batch at a time, with one write of the index under Portage's own lock.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::super::error::PkgdirError;
use super::super::folder::{Folder, Identity};
use super::Store;
use super::journal::{CommitItem, CommitNote};
use super::staged::{Replaces, Staged, Waits};
use crate::portage::index::Entry;
use crate::portage::names::PkgPath;

/// A sealed file with everything that its commit needs.
#[derive(Debug)]
pub(crate) struct Ready {
    /// Which package of the run it is made of, by its place among the jobs. Those of one package go in place together,
    /// or those that were not put there yet stay away: a package and the copy under its new name must not part.
    pub package: usize,
    /// The file.
    pub staged: Staged,
    /// The package at the destination that it replaces; none for a new name.
    pub replaces: Option<Identity>,
    /// The name below `held` that goes when it is committed.
    pub releases: Option<PkgPath>,
    /// The block for the index, complete.
    pub entry: Entry,
    /// Its size in bytes.
    pub size: u64,
    /// Its mtime, in seconds since the epoch.
    pub mtime: i64,
}

/// What came of one file of a batch.
#[derive(Debug, Clone)]
pub(crate) enum Committed {
    /// It is in place and in the index.
    Done,
    /// Another program has changed the package meanwhile; its version stays.
    Changed,
    /// The package has disappeared meanwhile.
    Gone,
    /// Another package has taken the new name meanwhile; it stays.
    Taken,
    /// It could not be put in place.
    Failed(Arc<PkgdirError>),
    /// It stays away because another file of the same package could not be put in place.
    Apart,
}

impl Committed {
    fn is_done(&self) -> bool {
        matches!(self, Committed::Done)
    }

    /// Keeps a file away whose package is among these.
    fn part(&mut self, apart: &BTreeSet<usize>, ready: &Ready) {
        if self.is_done() && !ready.staged.committed && apart.contains(&ready.package) {
            *self = Committed::Apart;
        }
    }
}

impl Store {
    /// Puts a batch in place: the index is read again under Portage's lock, the new one written aside, a note of the
    /// batch made, then everything is renamed, in the order of the batch, and the backups taken away. The new version of
    /// a package must come after its copies under new names.
    ///
    /// # Errors
    /// Nothing of the batch was done where the error comes before the first rename; after it, the note lets the next
    /// batch or the next run finish this one, and the backups stay.
    pub(crate) fn commit(&mut self, mut batch: Vec<Ready>) -> Result<Vec<Committed>, PkgdirError> {
        let lock = self.lock_index()?;
        // a batch that came to no end goes first: its note is the only thing that knows of it
        if let Some(note) = CommitNote::read(&self.state.folder)? {
            self.finish_batch(&note, &lock)?;
        }
        let mut index = self.read_index()?;
        let mut outcomes = batch.iter().map(|ready| self.check(ready)).collect::<Result<Vec<_>, _>>()?;
        let mut apart: BTreeSet<usize> = (batch.iter().zip(&outcomes))
            .filter(|(_, outcome)| !outcome.is_done())
            .map(|(ready, _)| ready.package)
            .collect();
        for (ready, outcome) in batch.iter().zip(&mut outcomes) {
            outcome.part(&apart, ready);
        }
        index.inject_all(entries(&batch, &outcomes));
        let note = note(&batch, &outcomes);
        let mut waiting = self.write_index_aside(&index)?;
        // what the note speaks of must be there after a power cut, all of it
        sync_folders(batch.iter().map(|ready| &ready.staged.folder))?;
        note.write(&self.state.folder)?;

        for (ready, outcome) in batch.iter_mut().zip(&mut outcomes) {
            outcome.part(&apart, ready);
            if !outcome.is_done() {
                continue;
            }
            *outcome = put_in_place(ready);
            if !outcome.is_done() {
                apart.insert(ready.package);
            }
        }
        sync_folders(
            batch.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_done()).map(|(ready, _)| &ready.staged.to),
        )?;
        if outcomes.iter().filter(|outcome| outcome.is_done()).count() != note.items.len() {
            // a rename failed, or somebody who does not take Portage's lock has just put a package under a new name of ours
            let mut index = self.read_index()?;
            index.inject_all(entries(&batch, &outcomes));
            waiting = self.write_index_aside(&index)?;
        }
        waiting.put_in_place()?;
        // a backup goes only when all that was made of its package is in place
        let unfinished: HashSet<PkgPath> = (batch.iter().zip(&outcomes))
            .filter(|(_, outcome)| !outcome.is_done())
            .filter_map(|(ready, _)| ready.releases.clone())
            .collect();
        let done = batch.iter().filter_map(|ready| ready.releases.as_ref());
        self.release_for_good(done.filter(|held| !unfinished.contains(held)))?;
        CommitNote::remove(&self.state.folder)?;
        drop(lock);
        Ok(outcomes)
    }

    /// Whether the destination is still what it was when the package was read.
    fn check(&self, ready: &Ready) -> Result<Committed, PkgdirError> {
        let there = ready.staged.to.identity(ready.staged.destination.file_name())?;
        Ok(match (ready.replaces, there) {
            (Some(_), None) => Committed::Gone,
            (Some(was), Some(is)) if was != is => Committed::Changed,
            (None, Some(_)) => Committed::Taken,
            _ => Committed::Done,
        })
    }
}

fn entries(batch: &[Ready], outcomes: &[Committed]) -> Vec<Entry> {
    let done = batch.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_done());
    done.map(|(ready, _)| ready.entry.clone()).collect()
}

fn note(batch: &[Ready], outcomes: &[Committed]) -> CommitNote {
    let items = batch.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_done());
    CommitNote {
        items: items
            .map(|(ready, _)| CommitItem {
                destination: ready.staged.destination.clone(),
                temporary: ready.staged.name.clone(),
                beside: ready.staged.waits == Waits::Beside,
                replaces: ready.replaces.is_some(),
                size: ready.size,
                mtime: ready.mtime,
                inode: ready.staged.identity.map_or(0, |identity| identity.inode()),
                entry: ready.entry.to_text(),
                releases: ready.releases.clone(),
            })
            .collect(),
    }
}

fn put_in_place(ready: &mut Ready) -> Committed {
    let replaces = if ready.replaces.is_some() { Replaces::Package } else { Replaces::Nothing };
    match ready.staged.put_in_place(replaces) {
        Ok(true) => Committed::Done,
        Ok(false) => Committed::Taken,
        Err(error) => Committed::Failed(Arc::new(error)),
    }
}

/// Makes the names in these folders last, each once.
pub(super) fn sync_folders<'f>(folders: impl Iterator<Item = &'f Folder>) -> Result<(), PkgdirError> {
    let by_path: HashMap<&std::path::Path, &Folder> = folders.map(|folder| (folder.path(), folder)).collect();
    by_path.values().try_for_each(|folder| folder.sync())
}
