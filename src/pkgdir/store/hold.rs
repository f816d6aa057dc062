//! Backups of packages at risk: a hard link in `.binpkg-resign/held`, under a name that no tool takes for a package; a copy
//! where links do not work. [`super::place`] says which name.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::time::SystemTime;

use rustix::io::Errno;

use super::super::error::{PkgdirError, failed};
use super::super::fault;
use super::super::folder::{Folder, Identity, Opened};
use super::commit::sync_folders;
use super::journal::{Journal, Record, Remark};
use super::{Caught, Net, Store, state, warn_of};
use crate::portage::atom::CpvBuf;
use crate::portage::names::{BuildId, PkgPath};

/// So many packages get their backups before the first flush, so that those that Portage meets first are safe at once.
const FIRST_CHUNK: usize = 16;
/// So many from then on.
const CHUNK: usize = 1024;

/// A package that Portage's pass would remove.
#[derive(Debug, Clone)]
pub(crate) struct AtRisk {
    /// Where it is.
    pub path: PkgPath,
    /// Category, name and version.
    pub cpv: CpvBuf,
    /// Its build id, if it has one.
    pub build_id: Option<BuildId>,
    /// The updates it needs, as they stand in the update files.
    pub updates: Vec<String>,
    /// Its block in the index.
    pub entry: String,
}

/// Whether a package at risk has its backup.
#[derive(Debug, Clone)]
pub(crate) enum Backup {
    /// It has, under this name below `held`.
    Made(PkgPath),
    /// There is no such file: Portage removes nothing either.
    Absent,
    /// It has none, and it was said why.
    Failed,
}

impl Backup {
    /// Its name below `held`.
    #[must_use]
    pub(crate) fn held(&self) -> Option<&PkgPath> {
        match self {
            Backup::Made(held) => Some(held),
            Backup::Absent | Backup::Failed => None,
        }
    }
}

