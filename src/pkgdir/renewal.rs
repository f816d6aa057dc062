//! Brings the index into agreement with the files: what is wrong with it, block by block, and the index that is right.
//!
//! Blocks that agree stay the bytes they are. Making a block reads the whole file, so it is done once, before anybody
//! waits for Portage's lock; what was made counts as long as the file stays what it was.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::agreement::{Disagreement, differs_from_file};
use super::entry::{Unlistable, entry_keys, whole_entry};
use super::listing::Reach;
use super::{Identity, Pkgdir, PkgdirError};
use crate::interrupt::Interrupt;
use crate::package::gpkg::Codec;
use crate::portage::atom::Cpv;
use crate::portage::index::{Entry, PackageIndex};
use crate::portage::names::PkgPath;
use crate::progress::Step;

/// What every block says of its file; by them a client tells whether it has the whole of it.
const FILE_KEYS: [&str; 4] = ["SIZE", "MTIME", "MD5", "SHA1"];

/// Which files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Those of which the index says nothing, or another size or time.
    Changed,
    /// All.
    All,
}

/// The index as it should be.
#[derive(Debug)]
pub(crate) struct Renewal {
    /// The index.
    pub index: PackageIndex,
    /// What is other about it than about the one before.
    pub changes: Vec<BlockChange>,
}

/// One thing that is changed about an index, or cannot be.
#[derive(Debug, Clone)]
pub(crate) struct BlockChange {
    /// The path, as the index has it or as it should have.
    pub path: String,
    /// The block: the new one, or else the old one; none for a file that cannot be listed.
    pub entry: Option<Entry>,
    /// What is done.
    pub what: What,
}

/// What is done about a block or a file.
#[derive(Debug, Clone)]
pub(crate) enum What {
    /// A file gets a block.
    Listed,
    /// A block is made anew from its file.
    Renewed(Wrong),
    /// A block goes.
    Dropped(Stray),
    /// A file is not in the index, or its block goes: it is no package, or not the one that its name says.
    Refused(Arc<Unlistable>),
    /// Nobody can tell, so nothing is changed: the file cannot be looked at.
    Unknown(Arc<PkgdirError>),
}

impl BlockChange {
    /// Whether the index changes by it.
    #[must_use]
    pub(crate) fn is_done(&self) -> bool {
        match self.what {
            What::Listed | What::Renewed(_) | What::Dropped(_) => true,
            // with a block, it had one that goes
            What::Refused(_) => self.entry.is_some(),
            What::Unknown(_) => false,
        }
    }
}

/// What is wrong with a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    /// Size or time, or with [`Scope::All`] any key.
    #[error(transparent)]
    Differs(#[from] Disagreement),
    /// It lacks a key that every block needs.
    #[error("the index says nothing of its {0}")]
    Lacks(&'static str),
    /// Its name is not that of a package which belongs to its path.
    #[error("the index has {0} under this path")]
    Misnamed(String),
    /// A path with `//` or `.` in it.
    #[error("the index had it as {0}")]
    OddPath(String),
}

/// Why a block goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stray {
    /// There is no such file.
    #[error("there is no such file")]
    Missing,
    /// The path leads out of PKGDIR.
    #[error("the path leads out of PKGDIR, or into a hidden folder")]
    Astray,
    /// Another block has the same path.
    #[error("the index has this path twice")]
    Twice,
}

/// A block that is about a package.
struct Claim {
    number: usize,
    entry: Entry,
    /// Its path as it stands there, where that is written otherwise.
    odd: Option<String>,
}

/// A package whose file is to be read.
struct Subject {
    path: PkgPath,
    /// Its block; none where the index has none.
    block: Option<(usize, Entry)>,
    /// What is wrong with that; none where nothing is known to be.
    wrong: Option<Wrong>,
}

/// What a file has come to, and what it was then.
type Made = (Identity, Result<Entry, Arc<Unlistable>>);

/// Reads files and remembers what they came to.
pub(crate) struct Renewer<'r> {
    /// PKGDIR.
    pub pkgdir: &'r Pkgdir,
    /// Unpacks metadata.
    pub codec: &'r Codec,
    /// Which files are read.
    pub scope: Scope,
    /// How many of them at once.
    pub jobs: usize,
    /// Ends the run early.
    pub interrupt: &'r Interrupt,
    /// Told how far it is.
    pub progress: &'r (dyn Fn(Step) + Sync),
    /// What has been read so far.
    pub made: Mutex<HashMap<PkgPath, Made>>,
}

