//! New files that wait for their commit: in our own folder, where nobody else can lay hands on them; beside their place
//! only where that is on another disk.

use std::fs::File;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rustix::fs::{Gid, Mode, Stat, Uid};

use super::super::Pkgdir;
use super::super::error::{PkgdirError, failed};
use super::super::fault::{self, step};
use super::super::folder::{Folder, Identity};
use super::journal::Journal;
use super::{state, warn_of};
use crate::portage::names::PkgPath;

/// The mode Portage gives a package it has rewritten, before the bits of PKGDIR (`gpkg.update_metadata`).
const PACKAGE_MODE: u32 = 0o644;

/// How the names of waiting files begin that lie beside their places.
pub(super) const BESIDE_PREFIX: &str = ".binpkg-resign.";

/// The group and the permission bits that Portage hands on from PKGDIR to what it writes there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inherited {
    gid: u32,
    mode: u32,
}

impl Inherited {
    pub(super) fn of(facts: &Stat) -> Inherited {
        Inherited { gid: facts.st_gid, mode: facts.st_mode }
    }

    /// Gives an open file the mode `base` with PKGDIR's group and group bits, as `binarytree._file_permissions`.
    pub(super) fn give_to_file(self, file: &File, base: u32, path: &std::path::Path) -> Result<(), PkgdirError> {
        set_owner(file, None, self.gid, path);
        step("set the mode of", path)?;
        let mode = Mode::from_raw_mode((base | (self.mode & 0o060)) & 0o777);
        rustix::fs::fchmod(file, mode).map_err(failed("set the mode of", path))
    }

    /// Gives a new folder PKGDIR's group and its `02070` bits, as `binarytree._ensure_dir`.
    fn give_to_folder(self, folder: &Folder) -> Result<(), PkgdirError> {
        set_owner(folder, None, self.gid, folder.path());
        step("set the mode of", folder.path())?;
        let mode = Mode::from_raw_mode((folder.facts()?.st_mode | (self.mode & 0o2070)) & 0o7777);
        rustix::fs::fchmod(folder, mode).map_err(failed("set the mode of", folder.path()))
    }
}

/// Sets owner and group where we may; Portage passes over a refusal as well.
pub(super) fn set_owner(file: impl std::os::fd::AsFd, owner: Option<u32>, gid: u32, path: &std::path::Path) {
    if let Err(error) = rustix::fs::fchown(file, owner.map(Uid::from_raw), Some(Gid::from_raw(gid))) {
        log::debug!("cannot set the owner and group of {}: {error}", path.display());
    }
}

/// Names for waiting files; each is given out once.
#[derive(Debug, Clone)]
pub(super) struct Names {
    run: String,
    given: Arc<AtomicU64>,
}

impl Names {
    /// The names of one run. Its process id alone is not its own: in a container every run may have the same one, and
    /// what an earlier one left behind may be there still.
    pub(super) fn of_run() -> Names {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Names { run: format!("{}.{}", std::process::id(), now.as_nanos()), given: Arc::default() }
    }

    /// A name in our own folder.
    pub(super) fn next(&self) -> String {
        format!("{}.{}", self.run, self.given.fetch_add(1, Ordering::Relaxed))
    }

    /// A name beside a package.
    pub(super) fn next_beside(&self) -> String {
        format!("{BESIDE_PREFIX}{}", self.next())
    }
}

/// Makes new files for packages; can be handed to every thread.
#[derive(Debug, Clone)]
pub(crate) struct Stager {
    pub(super) pkgdir: Pkgdir,
    pub(super) state: Arc<state::State>,
    pub(super) inherited: Inherited,
    pub(super) names: Names,
    /// Folders on other disks of which the journal says that files wait there.
    pub(super) beside: Arc<Mutex<Vec<String>>>,
}

/// Where a file waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// In our own folder.
    InState,
    /// Beside its place.
    Beside,
}

/// A new file that waits for its commit.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(super) waits: Waits,
    pub(super) folder: Folder,
    pub(super) name: String,
    pub(super) destination: PkgPath,
    /// The folder of the destination.
    pub(super) to: Folder,
    pub(super) identity: Option<Identity>,
    inherited: Inherited,
    pub(super) committed: bool,
}

