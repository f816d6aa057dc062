//! The few operations on files that change something below PKGDIR, each with its path and purpose in the error.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, RenameFlags};

use super::StoreError;

/// The group and the permission bits that Portage hands on from PKGDIR to what it writes there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inherited {
    gid: u32,
    mode: u32,
}

impl Inherited {
    pub(super) fn of(pkgdir: &Path) -> Result<Inherited, StoreError> {
        let facts = std::fs::metadata(pkgdir).map_err(failed("look at", pkgdir))?;
        Ok(Inherited { gid: facts.gid(), mode: facts.mode() })
    }
}

/// Asks before each operation whether a test wants it to fail; see the room `fault`.
#[cfg(debug_assertions)]
fn step(action: &'static str, path: &Path) -> Result<(), StoreError> {
    match super::fault::fate(action, path) {
        super::fault::Fate::Goes => Ok(()),
        super::fault::Fate::Fails(error) => Err(failed(action, path)(error.into())),
        super::fault::Fate::Short => Err(failed(action, path)(rustix::io::Errno::NOSPC.into())),
    }
}

#[cfg(not(debug_assertions))]
#[inline]
fn step(_: &'static str, _: &Path) -> Result<(), StoreError> {
    Ok(())
}

/// Writes all the bytes.
pub(super) fn write(file: &mut File, bytes: &[u8], path: &Path) -> Result<(), StoreError> {
    #[cfg(debug_assertions)]
    match super::fault::fate("write", path) {
        super::fault::Fate::Goes => {}
        super::fault::Fate::Fails(error) => return Err(failed("write", path)(error.into())),
        super::fault::Fate::Short => {
            let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
            file.write_all(half).map_err(failed("write", path))?;
            return Err(failed("write", path)(rustix::io::Errno::NOSPC.into()));
        }
    }
    file.write_all(bytes).map_err(failed("write", path))
}

/// Makes the bytes of a file last.
pub(super) fn sync(file: &File, path: &Path) -> Result<(), StoreError> {
    step("flush", path)?;
    file.sync_all().map_err(failed("flush", path))
}

/// Wraps a system error with what was being done to which path.
pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

/// Makes a new file that only we can read; one left over by a crash is taken away first.
pub(super) fn create_private(path: &Path) -> Result<File, StoreError> {
    remove_if_there(path)?;
    step("create", path)?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or_default())
        .open(path)
        .map_err(failed("create", path))
}

/// Writes a whole file beside `path`, so that it is on the disk under its name or not at all.
pub(super) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let temporary = temporary(path);
    let written = create_private(&temporary).and_then(|mut file| {
        write(&mut file, bytes, &temporary)?;
        sync(&file, &temporary)?;
        rename(&temporary, path)
    });
    if written.is_err() {
        // the first error is the one to tell of
        let _ = std::fs::remove_file(&temporary);
    }
    written?;
    sync_directory(parent(path))
}

/// Where the new bytes of `path` wait: beside it, under a name that no tool takes for a package.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".resign");
    path.with_file_name(name)
}

/// The folder that holds `path`.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new("/"))
}

/// Renames, replacing what was there.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    step("rename to", to)?;
    std::fs::rename(from, to).map_err(failed("rename to", to))
}

/// Renames, and says `false` where something is there already.
pub(super) fn rename_new(from: &Path, to: &Path) -> Result<bool, StoreError> {
    step("rename to", to)?;
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => Ok(false),
        // a filesystem without that flag: a link never replaces
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            match rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()) {
                Ok(()) => remove(from).map(|()| true),
                Err(rustix::io::Errno::EXIST) => Ok(false),
                // nor links: our lock is what keeps others away
                Err(_) if std::fs::symlink_metadata(to).is_err() => rename(from, to).map(|()| true),
                Err(_) => Ok(false),
            }
        }
        Err(error) => Err(failed("rename to", to)(error.into())),
    }
}

/// Gives a file a second name; a copy where links do not work. The second name is on the disk when this returns, but
/// for its folder's entry.
pub(super) fn second_name(from: &Path, to: &Path) -> Result<(), StoreError> {
    step("link to", to)?;
    match rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()) {
        Ok(()) => return Ok(()),
        Err(error @ (rustix::io::Errno::NOENT | rustix::io::Errno::EXIST | rustix::io::Errno::NOSPC)) => {
            return Err(failed("link to", to)(error.into()));
        }
        Err(error) => log::debug!("no hard link to {} ({error}), copying", to.display()),
    }
    let source = File::open(from).map_err(failed("open", from))?;
    let temporary = temporary(to);
    let mut copy = create_private(&temporary)?;
    if rustix::fs::ioctl_ficlone(&copy, &source).is_err() {
        step("copy to", &temporary)?;
        std::io::copy(&mut &source, &mut copy).map_err(failed("copy to", &temporary))?;
    }
    let modified = (source.metadata().and_then(|facts| facts.modified())).map_err(failed("look at", from))?;
    copy.set_times(std::fs::FileTimes::new().set_modified(modified)).map_err(failed("set the time of", &temporary))?;
    sync(&copy, &temporary)?;
    rename(&temporary, to)
}

/// Removes a file.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    step("remove", path)?;
    std::fs::remove_file(path).map_err(failed("remove", path))
}

/// Removes a file that may not be there.
pub(super) fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    step("remove", path)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Makes the names in a folder last.
pub(super) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    step("flush", path)?;
    File::open(path).and_then(|directory| directory.sync_all()).map_err(failed("flush", path))
}

/// Makes a folder of ours, 0700, with those above it.
pub(super) fn make_private_directory(path: &Path) -> Result<(), StoreError> {
    step("create", path)?;
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create", path))
}

/// Makes the folders for a package below PKGDIR with PKGDIR's group and its `02070` bits, as `binarytree._ensure_dir`.
pub(super) fn make_package_directory(pkgdir: &Path, below: &Path, inherited: Inherited) -> Result<(), StoreError> {
    let mut path = pkgdir.to_owned();
    for component in below.components() {
        path.push(component);
        if path.is_dir() {
            continue;
        }
        step("create", &path)?;
        match std::fs::create_dir(&path) {
            Ok(()) => {
                let mode = std::fs::metadata(&path).map_err(failed("look at", &path))?.mode();
                set_group(&path, inherited.gid);
                set_mode(&path, mode | (inherited.mode & 0o2070))?;
                sync_directory(parent(&path))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("create", &path)(error)),
        }
    }
    Ok(())
}

/// Gives a finished file the mode `base` with PKGDIR's group and group bits, as `binarytree._file_permissions`.
pub(super) fn set_package_permissions(path: &Path, base: u32, inherited: Inherited) -> Result<(), StoreError> {
    set_group(path, inherited.gid);
    set_mode(path, base | (inherited.mode & 0o060))
}

fn set_mode(path: &Path, mode: u32) -> Result<(), StoreError> {
    step("set the mode of", path)?;
    let permissions = std::fs::Permissions::from_mode(mode & 0o7777);
    std::fs::set_permissions(path, permissions).map_err(failed("set the mode of", path))
}

/// Sets the group where we may; Portage passes over a refusal as well.
fn set_group(path: &Path, gid: u32) {
    if let Err(error) = std::os::unix::fs::lchown(path, None, Some(gid)) {
        log::debug!("cannot set the group of {}: {error}", path.display());
    }
}
