//! The only writer below PKGDIR: backups of what Portage would remove, new packages and the index, so that after a crash
//! at any point every package is there, with its old bytes or its new ones.
//!
//! One run goes: [`Store::open`] (one run at a time; what an interrupted run left is finished or undone),
//! [`Store::begin`] (a backup in `.binpkg-resign/held/` for each package at risk, and a journal), [`Stager::stage`] and
//! [`Staged::seal`] for each new file, [`Store::commit`] for a batch of them with one write of the index,
//! [`Store::finish`].

mod commit;
mod hold;
mod index_file;
mod journal;
mod lock;
mod net;
mod place;
mod records;
mod recover;
mod staged;
mod state;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use super::error::{PkgdirError, failed};
use super::folder::{Folder, Identity, Opened};
use super::{Pkgdir, STATE_FOLDER, fault};
use crate::portage::names::PkgPath;
use journal::Journal;
use records::Records;
use staged::{Inherited, Names};
use state::State;

pub(crate) use commit::{Committed, Ready};
pub(crate) use hold::{AtRisk, Backup};
pub(crate) use index_file::IndexCompression;
pub(crate) use journal::{Record, Remark};
pub(crate) use lock::Patience;
pub(crate) use net::{Caught, Net, NetPlace};
pub(crate) use staged::{Staged, Stager};

/// Reads packages, in their places and held ones; changes nothing.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    pkgdir: Pkgdir,
    state: Option<Arc<State>>,
}

impl Reader {
    /// For a run that only looks.
    ///
    /// # Errors
    /// Our folder is there and cannot be opened.
    pub(crate) fn new(pkgdir: &Pkgdir) -> Result<Reader, PkgdirError> {
        Ok(Reader { pkgdir: pkgdir.clone(), state: State::look(pkgdir)?.map(Arc::new) })
    }

    /// PKGDIR.
    #[must_use]
    pub(crate) fn pkgdir(&self) -> &Pkgdir {
        &self.pkgdir
    }

    /// Opens a held package, by its name below the folder `held`.
    ///
    /// # Errors
    /// It is not there, is no regular file, or cannot be opened.
    pub(crate) fn open_held(&self, held: &PkgPath) -> Result<Opened, PkgdirError> {
        match &self.state {
            Some(state) => hold::open_held(state, held),
            None => Err(failed("open", &self.pkgdir.path().join(STATE_FOLDER))(std::io::Error::from(
                std::io::ErrorKind::NotFound,
            ))),
        }
    }

    /// Whether the package in PKGDIR still is the one that is held: Portage's pass has left it alone.
    #[must_use]
    pub(crate) fn is_in_place(&self, record: &Record) -> bool {
        match (self.pkgdir.open_package(&record.path), self.open_held(&record.held)) {
            (Ok(there), Ok(held)) => hold::is_backup_of(&held, &there),
            _ => false,
        }
    }

    /// What is held, in the order of the paths.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub(crate) fn records(&self) -> Result<Vec<Record>, PkgdirError> {
        let Some(state) = &self.state else { return Ok(Vec::new()) };
        let mut records = Journal::read(&state.folder)?.records;
        records.retain(|record| hold::open_held(state, &record.held).is_ok());
        // and what no journal speaks of
        if let Some(held) = state.held()? {
            let known: HashSet<PkgPath> = records.iter().map(|record| record.held.clone()).collect();
            for held in recover::files_below(&held)? {
                if !known.contains(&held) {
                    records.extend(recover::unrecorded(state, held));
                }
            }
        }
        Ok(records)
    }
}

/// The lock that keeps runs apart, in our folder.
const RUN_LOCK: &str = "lock";
/// How often our folder may vanish while its lock is waited for: the run before takes it away as it ends.
const OPEN_TRIES: usize = 100;

/// PKGDIR, for one run that writes.
#[derive(Debug)]
pub(crate) struct Store {
    pkgdir: Pkgdir,
    state: Arc<State>,
    inherited: Inherited,
    compression: IndexCompression,
    patience: Patience,
    names: Names,
    beside: Arc<Mutex<Vec<String>>>,
    records: Records,
    /// The held packages that this run has taken from the safety net.
    removed: HashSet<PkgPath>,
    /// Held for the whole run, so that there is one at a time.
    run_lock: Option<lock::Lock>,
}

