//! What the commands that sign have in common: settings, keys, the store, and how a run is begun and ended.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::package::gpkg::{Codec, Compression, Container};
use crate::package::openpgp::{KeyError, Keyring, Patience, Refusals, SignError, SigningCommand, sign};
use crate::portage::index::{IndexError, PackageIndex};
pub mod apply;
pub mod doctor;
pub mod held;
pub mod rekey;
pub mod verify;

use crate::pkgdir::store::{self, AtRisk, IndexCompression, Store};
use crate::plan::{Collision, Overwrites, Work};
use crate::portage::settings::{self, Settings, Signing};
use crate::portage::updates::{Mtimedb, RepoSource, Selection, UpdateSet};
use crate::report::{Mode, Outcome};
use crate::resign::{self, Crew, History, Interrupt, Job, Purpose};

/// Why a run could not be begun: nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Portage's configuration.
    #[error(transparent)]
    Settings(#[from] settings::SettingsError),
    /// What Portage remembers of the update files.
    #[error(transparent)]
    Updates(#[from] crate::portage::updates::UpdatesError),
    /// The index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// There is no index, but there are packages.
    #[error("{} is missing, while there are packages: make it with `emaint binhost --fix`", pkgdir.join("Packages").display())]
    NoIndex {
        /// PKGDIR.
        pkgdir: PathBuf,
    },
    /// PKGDIR cannot be written, or our journal not read.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// The signing command as configured.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The keys, where a command is about nothing else.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A held package that is not there.
    #[error("no package is held as {path}; `binpkg-resign held` lists them")]
    NotHeld {
        /// The path as it was given.
        path: String,
    },
}

/// How a command is run.
pub struct Run<'a> {
    /// Portage's configuration.
    pub settings: &'a Settings,
    /// Whether to write.
    pub mode: Mode,
    /// How many packages to prepare at once.
    pub jobs: usize,
    /// The terminal where a passphrase can be asked for; none under cron.
    pub terminal: Option<String>,
    /// Ends the run early.
    pub interrupt: &'a Interrupt,
    /// Told how many packages are done, of how many.
    pub progress: &'a (dyn Fn(usize, usize) + Sync),
}

impl Run<'_> {
    /// Why packages are not signed here.
    pub(crate) fn why_not_configured(&self) -> Result<String, Error> {
        Ok(self.settings.why_not_signing()?.map(|why| why.to_string()).unwrap_or_default())
    }

    pub(crate) fn open_store(&self) -> Result<Store, Error> {
        let gzip = self.settings.has_feature("compress-index")?;
        let compression = if gzip { IndexCompression::Gzip } else { IndexCompression::None };
        Ok(Store::open(self.settings.pkgdir()?, compression)?)
    }

    /// Gives the packages at risk their second names, before anything is changed; those held before have theirs.
    pub(crate) fn begin(&self, store: &mut Store, jobs: &mut [Job]) -> Result<(), Error> {
        let staged = jobs.iter().flat_map(|job| edits(&job.work).map(|edit| edit.path.clone())).collect();
        let new = |job: &&mut Job| job.history == History::New;
        let at_risk = jobs.iter_mut().filter(new).map(|job| at_risk(job)).collect();
        let names = store.begin(at_risk, staged)?;
        for (job, name) in jobs.iter_mut().filter(new).zip(names) {
            job.held = name;
        }
        Ok(())
    }

    /// Verify, rewrite, sign and commit; where the keys cannot be used at all, everything signed is kept safe.
    pub(crate) fn resign(
        &self,
        signing: &Signing,
        store: &mut Store,
        jobs: &[Job],
        purpose: Purpose,
    ) -> Result<Vec<(History, Outcome)>, Error> {
        let keyring = match self.open_keyring(signing)? {
            Ok(keyring) => keyring,
            Err(error) => return Ok(resign::keep_all(store, jobs, &error.to_string())),
        };
        if let Some(text) = crate::commands::doctor::expiry(&keyring) {
            log::warn!("{text}; `binpkg-resign doctor` says how to extend it");
        }
        let crew = Crew {
            keyring: &keyring,
            command: &self.signing_command(signing)?,
            codec: &self.codec()?,
            compression: self.compression()?,
            stager: store.stager(),
            foreign: self.settings.foreign()?,
            purpose,
            jobs: self.jobs,
            interrupt: self.interrupt,
            progress: self.progress,
        };
        Ok(crew.run(store, jobs))
    }

    /// What [`Run::resign`] would do.
    pub(crate) fn pretend(
        &self,
        signing: &Signing,
        jobs: &[Job],
        purpose: Purpose,
    ) -> Result<Vec<(History, Outcome)>, Error> {
        let pkgdir = self.settings.pkgdir()?;
        Ok(match self.open_keyring(signing)? {
            Ok(keyring) => resign::pretend(pkgdir, jobs, &keyring, &self.codec()?, self.settings.foreign()?, purpose),
            Err(error) => resign::would_keep_all(pkgdir, jobs, &error.to_string()),
        })
    }

    /// Ends the run; returns how many packages are held.
    pub(crate) fn finish(&self, store: Store) -> Result<usize, Error> {
        let held = store.records().len();
        store.finish()?;
        Ok(held)
    }

    /// Our certificates; the inner error is one that concerns the keys, not the configuration.
    pub(crate) fn open_keyring(&self, signing: &Signing) -> Result<Result<Keyring, KeyError>, Error> {
        let migrations = self.settings.key_migrations()?.into_iter().map(|pair| (pair.old, pair.new));
        let patience = Patience::new(self.settings.sign_timeout()?, Arc::clone(&self.interrupt.0));
        let migrations = migrations.collect::<Vec<_>>();
        let keyring = Keyring::open_within(Path::new(&signing.home), &signing.key, &migrations, &patience);
        Ok(if signing.runs_gpg() { keyring } else { keyring.map(Keyring::with_secret_elsewhere) })
    }

    pub(crate) fn signing_command(&self, signing: &Signing) -> Result<SigningCommand, Error> {
        self.command_on(self.terminal.clone(), signing)
    }

    /// The signing command as a sync under cron would run it.
    pub(crate) fn signing_command_without_terminal(&self, signing: &Signing) -> Result<SigningCommand, Error> {
        self.command_on(None, signing)
    }

    fn command_on(&self, terminal: Option<String>, signing: &Signing) -> Result<SigningCommand, Error> {
        let settings = self.settings;
        let line = |kind| settings.expand(&sign::with_config(signing, kind));
        let (detached, clear) = (line(sign::Kind::Detached)?, line(sign::Kind::Clear)?);
        let environment = settings.command_environment()?;
        let timeout = settings.sign_timeout()?;
        let command = SigningCommand::new(&detached, &clear, &signing.digest, environment, terminal, timeout)?;
        Ok(command.stopped_by(Arc::clone(&self.interrupt.0)).remembering(self.refusals()?))
    }

    /// Where it is remembered that a passphrase or PIN was refused.
    pub(crate) fn refusals(&self) -> Result<Refusals, Error> {
        Ok(Refusals::in_file(self.settings.eroot()?.join("var/lib/binpkg-resign/refused")))
    }

    /// The programs and settings for packing metadata.
    pub(crate) fn codec(&self) -> Result<Codec, Error> {
        let settings = self.settings;
        // a broken file is found here, so that the look-ups below have nothing to report
        settings.get("BINPKG_COMPRESS_FLAGS")?;
        let setting = |name: &str| settings.get(name).ok().flatten().map(str::to_owned);
        let words = |line: &str| settings::split_words(&settings.expand(line).ok()?);
        Ok(Codec::from_portage(setting, words))
    }

    /// How Portage would pack new metadata; none where the setting is not one it knows.
    pub(crate) fn compression(&self) -> Result<Option<Compression>, Error> {
        Ok(Compression::from_setting(self.settings.get("BINPKG_COMPRESS")?.unwrap_or_default()))
    }
}

