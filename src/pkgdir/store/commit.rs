//! Putting new packages in place, a batch at a time, with one write of the index under Portage's own lock.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::journal::{CommitItem, CommitNote};
use super::lock::Lock;
use super::{Identity, Store, StoreError, below, disk, stays_inside};
use crate::portage::index::{Entry, PackageIndex};

/// The mode Portage gives a package it has rewritten, before the bits of PKGDIR (`gpkg.update_metadata`).
const PACKAGE_MODE: u32 = 0o644;

/// Whether `Packages.gz` is kept beside the index (`FEATURES=compress-index`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexCompression {
    /// It is written with every index.
    Gzip,
    /// There must be none.
    None,
}

/// A new file that waits beside its place.
#[derive(Debug)]
pub struct Staged {
    temporary: PathBuf,
    destination: String,
    inherited: disk::Inherited,
    committed: bool,
}

/// Makes new files beside their places; can be handed to every thread.
#[derive(Debug, Clone)]
pub struct Stager {
    pkgdir: PathBuf,
    inherited: disk::Inherited,
}

impl Stager {
    /// PKGDIR.
    #[must_use]
    pub fn pkgdir(&self) -> &Path {
        &self.pkgdir
    }

    /// Makes a private file (0600) beside the place where a new package will come, and the folders for it.
    ///
    /// # Errors
    /// The path leads out of PKGDIR, or the file cannot be made.
    pub fn stage(&self, destination: &str) -> Result<(Staged, File), StoreError> {
        let full = below(&self.pkgdir, destination)?;
        let folder = Path::new(destination).parent().unwrap_or_else(|| Path::new(""));
        disk::make_package_directory(&self.pkgdir, folder, self.inherited)?;
        stays_inside(&self.pkgdir, &full, destination)?;
        let temporary = disk::temporary(&full);
        let file = disk::create_private(&temporary)?;
        let staged =
            Staged { temporary, destination: destination.to_owned(), inherited: self.inherited, committed: false };
        Ok((staged, file))
    }
}

impl Staged {
    /// Makes the finished bytes last and gives the file the mode and group that Portage would. Returns its size in
    /// bytes and its time of change in seconds since the epoch, for the index.
    ///
    /// # Errors
    /// The file cannot be flushed.
    pub fn seal(&mut self, file: &File) -> Result<(u64, i64), StoreError> {
        disk::set_package_permissions(&self.temporary, PACKAGE_MODE, self.inherited)?;
        disk::sync(file, &self.temporary)?;
        let facts = file.metadata().map_err(disk::failed("look at", &self.temporary))?;
        Ok((facts.size(), facts.mtime()))
    }

    /// The temporary file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.temporary
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.committed
            && let Err(error) = disk::remove_if_there(&self.temporary)
        {
            log::warn!("{error}");
        }
    }
}

/// A sealed file with everything that its commit needs.
#[derive(Debug)]
pub struct Ready {
    /// Which package of the run it is made of, by its place among the jobs. Those of one package go in place together, or those that were not put
    /// there yet stay away: a package and the copy under its new name must not part.
    pub package: usize,
    /// The file.
    pub staged: Staged,
    /// The package at the destination that it replaces; none for a new name.
    pub replaces: Option<Identity>,
    /// The name below `held` that goes when it is committed.
    pub releases: Option<String>,
    /// The block for the index, complete.
    pub entry: Entry,
    /// Its size in bytes.
    pub size: u64,
    /// Its time of change, in seconds since the epoch.
    pub mtime: i64,
}

/// What came of one file of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// It is in place and in the index.
    Done,
    /// Another program has changed the package meanwhile; its version stays.
    Changed,
    /// The package has disappeared meanwhile.
    Gone,
    /// Another package has taken the new name meanwhile; it stays.
    Taken,
    /// It could not be put in place, for this reason.
    Failed(String),
    /// It stays away because another file of the same package could not be put in place.
    Apart,
}

impl Committed {
    /// Keeps a file away whose package is among these.
    fn part(&mut self, apart: &BTreeSet<usize>, ready: &Ready) {
        if *self == Committed::Done && !ready.staged.committed && apart.contains(&ready.package) {
            *self = Committed::Apart;
        }
    }
}

impl Store {
    /// What makes the new files, for the threads that prepare them.
    #[must_use]
    pub fn stager(&self) -> Stager {
        Stager { pkgdir: self.pkgdir.clone(), inherited: self.inherited }
    }