impl Stager {
    /// Makes a private file (0600) for a new package, and the folders where it will lie.
    ///
    /// # Errors
    /// A folder or file cannot be made, or a link that others than root can have made is in the way.
    pub(crate) fn stage(&self, destination: &PkgPath) -> Result<(Staged, File), PkgdirError> {
        let to = self.make_folders(destination.folder())?;
        let ours = self.state.make_staged()?;
        let (waits, folder, name) = match ours.is_beside(&to) {
            true => (Waits::InState, ours, self.names.next()),
            false => {
                self.note_beside(destination.folder())?;
                (Waits::Beside, to.clone(), self.names.next_beside())
            }
        };
        let file = folder.create(&name)?;
        let (destination, inherited) = (destination.clone(), self.inherited);
        let staged = Staged { waits, folder, name, destination, to, identity: None, inherited, committed: false };
        Ok((staged, file))
    }

    /// Writes down, before the first file is made there, that files wait in a folder on another disk.
    fn note_beside(&self, folder: &str) -> Result<(), PkgdirError> {
        let Ok(mut known) = self.beside.lock() else { return Ok(()) };
        if !known.iter().any(|name| name == folder) {
            Journal::append(&self.state.folder, &[], &[folder.to_owned()])?;
            known.push(folder.to_owned());
        }
        Ok(())
    }

    /// The folder below PKGDIR, made where it is not there.
    fn make_folders(&self, path: &str) -> Result<Folder, PkgdirError> {
        let mut folder = self.pkgdir.folder.clone();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            folder = match folder.folder(name) {
                Ok(inner) => inner,
                Err(error) if error.is_absence() => {
                    match folder.make_folder(name, Mode::RWXU | Mode::RWXG | Mode::RWXO) {
                        Err(PkgdirError::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {}
                        made => {
                            made?;
                            let inner = folder.real_folder(name)?;
                            self.inherited.give_to_folder(&inner)?;
                            folder.sync()?;
                        }
                    }
                    folder.folder(name)?
                }
                Err(error) => return Err(error),
            };
        }
        Ok(folder)
    }
}

impl Staged {
    /// Makes the finished bytes last and gives the file the mode and group that Portage would. Returns its size in
    /// bytes and its mtime in seconds since the epoch, for the index.
    ///
    /// # Errors
    /// The file cannot be flushed.
    pub(crate) fn seal(&mut self, file: &File) -> Result<(u64, i64), PkgdirError> {
        let path = self.folder.path().join(&self.name);
        self.inherited.give_to_file(file, PACKAGE_MODE, &path)?;
        fault::sync(file, &path)?;
        let identity = Identity::of(&rustix::fs::fstat(file).map_err(failed("look at", &path))?);
        self.identity = Some(identity);
        Ok((identity.size(), identity.mtime()))
    }

    /// Whether what lies under `name` of a folder is this very file.
    fn is_at(&self, folder: &Folder, name: &str) -> Result<bool, PkgdirError> {
        let there = folder.identity(name)?;
        Ok(self.identity.zip(there).is_some_and(|(ours, there)| ours.is_same_inode(&there)))
    }

    /// Renames it into place, replacing what is there. Says `false` where nothing may be replaced and something is
    /// there.
    pub(super) fn put_in_place(&mut self, replaces: Replaces) -> Result<bool, PkgdirError> {
        let name = self.destination.file_name();
        if !self.is_at(&self.folder, &self.name)? {
            return Err(PkgdirError::Swapped { path: self.folder.path().join(&self.name) });
        }
        let renamed = match replaces {
            Replaces::Package => self.folder.rename(&self.name, &self.to, name).map(|()| true)?,
            Replaces::Nothing => self.folder.rename_new(&self.name, &self.to, name)?,
        };
        self.committed = renamed;
        if renamed && !self.is_at(&self.to, name)? {
            return Err(PkgdirError::Swapped { path: self.to.path().join(name) });
        }
        Ok(renamed)
    }
}

/// Whether a new file replaces a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replaces {
    Package,
    Nothing,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.committed {
            warn_of(self.folder.remove(&self.name));
        }
    }
}