/// The updates to apply, in Portage's order.
pub(crate) fn read_updates(settings: &Settings, selection: Selection) -> Result<UpdateSet, Error> {
    let sources: Vec<RepoSource> = (settings.repositories()?.iter())
        .map(|repository| RepoSource {
            name: repository.name.clone(),
            updates_dir: repository.location.join("profiles/updates"),
        })
        .collect();
    let remembered = match selection {
        Selection::Pending => Mtimedb::read(&settings.mtimedb_path()?)?,
        Selection::All => Mtimedb::default(),
    };
    Ok(UpdateSet::read(&sources, &remembered, selection))
}

fn edits(work: &Work) -> impl Iterator<Item = &crate::plan::Edit> {
    work.in_place.iter().chain(&work.copies)
}

fn at_risk(job: &Job) -> AtRisk {
    let mut updates: Vec<String> = Vec::new();
    for change in edits(&job.work).flat_map(|edit| &edit.changes) {
        if !updates.contains(&change.update) {
            updates.push(change.update.clone());
        }
    }
    AtRisk {
        path: job.work.path.clone(),
        cpv: job.work.cpv.clone(),
        build_id: job.work.build_id.clone(),
        updates,
        entry: job.base.to_text(),
    }
}

/// The index of PKGDIR; none where there are no packages either.
pub(crate) fn read_index(pkgdir: &Path) -> Result<Option<PackageIndex>, Error> {
    match PackageIndex::read(&pkgdir.join("Packages"))? {
        Some(index) => Ok(Some(index)),
        None if has_packages(pkgdir, 3) => Err(Error::NoIndex { pkgdir: pkgdir.to_owned() }),
        None => Ok(None),
    }
}

/// Whether there is a package in a folder or, so deep, below it.
fn has_packages(folder: &Path, depth: usize) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => depth > 1 && has_packages(&entry.path(), depth - 1),
        Ok(_) => entry.file_name().to_string_lossy().ends_with(".gpkg.tar"),
        Err(_) => false,
    })
}

/// In the flat layout Portage moves an unsigned package over another one of its new name. Where that other one is
/// signed, it is kept safe before.
pub(crate) fn foresee_collisions(jobs: &mut Vec<Job>, collisions: &[Collision], index: &PackageIndex, pkgdir: &Path) {
    let is_signed = |path: &str| {
        let (file, _) = store::open_package(pkgdir, path).ok()?;
        Container::open(file, &pkgdir.join(path)).and_then(|container| container.has_signatures()).ok()
    };
    for collision in collisions.iter().filter(|collision| collision.overwrites == Overwrites::Yes) {
        let path = &collision.destination;
        if is_signed(&collision.source_path) != Some(false) || is_signed(path) == Some(false) {
            continue;
        }
        let reason = format!("Portage moves the unsigned {} over it ({})", collision.source_path, collision.update);
        if let Some(job) = jobs.iter_mut().find(|job| job.work.path == *path) {
            job.work.doomed = Some(reason);
            continue;
        }
        let found = index.at_path(path).into_iter().find_map(|number| Some((number, index.entry(number)?)));
        let Some((number, base)) = found else { continue };
        let work = Work {
            number,
            path: path.clone(),
            cpv: base.get("CPV").unwrap_or_default().to_owned(),
            build_id: base.get("BUILD_ID").map(str::to_owned),
            in_place: None,
            copies: Vec::new(),
            doomed: Some(reason),
        };
        jobs.push(Job::new(work, base));
    }
}
