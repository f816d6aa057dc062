//! Update files (`profiles/updates/*`) and what Portage remembers of them, as ordered commands. Here it is decided which
//! files are pending.
//!
//! What Portage's update pass (`portage._global_updates`, `emaint movebin`) will do is decided by
//! which files it takes, in which order, and by what it makes of each line. All three are followed
//! here to the letter, also where PMS 4.4.4 would have it otherwise: files come in the order in which
//! the directory lists them, and their names do not matter.

mod lines;
mod mtimedb;
mod name_bits;
mod remembered;
mod rewriter;

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use lines::LineFault;
pub use mtimedb::Mtimedb;
pub use rewriter::{Rewriter, Rewritten};

use crate::portage::atom::{Atom, Candidate, Eapi};
use crate::portage::bounded;

/// The most bytes of an update file that are read; Portage's have some ten thousand.
const LIMIT: u64 = 16 << 20;

/// What can keep the updates from being read at all.
#[derive(Debug, thiserror::Error)]
pub enum UpdatesError {
    /// The file of remembered mtimes holds what makes Portage itself stop with a traceback.
    #[error(
        "{path}: {what}; Portage cannot go on with this file either, remove it and sync again",
        path = path.display()
    )]
    BadMtimedb {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// Which update files to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Those whose mtime is not the one that Portage remembers: what the next `emerge` will take.
    Pending,
    /// All of them: what `emaint movebin --fix` takes.
    All,
}

/// Where a repository has its updates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepoSource {
    /// The repository's name.
    pub name: String,
    /// Its `profiles/updates`, below the repository's real path: Portage remembers files by that.
    /// It need not exist.
    pub updates_dir: PathBuf,
}

/// What one line of an update file asks for (PMS 4.4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateCommand {
    /// A package has a new name.
    Move {
        /// The old `category/name`.
        old: String,
        /// The new `category/name`.
        new: String,
    },
    /// Packages have a new slot.
    SlotMove {
        /// Which packages; [`Atom::with_slot`] with the old slot gives the atom that selects them.
        /// Never a blocker.
        atom: Atom,
        /// The old slot, without sub-slot.
        old: String,
        /// The new slot, without sub-slot.
        new: String,
    },
}

/// A command, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// What is to be done.
    pub command: UpdateCommand,
    /// The update file.
    pub file: Arc<Path>,
    /// The line, counted from 1 as Python's `str.splitlines` does (a form feed ends one, too).
    pub line: usize,
    /// The line's words with one blank between them.
    pub text: String,
}

impl Update {
    /// What `portage.update.update_dbentry` makes of `text` with this one command; `None` if that is
    /// no change. With a `parent`, the package that has the text, its EAPI counts and not `eapi`,
    /// and no blocker is made that would block it.
    pub fn rewrite(&self, text: &str, eapi: Eapi, parent: Option<&Candidate<'_>>) -> Option<String> {
        Rewriter::new(std::slice::from_ref(self)).rewrite(text, eapi, parent)
    }
}

impl fmt::Display for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A repository that has updates of its own, even if there is nothing to do in them.
#[derive(Clone, Debug)]
pub struct RepoUpdates {
    /// The repository's name.
    pub name: String,
    /// Its commands in Portage's order. Repositories that share a directory share the list.
    pub updates: Arc<Vec<Update>>,
}

/// All the updates there are to apply.
#[derive(Debug, Default)]
pub struct UpdateSet {
    /// Every repository that has `profiles/updates`, in the order given, also where no file in it is
    /// taken: its packages then get no updates at all, not those of the main repository.
    pub repos: Vec<RepoUpdates>,
    /// What could not be read or understood.
    pub problems: Vec<Problem>,
}