impl Renewer<'_> {
    /// What becomes of `index`; none where the run was interrupted.
    ///
    /// # Errors
    /// PKGDIR cannot be listed.
    pub(crate) fn renew(&self, mut index: PackageIndex) -> Result<Option<Renewal>, PkgdirError> {
        let mut revision = Revision::default();
        let claims = self.claims(&index, &mut revision);
        let mut listed: HashSet<PkgPath> = HashSet::new();
        let mut subjects: Vec<Subject> = Vec::new();
        for (path, claims) in claims {
            listed.insert(path.clone());
            subjects.extend(self.choose(path, claims, &mut revision));
        }
        for file in self.pkgdir.packages()?.into_iter().filter(|file| !listed.contains(&file.path)) {
            match file.reach {
                Reach::Folders => subjects.push(Subject { path: file.path, block: None, wrong: None }),
                Reach::Link => log::info!("{} is reached by a link; Portage would not list it either", file.path),
            }
        }
        self.read(&subjects);
        if self.interrupt.signal().is_some() {
            return Ok(None);
        }
        for subject in subjects {
            self.take_in(subject, &index, &mut revision);
        }
        let Revision { edits, new, mut changes } = revision;
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        index.revise(edits, new);
        Ok(Some(Renewal { index, changes }))
    }

    /// The blocks by the packages that they are about. Those of other kinds of packages (xpak) stay as long as there is
    /// something under their name.
    fn claims(&self, index: &PackageIndex, revision: &mut Revision) -> BTreeMap<PkgPath, Vec<Claim>> {
        let mut claims: BTreeMap<PkgPath, Vec<Claim>> = BTreeMap::new();
        for (number, entry) in index.entries().enumerate() {
            // Portage passes over a block without a name
            let Some(cpv) = entry.get("CPV") else { continue };
            let written = entry.get("PATH").filter(|path| !path.is_empty());
            let text = written.map_or_else(|| format!("{cpv}.tbz2"), str::to_owned);
            let Ok(path) = PkgPath::cleaned(&text) else {
                revision.drop_block(number, text, entry, Stray::Astray);
                continue;
            };
            if path.stem().is_some() {
                let odd = (text != path.as_str()).then_some(text);
                claims.entry(path).or_default().push(Claim { number, entry, odd });
            } else if matches!(self.pkgdir.identity(&path), Ok(None)) {
                revision.drop_block(number, text, entry, Stray::Missing);
            }
        }
        claims
    }

    /// Of the blocks of one path, one stays: the first that agrees with the file. Returns what is to be read.
    fn choose(&self, path: PkgPath, mut claims: Vec<Claim>, revision: &mut Revision) -> Option<Subject> {
        let mut drop_all = |claims: Vec<Claim>, stray| {
            for claim in claims {
                revision.drop_block(claim.number, claim.odd.unwrap_or_else(|| path.to_string()), claim.entry, stray);
            }
        };
        let identity = match self.pkgdir.open_package(&path) {
            Ok(opened) => opened.identity,
            Err(error) if error.is_absence() || matches!(error, PkgdirError::NotAFile { .. }) => {
                drop_all(claims, Stray::Missing);
                return None;
            }
            Err(error) => {
                let what = What::Unknown(Arc::new(error));
                revision.changes.push(BlockChange { path: path.to_string(), entry: None, what });
                return None;
            }
        };
        let good = claims.iter().position(|claim| wrong_with(&path, &claim.entry, &identity).is_none());
        let Claim { number, mut entry, odd } = claims.swap_remove(good.unwrap_or_default());
        drop_all(claims, Stray::Twice);
        let wrong = wrong_with(&path, &entry, &identity);
        if wrong.is_some() || self.scope == Scope::All {
            let wrong = wrong.or(odd.map(Wrong::OddPath));
            return Some(Subject { path, block: Some((number, entry)), wrong });
        }
        if let Some(odd) = odd {
            entry.set("PATH", path.as_str());
            revision.renew(number, entry, Wrong::OddPath(odd));
        }
        None
    }

    /// Reads the files of these packages, several at a time; not those that have been read and are what they were.
    fn read(&self, subjects: &[Subject]) {
        let next = AtomicUsize::new(0);
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.min(subjects.len()) {
                scope.spawn(|| {
                    while let Some(subject) = subjects.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if self.interrupt.signal().is_some() {
                            return;
                        }
                        self.read_one(&subject.path);
                        let read = done.fetch_add(1, Ordering::Relaxed) + 1;
                        (self.progress)(Step::of_packages(read, subjects.len()));
                    }
                });
            }
        });
    }

    fn read_one(&self, path: &PkgPath) {
        // what cannot be opened is told of where it is taken in
        let Ok(opened) = self.pkgdir.open_package(path) else { return };
        let Ok(made) = self.made.lock() else { return };
        let known = made.get(path).is_some_and(|(identity, _)| *identity == opened.identity);
        drop(made);
        if known {
            return;
        }
        let result = whole_entry(&opened, self.pkgdir, path, self.codec).map_err(Arc::new);
        if let Ok(mut made) = self.made.lock() {
            made.insert(path.clone(), (opened.identity, result));
        }
    }

    /// Takes in what a file has come to.
    fn take_in(&self, subject: Subject, index: &PackageIndex, revision: &mut Revision) {
        let Subject { path, block, wrong } = subject;
        let made = self.made.lock().ok().and_then(|mut made| made.get_mut(&path).map(|(_, made)| made.clone()));
        let made = match made {
            Some(made) => made,
            None => match self.pkgdir.open_package(&path) {
                // it came and went
                Ok(_) => return,
                Err(error) => {
                    let what = What::Unknown(Arc::new(error));
                    return revision.changes.push(BlockChange { path: path.to_string(), entry: None, what });
                }
            },
        };
        let mut made = match made {
            Ok(made) => made,
            Err(unlistable) => {
                let entry = block.map(|(number, entry)| {
                    revision.edits.insert(number, None);
                    entry
                });
                let what = What::Refused(unlistable);
                return revision.changes.push(BlockChange { path: path.to_string(), entry, what });
            }
        };
        // what the header says need not be said again (`PackageIndex.write`)
        for key in ["CHOST", "REPO"] {
            if made.get(key).is_some() && made.get(key) == index.header(key) {
                made.set(key, "");
            }
        }
        let Some((number, mut entry)) = block else {
            revision.changes.push(BlockChange {
                path: path.to_string(),
                entry: Some(made.clone()),
                what: What::Listed,
            });
            revision.new.push(made);
            return;
        };
        let differing = first_difference(&entry, &made);
        let Some(wrong) = wrong.or(differing.map(Wrong::Differs)) else { return };
        for key in entry_keys() {
            entry.set(key, made.get(key).unwrap_or_default());
        }
        revision.renew(number, entry, wrong);
    }
}

