//! What a run set out to do and what is held, in `.binpkg-resign/journal`: rewritten whole when a run begins and ends.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::{below, disk, hold};

const JOURNAL: &str = "journal";
const COMMIT: &str = "commit";

/// One held package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Where the package belongs, below PKGDIR.
    pub path: String,
    /// Its name below the folder `held`.
    pub held: String,
    /// Category, name and version.
    pub cpv: String,
    /// Its build id, if it has one.
    pub build_id: Option<String>,
    /// Its size in bytes.
    pub size: u64,
    /// When it was put there, in seconds since the epoch.
    pub since: u64,
    /// Why it is held; none while the run that put it there goes on.
    pub reason: Option<String>,
    /// The updates it still needs, as they stand in the update files.
    pub updates: Vec<String>,
    /// Its block in the index.
    pub entry: String,
}

impl Record {
    /// The file that is held.
    ///
    /// # Errors
    /// The name in the journal would leave the folder.
    pub fn held_file(&self, pkgdir: &Path) -> Result<PathBuf, StoreError> {
        below(&pkgdir.join(super::STATE_DIRECTORY).join(hold::HELD_DIRECTORY), &self.held)
    }
}

/// The journal in memory.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Journal {
    /// The packages held.
    pub records: Vec<Record>,
    /// Where new files of the run under way go: each may have left a temporary file beside its place.
    #[serde(default)]
    pub staged: Vec<String>,
}

/// A batch that is about to be renamed into place; on the disk before the first rename.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct CommitNote {
    pub items: Vec<CommitItem>,
}

/// One file of a batch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CommitItem {
    /// Where it goes, below PKGDIR.
    pub destination: String,
    /// Whether the package that was there is replaced.
    pub replaces: bool,
    /// The size of the new file in bytes.
    pub size: u64,
    /// Its time of change, in seconds since the epoch.
    pub mtime: i64,
    /// Its block in the index.
    pub entry: String,
    /// The name below `held` that goes when it is done.
    pub releases: Option<String>,
}

impl Journal {
    pub(super) fn read(state: &Path) -> Result<Journal, StoreError> {
        Ok(read_json(&state.join(JOURNAL))?.unwrap_or_default())
    }

    pub(super) fn write(&self, state: &Path) -> Result<(), StoreError> {
        write_json(&state.join(JOURNAL), self)
    }

    pub(super) fn remove(&self, state: &Path) -> Result<(), StoreError> {
        disk::remove_if_there(&state.join(JOURNAL))
    }
}

impl CommitNote {
    pub(super) fn read(state: &Path) -> Result<Option<CommitNote>, StoreError> {
        read_json(&state.join(COMMIT))
    }

    pub(super) fn write(&self, state: &Path) -> Result<(), StoreError> {
        write_json(&state.join(COMMIT), self)
    }

    pub(super) fn remove(state: &Path) -> Result<(), StoreError> {
        disk::remove_if_there(&state.join(COMMIT))?;
        disk::sync_directory(state)
    }
}

/// Removes what a run left that ended while it wrote one of these files.
pub(super) fn remove_half_written(state: &Path) -> Result<(), StoreError> {
    [JOURNAL, COMMIT].iter().try_for_each(|name| disk::remove_if_there(&disk::temporary(&state.join(name))))
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    match std::fs::read(path) {
        Ok(bytes) => {
            let parsed = serde_json::from_slice(&bytes);
            parsed.map(Some).map_err(|source| StoreError::Journal { path: path.to_owned(), source })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(disk::failed("read", path)(error)),
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), StoreError> {
    let bytes = serde_json::to_vec(value).map_err(|source| StoreError::Journal { path: path.to_owned(), source })?;
    disk::write_atomically(path, &bytes)
}