    /// Puts a batch in place: the index is read again under Portage's lock, the new one written beside it, a note of
    /// the batch made, then everything is renamed, in the order of the batch, and the second names taken away. The new
    /// version of a package must come after its copies under new names.
    ///
    /// # Errors
    /// Nothing of the batch was done where the error comes before the first rename; after it, the note lets the next
    /// run finish the batch, and the second names stay.
    pub fn commit(&mut self, mut batch: Vec<Ready>) -> Result<Vec<Committed>, StoreError> {
        let _lock = self.lock_index()?;
        let (path, mut index) = self.read_index()?;
        let mut outcomes = batch.iter().map(|ready| self.check(ready)).collect::<Result<Vec<_>, _>>()?;
        let mut apart: BTreeSet<usize> = (batch.iter().zip(&outcomes))
            .filter(|(_, outcome)| **outcome != Committed::Done)
            .map(|(ready, _)| ready.package)
            .collect();
        for (ready, outcome) in batch.iter().zip(&mut outcomes) {
            outcome.part(&apart, ready);
        }
        let done = |outcomes: &[Committed], place: usize| outcomes.get(place) == Some(&Committed::Done);
        let entries = |batch: &[Ready], outcomes: &[Committed]| -> Vec<Entry> {
            let kept = batch.iter().enumerate().filter(|(place, _)| done(outcomes, *place));
            kept.map(|(_, ready)| ready.entry.clone()).collect()
        };
        index.inject_all(entries(&batch, &outcomes));
        let note = Self::note(&batch, &outcomes);
        let written = self.write_index_aside(&path, &index).and_then(|waiting| {
            note.write(&self.state())?;
            Ok(waiting)
        });
        let mut waiting = match written {
            Ok(waiting) => waiting,
            Err(error) => {
                // nothing was put in place yet; the first error is the one to tell of
                let _ = self.remove_half_written_index();
                return Err(error);
            }
        };

        let mut folders = BTreeSet::new();
        for (ready, outcome) in batch.iter_mut().zip(&mut outcomes) {
            outcome.part(&apart, ready);
            if *outcome != Committed::Done {
                continue;
            }
            *outcome = self.put_in_place(ready);
            if *outcome == Committed::Done {
                folders.insert(disk::parent(&below(&self.pkgdir, &ready.staged.destination)?).to_owned());
            } else {
                apart.insert(ready.package);
            }
        }
        folders.iter().try_for_each(|folder| disk::sync_directory(folder))?;
        if outcomes.iter().filter(|outcome| **outcome == Committed::Done).count() != note.items.len() {
            // a rename failed, or somebody who does not take Portage's lock has just put a package under a new name of ours
            let (_, mut index) = self.read_index()?;
            index.inject_all(entries(&batch, &outcomes));
            waiting = self.write_index_aside(&path, &index)?;
        }
        waiting.put_in_place()?;
        // a second name goes only when all that was made of its package is in place
        let unfinished: BTreeSet<&str> = (batch.iter().zip(&outcomes))
            .filter(|(_, outcome)| **outcome != Committed::Done)
            .filter_map(|(ready, _)| ready.releases.as_deref())
            .collect();
        for held in batch.iter().filter_map(|ready| ready.releases.as_deref()) {
            if !unfinished.contains(held) {
                self.release(held)?;
            }
        }
        CommitNote::remove(&self.state())?;
        Ok(outcomes)
    }

    fn put_in_place(&self, ready: &mut Ready) -> Committed {
        let renamed = below(&self.pkgdir, &ready.staged.destination).and_then(|destination| match ready.replaces {
            Some(_) => disk::rename(&ready.staged.temporary, &destination).map(|()| true),
            None => disk::rename_new(&ready.staged.temporary, &destination),
        });
        match renamed {
            Ok(true) => {
                ready.staged.committed = true;
                Committed::Done
            }
            Ok(false) => Committed::Taken,
            Err(error) => Committed::Failed(error.to_string()),
        }
    }

    fn note(batch: &[Ready], outcomes: &[Committed]) -> CommitNote {
        let items = batch.iter().zip(outcomes).filter(|(_, outcome)| **outcome == Committed::Done);
        CommitNote {
            items: items
                .map(|(ready, _)| CommitItem {
                    destination: ready.staged.destination.clone(),
                    replaces: ready.replaces.is_some(),
                    size: ready.size,
                    mtime: ready.mtime,
                    entry: ready.entry.to_text(),
                    releases: ready.releases.clone(),
                })
                .collect(),
        }
    }

