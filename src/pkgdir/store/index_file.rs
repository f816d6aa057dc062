//! Reading the index, and writing it under Portage's own lock: aside first, then renamed into place.

use std::collections::HashSet;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::super::error::{PkgdirError, failed};
use super::super::fault;
use super::super::folder::Folder;
use super::super::{INDEX, INDEX_LIMIT, INDEX_LOCK, Pkgdir};
use super::Store;
use super::journal::CommitNote;
use super::lock::Lock;
use super::staged::set_owner;
use crate::portage::index::PackageIndex;

/// `Packages.gz`, kept beside the index with `FEATURES=compress-index`.
const COMPRESSED: &str = "Packages.gz";
/// The mode of a new index.
const INDEX_MODE: u32 = 0o644;

/// Whether `Packages.gz` is kept beside the index (`FEATURES=compress-index`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IndexCompression {
    /// It is written with every index.
    Gzip,
    /// There must be none.
    None,
}

impl Store {
    /// Portage's lock on the index (`$PKGDIR/.Packages.portage_lockfile`).
    pub(super) fn lock_index(&self) -> Result<Lock, PkgdirError> {
        Lock::acquire(&self.pkgdir.folder, INDEX_LOCK, 0o660, &self.patience)
    }

    /// The index as it is now.
    pub(super) fn read_index(&self) -> Result<PackageIndex, PkgdirError> {
        match self.pkgdir.read_index()? {
            Some(index) => Ok(index),
            None => Err(PkgdirError::NoIndex { path: self.pkgdir.path().join(INDEX) }),
        }
    }

    /// Puts another index in the place of the one that is there, under Portage's lock. `revise` gets it, or none where
    /// Portage would take it as empty, and says what to write; nothing is written where it has nothing.
    ///
    /// # Errors
    /// The index cannot be read or written, or `revise` fails.
    pub(crate) fn replace_index(
        &mut self,
        revise: impl FnOnce(Option<PackageIndex>) -> Result<Option<PackageIndex>, PkgdirError>,
    ) -> Result<(), PkgdirError> {
        let lock = self.lock_index()?;
        if let Some(note) = CommitNote::read(&self.state.folder)? {
            self.finish_batch(&note, &lock)?;
        }
        if let Some(index) = revise(self.pkgdir.read_good_index()?)? {
            self.write_index_aside(&index)?.put_in_place()?;
        }
        drop(lock);
        Ok(())
    }

    /// Writes the index, and its `.gz` where one is kept, to where they wait.
    pub(super) fn write_index_aside(&self, index: &PackageIndex) -> Result<WaitingIndex, PkgdirError> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let bytes = index.render(now);
        let mut waiting = WaitingIndex { renames: Vec::new(), removes: None };
        waiting.renames.push(self.write_aside(INDEX, &bytes, now)?);
        match self.compression {
            IndexCompression::Gzip => {
                let packed = PackageIndex::compress(&bytes, now)?;
                waiting.renames.push(self.write_aside(COMPRESSED, &packed, now)?);
            }
            IndexCompression::None => waiting.removes = Some(self.pkgdir.folder.clone()),
        }
        Ok(waiting)
    }

    /// A link that root alone can have made is followed, as Portage follows it; any other one is replaced.
    fn write_aside(&self, name: &str, bytes: &[u8], timestamp: u64) -> Result<Rename, PkgdirError> {
        let (to, to_name) = match self.pkgdir.folder.locate(name) {
            Err(PkgdirError::Link { .. }) => (self.pkgdir.folder.clone(), name.to_owned()),
            located => located?,
        };
        let ours = self.state.make_staged()?;
        let (folder, temporary) = match ours.is_beside(&to) {
            true => (ours, self.names.next()),
            false => (to.clone(), self.names.next_beside()),
        };
        let path = folder.path().join(&temporary);
        let mut file = folder.create(&temporary)?;
        let waiting = Rename { folder, temporary, to, name: to_name, done: false };
        fault::write(&mut file, bytes, &path)?;
        // as Portage: owner and mode of the index that was there, and PKGDIR's group
        let there = waiting.to.look(&waiting.name)?;
        let mode = there.as_ref().map_or(INDEX_MODE, |facts| facts.st_mode & 0o666);
        if let Some(facts) = there {
            set_owner(&file, Some(facts.st_uid), facts.st_gid, &path);
        }
        self.inherited.give_to_file(&file, mode, &path)?;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(timestamp);
        let times = std::fs::FileTimes::new().set_accessed(time).set_modified(time);
        file.set_times(times).map_err(failed("set the time of", &path))?;
        fault::sync(&file, &path)?;
        Ok(waiting)
    }
}

impl Pkgdir {
    /// The index; none where there is none, or Portage would take it as empty, or others have put a link in its place.
    ///
    /// # Errors
    /// It is no regular file, or too large.
    pub(crate) fn read_good_index(&self) -> Result<Option<PackageIndex>, PkgdirError> {
        match self.read_index() {
            Err(error @ (PkgdirError::Index(_) | PkgdirError::Link { .. })) => {
                log::warn!("{error}");
                Ok(None)
            }
            read => read,
        }
    }

    /// Whether `Packages.gz` is as it must be beside the index.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub(crate) fn has_right_compressed_index(&self, compression: IndexCompression) -> Result<bool, PkgdirError> {
        let there = self.folder.identity(COMPRESSED)?;
        if compression == IndexCompression::None {
            return Ok(there.is_none());
        }
        let (index, packed) = (self.folder.read(INDEX, INDEX_LIMIT)?, self.folder.read(COMPRESSED, INDEX_LIMIT)?);
        let (Some((index, of_index)), Some((packed, of_packed))) = (index, packed) else { return Ok(false) };
        let mut unpacked = Vec::with_capacity(index.len());
        let mut reader = flate2::read::MultiGzDecoder::new(packed.as_slice()).take(of_index.size() + 1);
        let read = reader.read_to_end(&mut unpacked);
        Ok(read.is_ok() && unpacked == index && of_index.mtime() == of_packed.mtime())
    }
}

/// A file that waits to get its name.
#[derive(Debug)]
struct Rename {
    folder: Folder,
    temporary: String,
    to: Folder,
    name: String,
    done: bool,
}

impl Drop for Rename {
    fn drop(&mut self) {
        if !self.done {
            super::warn_of(self.folder.remove(&self.temporary));
        }
    }
}

/// An index that is on the disk, and waits.
#[derive(Debug)]
pub(super) struct WaitingIndex {
    renames: Vec<Rename>,
    /// The folder where a `Packages.gz` must go.
    removes: Option<Folder>,
}

impl WaitingIndex {
    /// Renames it into place.
    pub(super) fn put_in_place(mut self) -> Result<(), PkgdirError> {
        for rename in &mut self.renames {
            rename.folder.rename(&rename.temporary, &rename.to, &rename.name)?;
            rename.done = true;
        }
        if let Some(folder) = &self.removes
            && folder.look(COMPRESSED)?.is_some()
        {
            folder.remove(COMPRESSED)?;
        }
        let mut synced: HashSet<PathBuf> = HashSet::new();
        for rename in &self.renames {
            if synced.insert(rename.to.path().to_owned()) {
                rename.to.sync()?;
            }
        }
        Ok(())
    }
}
