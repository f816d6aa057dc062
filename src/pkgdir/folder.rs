//! An open folder: everything in it is reached from its descriptor, by one name, and no link is followed that others
//! than root can have made. Every operation that changes something goes through here.
//!
//! Kernels before 5.6 and many containers have no `openat2`, so paths are walked a name at a time.

#![allow(clippy::disallowed_methods)]

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;

use super::error::{PkgdirError, failed};
use super::fault::{self, step};
use super::trust;

/// Tells whether a file is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: i64,
    mtime_nsec: i64,
}

impl Identity {
    /// That of what the system says.
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_lossless,
        clippy::cast_sign_loss,
        reason = "the types differ by machine"
    )]
    pub(super) fn of(stat: &Stat) -> Identity {
        Identity {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            size: stat.st_size as u64,
            mtime: stat.st_mtime as i64,
            mtime_nsec: stat.st_mtime_nsec as i64,
        }
    }

    /// The size in bytes.
    #[must_use]
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The time of the last change of its bytes (mtime), in whole seconds since the epoch.
    #[must_use]
    pub(crate) fn mtime(&self) -> i64 {
        self.mtime
    }

    /// The number of its inode.
    pub(super) fn inode(&self) -> u64 {
        self.ino
    }

    /// What tells it apart, to be written down: device, inode, size, mtime in seconds and nanoseconds.
    pub(super) fn numbers(&self) -> [i128; 5] {
        [self.dev.into(), self.ino.into(), self.size.into(), self.mtime.into(), self.mtime_nsec.into()]
    }

    /// Whether both are the same file on the disk, under whatever names.
    #[must_use]
    pub(crate) fn is_same_inode(&self, other: &Identity) -> bool {
        (self.dev, self.ino) == (other.dev, other.ino)
    }

    /// Whether one can be a faithful copy of the other, which has its time; only the bytes tell for sure.
    #[must_use]
    pub(crate) fn is_like(&self, other: &Identity) -> bool {
        (self.size, self.mtime, self.mtime_nsec) == (other.size, other.mtime, other.mtime_nsec)
    }
}

/// A regular file, open for reading, and what lies under its name.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The file.
    pub file: File,
    /// The file's identity.
    pub identity: Identity,
    /// What lies under the name: the file itself, or a link to it that root has made.
    pub at_name: Identity,
}

impl Opened {
    /// Opens a regular file anywhere, as its user names it; links are followed.
    ///
    /// # Errors
    /// It is not there, is no regular file, or cannot be opened.
    pub(crate) fn outside(path: &Path) -> Result<Opened, PkgdirError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(failed("open", path))?;
        Opened::regular(opened, path)
    }

    fn regular(opened: OwnedFd, path: &Path) -> Result<Opened, PkgdirError> {
        let stat = rustix::fs::fstat(&opened).map_err(failed("look at", path))?;
        let what = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let identity = Identity::of(&stat);
                return Ok(Opened { file: opened.into(), identity, at_name: identity });
            }
            FileType::Directory => "a folder",
            _ => "a special file",
        };
        Err(PkgdirError::NotAFile { path: path.to_owned(), what })
    }
}

/// An open folder.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    descriptor: Arc<OwnedFd>,
    path: Arc<Path>,
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);

impl Folder {
    /// Opens a folder by its path; links are followed, as its user means it.
    pub(super) fn open(path: &Path) -> Result<Folder, PkgdirError> {
        let opened = rustix::fs::open(path, DIRECTORY, Mode::empty()).map_err(failed("open", path))?;
        Ok(Folder::of(opened, path.to_owned()))
    }

    fn of(descriptor: OwnedFd, path: PathBuf) -> Folder {
        Folder { descriptor: Arc::new(descriptor), path: path.into() }
    }

    /// Its path, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the system says of it.
    pub(super) fn facts(&self) -> Result<Stat, PkgdirError> {
        rustix::fs::fstat(self).map_err(failed("look at", &self.path))
    }

    /// What lies under `name`; none where nothing does. A link is not followed.
    pub(super) fn look(&self, name: &str) -> Result<Option<Stat>, PkgdirError> {
        match rustix::fs::statat(self, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(failed("look at", &self.path.join(name))(error)),
        }
    }

