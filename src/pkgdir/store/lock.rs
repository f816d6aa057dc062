//! Portage's lock protocol (`portage/locks.py`): a POSIX lock on a file that is removed on release.

use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::super::error::{PkgdirError, failed};
use super::super::folder::{Folder, Identity};
use super::warn_of;
use crate::interrupt::Interrupt;

/// How often it is looked whether a lock is free.
const INTERVAL: Duration = Duration::from_millis(50);

/// How long a lock is waited for.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    /// At the most so long; none for as long as it takes.
    pub limit: Option<Duration>,
    /// Ends the wait.
    pub interrupt: Interrupt,
}

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    folder: Folder,
    name: &'static str,
    /// Holds the lock; closed after the file is removed.
    _file: OwnedFd,
}

impl Lock {
    /// Takes the lock, waiting for whoever has it.
    pub(super) fn acquire(
        folder: &Folder,
        name: &'static str,
        mode: u32,
        patience: &Patience,
    ) -> Result<Lock, PkgdirError> {
        let path = folder.path().join(name);
        let began = Instant::now();
        let mut told = false;
        loop {
            let file = open(folder, name, mode)?;
            match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_there(folder, name, &file)? => {
                    return Ok(Lock { folder: folder.clone(), name, _file: file });
                }
                // the holder before has removed it: it is worth something only while the path still is this file
                Ok(()) => continue,
                Err(Errno::AGAIN | Errno::ACCESS) => {}
                Err(error) => return Err(failed("lock", &path)(error)),
            }
            if !told {
                log::warn!("waiting for the lock {}", path.display());
                told = true;
            }
            if patience.interrupt.signal().is_some() {
                return Err(PkgdirError::Interrupted { path });
            }
            if let Some(limit) = patience.limit.filter(|limit| began.elapsed() >= *limit) {
                return Err(PkgdirError::LockWait { path, seconds: limit.as_secs() });
            }
            sleep(INTERVAL);
        }
    }
}

fn open(folder: &Folder, name: &str, mode: u32) -> Result<OwnedFd, PkgdirError> {
    let path = folder.path().join(name);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file =
        rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(mode)).map_err(failed("open the lock", &path))?;
    let facts = rustix::fs::fstat(&file).map_err(failed("look at", &path))?;
    match FileType::from_raw_mode(facts.st_mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(PkgdirError::NotAFile { path, what: "a special file" }),
    }
}

fn is_there(folder: &Folder, name: &str, file: &OwnedFd) -> Result<bool, PkgdirError> {
    let locked = rustix::fs::fstat(file).map_err(failed("look at", &folder.path().join(name)))?;
    let there = folder.identity(name)?;
    Ok(there.is_some_and(|there| there.is_same_inode(&Identity::of(&locked))))
}

impl Drop for Lock {
    fn drop(&mut self) {
        warn_of(self.folder.remove(self.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience() -> Patience {
        Patience { limit: Some(Duration::from_millis(120)), interrupt: Interrupt::default() }
    }

    #[test]
    fn the_file_goes_with_the_lock() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let lock = Lock::acquire(&folder, "lock", 0o660, &patience()).unwrap();
        assert!(place.path().join("lock").exists());
        drop(lock);
        assert!(!place.path().join("lock").exists());
    }

    #[test]
    fn a_file_that_was_replaced_is_not_our_lock() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let file = open(&folder, "lock", 0o600).unwrap();
        std::fs::remove_file(place.path().join("lock")).unwrap();
        let other = open(&folder, "lock", 0o600).unwrap();
        assert!(is_there(&folder, "lock", &other).unwrap());
        assert!(!is_there(&folder, "lock", &file).unwrap());
    }

    #[test]
    fn what_is_no_file_is_no_lock() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        rustix::fs::mkfifoat(&folder, "lock", Mode::RWXU).unwrap();
        assert!(matches!(Lock::acquire(&folder, "lock", 0o600, &patience()), Err(PkgdirError::NotAFile { .. })));
    }
}
