//! What a run set out to do and what is held, in `.binpkg-resign/journal`: a line of JSON for each thing, added as it is
//! done, and written anew when a run ends. What binpkg-resign 0.1 wrote, one object, is read as well.
//!
//! Nothing here is believed further than it can be checked: a path is a path below PKGDIR, a file is looked for under the
//! name that the line says, and what is in it is verified before anything is signed.

use std::collections::HashMap;
use std::io::Write;

use serde::{Deserialize, Serialize};

use super::super::error::PkgdirError;
use super::super::fault;
use super::super::folder::Folder;
use super::replace_file;
use crate::portage::atom::CpvBuf;
use crate::portage::names::{BuildId, PkgPath};

const JOURNAL: &str = "journal";
/// Where a new journal waits.
const NEW_JOURNAL: &str = "journal.new";
/// The note of the batch that is being put in place.
const COMMIT: &str = "commit";
const NEW_COMMIT: &str = "commit.new";
/// The most bytes of a journal or a note that are read.
const LIMIT: u64 = 256 << 20;
/// The most packages that a journal may speak of.
const RECORD_LIMIT: usize = 1_000_000;

/// One held package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Where the package belongs.
    pub path: PkgPath,
    /// Its name below the folder `held`.
    pub held: PkgPath,
    /// Category, name and version; none where only the file tells.
    #[serde(deserialize_with = "readable_cpv")]
    pub cpv: Option<CpvBuf>,
    /// Its build id, if it has one.
    pub build_id: Option<BuildId>,
    /// Its size in bytes.
    pub size: u64,
    /// When it was put there, in seconds since the epoch.
    pub since: u64,
    /// Why it is held; none while the run that put it there goes on.
    pub reason: Option<Remark>,
    /// The updates it still needs, as they stand in the update files.
    pub updates: Vec<String>,
    /// Its block in the index.
    pub entry: String,
}

/// Why a package is held, as it was said then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Remembered")]
pub(crate) struct Remark {
    /// A word for programs.
    pub code: String,
    /// A sentence for people.
    pub text: String,
}

/// binpkg-resign 0.1 kept only the sentence.
#[derive(Deserialize)]
#[serde(untagged)]
enum Remembered {
    Text(String),
    Whole { code: String, text: String },
}

impl From<Remembered> for Remark {
    fn from(remembered: Remembered) -> Remark {
        match remembered {
            Remembered::Text(text) => Remark { code: "earlier".to_owned(), text },
            Remembered::Whole { code, text } => Remark { code, text },
        }
    }
}

fn readable_cpv<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<CpvBuf>, D::Error> {
    let text: Option<String> = Deserialize::deserialize(deserializer)?;
    Ok(text.as_deref().and_then(CpvBuf::new))
}

/// A line of the journal.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    /// A package got a backup, or is about to get one.
    Held(Box<Record>),
    /// Files of the run wait in this folder below PKGDIR, beside their places: it lies on another disk.
    Beside(String),
}

/// The journal of 0.1.
#[derive(Deserialize)]
struct FirstJournal {
    records: Vec<serde_json::Value>,
    #[serde(default)]
    staged: Vec<PkgPath>,
}

/// What a journal says.
#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) records: Vec<Record>,
    /// Folders below PKGDIR where files of the run may wait beside their places; empty for PKGDIR itself.
    pub(super) beside: Vec<String>,
    /// Packages beside which 0.1 may have left a file `.NAME.resign`.
    pub(super) first_staged: Vec<PkgPath>,
}