    /// The identity of what lies under `name`.
    pub(super) fn identity(&self, name: &str) -> Result<Option<Identity>, PkgdirError> {
        Ok(self.look(name)?.as_ref().map(Identity::of))
    }

    /// Opens the folder `name`, also by a link that root alone can have made.
    pub(super) fn folder(&self, name: &str) -> Result<Folder, PkgdirError> {
        let path = self.path.join(name);
        match rustix::fs::openat(self, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(opened) => Ok(Folder::of(opened, path)),
            Err(error @ (Errno::LOOP | Errno::NOTDIR)) => match self.is_link(name)? {
                true => {
                    let found = trust::follow(&self.descriptor, &self.path, name, DIRECTORY)?;
                    let facts = rustix::fs::fstat(&found).map_err(failed("look at", &path))?;
                    match facts.st_mode & 0o002 == 0 {
                        true => Ok(Folder::of(found, path)),
                        false => Err(PkgdirError::Link { path, why: "everybody can write where it leads to" }),
                    }
                }
                false => Err(failed("open", &path)(error)),
            },
            Err(error) => Err(failed("open", &path)(error)),
        }
    }

    /// Opens the folder `name`, which must be none behind a link.
    pub(super) fn real_folder(&self, name: &str) -> Result<Folder, PkgdirError> {
        let path = self.path.join(name);
        let opened = rustix::fs::openat(self, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
        Ok(Folder::of(opened.map_err(failed("open", &path))?, path))
    }

    /// Opens the regular file `name` for reading, also by a link that root alone can have made. Does not wait for what
    /// never comes, as from a FIFO.
    pub(super) fn file(&self, name: &str) -> Result<Opened, PkgdirError> {
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let (opened, at_name) = match rustix::fs::openat(self, name, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(opened) => (opened, None),
            Err(Errno::LOOP) => {
                let link = self.identity(name)?;
                (trust::follow(&self.descriptor, &self.path, name, flags)?, link)
            }
            Err(error) => return Err(failed("open", &path)(error)),
        };
        let opened = Opened::regular(opened, &path)?;
        Ok(Opened { at_name: at_name.unwrap_or(opened.identity), ..opened })
    }

    /// Where `name` really lies, which a link that root alone can have made may tell: the folder, and the name there.
    pub(super) fn locate(&self, name: &str) -> Result<(Folder, String), PkgdirError> {
        if !self.is_link(name)? {
            return Ok((self.clone(), name.to_owned()));
        }
        let (found, path, name) = trust::resolve(&self.descriptor, &self.path, name)?;
        // the descriptor that was found is for looking only
        let opened = rustix::fs::openat(&found, ".", DIRECTORY, Mode::empty()).map_err(failed("open", &path))?;
        Ok((Folder::of(opened, path), name))
    }

    fn is_link(&self, name: &str) -> Result<bool, PkgdirError> {
        Ok(self.look(name)?.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink))
    }

    /// The bytes of the file `name`, of which there may be `limit`; none where there is no such file.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Option<(Vec<u8>, Identity)>, PkgdirError> {
        let opened = match self.file(name) {
            Ok(opened) => opened,
            Err(error) if error.is_absence() => return Ok(None),
            Err(error) => return Err(error),
        };
        let path = self.path.join(name);
        let size = opened.identity.size;
        let too_large = |size| PkgdirError::TooLarge { path: path.clone(), size, limit };
        if size > limit {
            return Err(too_large(size));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        let read = opened.file.take(limit + 1).read_to_end(&mut bytes).map_err(failed("read", &path))?;
        // it may have grown meanwhile
        let read = u64::try_from(read).unwrap_or(u64::MAX);
        if read > limit { Err(too_large(read)) } else { Ok(Some((bytes, opened.identity))) }
    }

