//! What can go wrong in PKGDIR.

use std::io;
use std::path::{Path, PathBuf};

use crate::portage::index::IndexError;

/// Why something in PKGDIR could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PkgdirError {
    /// A system call failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A symbolic link that others than root can have made, or can change.
    #[error("{} is a symbolic link that is not followed: {why}; put the folder or file itself there", path.display())]
    Link {
        /// The link.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The path is not a regular file.
    #[error("{} is {what} and no regular file; put the package itself there", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// More than is read of such a file.
    #[error("{} has {size} bytes, more than the {limit} that are read; if it should be so large, report it", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// Something in our own folder cannot be understood.
    #[error("cannot understand {}: {source}; move that file away to go on", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A file that waited for its commit is another one now.
    #[error("{} is not the file that was written: somebody who may write there has swapped it; look who that is", path.display())]
    Swapped {
        /// The file.
        path: PathBuf,
    },
    /// Our own folder is not ours, and cannot be moved aside, or every new one is not, either.
    #[error(
        "{} was made or can be changed by somebody else, and a new one cannot be put in its place; move it away, and see that \
         the filesystem keeps owners and modes (CIFS and NFS with root_squash may not)",
        path.display()
    )]
    NotOurs {
        /// The folder.
        path: PathBuf,
    },
    /// The index cannot be read or compressed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The index is gone.
    #[error("the package index {} has disappeared; `binpkg-resign index` makes it anew", path.display())]
    NoIndex {
        /// Where it should be.
        path: PathBuf,
    },
    /// Another program did not let go of a lock.
    #[error(
        "waited {seconds} s for another program to release {}; end that program (`fuser` names it) and try again",
        path.display()
    )]
    LockWait {
        /// The lock.
        path: PathBuf,
        /// How long it was waited for, in seconds.
        seconds: u64,
    },
    /// The run was interrupted while it waited.
    #[error("interrupted while waiting for {}", path.display())]
    Interrupted {
        /// What it waited for.
        path: PathBuf,
    },
}

impl PkgdirError {
    /// Whether there is nothing at the path.
    #[must_use]
    pub(crate) fn is_absence(&self) -> bool {
        matches!(self, PkgdirError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Wraps what the system said with what was being done to which path.
pub(super) fn failed<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> PkgdirError {
    move |source| PkgdirError::Io { action, path: path.to_owned(), source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_told() {
        let path = || PathBuf::from("/pkgdir/a/b/b-1-1.gpkg.tar");
        let no_json = || serde_json::from_str::<u8>("{").unwrap_err();
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        // `Index` says what its cause says
        let errors = [
            PkgdirError::Io { action: "write", path: path(), source: full() },
            PkgdirError::Link { path: path(), why: "others than root can change it" },
            PkgdirError::NotAFile { path: path(), what: "a fifo" },
            PkgdirError::TooLarge { path: path(), size: 1025, limit: 1024 },
            PkgdirError::State { path: path(), source: no_json() },
            PkgdirError::Swapped { path: path() },
            PkgdirError::NotOurs { path: path() },
            PkgdirError::NoIndex { path: path() },
            PkgdirError::LockWait { path: path(), seconds: 60 },
            PkgdirError::Interrupted { path: path() },
        ];
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!("pkgdir-errors", told.join("\n"));
    }
}
