//! Which symbolic links are followed: those that root alone can have made, to places that root alone can replace.
//!
//! Users spread PKGDIR over disks with links of folders, and Portage follows every link. On many hosts a group may write
//! in PKGDIR, and what its members link to is none of our business.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::error::{PkgdirError, failed};

/// As many links as the system follows.
const LINK_LIMIT: usize = 40;

/// Whether nobody but root, or the user that we run as, can replace `entry` in the folder `directory`.
///
/// A group that may write may do anything in a folder; in one with the sticky bit (`/tmp`) only to entries of its own.
/// Whoever is named in an ACL counts, since the group bits then are the most that the ACL gives.
pub(super) fn only_root_can_replace(directory: &Stat, entry: &Stat, we: u32) -> bool {
    let trusted = |owner: u32| owner == 0 || owner == we;
    let shared = directory.st_mode & 0o022 != 0;
    let sticky = directory.st_mode & 0o1000 != 0;
    trusted(directory.st_uid) && trusted(entry.st_uid) && (!shared || sticky)
}

/// Finds out where the link `name` of the open folder `directory`, which is at `at`, leads to: the folder that the
/// target is in, its path, and its name there. Every folder and link on the way must be such that root alone can
/// replace it; the target itself need not be there.
///
/// # Errors
/// Somebody else may have a hand in it, it leads nowhere, or in a circle.
pub(super) fn resolve(directory: &OwnedFd, at: &Path, name: &str) -> Result<(OwnedFd, PathBuf, String), PkgdirError> {
    let link = at.join(name);
    let refuse = |why| PkgdirError::Link { path: link.clone(), why };
    let we = rustix::process::geteuid().as_raw();
    let above = rustix::fs::fstat(directory).map_err(failed("look at", at))?;
    let entry = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("look at", &link))?;
    if !only_root_can_replace(&above, &entry, we) {
        return Err(refuse("others than root can have made it"));
    }
    let target = read_link(directory, name, &link)?;
    // by the real path, so that `..` is what the system takes it for
    let start = std::fs::canonicalize(at).map_err(failed("look at", at))?.join(target);
    let mut walk = Walk::from_root(&start)?;
    let mut links = 1;
    while let Some(name) = walk.ahead.pop_front() {
        if name == ".." {
            walk.up();
            continue;
        }
        let path = walk.here.1.join(&name);
        let is_last = walk.ahead.is_empty();
        let above = rustix::fs::fstat(&walk.here.0).map_err(failed("look at", &path))?;
        let entry = match rustix::fs::statat(&walk.here.0, &*name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(entry) => entry,
            Err(Errno::NOENT) if is_last && only_root_can_replace(&above, &above, we) => {
                return Ok((walk.here.0, walk.here.1, name));
            }
            Err(error) => return Err(failed("look at", &path)(error)),
        };
        if !only_root_can_replace(&above, &entry, we) {
            return Err(refuse("others than root can change what it leads to"));
        }
        if FileType::from_raw_mode(entry.st_mode) == FileType::Symlink {
            links += 1;
            if links > LINK_LIMIT {
                return Err(refuse("it leads in a circle"));
            }
            let target = read_link(&walk.here.0, &name, &path)?;
            walk.turn(&target)?;
        } else if is_last {
            return Ok((walk.here.0, walk.here.1, name));
        } else {
            walk.down(&name)?;
        }
    }
    // the root itself, or a path that ends in `..`
    Ok((walk.here.0, walk.here.1, ".".to_owned()))
}