impl Store {
    /// Starts a run: waits for another one to end, then finishes or undoes what an interrupted one left. `patience` is
    /// for Portage's lock on the index; another run of ours is waited for as long as it takes.
    ///
    /// # Errors
    /// PKGDIR cannot be written, or the wait was interrupted.
    pub(crate) fn open(
        pkgdir: &Pkgdir,
        compression: IndexCompression,
        patience: Patience,
    ) -> Result<Store, PkgdirError> {
        let endless = Patience { limit: None, interrupt: patience.interrupt.clone() };
        let mut tries = 0;
        let (state, run_lock) = loop {
            let state = State::open(pkgdir)?;
            match lock::Lock::acquire(&state.folder, RUN_LOCK, 0o600, &endless) {
                // the run before us has taken its folder away as it ended, and another one may be there by now
                Ok(lock) if is_current(pkgdir, &state)? => break (state, lock),
                Ok(_) if tries < OPEN_TRIES => tries += 1,
                Ok(_) => return Err(PkgdirError::NotOurs { path: pkgdir.path().join(STATE_FOLDER) }),
                Err(error) if error.is_absence() && tries < OPEN_TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        };
        let journal = Journal::read(&state.folder).unwrap_or_else(|error| {
            // the backups are still there and will be found
            log::error!("{error}");
            Journal::default()
        });
        let mut store = Store {
            pkgdir: pkgdir.clone(),
            state: Arc::new(state),
            inherited: Inherited::of(&pkgdir.folder.facts()?),
            compression,
            patience,
            names: Names::of_run(),
            beside: Arc::default(),
            records: Records::default(),
            removed: HashSet::new(),
            run_lock: Some(run_lock),
        };
        store.recover(journal);
        Ok(store)
    }

    /// PKGDIR.
    #[must_use]
    pub(crate) fn pkgdir(&self) -> &Pkgdir {
        &self.pkgdir
    }

    /// The packages held now, in the order of their paths.
    #[must_use]
    pub(crate) fn records(&self) -> Vec<&Record> {
        self.records.in_order()
    }

    /// Whether no package is held.
    #[must_use]
    pub(crate) fn holds_nothing(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether this package is held under this name.
    #[must_use]
    pub(crate) fn holds(&self, held: &PkgPath) -> bool {
        self.records.contains(held)
    }

    /// What reads packages, for the threads that verify them.
    #[must_use]
    pub(crate) fn reader(&self) -> Reader {
        Reader { pkgdir: self.pkgdir.clone(), state: Some(Arc::clone(&self.state)) }
    }

    /// What makes new files, for the threads that prepare them.
    #[must_use]
    pub(crate) fn stager(&self) -> Stager {
        Stager {
            pkgdir: self.pkgdir.clone(),
            state: Arc::clone(&self.state),
            inherited: self.inherited,
            names: self.names.clone(),
            beside: Arc::clone(&self.beside),
        }
    }

    fn next_temporary(&self) -> String {
        self.names.next()
    }

    /// Ends the run: the journal keeps what is still held; where nothing is, our folder goes.
    ///
    /// # Errors
    /// The journal cannot be written; what is held is still found by its name.
    pub(crate) fn finish(mut self) -> Result<(), PkgdirError> {
        let state = Arc::clone(&self.state);
        // a batch that came to no end needs its note, and what waits for it
        let unfinished = journal::CommitNote::is_there(&state.folder)?;
        if self.records.is_empty() && !unfinished {
            Journal::remove(&state.folder)?;
            journal::remove_half_written(&state.folder)?;
            state.tidy();
            drop(self.run_lock.take());
            // stays where somebody has put something into it, or waits for its lock
            let _ = self.pkgdir.folder.remove_folder(STATE_FOLDER);
            Ok(())
        } else {
            // the note of a batch knows the first names
            if !unfinished {
                self.settle_held();
            }
            Journal::write(&state.folder, self.records.in_order().into_iter())
        }
    }
}

/// Whether our open folder is still the one in PKGDIR.
fn is_current(pkgdir: &Pkgdir, state: &State) -> Result<bool, PkgdirError> {
    let ours = Identity::of(&state.folder.facts()?);
    Ok(pkgdir.folder.identity(STATE_FOLDER)?.is_some_and(|there| there.is_same_inode(&ours)))
}

/// Writes a whole file, so that it is on the disk under its name or not at all.
fn replace_file(folder: &Folder, name: &str, temporary: &str, bytes: &[u8]) -> Result<(), PkgdirError> {
    let path = folder.path().join(temporary);
    folder.remove(temporary)?;
    let written = folder.create(temporary).and_then(|mut file| {
        fault::write(&mut file, bytes, &path)?;
        fault::sync(&file, &path)?;
        folder.rename(temporary, folder, name)
    });
    if written.is_err() {
        // the first error is the one to tell of
        let _ = folder.remove(temporary);
    }
    written?;
    folder.sync()
}

/// For what must not keep a run from saving packages.
fn warn_of(result: Result<(), PkgdirError>) {
    if let Err(error) = result {
        log::warn!("{error}");
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