/// Something in the update files that is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A line that Portage reports and skips. The file then stays pending for ever.
    #[error(
        "{file}, line {line}: {fault}; Portage skips this line too, the repository's maintainers can fix it",
        file = file.display()
    )]
    Line {
        /// The update file.
        file: Arc<Path>,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        fault: LineFault,
    },
    /// A file that cannot be read. Portage's pass ends with a traceback there, before it has changed
    /// any package; as long as that is so, nothing in any repository is updated (and nothing lost).
    #[error("{file}: cannot read this update file (Portage's update pass will stop here): {source}", file = file.display())]
    File {
        /// The update file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A directory that cannot be listed. Portage's pass ends with a traceback, as above.
    #[error("{dir}: cannot list this directory (Portage's update pass will stop here): {source}", dir = dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl UpdateSet {
    /// Reads the updates of these repositories, which are in the order of Portage's
    /// `getRepositories()`; that order is the order of the updates.
    ///
    /// Whatever is wrong with single files and lines is in [`UpdateSet::problems`]; the rest counts.
    pub fn read(repos: &[RepoSource], mtimedb: &Mtimedb, selection: Selection) -> UpdateSet {
        let mut set = UpdateSet::default();
        let mut read: HashMap<&Path, Arc<Vec<Update>>> = HashMap::new();
        for repo in repos {
            let dir = repo.updates_dir.as_path();
            if !dir.is_dir() {
                continue;
            }
            let updates = match read.get(dir) {
                Some(updates) => Arc::clone(updates),
                None => {
                    let updates = Arc::new(read_directory(dir, mtimedb, selection, &mut set.problems));
                    read.insert(dir, Arc::clone(&updates));
                    updates
                }
            };
            set.repos.push(RepoUpdates { name: repo.name.clone(), updates });
        }
        set
    }

    /// Whether there is nothing to apply.
    pub fn is_empty(&self) -> bool {
        self.repos.iter().all(|repo| repo.updates.is_empty())
    }

    /// The updates for a package from `repository`: that repository's own, if it has the directory,
    /// or else the main repository's. `None` if neither has any.
    pub fn for_repository(&self, repository: &str, main_repo: Option<&str>) -> Option<&RepoUpdates> {
        let find = |name: &str| self.repos.iter().find(|repo| repo.name == name);
        find(repository).or_else(|| find(main_repo?))
    }
}

/// Reads the files of one directory (`portage.update.grab_updates`) in its own order.
fn read_directory(dir: &Path, mtimedb: &Mtimedb, selection: Selection, problems: &mut Vec<Problem>) -> Vec<Update> {
    let mut updates = Vec::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(source) => {
            problems.push(Problem::Directory { dir: dir.to_owned(), source });
            return updates;
        }
    };
    for entry in entries {
        let path = match entry {
            Ok(entry) if entry.file_name().as_encoded_bytes().starts_with(b".") => continue,
            Ok(entry) => entry.path(),
            Err(source) => {
                problems.push(Problem::Directory { dir: dir.to_owned(), source });
                break;
            }
        };
        match read_file(&path, mtimedb, selection) {
            Ok(Some(content)) => lines::parse(&path.into(), &content, &mut updates, problems),
            Ok(None) => {}
            Err(source) => problems.push(Problem::File { file: path, source }),
        }
    }
    updates
}

/// The content of an update file, or `None` if it is not to be taken. What is not UTF-8 in it is
/// replaced, as Portage does it.
fn read_file(path: &Path, mtimedb: &Mtimedb, selection: Selection) -> io::Result<Option<String>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        // A link to nowhere, or a file that has just gone.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !metadata.is_file() {
        return Ok(None);
    }
    let remembered = match selection {
        Selection::Pending => mtimedb.mtime(path),
        Selection::All => None,
    };
    // Portage has -1 for what it does not remember, so it never takes a file with that mtime.
    if remembered.unwrap_or(-1) == metadata.mtime() {
        log::debug!("{}: already applied by Portage", path.display());
        return Ok(None);
    }
    let content = bounded::read(path, LIMIT)?;
    Ok(Some(match String::from_utf8(content) {
        Ok(content) => content,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }))
}

#[cfg(test)]
mod tests;