/// Opens what a link leads to, found as [`resolve`] does.
///
/// # Errors
/// As there, or it cannot be opened.
pub(super) fn follow(directory: &OwnedFd, at: &Path, name: &str, flags: OFlags) -> Result<OwnedFd, PkgdirError> {
    let (folder, path, name) = resolve(directory, at, name)?;
    let opened = rustix::fs::openat(folder, &*name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    opened.map_err(failed("open", &path.join(name)))
}

fn read_link(directory: &OwnedFd, name: &str, path: &Path) -> Result<PathBuf, PkgdirError> {
    let target = rustix::fs::readlinkat(directory, name, Vec::new()).map_err(failed("read the link", path))?;
    let target =
        target.into_string().map_err(|_| PkgdirError::Link { path: path.to_owned(), why: "its target is no UTF-8" })?;
    Ok(PathBuf::from(target))
}

/// Where a walk is, the folders that led there, each open, and what is still ahead.
struct Walk {
    here: (OwnedFd, PathBuf),
    above: Vec<(OwnedFd, PathBuf)>,
    ahead: VecDeque<String>,
}

impl Walk {
    fn from_root(path: &Path) -> Result<Walk, PkgdirError> {
        let mut walk = Walk { here: root()?, above: Vec::new(), ahead: VecDeque::new() };
        walk.put_ahead(path)?;
        Ok(walk)
    }

    fn put_ahead(&mut self, path: &Path) -> Result<(), PkgdirError> {
        let no_text = || PkgdirError::Link { path: path.to_owned(), why: "its target is no UTF-8" };
        for component in path.components().rev() {
            match component {
                Component::Normal(name) => self.ahead.push_front(name.to_str().ok_or_else(no_text)?.to_owned()),
                Component::ParentDir => self.ahead.push_front("..".to_owned()),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Ok(())
    }

    fn up(&mut self) {
        // above the root there is only the root
        if let Some(above) = self.above.pop() {
            self.here = above;
        }
    }

    fn down(&mut self, name: &str) -> Result<(), PkgdirError> {
        let path = self.here.1.join(name);
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.here.0, name, flags, Mode::empty()).map_err(failed("open", &path))?;
        self.above.push(std::mem::replace(&mut self.here, (opened, path)));
        Ok(())
    }

    /// Goes on with the target of a link.
    fn turn(&mut self, target: &Path) -> Result<(), PkgdirError> {
        if target.is_absolute() {
            self.here = root()?;
            self.above.clear();
        }
        self.put_ahead(target)
    }
}

fn root() -> Result<(OwnedFd, PathBuf), PkgdirError> {
    let path = PathBuf::from("/");
    let root = rustix::fs::openat(CWD, "/", OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed("open", &path))?;
    Ok((root, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder or entry of this owner and mode.
    fn stat(owner: u32, mode: u32) -> Stat {
        let mut stat = rustix::fs::stat("/").unwrap();
        stat.st_uid = owner;
        stat.st_mode = mode;
        stat
    }

    #[test]
    fn what_root_alone_can_replace() {
        let we = 7;
        for (directory, entry, wanted) in [
            ((0, 0o755), 0, true),
            ((0, 0o700), 0, true),
            ((7, 0o755), 7, true),
            ((7, 0o755), 0, true),
            ((0, 0o755), 7, true),
            ((0, 0o1777), 0, true),
            // somebody of a group
            ((0, 0o775), 0, false),
            ((0, 0o2775), 0, false),
            ((0, 0o757), 0, false),
            ((0, 0o777), 0, false),
            // somebody else's
            ((8, 0o755), 0, false),
            ((0, 0o755), 8, false),
            ((0, 0o1777), 8, false),
            ((8, 0o1777), 0, false),
        ] {
            let found = only_root_can_replace(&stat(directory.0, directory.1), &stat(entry, 0o777), we);
            assert_eq!(found, wanted, "folder {directory:?}, entry of {entry}");
        }
    }

    #[test]
    fn a_link_of_ours_is_followed_and_one_in_a_shared_folder_is_not() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let place = tempfile::tempdir().unwrap();
        let at = place.path();
        std::fs::create_dir_all(at.join("disk/deep")).unwrap();
        symlink("disk", at.join("hop")).unwrap();
        symlink("../top/hop/deep/../deep", at.join("link")).unwrap();
        symlink(".", at.join("top")).unwrap();
        symlink("circle", at.join("circle")).unwrap();
        let open = || rustix::fs::open(at, OFlags::DIRECTORY, Mode::empty()).unwrap();
        let name = at.file_name().unwrap().to_str().unwrap();
        std::fs::remove_file(at.join("link")).unwrap();
        symlink(format!("../{name}/top/hop/deep/../deep"), at.join("link")).unwrap();
        let found = follow(&open(), at, "link", OFlags::DIRECTORY).unwrap();
        let wanted = rustix::fs::stat(at.join("disk/deep")).unwrap();
        assert_eq!(rustix::fs::fstat(&found).unwrap().st_ino, wanted.st_ino);
        assert!(follow(&open(), at, "circle", OFlags::DIRECTORY).is_err());
        std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o775)).unwrap();
        let error = follow(&open(), at, "link", OFlags::DIRECTORY).unwrap_err();
        assert!(error.to_string().contains("others than root"), "{error}");
    }
}
