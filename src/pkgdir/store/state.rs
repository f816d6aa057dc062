//! Our own folder in PKGDIR, `.binpkg-resign`: 0700, and ours alone, or it is not used.
//!
//! Whoever may write in PKGDIR can put another folder there, or move ours away. So it is opened once, looked at, and
//! reached by its descriptor from then on; nothing is read in one
//! that belongs to another user than the one running this, or that others may enter.

use rustix::fs::{FileType, Mode};

use super::super::error::PkgdirError;
use super::super::folder::Folder;
use super::super::{Pkgdir, STATE_FOLDER};

/// The folder of held packages, in ours.
const HELD: &str = "held";
/// The folder of files that wait for their commit, in ours.
const STAGED: &str = "staged";
/// How many folders that are not ours are moved aside, at the most, in one run and in all.
const ASIDE_LIMIT: usize = 100;

/// Our folder, open.
#[derive(Debug)]
pub(super) struct State {
    pub(super) folder: Folder,
}

impl State {
    /// Opens it for looking; none where there is none, or it is not ours.
    pub(super) fn look(pkgdir: &Pkgdir) -> Result<Option<State>, PkgdirError> {
        match open_ours(&pkgdir.folder, STATE_FOLDER)? {
            Found::Ours(folder) => Ok(Some(State { folder })),
            Found::Nothing => Ok(None),
            Found::NotOurs => {
                log::error!("{} {NOT_OURS}: nothing in it is believed", pkgdir.path().join(STATE_FOLDER).display());
                Ok(None)
            }
        }
    }

    /// Opens it, and makes it where it is not there. One that is not ours and has something in it is moved aside, never removed.
    pub(super) fn open(pkgdir: &Pkgdir) -> Result<State, PkgdirError> {
        let path = pkgdir.path().join(STATE_FOLDER);
        for number in 0..ASIDE_LIMIT {
            match open_ours(&pkgdir.folder, STATE_FOLDER)? {
                Found::Ours(folder) => return Ok(State { folder }),
                Found::Nothing => match pkgdir.folder.make_folder(STATE_FOLDER, Mode::RWXU) {
                    Err(PkgdirError::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {}
                    made => made?,
                },
                // there is nothing in it; where a filesystem gives all folders another owner or mode, so it is each time
                Found::NotOurs if pkgdir.folder.remove_folder(STATE_FOLDER).is_ok() => {
                    if number == 0 {
                        log::error!("{} {NOT_OURS}; it was empty, and was removed", path.display());
                    }
                }
                Found::NotOurs => {
                    let aside = format!("{STATE_FOLDER}.not-ours.{}", number + 1);
                    match pkgdir.folder.rename_new(STATE_FOLDER, &pkgdir.folder, &aside) {
                        Ok(true) => log::error!(
                            "{} {NOT_OURS}; it was moved aside as {aside}, and nothing in it is believed: find out \
                             who put it there, look for held packages in it, then remove it",
                            path.display()
                        ),
                        Ok(false) => {}
                        Err(error) if error.is_absence() => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Err(PkgdirError::NotOurs { path })
    }

    /// The folder of held packages; none where there is none.
    pub(super) fn held(&self) -> Result<Option<Folder>, PkgdirError> {
        existing(&self.folder, HELD)
    }

    /// The same, made where it is not there.
    pub(super) fn make_held(&self) -> Result<Folder, PkgdirError> {
        below(&self.folder, HELD)
    }

    /// The folder of waiting files; none where there is none.
    pub(super) fn staged(&self) -> Result<Option<Folder>, PkgdirError> {
        existing(&self.folder, STAGED)
    }

    /// The same, made where it is not there.
    pub(super) fn make_staged(&self) -> Result<Folder, PkgdirError> {
        below(&self.folder, STAGED)
    }

    /// Takes away the folders in it that are empty.
    pub(super) fn tidy(&self) {
        for name in [HELD, STAGED] {
            if let Ok(Some(folder)) = existing(&self.folder, name) {
                remove_empty_folders(&folder);
            }
            let _ = self.folder.remove_folder(name);
        }
    }
}

/// What is to be said of a folder that is not ours.
const NOT_OURS: &str = "is no folder that only the user running this could have made and written in";

/// What lies where our folder should be.
enum Found {
    Ours(Folder),
    NotOurs,
    Nothing,
}

/// A private folder of ours that may be in another one; none where it is not there.
pub(super) fn ours_in(parent: &Folder, name: &str) -> Result<Option<Folder>, PkgdirError> {
    match open_ours(parent, name)? {
        Found::Ours(folder) => Ok(Some(folder)),
        Found::Nothing => Ok(None),
        Found::NotOurs => Err(PkgdirError::NotOurs { path: parent.path().join(name) }),
    }
}

fn open_ours(parent: &Folder, name: &str) -> Result<Found, PkgdirError> {
    match parent.real_folder(name) {
        Ok(folder) => {
            let facts = folder.facts()?;
            let ours = facts.st_uid == rustix::process::geteuid().as_raw() && facts.st_mode & 0o077 == 0;
            Ok(if ours { Found::Ours(folder) } else { Found::NotOurs })
        }
        Err(error) if error.is_absence() => Ok(Found::Nothing),
        // a link, a file, …
        Err(error) => match parent.look(name)? {
            Some(facts) if FileType::from_raw_mode(facts.st_mode) == FileType::Directory => Err(error),
            Some(_) => Ok(Found::NotOurs),
            None => Ok(Found::Nothing),
        },
    }
}

pub(super) fn existing(folder: &Folder, name: &str) -> Result<Option<Folder>, PkgdirError> {
    match folder.real_folder(name) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_absence() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a private folder of ours, and makes it where it is not there.
pub(super) fn below(folder: &Folder, name: &str) -> Result<Folder, PkgdirError> {
    if let Some(found) = existing(folder, name)? {
        return Ok(found);
    }
    match folder.make_folder(name, Mode::RWXU) {
        // another thread was faster
        Err(PkgdirError::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    folder.real_folder(name)
}

/// Removes the folders below one, as far as they are empty.
fn remove_empty_folders(folder: &Folder) {
    for (name, kind) in folder.names().unwrap_or_default() {
        if kind == FileType::Directory {
            if let Ok(inner) = folder.real_folder(&name) {
                remove_empty_folders(&inner);
            }
            let _ = folder.remove_folder(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// CIFS and the like give every folder the owner and mode that they were mounted with.
    #[test]
    fn a_filesystem_without_owners_gets_no_heap_of_folders() {
        let top = tempfile::tempdir().unwrap();
        let pkgdir = Pkgdir::open(top.path()).unwrap().unwrap();
        let (state, ended) = (top.path().join(STATE_FOLDER), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        let _ = std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755));
                    }
                });
            }
            for _ in 0..5000 {
                if let Err(error) = State::open(&pkgdir) {
                    assert!(error.to_string().contains("CIFS"), "{error}");
                }
            }
            ended.store(true, Ordering::Relaxed);
        });
        let aside = std::fs::read_dir(top.path()).unwrap().count();
        assert!(aside <= 2, "{aside} folders");
    }
}
