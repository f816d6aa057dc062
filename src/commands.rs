//! The commands, each from top to bottom in its own room, and what they have in common: the context of a run, and the
//! one type of what can keep a run from its work.

pub(crate) mod apply;
pub(crate) mod doctor;
pub(crate) mod held;
pub(crate) mod index;
pub(crate) mod rekey;
pub(crate) mod sign;
pub(crate) mod status;
pub(crate) mod verify;

mod account;
mod concerned;
mod named;
mod net;
mod signers;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::interrupt::Interrupt;
use crate::outcome::{Mode, Reason};
use crate::package::gpkg::{Codec, Compression};
use crate::package::openpgp::{self, KeyError, Keyring, Refusals, SignError, SignedWith, SigningCommand};
use crate::pkgdir::store::{IndexCompression, Patience, Reader, Store};
use crate::pkgdir::{Pkgdir, PkgdirError};
use crate::plan::Layout;
use crate::portage::settings::{self, Settings, Signing};
use crate::portage::updates::{Mtimedb, RepoSource, Selection, UpdateSet};
use crate::progress::{Meter, Step};
use crate::report::Audience;
use crate::resign::{self, Crew, Job, Purpose, Results};

/// Why a run, or a part of it, could not be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Portage's configuration.
    #[error(transparent)]
    Settings(#[from] settings::SettingsError),
    /// What Portage remembers of the update files.
    #[error(transparent)]
    Updates(#[from] crate::portage::updates::UpdatesError),
    /// PKGDIR, its index or our own state in it.
    #[error(transparent)]
    Pkgdir(#[from] PkgdirError),
    /// There is no index, but there are packages.
    #[error("{} is missing, while there are packages: `binpkg-resign index` makes it", pkgdir.join("Packages").display())]
    NoIndex {
        /// PKGDIR.
        pkgdir: PathBuf,
    },
    /// The signing command as configured.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The keys, where a command is about nothing else.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The key cannot sign.
    #[error(transparent)]
    KeyProblem(Arc<KeyError>),
    /// A package that is not there.
    #[error(
        "there is no package {name} in PKGDIR and its index, and no file of that name; `binpkg-resign verify -v` lists \
         what is there"
    )]
    NoSuchPackage {
        /// The name or file as it was given.
        name: String,
    },
    /// A held package that is not there.
    #[error("no package is held as {name}; `binpkg-resign held` lists them")]
    NotHeld {
        /// The name or path as it was given.
        name: String,
    },
    /// A name of several held packages, where one is to be removed for good.
    #[error("{name} is the name of more than one held package; say which: {builds}")]
    HeldMoreThanOnce {
        /// The name or path as it was given.
        name: String,
        /// What else they are called.
        builds: String,
    },
}

/// How a command is run.
pub(crate) struct Run<'a> {
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
    /// Told how far it is.
    pub progress: &'a (dyn Fn(Step) + Sync),
}