/// What is wrong with a block, as far as that can be told without reading the file.
fn wrong_with(path: &PkgPath, entry: &Entry, identity: &Identity) -> Option<Wrong> {
    if let Some(key) = FILE_KEYS.into_iter().find(|key| entry.get(key).is_none()) {
        return Some(Wrong::Lacks(key));
    }
    if let Some(disagreement) = differs_from_file(entry, identity) {
        return Some(Wrong::Differs(disagreement));
    }
    let cpv = entry.get("CPV").unwrap_or_default();
    let belongs = Cpv::parse(cpv).is_some_and(|cpv| path.belongs_to(&cpv));
    (!belongs).then(|| Wrong::Misnamed(cpv.to_owned()))
}

/// The first key that a block has otherwise than its file.
fn first_difference(entry: &Entry, made: &Entry) -> Option<Disagreement> {
    let value = |entry: &Entry, key: &str| entry.get(key).unwrap_or_default().to_owned();
    entry_keys().find(|key| value(entry, key) != value(made, key)).map(|key| Disagreement {
        key,
        said: value(entry, key),
        is: value(made, key),
    })
}

/// What becomes of the blocks of an index.
#[derive(Default)]
struct Revision {
    edits: HashMap<usize, Option<Entry>>,
    new: Vec<Entry>,
    changes: Vec<BlockChange>,
}

impl Revision {
    fn drop_block(&mut self, number: usize, path: String, entry: Entry, stray: Stray) {
        self.edits.insert(number, None);
        self.changes.push(BlockChange { path, entry: Some(entry), what: What::Dropped(stray) });
    }

    fn renew(&mut self, number: usize, entry: Entry, wrong: Wrong) {
        let path = entry.get("PATH").unwrap_or_default().to_owned();
        self.changes.push(BlockChange { path, entry: Some(entry.clone()), what: What::Renewed(wrong) });
        self.edits.insert(number, Some(entry));
    }
}
