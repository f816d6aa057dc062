//! The only writer below PKGDIR: second names for what Portage would remove, new packages and the index, so that after
//! a crash at any point every package is there, with its old bytes or its new ones.
//!
//! One run goes: [`Store::open`] (one run at a time; what an interrupted run left is finished or undone),
//! [`Store::begin`] (a second name in `.binpkg-resign/held/` for each package at risk, and a journal),
//! [`Stager::stage`] and [`Staged::seal`] for each new file, [`Store::commit`] for a batch of them with one write of the
//! index, [`Store::finish`].

#![allow(clippy::disallowed_methods)]

mod commit;
mod disk;
#[cfg(debug_assertions)]
mod fault;
mod hold;
mod journal;
mod lock;
mod recover;

use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

pub use commit::{Committed, IndexCompression, Ready, Staged, Stager};
pub use hold::AtRisk;
pub use journal::Record;

/// The folder of ours below PKGDIR.
pub const STATE_DIRECTORY: &str = ".binpkg-resign";

/// Why something below PKGDIR could not be done.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A system call failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A path of an index or a journal would leave PKGDIR.
    #[error(
        "the path {path:?} leads out of PKGDIR and is not touched; make the index anew with `emaint binhost --fix`"
    )]
    Escapes {
        /// The path.
        path: String,
    },
    /// The path is not a regular file.
    #[error("{} is {what} and no regular file; put the package itself there", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Our own journal cannot be read.
    #[error("cannot understand {}: {source}; held packages are in the folder held beside it, move that file away to go on", path.display())]
    Journal {
        /// The journal.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The index cannot be read or compressed.
    #[error(transparent)]
    Index(#[from] crate::portage::index::IndexError),
    /// The index is gone.
    #[error("the package index {} has disappeared; make it anew with `emaint binhost --fix`", path.display())]
    NoIndex {
        /// Where it should be.
        path: PathBuf,
    },
}

/// Tells whether a file is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: i64,
    mtime_nsec: i64,
}

impl Identity {
    /// The identity of a file.
    #[must_use]
    pub fn of(facts: &std::fs::Metadata) -> Identity {
        Identity {
            dev: facts.dev(),
            ino: facts.ino(),
            size: facts.size(),
            mtime: facts.mtime(),
            mtime_nsec: facts.mtime_nsec(),
        }
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether both are the same file, or one is a faithful copy of the other (which has its time).
    fn is_copy_of(&self, other: &Identity) -> bool {
        (self.size, self.mtime, self.mtime_nsec) == (other.size, other.mtime, other.mtime_nsec)
    }
}

/// Joins a relative path of an index or a journal to a folder.
///
/// # Errors
/// The path is absolute, empty, or has `.` or `..` in it.
pub fn below(folder: &Path, path: &str) -> Result<PathBuf, StoreError> {
    let relative = Path::new(path);
    let normal = relative.components().all(|component| matches!(component, Component::Normal(_)));
    if path.is_empty() || !normal || path.contains("//") || path.contains("/./") || path.contains('\0') {
        return Err(StoreError::Escapes { path: path.to_owned() });
    }
    Ok(folder.join(relative))
}

/// Whether something is at `path` below PKGDIR; also where the path leads out of it, so that nobody uses it.
#[must_use]
pub fn is_taken(pkgdir: &Path, path: &str) -> bool {
    below(pkgdir, path).map_or(true, |full| full.symlink_metadata().is_ok())
}

/// Opens a package below PKGDIR for reading: a regular file, not a symbolic link, and not through a folder that leads
/// out of PKGDIR.
///
/// # Errors
/// It is not there, no regular file, cannot be opened, or lies elsewhere.
pub fn open_package(pkgdir: &Path, path: &str) -> Result<(File, Identity), StoreError> {
    let full = below(pkgdir, path)?;
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(&full);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(StoreError::NotAFile { path: full, what: "a symbolic link" });
        }
        Err(error) => return Err(disk::failed("open", &full)(error)),
    };
    let facts = file.metadata().map_err(disk::failed("look at", &full))?;
    if !facts.is_file() {
        let what = if facts.is_dir() { "a folder" } else { "a special file" };
        return Err(StoreError::NotAFile { path: full, what });
    }
    stays_inside(pkgdir, &full, path)?;
    Ok((file, Identity::of(&facts)))
}

