//! Portage's lock protocol (`portage/locks.py`): a POSIX lock on a file that is removed on release.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::StoreError;
use super::disk;

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    /// Holds the lock; closed after the file is removed.
    _file: File,
}

impl Lock {
    /// Takes the lock, waiting for whoever has it.
    pub(super) fn acquire(path: &Path, mode: u32) -> Result<Lock, StoreError> {
        loop {
            let file = open(path, mode)?;
            if rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                log::warn!("waiting for the lock {}", path.display());
                rustix::io::retry_on_intr(|| rustix::fs::fcntl_lock(&file, FlockOperation::LockExclusive))
                    .map_err(|error| disk::failed("lock", path)(error.into()))?;
            }
            if let Some(lock) = Lock::confirm(path, file)? {
                return Ok(lock);
            }
        }
    }

    /// The lock is worth something only while the path still is the file that was locked: the holder before removes it.
    fn confirm(path: &Path, file: File) -> Result<Option<Lock>, StoreError> {
        let locked = file.metadata().map_err(disk::failed("look at", path))?;
        match std::fs::symlink_metadata(path) {
            Ok(there) if (there.dev(), there.ino()) == (locked.dev(), locked.ino()) => {
                Ok(Some(Lock { path: path.to_owned(), _file: file }))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(disk::failed("look at", path)(error)),
        }
    }
}

fn open(path: &Path, mode: u32) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(mode)
        .custom_flags(i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default())
        .open(path)
        .map_err(disk::failed("open the lock", path))
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(error) = disk::remove_if_there(&self.path) {
            log::warn!("{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_goes_with_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".Packages.portage_lockfile");
        let lock = Lock::acquire(&path, 0o660).unwrap();
        assert!(path.exists());
        drop(lock);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_was_replaced_is_not_our_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let file = open(&path, 0o600).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(Lock::confirm(&path, open(&path, 0o600).unwrap()).unwrap().is_some());
        assert!(Lock::confirm(&path, file).unwrap().is_none());
    }
}