    /// Whether the destination is still what it was when the package was read.
    fn check(&self, ready: &Ready) -> Result<Committed, StoreError> {
        let full = below(&self.pkgdir, &ready.staged.destination)?;
        let there = match full.symlink_metadata() {
            Ok(facts) => Some(Identity::of(&facts)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(disk::failed("look at", &full)(error)),
        };
        Ok(match (ready.replaces, there) {
            (Some(_), None) => Committed::Gone,
            (Some(was), Some(is)) if was != is => Committed::Changed,
            (None, Some(_)) => Committed::Taken,
            _ => Committed::Done,
        })
    }

    /// Portage's lock on the index (`$PKGDIR/.Packages.portage_lockfile`).
    pub(super) fn lock_index(&self) -> Result<Lock, StoreError> {
        Lock::acquire(&self.pkgdir.join(".Packages.portage_lockfile"), 0o660)
    }

    /// The index as it is now, with the place where it really lies (a symbolic link is followed, as Portage does).
    pub(super) fn read_index(&self) -> Result<(PathBuf, PackageIndex), StoreError> {
        let link = self.pkgdir.join("Packages");
        let path = std::fs::canonicalize(&link).unwrap_or(link);
        match PackageIndex::read(&path)? {
            Some(index) => Ok((path, index)),
            None => Err(StoreError::NoIndex { path }),
        }
    }

    /// Removes an index that a run wrote aside and did not put in place.
    pub(super) fn remove_half_written_index(&self) -> Result<(), StoreError> {
        let link = self.pkgdir.join("Packages");
        let path = std::fs::canonicalize(&link).unwrap_or(link);
        disk::remove_if_there(&disk::temporary(&path))?;
        disk::remove_if_there(&disk::temporary(&self.pkgdir.join("Packages.gz")))
    }

    /// Writes the index, and its `.gz` where one is kept, beside their places.
    pub(super) fn write_index_aside(&self, path: &Path, index: &PackageIndex) -> Result<WaitingIndex, StoreError> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let bytes = index.render(now);
        let compressed = self.pkgdir.join("Packages.gz");
        let mut waiting = WaitingIndex { renames: Vec::new(), removes: None };
        waiting.renames.push((self.write_aside(path, &bytes, now)?, path.to_owned()));
        match self.compression {
            IndexCompression::Gzip => {
                let packed = PackageIndex::compress(&bytes, now)?;
                waiting.renames.push((self.write_aside(&compressed, &packed, now)?, compressed));
            }
            IndexCompression::None => waiting.removes = Some(compressed),
        }
        Ok(waiting)
    }

    fn write_aside(&self, path: &Path, bytes: &[u8], timestamp: u64) -> Result<PathBuf, StoreError> {
        let temporary = disk::temporary(path);
        let mut file = disk::create_private(&temporary)?;
        disk::write(&mut file, bytes, &temporary)?;
        // as Portage: the mode of the index that was there, and PKGDIR's group
        let there = std::fs::metadata(path).ok();
        if let Some(facts) = &there {
            let _ = std::os::unix::fs::fchown(&file, Some(facts.uid()), None);
        }
        let mode = there.map_or(PACKAGE_MODE, |facts| facts.permissions().mode());
        disk::set_package_permissions(&temporary, mode, self.inherited)?;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(timestamp);
        let times = std::fs::FileTimes::new().set_accessed(time).set_modified(time);
        file.set_times(times).map_err(disk::failed("set the time of", &temporary))?;
        disk::sync(&file, &temporary)?;
        Ok(temporary)
    }
}

/// An index that is on the disk beside its place.
#[derive(Debug)]
pub(super) struct WaitingIndex {
    renames: Vec<(PathBuf, PathBuf)>,
    removes: Option<PathBuf>,
}

impl WaitingIndex {
    /// Renames it into place.
    pub(super) fn put_in_place(self) -> Result<(), StoreError> {
        for (temporary, path) in &self.renames {
            disk::rename(temporary, path)?;
        }
        if let Some(path) = &self.removes {
            disk::remove_if_there(path)?;
        }
        let folders: BTreeSet<&Path> = self.renames.iter().map(|(_, path)| disk::parent(path)).collect();
        folders.into_iter().try_for_each(disk::sync_directory)
    }
}