    /// The names in it and what they are, in no order; names that are no UTF-8 are left out.
    pub(super) fn names(&self) -> Result<Vec<(String, FileType)>, PkgdirError> {
        let mut names = Vec::new();
        for entry in Dir::read_from(self).map_err(failed("list", &self.path))? {
            let entry = entry.map_err(failed("list", &self.path))?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if matches!(name, "." | "..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match self.look(name)? {
                    Some(stat) => FileType::from_raw_mode(stat.st_mode),
                    None => continue,
                },
                kind => kind,
            };
            names.push((name.to_owned(), kind));
        }
        Ok(names)
    }

    /// Makes a file that was not there, which only we can read.
    pub(super) fn create(&self, name: &str) -> Result<File, PkgdirError> {
        let path = self.path.join(name);
        step("create", &path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(self, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed("create", &path))?;
        Ok(opened.into())
    }

    /// Opens a file to write behind what it has, making it where it is not there.
    pub(super) fn append(&self, name: &str) -> Result<File, PkgdirError> {
        let path = self.path.join(name);
        step("open", &path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(self, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed("open", &path))?;
        Ok(opened.into())
    }

    /// Makes a folder that was not there.
    pub(super) fn make_folder(&self, name: &str, mode: Mode) -> Result<(), PkgdirError> {
        let path = self.path.join(name);
        step("make folder", &path)?;
        rustix::fs::mkdirat(self, name, mode).map_err(failed("create", &path))
    }

    /// Renames, replacing what was there.
    pub(super) fn rename(&self, name: &str, to: &Folder, to_name: &str) -> Result<(), PkgdirError> {
        let path = to.path.join(to_name);
        fault::step_from("rename to", &path, &self.path.join(name))?;
        rustix::fs::renameat(self, name, to, to_name).map_err(failed("rename to", &path))
    }

    /// Renames, and says `false` where something is there already.
    pub(super) fn rename_new(&self, name: &str, to: &Folder, to_name: &str) -> Result<bool, PkgdirError> {
        let path = to.path.join(to_name);
        fault::step_from("rename to", &path, &self.path.join(name))?;
        match rustix::fs::renameat_with(self, name, to, to_name, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            // a filesystem without that flag: a link never replaces
            Err(Errno::INVAL | Errno::NOSYS) => match rustix::fs::linkat(self, name, to, to_name, AtFlags::empty()) {
                Ok(()) => self.remove(name).map(|()| true),
                Err(Errno::EXIST) => Ok(false),
                // nor links: our lock is what keeps others away
                Err(_) if to.look(to_name)?.is_none() => self.rename(name, to, to_name).map(|()| true),
                Err(_) => Ok(false),
            },
            Err(error) => Err(failed("rename to", &path)(error)),
        }
    }

    /// Gives the file `name` a further name, which must be free.
    pub(super) fn link(&self, name: &str, to: &Folder, to_name: &str) -> Result<(), PkgdirError> {
        let path = to.path.join(to_name);
        fault::step_from("link to", &path, &self.path.join(name))?;
        rustix::fs::linkat(self, name, to, to_name, AtFlags::empty()).map_err(failed("link to", &path))
    }

    /// Removes a name that may not be there.
    pub(super) fn remove(&self, name: &str) -> Result<(), PkgdirError> {
        let path = self.path.join(name);
        step("remove", &path)?;
        match rustix::fs::unlinkat(self, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed("remove", &path)(error)),
        }
    }

    /// Removes the folder `name`, if it is empty.
    pub(super) fn remove_folder(&self, name: &str) -> Result<(), PkgdirError> {
        let path = self.path.join(name);
        step("remove", &path)?;
        rustix::fs::unlinkat(self, name, AtFlags::REMOVEDIR).map_err(failed("remove", &path))
    }

    /// Makes the names in it last.
    pub(super) fn sync(&self) -> Result<(), PkgdirError> {
        step("flush", &self.path)?;
        rustix::fs::fsync(self).map_err(failed("flush", &self.path))
    }

    /// Whether a file can be renamed or linked from here to `other`: both lie on one filesystem, mounted once.
    pub(super) fn is_beside(&self, other: &Folder) -> bool {
        let place = |folder: &Folder| {
            use rustix::fs::{StatxFlags, statx};
            let facts = statx(folder, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID).ok()?;
            Some((facts.stx_dev_major, facts.stx_dev_minor, facts.stx_mnt_id))
        };
        place(self).is_some_and(|here| Some(here) == place(other))
    }
}