impl Run<'_> {
    /// Why packages are not signed here.
    fn why_not_configured(&self) -> Result<String, Error> {
        Ok(self.settings.why_not_signing()?.map(|why| why.to_string()).unwrap_or_default())
    }

    /// Whether somebody waits for an answer also where nothing was to be done.
    fn audience(&self) -> Audience {
        match self.terminal {
            Some(_) if !self.settings.are_of_a_hook() => Audience::Person,
            _ => Audience::Nobody,
        }
    }

    /// PKGDIR; none where it is not there.
    fn pkgdir(&self) -> Result<Option<Pkgdir>, Error> {
        Ok(Pkgdir::open(self.settings.pkgdir()?)?)
    }

    /// How packages lie in PKGDIR.
    fn layout(&self) -> Result<Layout, Error> {
        let numbered = self.settings.has_feature("binpkg-multi-instance")?;
        Ok(if numbered { Layout::MultiInstance } else { Layout::Flat })
    }

    /// The updates to apply, in Portage's order.
    fn updates(&self, selection: Selection) -> Result<UpdateSet, Error> {
        let remembered = match selection {
            Selection::Pending => self.remembered()?,
            Selection::All => Mtimedb::default(),
        };
        Ok(UpdateSet::read(&self.sources()?, &remembered, selection))
    }

    /// Where the repositories have their updates.
    fn sources(&self) -> Result<Vec<RepoSource>, Error> {
        let sources = (self.settings.repositories()?.iter())
            .map(|repository| RepoSource {
                name: repository.name.clone(),
                updates_dir: repository.location.join("profiles/updates"),
            })
            .collect();
        Ok(sources)
    }

    /// What every update pass over this PKGDIR remembers.
    fn remembered(&self) -> Result<Mtimedb, Error> {
        let remembered = Mtimedb::read(&self.settings.mtimedb_path()?)?;
        Ok(match self.settings.second_mtimedb_path()? {
            Some(path) => remembered.common_with(&Mtimedb::read(&path)?),
            None => remembered,
        })
    }

    /// Whether `Packages.gz` is kept beside the index.
    fn index_compression(&self) -> Result<IndexCompression, Error> {
        let gzip = self.settings.has_feature("compress-index")?;
        Ok(if gzip { IndexCompression::Gzip } else { IndexCompression::None })
    }

    fn open_store(&self, pkgdir: &Pkgdir) -> Result<Store, Error> {
        let compression = self.index_compression()?;
        // with somebody there to press Ctrl-C, there is no hurry; a setting that is wrong is told of where it is used
        let limit = self.settings.sign_timeout().unwrap_or(settings::SIGN_TIMEOUT);
        let limit = self.terminal.is_none().then_some(limit);
        let patience = Patience { limit, interrupt: self.interrupt.clone() };
        Ok(Store::open(pkgdir, compression, patience)?)
    }

    /// Gives the packages at risk their backups, before anything is changed; those held before have theirs.
    fn begin(&self, store: &mut Store, jobs: &mut [Job]) {
        // each told of as its turn comes: the store keeps what it needs
        let backups = store.begin(jobs.iter().filter(|job| job.backup.is_none()).map(Job::at_risk));
        for (job, backup) in jobs.iter_mut().filter(|job| job.backup.is_none()).zip(backups) {
            job.backup = Some(backup);
        }
    }

    /// Verify, rewrite, sign and commit; where the keys, or the configuration, cannot be used at all, everything signed
    /// is kept safe, and the error says why.
    fn resign(
        &self,
        signing: &Signing,
        repository: &str,
        store: &mut Store,
        jobs: &[Job],
        purpose: Purpose,
    ) -> (Results, Option<Error>) {
        let reader = store.reader();
        let done = self.with_crew(signing, repository, &reader, purpose, |crew| crew.run(store, jobs));
        match done {
            Ok(Ok(results)) => (results, None),
            Ok(Err(error)) => (resign::keep_all(store, jobs, &Reason::Key(error.into())), None),
            Err(error) => {
                let reason = Reason::Setup(error.to_string().into());
                (resign::keep_all(store, jobs, &reason), Some(error))
            }
        }
    }

    /// What [`Run::resign`] would do.
    fn pretend(
        &self,
        signing: &Signing,
        repository: &str,
        reader: &Reader,
        jobs: &[Job],
        purpose: Purpose,
    ) -> (Vec<crate::outcome::Outcome>, Option<Error>) {
        match self.with_crew(signing, repository, reader, purpose, |crew| crew.pretend(jobs)) {
            Ok(Ok(outcomes)) => (outcomes, None),
            Ok(Err(error)) => (resign::would_keep_all(reader, jobs, purpose, &Reason::Key(error.into())), None),
            Err(error) => {
                let reason = Reason::Setup(error.to_string().into());
                (resign::would_keep_all(reader, jobs, purpose, &reason), Some(error))
            }
        }
    }

    /// Lets `work` have the keys, the signing command and the settings; the inner error is one that concerns the keys,
    /// not the configuration.
    fn with_crew<T>(
        &self,
        signing: &Signing,
        repository: &str,
        reader: &Reader,
        purpose: Purpose,
        work: impl FnOnce(&Crew<'_>) -> T,
    ) -> Result<Result<T, KeyError>, Error> {
        let (foreign, compression, codec) = (self.settings.foreign()?, self.compression()?, self.codec()?);
        let command = self.signing_command(signing)?;
        let keyring = match self.open_keyring(signing)? {
            Ok(keyring) => keyring,
            Err(error) => return Ok(Err(error)),
        };
        if let Some(text) = doctor::expiry(&keyring) {
            log::warn!("{text}; `binpkg-resign doctor` says how to extend it");
        }
        Ok(Ok(work(&Crew {
            keyring: &keyring,
            command: &command,
            codec: &codec,
            compression,
            reader,
            repository,
            foreign,
            purpose,
            jobs: self.jobs,
            interrupt: self.interrupt,
            progress: self.progress,
            meter: Meter::default(),
        })))
    }

    /// Our certificates; the inner error is one that concerns the keys, not the configuration.
    fn open_keyring(&self, signing: &Signing) -> Result<Result<Keyring, KeyError>, Error> {
        let signed_with = SignedWith::in_file(self.settings.eroot()?.join("var/lib/binpkg-resign/signed-with"));
        let migrations = self.settings.key_migrations()?.into_iter().map(|pair| (pair.old, pair.new));
        let patience = openpgp::Patience::new(self.settings.sign_timeout()?, Arc::clone(&self.interrupt.0));
        let migrations = migrations.collect::<Vec<_>>();
        let mut keyring = Keyring::open_within(Path::new(&signing.home), &signing.key, &migrations, &patience);
        let clients = self.settings.get("BINPKG_GPG_VERIFY_GPG_HOME")?.map(Path::new).filter(|home| home.is_dir());
        if let Some(clients) = clients.filter(|home| *home != Path::new(&signing.home)) {
            keyring = keyring.and_then(|keyring| keyring.heed_revocations(clients, &signing.key));
        }
        let keyring = keyring.map(|keyring| keyring.remembering(signed_with));
        Ok(if signing.runs_gpg() { keyring } else { keyring.map(Keyring::with_secret_elsewhere) })
    }

    fn signing_command(&self, signing: &Signing) -> Result<SigningCommand, Error> {
        self.command_on(self.terminal.clone(), signing)
    }

    /// The signing command as a sync under cron would run it.
    fn signing_command_without_terminal(&self, signing: &Signing) -> Result<SigningCommand, Error> {
        self.command_on(None, signing)
    }

    fn command_on(&self, terminal: Option<String>, signing: &Signing) -> Result<SigningCommand, Error> {
        let settings = self.settings;
        let line = |kind| settings.expand(&openpgp::sign::with_config(signing, kind));
        let (detached, clear) = (line(openpgp::sign::Kind::Detached)?, line(openpgp::sign::Kind::Clear)?);
        let environment = settings.command_environment()?;
        let timeout = settings.sign_timeout()?;
        let command = SigningCommand::new(&detached, &clear, &signing.digest, environment, terminal, timeout)?;
        Ok(command.stopped_by(Arc::clone(&self.interrupt.0)).remembering(self.refusals()?))
    }

    /// Where it is remembered that a passphrase or PIN was refused.
    fn refusals(&self) -> Result<Refusals, Error> {
        Ok(Refusals::in_file(self.settings.eroot()?.join("var/lib/binpkg-resign/refused")))
    }

    /// The programs and settings for packing metadata.
    fn codec(&self) -> Result<Codec, Error> {
        let settings = self.settings;
        // a broken file is found here, so that the look-ups below have nothing to report
        settings.get("BINPKG_COMPRESS_FLAGS")?;
        let setting = |name: &str| settings.get(name).ok().flatten().map(str::to_owned);
        let words = |line: &str| settings::split_words(&settings.expand(line).ok()?);
        Ok(Codec::from_portage(setting, words))
    }

    /// How Portage would pack new metadata; none where the setting is not one it knows.
    fn compression(&self) -> Result<Option<Compression>, Error> {
        Ok(Compression::from_setting(self.settings.get("BINPKG_COMPRESS")?.unwrap_or_default()))
    }
}