impl Journal {
    /// Reads the journal in our folder. A line that makes no sense, as the last one after a power cut may not, is
    /// warned of and passed over: the files are still found.
    pub(super) fn read(state: &Folder) -> Result<Journal, PkgdirError> {
        let Some((bytes, _)) = state.read(JOURNAL, LIMIT)? else { return Ok(Journal::default()) };
        let path = state.path().join(JOURNAL);
        let mut journal = Journal::default();
        let add = |journal: &mut Journal, line: Result<Line, serde_json::Error>| match line {
            Ok(Line::Held(record)) => journal.records.push(*record),
            Ok(Line::Beside(folder)) => journal.beside.push(folder),
            Err(error) => log::warn!(
                "{}: a line cannot be understood ({error}); what it spoke of is looked for in the folder held",
                path.display()
            ),
        };
        if let Ok(first) = serde_json::from_slice::<FirstJournal>(&bytes) {
            journal.first_staged = first.staged;
            for record in first.records.into_iter().take(RECORD_LIMIT) {
                add(&mut journal, serde_json::from_value(record).map(|record| Line::Held(Box::new(record))));
            }
        } else {
            for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).take(RECORD_LIMIT) {
                add(&mut journal, serde_json::from_slice(line));
            }
        }
        journal.keep_last();
        Ok(journal)
    }

    /// Of several records of one held file the last one counts.
    fn keep_last(&mut self) {
        let last: HashMap<PkgPath, usize> =
            self.records.iter().enumerate().map(|(place, record)| (record.held.clone(), place)).collect();
        let mut place = 0;
        self.records.retain(|record| {
            let is_last = last.get(&record.held) == Some(&place);
            place += 1;
            is_last
        });
    }

    /// Adds records, and makes them last.
    pub(super) fn append(state: &Folder, records: &[Record], beside: &[String]) -> Result<(), PkgdirError> {
        if records.is_empty() && beside.is_empty() {
            return Ok(());
        }
        let path = state.path().join(JOURNAL);
        // the last line may be cut short from another time
        let mut bytes = b"\n".to_vec();
        for record in records {
            push(&mut bytes, &Line::Held(Box::new(record.clone())), &path)?;
        }
        for folder in beside {
            push(&mut bytes, &Line::Beside(folder.clone()), &path)?;
        }
        let mut file = state.append(JOURNAL)?;
        fault::write(&mut file, &bytes, &path)?;
        fault::sync(&file, &path)
    }

    /// Writes the journal anew.
    pub(super) fn write<'r>(state: &Folder, records: impl Iterator<Item = &'r Record>) -> Result<(), PkgdirError> {
        let path = state.path().join(JOURNAL);
        let mut bytes = Vec::new();
        for record in records {
            push(&mut bytes, &Line::Held(Box::new(record.clone())), &path)?;
        }
        replace_file(state, JOURNAL, NEW_JOURNAL, &bytes)
    }

    pub(super) fn remove(state: &Folder) -> Result<(), PkgdirError> {
        state.remove(JOURNAL)
    }
}

fn push(bytes: &mut Vec<u8>, line: &Line, path: &std::path::Path) -> Result<(), PkgdirError> {
    serde_json::to_writer(&mut *bytes, line).map_err(|source| PkgdirError::State { path: path.to_owned(), source })?;
    bytes.write_all(b"\n").map_err(super::super::error::failed("write", path))
}

/// A batch that is about to be put in place; on the disk before the first rename.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct CommitNote {
    pub(super) items: Vec<CommitItem>,
}

/// One file of a batch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CommitItem {
    /// Where it goes.
    pub(super) destination: PkgPath,
    /// What it is called while it waits.
    pub(super) temporary: String,
    /// Whether it waits beside its place, and not in our folder.
    pub(super) beside: bool,
    /// Whether the package that was there is replaced.
    pub(super) replaces: bool,
    /// The size of the new file in bytes.
    pub(super) size: u64,
    /// Its mtime, in seconds since the epoch.
    pub(super) mtime: i64,
    /// Its inode.
    pub(super) inode: u64,
    /// Its block in the index.
    pub(super) entry: String,
    /// The name below `held` that goes when it is done.
    pub(super) releases: Option<PkgPath>,
}

impl CommitNote {
    /// Reads the note in our folder; none where there is none, or it makes no sense: then the backups tell.
    pub(super) fn read(state: &Folder) -> Result<Option<CommitNote>, PkgdirError> {
        let Some((bytes, _)) = state.read(COMMIT, LIMIT)? else { return Ok(None) };
        match serde_json::from_slice(&bytes) {
            Ok(note) => Ok(Some(note)),
            Err(error) => {
                log::warn!("cannot understand {}: {error}; passed over", state.path().join(COMMIT).display());
                Ok(None)
            }
        }
    }

    pub(super) fn is_there(state: &Folder) -> Result<bool, PkgdirError> {
        Ok(state.look(COMMIT)?.is_some())
    }

    pub(super) fn write(&self, state: &Folder) -> Result<(), PkgdirError> {
        let path = state.path().join(COMMIT);
        let bytes = serde_json::to_vec(self).map_err(|source| PkgdirError::State { path, source })?;
        replace_file(state, COMMIT, NEW_COMMIT, &bytes)
    }

    /// Removes a note, if there is one.
    pub(super) fn remove_any(state: &Folder) -> Result<(), PkgdirError> {
        if CommitNote::is_there(state)? { CommitNote::remove(state) } else { Ok(()) }
    }

    pub(super) fn remove(state: &Folder) -> Result<(), PkgdirError> {
        state.remove(COMMIT)?;
        state.sync()
    }
}

/// Removes what a run left that ended while it wrote one of these files.
pub(super) fn remove_half_written(state: &Folder) -> Result<(), PkgdirError> {
    [NEW_JOURNAL, NEW_COMMIT].iter().try_for_each(|name| state.remove(name))
}
