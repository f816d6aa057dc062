//! Second names for packages at risk: `PKGDIR/.binpkg-resign/held/PATH.held`, which no tool takes for packages.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::journal::Record;
use super::{Identity, Store, StoreError, below, disk, stays_inside};

/// The folder of held packages, in our folder.
pub(super) const HELD_DIRECTORY: &str = "held";

/// A package that Portage's pass would remove.
#[derive(Debug, Clone)]
pub struct AtRisk {
    /// Where it is, below PKGDIR.
    pub path: String,
    /// Category, name and version.
    pub cpv: String,
    /// Its build id, if it has one.
    pub build_id: Option<String>,
    /// The updates it needs, as they stand in the update files.
    pub updates: Vec<String>,
    /// Its block in the index.
    pub entry: String,
}

impl Store {
    /// Gives every package at risk a second name and writes down what is to be done, before anything is changed.
    /// `staged` are the places (below PKGDIR) where new files will come.
    ///
    /// Returns the name below `held` of each. Packages that are not there, or are no regular files, have none: Portage
    /// does not remove them either.
    ///
    /// A second name that cannot be made, or a journal that cannot be written, is warned of, and the run goes on: signing
    /// is what saves most packages, and Portage's pass comes whatever we do.
    ///
    /// # Errors
    /// A path leads out of PKGDIR.
    pub fn begin(&mut self, at_risk: Vec<AtRisk>, staged: Vec<String>) -> Result<Vec<Option<String>>, StoreError> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let mut coming = Vec::new();
        let mut names = Vec::with_capacity(at_risk.len());
        for package in at_risk {
            let from = below(&self.pkgdir, &package.path)?;
            let facts = from.symlink_metadata().ok().filter(std::fs::Metadata::is_file);
            let Some(facts) = facts.filter(|_| stays_inside(&self.pkgdir, &from, &package.path).is_ok()) else {
                names.push(None);
                continue;
            };
            if let Some(held) = self.held_already(&package, &facts)? {
                names.push(Some(held));
                continue;
            }
            let (held, to) = self.free_name(&package.path)?;
            names.push(Some(held.clone()));
            coming.push((from, to, held.clone()));
            self.journal.records.push(Record {
                size: Identity::of(&facts).size(),
                path: package.path,
                held,
                cpv: package.cpv,
                build_id: package.build_id,
                since,
                reason: None,
                updates: package.updates,
                entry: package.entry,
            });
        }
        // the journal first: it has what the index said, which is gone once Portage's pass has removed a package
        self.journal.staged = staged;
        warn_of(self.journal.write(&self.state()));
        let mut folders = BTreeSet::new();
        for (from, to, held) in coming {
            let made = disk::make_private_directory(disk::parent(&to)).and_then(|()| disk::second_name(&from, &to));
            if let Err(error) = made {
                // the others go on, and this one is saved if it can be signed
                log::warn!("{} has no second name while it is signed: {error}", from.display());
                self.journal.records.retain(|record| record.held != held);
                names.iter_mut().filter(|name| name.as_ref() == Some(&held)).for_each(|name| *name = None);
            }
            folders.insert(disk::parent(&to).to_owned());
        }
        warn_of(self.make_names_last(&folders));
        Ok(names)
    }

    /// The second name that the package has from an earlier run, in which it could not be signed; it needs the old
    /// updates as well as the new ones.
    fn held_already(&mut self, package: &AtRisk, facts: &std::fs::Metadata) -> Result<Option<String>, StoreError> {
        let held_directory = self.held_directory();
        for record in self.journal.records.iter_mut().filter(|record| record.path == package.path) {
            let held = below(&held_directory, &record.held)?.symlink_metadata();
            if held.is_ok_and(|held| Identity::of(&held).is_copy_of(&Identity::of(facts))) {
                record.reason = None;
                for update in &package.updates {
                    if !record.updates.contains(update) {
                        record.updates.push(update.clone());
                    }
                }
                return Ok(Some(record.held.clone()));
            }
        }
        Ok(None)
    }

    /// Makes the names in these folders, and in those above them up to PKGDIR, last.
    fn make_names_last(&self, folders: &BTreeSet<PathBuf>) -> Result<(), StoreError> {
        let above = |folder: &PathBuf| {
            folder.ancestors().take_while(|path| path.starts_with(&self.pkgdir)).map(Path::to_owned).collect::<Vec<_>>()
        };
        let all: BTreeSet<PathBuf> = folders.iter().flat_map(above).collect();
        // the deepest first
        all.iter().rev().try_for_each(|folder| disk::sync_directory(folder))
    }

    pub(super) fn held_directory(&self) -> PathBuf {
        self.state().join(HELD_DIRECTORY)
    }

    fn free_name(&self, path: &str) -> Result<(String, PathBuf), StoreError> {
        let mut number = 1;
        loop {
            let name = if number == 1 { format!("{path}.held") } else { format!("{path}.held.{number}") };
            let full = below(&self.held_directory(), &name)?;
            let promised = self.journal.records.iter().any(|record| record.held == name);
            if !promised && full.symlink_metadata().is_err() {
                return Ok((name, full));
            }
            number += 1;
        }
    }

    /// Says why the package that is held as `held` stays so. Returns whether there is one.
    pub fn keep(&mut self, held: &str, reason: &str) -> bool {
        match self.journal.records.iter_mut().find(|record| record.held == held) {
            Some(record) => {
                record.reason = Some(reason.to_owned());
                true
            }
            None => false,
        }
    }

    /// Whether the package in PKGDIR still is the one that is held: Portage's pass has left it alone.
    #[must_use]
    pub fn is_in_place(&self, record: &Record) -> bool {
        let facts = |path: Result<PathBuf, StoreError>| path.ok()?.symlink_metadata().ok().map(|f| Identity::of(&f));
        match (facts(below(&self.pkgdir, &record.path)), facts(record.held_file(&self.pkgdir))) {
            (Some(there), Some(held)) => there.is_copy_of(&held),
            _ => false,
        }
    }

    /// Removes a held file, named below the folder `held`, and its record: the package is saved, needs no saving, or is
    /// given up.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn release(&mut self, held: &str) -> Result<(), StoreError> {
        disk::remove_if_there(&below(&self.held_directory(), held)?)?;
        self.journal.records.retain(|record| record.held != held);
        Ok(())
    }
}

/// For what must not keep a run from saving packages.
pub(super) fn warn_of(result: Result<(), StoreError>) {
    if let Err(error) = result {
        log::warn!("{error}");
    }
}

/// Removes a folder and those in it, as far as they are empty.
pub(super) fn remove_empty_directories(path: &Path) {
    if let Ok(entries) = std::fs::read_dir(path) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove_empty_directories(&entry.path());
            }
        }
        let _ = std::fs::remove_dir(path);
    }
}
