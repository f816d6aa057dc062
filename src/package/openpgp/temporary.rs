//! Temporary folders (0700) that do not outlive their use: each is locked as long as it is used, and what a run that
//! was killed has left is removed by the next one, or by a reboot.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Once;

use rustix::fs::{Access, AtFlags, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::key_error::KeyError;

/// How their names begin.
const PREFIX: &str = "binpkg-resign-gpg.";

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How deep folders are that gpg makes in its home, and more.
const DEPTH: usize = 8;

/// How often one is made anew that another run has taken for a leftover, before it was locked.
const TRIES: usize = 16;

/// A folder that goes when this does.
#[derive(Debug)]
pub(super) struct TemporaryFolder {
    path: PathBuf,
    name: CString,
    /// The folder that it is in.
    parent: OwnedFd,
    /// The folder itself, with the lock.
    folder: OwnedFd,
}

impl TemporaryFolder {
    /// A new, empty one. The first of a run removes what earlier runs have left.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn new() -> Result<TemporaryFolder, KeyError> {
        static SWEPT: Once = Once::new();
        let directory = directory();
        SWEPT.call_once(|| sweep(&directory));
        TemporaryFolder::make_in(&directory).map_err(|source| KeyError::PrivateHome { directory, source })
    }

    fn make_in(directory: &Path) -> io::Result<TemporaryFolder> {
        let parent = rustix::fs::open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        for _ in 0..TRIES {
            let mode = std::fs::Permissions::from_mode(0o700);
            let path = tempfile::Builder::new().prefix(PREFIX).permissions(mode).tempdir_in(directory)?.keep();
            let name = CString::new(path.file_name().map(OsStr::as_bytes).unwrap_or_default())?;
            let folder = match rustix::fs::openat(&parent, &*name, FOLDER, Mode::empty()) {
                Ok(folder) => folder,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            // where the filesystem has no such locks, nobody can take it for a leftover either
            let locked = rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive);
            if locked != Err(Errno::WOULDBLOCK) && is_called(&parent, &name, &folder) {
                return Ok(TemporaryFolder { path, name, parent, folder });
            }
        }
        Err(io::Error::other("other runs remove it before it can be locked"))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.parent, &self.name, &self.folder) {
            log::debug!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// `$TMPDIR`; or else a place that a reboot clears, where we may write there.
fn directory() -> PathBuf {
    const CLEARED: &str = "/run";
    let set = std::env::var_os("TMPDIR").is_some_and(|value| !value.is_empty());
    let is_root = rustix::process::geteuid().is_root();
    if !set && is_root && rustix::fs::access(CLEARED, Access::WRITE_OK | Access::EXEC_OK).is_ok() {
        return PathBuf::from(CLEARED);
    }
    std::env::temp_dir()
}

/// Removes the folders of runs that are no more: those that are named so, are ours alone, and have no lock.
fn sweep(directory: &Path) {
    let opened = rustix::fs::open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let Ok((entries, parent)) = opened.and_then(|parent| Ok((Dir::read_from(&parent)?, parent))) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_bytes().starts_with(PREFIX.as_bytes())) {
        let name = entry.file_name();
        let Ok(folder) = rustix::fs::openat(&parent, name, FOLDER, Mode::empty()) else { continue };
        let is_ours_alone = rustix::fs::fstat(&folder)
            .is_ok_and(|stat| stat.st_uid == rustix::process::geteuid().as_raw() && stat.st_mode & 0o7777 == 0o700);
        let is_free = || rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok();
        if is_ours_alone
            && is_free()
            && let Err(error) = remove(&parent, name, &folder)
        {
            log::debug!("cannot remove {name:?}, left by an earlier run: {error}");
        }
    }
}

/// Whether the open folder is what lies under the name.
fn is_called(parent: impl AsFd, name: &CStr, folder: impl AsFd) -> bool {
    let there = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
    let open = rustix::fs::fstat(folder);
    matches!((there, open), (Ok(there), Ok(open)) if (there.st_dev, there.st_ino) == (open.st_dev, open.st_ino))
}

/// Removes an open folder and what is in it, by its descriptor: nothing else that has got its name meanwhile.
fn remove(parent: impl AsFd, name: &CStr, folder: impl AsFd) -> io::Result<()> {
    empty(&folder, DEPTH)?;
    if is_called(&parent, name, folder) {
        rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?;
    }
    Ok(())
}

/// Removes what is in an open folder; links are removed, and not followed.
fn empty(folder: impl AsFd, depth: usize) -> io::Result<()> {
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR | Errno::PERM) if depth > 0 => {
                let inner = rustix::fs::openat(&folder, name, FOLDER, Mode::empty())?;
                empty(inner, depth - 1)?;
                rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::symlink;

    fn make(directory: &Path, name: &str, mode: u32) -> PathBuf {
        let path = directory.join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        std::fs::write(path.join("file"), "").unwrap();
        path
    }

    #[test]
    fn what_a_killed_run_left_goes_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let at = place.path();
        let elsewhere = make(at, "elsewhere", 0o700);
        let left = make(at, "binpkg-resign-gpg.left", 0o700);
        std::fs::create_dir_all(left.join("public-keys.d/deep")).unwrap();
        std::fs::write(left.join("public-keys.d/deep/file"), "").unwrap();
        symlink(&elsewhere, left.join("folder")).unwrap();
        symlink(elsewhere.join("file"), left.join("link")).unwrap();
        let used = TemporaryFolder::make_in(at).unwrap();
        let shared = make(at, "binpkg-resign-gpg.shared", 0o755);
        let another = make(at, "binpkg-resign.another", 0o700);
        symlink(&elsewhere, at.join("binpkg-resign-gpg.link")).unwrap();
        std::fs::write(at.join("binpkg-resign-gpg.file"), "").unwrap();
        let others = make(at, "binpkg-resign-gpg.others", 0o700);
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            rustix::fs::chown(&others, Some(rustix::process::Uid::from_raw(65534)), None).unwrap();
        }
        sweep(at);
        assert!(!left.exists());
        for path in [&elsewhere, &shared, &another] {
            assert!(path.join("file").exists(), "{}", path.display());
        }
        assert_eq!(others.join("file").exists(), is_root);
        assert!(at.join("binpkg-resign-gpg.link").exists() && at.join("binpkg-resign-gpg.file").exists());
        let path = used.path().to_owned();
        std::fs::write(path.join("gpg.conf"), "").unwrap();
        assert!(path.join("gpg.conf").exists());
        drop(used);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_has_been_put_in_its_place_stays() {
        let place = tempfile::tempdir().unwrap();
        let used = TemporaryFolder::make_in(place.path()).unwrap();
        let path = used.path().to_owned();
        std::fs::rename(&path, place.path().join("moved")).unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("file"), "").unwrap();
        drop(used);
        assert!(path.join("file").exists());
    }
}