impl Store {
    /// Gives every package at risk a backup and writes down what is to be done, before anything is changed. Links come
    /// first, since they cost next to nothing; where they do not work, the smallest packages are copied first.
    ///
    /// What cannot be backed up is told of, and the run goes on: signing saves most packages, and Portage's pass comes
    /// whatever we do.
    pub(crate) fn begin(&mut self, at_risk: impl IntoIterator<Item = AtRisk>) -> Vec<Backup> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let mut at_risk = at_risk.into_iter().peekable();
        let mut backups: Vec<Backup> = Vec::new();
        let mut to_copy: Vec<(u64, usize, AtRisk)> = Vec::new();
        let mut failed: Vec<(PkgPath, PkgdirError)> = Vec::new();
        let mut chunk = FIRST_CHUNK;
        while at_risk.peek().is_some() {
            let mut made = Made::default();
            for package in at_risk.by_ref().take(chunk) {
                backups.push(match self.link(&package, since, &mut made) {
                    Ok(Linked::Done(held)) => Backup::Made(held),
                    Ok(Linked::Absent) => Backup::Absent,
                    Ok(Linked::Impossible { size, error }) => {
                        to_copy.push((size, backups.len(), package));
                        log::debug!("{error}: copying");
                        Backup::Failed
                    }
                    Err(error) => {
                        failed.push((package.path, error));
                        Backup::Failed
                    }
                });
            }
            self.make_last(made);
            chunk = CHUNK;
        }
        to_copy.sort_by_key(|(size, _, _)| *size);
        for (_, place, package) in to_copy {
            let Some(backup) = backups.get_mut(place) else { continue };
            let mut made = Made::default();
            let copied = match self.pkgdir.open_package(&package.path) {
                Ok(opened) => self.copy(&package, &opened, since, &mut made).map(Backup::Made),
                Err(error) if error.is_absence() => Ok(Backup::Absent),
                Err(error) => Err(error),
            };
            *backup = copied.unwrap_or_else(|error| {
                failed.push((package.path, error));
                Backup::Failed
            });
            self.make_last(made);
        }
        for (path, error) in failed {
            log::warn!("{path} has no backup while it is signed: {error}");
        }
        backups
    }

    /// Gives one package its link.
    fn link(&mut self, package: &AtRisk, since: u64, made: &mut Made) -> Result<Linked, PkgdirError> {
        let name = package.path.file_name();
        let found = self.pkgdir.folder_of(&package.path).and_then(|folder| Ok((folder.file(name)?, folder)));
        let (mut opened, folder) = match found {
            Ok(found) => found,
            Err(error) if error.is_absence() => return Ok(Linked::Absent),
            Err(error) => return Err(error),
        };
        if let Some(held) = self.held_already(package, &opened)? {
            return Ok(Linked::Done(held));
        }
        let (to, to_name, held) = self.first_place(&package.path, made)?;
        // by name, since linking a descriptor takes a capability that containers do not have; so a look at what it was
        for _ in 0..3 {
            match folder.link(name, &to, &to_name) {
                Ok(()) => {}
                Err(PkgdirError::Io { source, .. }) if is_no_link(&source) => {
                    let error = failed("link to", &to.path().join(&to_name))(source);
                    return Ok(Linked::Impossible { size: opened.identity.size(), error });
                }
                Err(error) if error.is_absence() => return Ok(Linked::Absent),
                Err(error) => return Err(error),
            }
            if to.identity(&to_name)?.is_some_and(|linked| linked.is_same_inode(&opened.identity)) {
                self.add(package, held.clone(), opened.identity, since, made);
                return Ok(Linked::Done(held));
            }
            to.remove(&to_name)?;
            // a link that is followed, or another package by now
            let again = folder.file(name)?;
            if again.identity == opened.identity {
                break;
            }
            opened = again;
        }
        let error = failed("link to", &to.path().join(&to_name))(io::Error::from(Errno::XDEV));
        Ok(Linked::Impossible { size: opened.identity.size(), error })
    }

    /// Copies one package whose link is not possible.
    fn copy(&mut self, package: &AtRisk, opened: &Opened, since: u64, made: &mut Made) -> Result<PkgPath, PkgdirError> {
        let (to, to_name, held) = self.first_place(&package.path, made)?;
        let staged = self.state.make_staged()?;
        let temporary = self.next_temporary();
        let copied = copy_to(opened, &staged, &temporary).and_then(|()| staged.rename(&temporary, &to, &to_name));
        if let Err(error) = copied {
            warn_of(staged.remove(&temporary));
            return Err(error);
        }
        self.add(package, held.clone(), opened.identity, since, made);
        Ok(held)
    }

    fn add(&mut self, package: &AtRisk, held: PkgPath, identity: Identity, since: u64, made: &mut Made) {
        let record = Record {
            path: package.path.clone(),
            held,
            cpv: Some(package.cpv.clone()),
            build_id: package.build_id,
            size: identity.size(),
            since,
            reason: None,
            updates: package.updates.clone(),
            entry: package.entry.clone(),
        };
        made.records.push(record.clone());
        self.records.insert(record);
    }

    /// The backup that the package has from an earlier run, in which it could not be signed; it needs the old updates as
    /// well as the new ones.
    fn held_already(&mut self, package: &AtRisk, opened: &Opened) -> Result<Option<PkgPath>, PkgdirError> {
        let mut found = None;
        for record in self.records.of(&package.path) {
            let held = self.open_held(&record.held);
            if held.is_ok_and(|held| is_backup_of(&held, opened)) {
                found = Some(record.held.clone());
                break;
            }
        }
        if let Some(record) = found.as_ref().and_then(|held| self.records.get_mut(held)) {
            record.reason = None;
            for update in &package.updates {
                if !record.updates.contains(update) {
                    record.updates.push(update.clone());
                }
            }
        }
        Ok(found)
    }

    /// Makes names last, and then writes down what they are.
    fn make_last(&self, made: Made) {
        self.flush_held(&made.folders);
        warn_of(Journal::append(&self.state.folder, &made.records, &[]));
        warn_of(self.state.folder.sync().and_then(|()| self.pkgdir.folder.sync()));
    }

    /// Makes the names in these folders below `held` last. Whether it could.
    pub(super) fn flush_held(&self, folders: &BTreeSet<String>) -> bool {
        let Ok(top) = self.state.make_held() else { return false };
        let mut all = true;
        // the deepest first
        for path in folders.iter().rev() {
            let parts = path.split('/').filter(|part| !part.is_empty());
            let found = parts.into_iter().try_fold(top.clone(), |folder, part| folder.real_folder(part));
            let flushed = found.and_then(|folder| folder.sync());
            all &= flushed.is_ok();
            warn_of(flushed);
        }
        all
    }

    /// Makes a held package of one that the safety net has; nothing where it is held already.
    pub(crate) fn hold_from_net(&mut self, net: &Net, caught: &Caught, record: Record) -> Result<(), PkgdirError> {
        let Some(opened) = net.file(caught) else { return Ok(()) };
        for known in self.records.of(&record.path) {
            if self.open_held(&known.held).is_ok_and(|held| held.identity.is_same_inode(&opened.identity)) {
                return Ok(());
            }
        }
        let mut made = Made::default();
        let (to, to_name, held) = self.first_place(&record.path, &mut made)?;
        let (folder, name) = net.place(caught);
        if let Err(error) = folder.link(&name, &to, &to_name) {
            log::debug!("{error}: copying");
            let staged = self.state.make_staged()?;
            let temporary = self.next_temporary();
            copy_to(&opened, &staged, &temporary).and_then(|()| staged.rename(&temporary, &to, &to_name))?;
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let record = Record { held, since, size: opened.identity.size(), ..record };
        made.records.push(record.clone());
        self.removed.insert(record.held.clone());
        self.records.insert(record);
        self.make_last(made);
        Ok(())
    }

    /// The held packages that this run has taken from the safety net.
    #[must_use]
    pub(crate) fn removed(&self) -> &HashSet<PkgPath> {
        &self.removed
    }

    /// Whether what lies at a path is held, and it was said why.
    #[must_use]
    pub(crate) fn is_held_as_it_is(&self, path: &PkgPath) -> bool {
        let Ok(there) = self.pkgdir.open_package(path) else { return false };
        // the new version of a batch that came to no end: the old one is held until it has
        if self.is_in_unfinished_batch(path, &there) {
            return true;
        }
        let is_backup = |record: &Record| self.open_held(&record.held).is_ok_and(|held| is_backup_of(&held, &there));
        self.records.of(path).any(|record| record.reason.is_some() && is_backup(record))
    }

    /// Says why the package that is held as `held` stays so. Returns whether there is one.
    pub(crate) fn keep(&mut self, held: &PkgPath, reason: Remark) -> bool {
        match self.records.get_mut(held) {
            Some(record) => {
                record.reason = Some(reason);
                true
            }
            None => false,
        }
    }

    /// Opens a held package, by its name below the folder `held`.
    pub(super) fn open_held(&self, held: &PkgPath) -> Result<Opened, PkgdirError> {
        open_held(&self.state, held)
    }

    /// Removes a backup, named below the folder `held`, and its record: the package is saved, needs no saving, or is
    /// given up.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub(crate) fn release(&mut self, held: &PkgPath) -> Result<(), PkgdirError> {
        self.remove_held(held).map(|_| ())
    }

    /// The same for several, which do not come back after a power cut. Where nothing in PKGDIR is what they are, they
    /// would count as held then, and be brought back beside what has taken their place; and the note of a batch must
    /// not go before them.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub(crate) fn release_for_good<'h>(&mut self, held: impl Iterator<Item = &'h PkgPath>) -> Result<(), PkgdirError> {
        let folders = held.map(|held| self.remove_held(held)).collect::<Result<Vec<_>, _>>()?;
        // everything is in place: a folder that cannot be flushed spoils nothing of it
        warn_of(sync_folders(folders.iter().flatten()));
        Ok(())
    }

    /// Returns the folder that it was in.
    pub(super) fn remove_held(&mut self, held: &PkgPath) -> Result<Option<Folder>, PkgdirError> {
        let folder = folder_of_held(&self.state, held)?;
        if let Some(folder) = &folder {
            folder.remove(held.file_name())?;
        }
        self.records.remove(held);
        Ok(folder)
    }
}

