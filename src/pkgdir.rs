//! The folder of packages, and the one door to it.
//!
//! PKGDIR is opened once; everything below it is reached from that descriptor, under a path that is one
//! ([`PkgPath`]), through no link that others than root can have made. On many hosts a group may write in PKGDIR, and
//! its index is signed by nobody: what lies here is somebody else's until it has been verified.

pub(crate) mod agreement;
pub(crate) mod entry;
mod error;
mod fault;
mod folder;
pub(crate) mod from_files;
mod listing;
pub(crate) mod renewal;
pub(crate) mod store;
mod trust;

use std::path::Path;

use crate::portage::index::PackageIndex;
use crate::portage::names::PkgPath;
use error::failed;
use folder::Folder;

pub(crate) use error::PkgdirError;
pub(crate) use folder::{Identity, Opened};

/// Our own folder in PKGDIR.
pub(crate) const STATE_FOLDER: &str = ".binpkg-resign";
/// The package index.
pub(crate) const INDEX: &str = "Packages";
/// Portage's lock on it.
const INDEX_LOCK: &str = ".Packages.portage_lockfile";
/// The largest index that is read, in bytes: some millions of packages.
const INDEX_LIMIT: u64 = 4 << 30;

/// PKGDIR, open.
#[derive(Debug, Clone)]
pub(crate) struct Pkgdir {
    folder: Folder,
}

impl Pkgdir {
    /// Opens PKGDIR; none where it is not there.
    ///
    /// # Errors
    /// It is no folder, or cannot be read.
    pub(crate) fn open(path: &Path) -> Result<Option<Pkgdir>, PkgdirError> {
        match Folder::open(path) {
            Ok(folder) => Ok(Some(Pkgdir { folder })),
            Err(error) if error.is_absence() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Its path, for messages.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The folder that a package is in.
    fn folder_of(&self, path: &PkgPath) -> Result<Folder, PkgdirError> {
        walk(&self.folder, path.folder())
    }

    /// The folder that is called so.
    fn folder_named(&self, path: &PkgPath) -> Result<Folder, PkgdirError> {
        walk(&self.folder, path.as_str())
    }

    /// Opens a package for reading.
    ///
    /// # Errors
    /// It is not there, is no regular file, cannot be opened, or a link leads to it that others than root can have made.
    pub(crate) fn open_package(&self, path: &PkgPath) -> Result<Opened, PkgdirError> {
        self.folder_of(path)?.file(path.file_name())
    }

    /// What lies under the path, were it a link; none where nothing does.
    ///
    /// # Errors
    /// It cannot be told: a link leads there that others than root can have made.
    pub(crate) fn identity(&self, path: &PkgPath) -> Result<Option<Identity>, PkgdirError> {
        match self.folder_of(path) {
            Ok(folder) => folder.identity(path.file_name()),
            Err(error) if error.is_absence() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether something is known to lie under the path. Where that cannot be told, as behind a link that others than
    /// root can have made, nothing is written either; and a next free name would be looked for without end.
    #[must_use]
    pub(crate) fn is_taken(&self, path: &PkgPath) -> bool {
        matches!(self.identity(path), Ok(Some(_)))
    }

    /// The index; none where there is none.
    ///
    /// # Errors
    /// It is no regular file, too large, a link that others than root can have made, or Portage would take it as empty.
    pub(crate) fn read_index(&self) -> Result<Option<PackageIndex>, PkgdirError> {
        match self.folder.read(INDEX, INDEX_LIMIT)? {
            Some((bytes, _)) => Ok(Some(PackageIndex::parse(bytes, &self.path().join(INDEX))?)),
            None => Ok(None),
        }
    }

    /// The identity of the index, to see whether anybody writes it meanwhile; none where there is none. A link is
    /// followed, since what it leads to is what gets replaced.
    #[must_use]
    pub(crate) fn index_identity(&self) -> Option<Identity> {
        self.folder.file(INDEX).ok().map(|opened| opened.identity)
    }

    /// Whether an earlier run left something: held packages, or work cut short. Costs one look at the disk.
    #[must_use]
    pub(crate) fn has_state(&self) -> bool {
        self.folder.look(STATE_FOLDER).is_ok_and(|there| there.is_some())
    }

    /// Whether we may write in it.
    ///
    /// # Errors
    /// We may not.
    pub(crate) fn check_writable(&self) -> Result<(), PkgdirError> {
        use rustix::fs::{Access, AtFlags};
        let wanted = Access::WRITE_OK | Access::READ_OK;
        rustix::fs::accessat(&self.folder, ".", wanted, AtFlags::empty()).map_err(failed("write in", self.path()))
    }
}

fn walk(from: &Folder, path: &str) -> Result<Folder, PkgdirError> {
    let mut names = path.split('/').filter(|name| !name.is_empty());
    names.try_fold(from.clone(), |folder, name| folder.folder(name))
}