/// Opens a held package, by its name below the folder `held`.
///
/// # Errors
/// As [`open_package`].
pub fn open_held(pkgdir: &Path, held: &str) -> Result<(File, Identity), StoreError> {
    open_package(&pkgdir.join(STATE_DIRECTORY).join(hold::HELD_DIRECTORY), held)
}

/// Refuses a path whose folder lies, by symbolic links, outside of PKGDIR.
fn stays_inside(pkgdir: &Path, full: &Path, path: &str) -> Result<(), StoreError> {
    let real = |path: &Path| std::fs::canonicalize(path).map_err(disk::failed("look at", path));
    if real(disk::parent(full))?.starts_with(real(pkgdir)?) {
        Ok(())
    } else {
        Err(StoreError::Escapes { path: path.to_owned() })
    }
}

/// PKGDIR, for one run that writes.
#[derive(Debug)]
pub struct Store {
    pkgdir: PathBuf,
    inherited: disk::Inherited,
    compression: IndexCompression,
    journal: journal::Journal,
    /// Held for the whole run, so that there is one at a time.
    run_lock: Option<lock::Lock>,
}

impl Store {
    /// Starts a run: waits for another one to end, then finishes or undoes what an interrupted one left.
    ///
    /// # Errors
    /// PKGDIR cannot be written.
    pub fn open(pkgdir: &Path, compression: IndexCompression) -> Result<Store, StoreError> {
        let state = pkgdir.join(STATE_DIRECTORY);
        let mut tries = 0;
        let run_lock = loop {
            disk::make_private_directory(&state)?;
            match lock::Lock::acquire(&state.join("lock"), 0o600) {
                Ok(lock) => break lock,
                // the run before us took its folder away as it ended
                Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound && tries < 100 => {
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        };
        let mut store = Store {
            pkgdir: pkgdir.to_owned(),
            inherited: disk::Inherited::of(pkgdir)?,
            compression,
            journal: journal::Journal::read(&state).unwrap_or_else(|error| {
                // the second names are still there and will be found
                log::error!("{error}");
                journal::Journal::default()
            }),
            run_lock: Some(run_lock),
        };
        store.recover();
        Ok(store)
    }

    /// Whether an earlier run left something: held packages, or work cut short. Costs one look at the disk.
    #[must_use]
    pub fn has_left_overs(pkgdir: &Path) -> bool {
        pkgdir.join(STATE_DIRECTORY).symlink_metadata().is_ok()
    }

    /// The identity of the index, to see whether anybody writes it meanwhile; none where there is no index. A symbolic
    /// link is followed, since what it points to is what gets replaced.
    #[must_use]
    pub fn index_identity(pkgdir: &Path) -> Option<Identity> {
        pkgdir.join("Packages").metadata().ok().map(|facts| Identity::of(&facts))
    }

    /// The packages held from earlier runs, without starting one: nothing is written.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn held_packages(pkgdir: &Path) -> Result<Vec<Record>, StoreError> {
        let state = pkgdir.join(STATE_DIRECTORY);
        let mut records = journal::Journal::read(&state)?.records;
        records.retain(|record| record.held_file(pkgdir).is_ok_and(|file| file.symlink_metadata().is_ok()));
        Ok(records)
    }

    /// PKGDIR.
    #[must_use]
    pub fn pkgdir(&self) -> &Path {
        &self.pkgdir
    }

    /// The packages held now.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.journal.records
    }

    fn state(&self) -> PathBuf {
        self.pkgdir.join(STATE_DIRECTORY)
    }

    /// Ends the run: the journal keeps what is still held; where nothing is, our folder goes.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn finish(mut self) -> Result<(), StoreError> {
        self.journal.staged.clear();
        let state = self.state();
        if self.journal.records.is_empty() {
            self.journal.remove(&state)?;
            journal::remove_half_written(&state)?;
            hold::remove_empty_directories(&state.join(hold::HELD_DIRECTORY));
            drop(self.run_lock.take());
            // stays where somebody has put something into it, or waits for its lock
            let _ = std::fs::remove_dir(&state);
            Ok(())
        } else {
            self.journal.write(&state)
        }
    }
}

#[cfg(test)]
mod tests;