/// What came of linking a package.
enum Linked {
    Done(PkgPath),
    Absent,
    /// There can be none, and a copy of so many bytes is needed. The file is not kept open: there may be more of them
    /// than a process may have open.
    Impossible {
        size: u64,
        error: PkgdirError,
    },
}

/// What is to be made last.
#[derive(Default)]
pub(super) struct Made {
    /// Folders below `held`, each with a slash behind; empty for `held` itself.
    pub(super) folders: BTreeSet<String>,
    pub(super) records: Vec<Record>,
}

/// Whether this failure of a link means that a copy may still work.
fn is_no_link(error: &io::Error) -> bool {
    use std::io::ErrorKind;
    !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists | ErrorKind::StorageFull)
}

/// Whether a held file has the bytes of the other: it is the same file, or a copy, byte for byte.
pub(super) fn is_backup_of(held: &Opened, other: &Opened) -> bool {
    if held.identity.is_same_inode(&other.identity) {
        return true;
    }
    held.identity.is_like(&other.identity) && same_bytes(held, other).unwrap_or(false)
}

fn same_bytes(a: &Opened, b: &Opened) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut offset = 0;
    loop {
        let read = a.file.read_at(&mut left, offset)?;
        if read == 0 {
            return Ok(b.file.read_at(&mut right, offset)? == 0);
        }
        let (Some(left), Some(right)) = (left.get(..read), right.get_mut(..read)) else { return Ok(false) };
        match b.file.read_exact_at(right, offset) {
            Ok(()) if left == right => offset += u64::try_from(read).unwrap_or_default(),
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

fn copy_to(source: &Opened, folder: &Folder, name: &str) -> Result<(), PkgdirError> {
    let path = folder.path().join(name);
    let mut copy = folder.create(name)?;
    if rustix::fs::ioctl_ficlone(&copy, &source.file).is_err() {
        fault::step("copy to", &path)?;
        // from its start, wherever the file has been read to
        let mut from = source.file.try_clone().map_err(failed("copy to", &path))?;
        io::Seek::rewind(&mut from).map_err(failed("copy to", &path))?;
        io::copy(&mut from, &mut copy).map_err(failed("copy to", &path))?;
    }
    let modified = source.file.metadata().and_then(|facts| facts.modified()).map_err(failed("look at", &path))?;
    let times = std::fs::FileTimes::new().set_modified(modified);
    copy.set_times(times).map_err(failed("set the time of", &path))?;
    fault::sync(&copy, &path)
}

/// The folder that a held file is in; none where there is no such folder.
pub(super) fn folder_of_held(state: &state::State, held: &PkgPath) -> Result<Option<Folder>, PkgdirError> {
    let Some(mut folder) = state.held()? else { return Ok(None) };
    for part in held.folder().split('/').filter(|part| !part.is_empty()) {
        folder = match folder.real_folder(part) {
            Ok(inner) => inner,
            Err(error) if error.is_absence() => return Ok(None),
            Err(error) => return Err(error),
        };
    }
    Ok(Some(folder))
}

pub(super) fn open_held(state: &state::State, held: &PkgPath) -> Result<Opened, PkgdirError> {
    match folder_of_held(state, held)? {
        Some(folder) => folder.file(held.file_name()),
        None => {
            let path = state.folder.path().join(held.as_str());
            Err(failed("open", &path)(io::Error::from(io::ErrorKind::NotFound)))
        }
    }
}
