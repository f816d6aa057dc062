//! What Portage's configuration comes to. The only reader of /etc/portage, and of the environment as far as it is
//! configuration; what concerns only the terminal (`TERM`, the locale, `RUST_LOG`), `terminal` reads itself.
//!
//! We are run in two ways. From a shell, the whole cascade is read as Portage reads it: make.globals, profiles,
//! make.conf, the environment over them. In a hook, the environment *is* what Portage computed from all that, so
//! nothing is read but for the few variables that Portage keeps to itself. Either way a file is opened only when a
//! value is asked for that needs it, and what is wrong with it is reported there.
//!
//! Values are data: nothing in them is ever executed.

mod environment;
mod error;
mod expand;
mod files;
mod index_header;
mod ini;
mod layers;
mod layout;
mod make_conf;
mod passes;
mod profile;
mod repos;
mod roots;
mod shlex;
mod signing;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub use environment::Environment;
pub use error::SettingsError;
pub use repos::{Repositories, Repository};
pub use signing::{Foreign, KeyMigration, NetSetting, NotSigning, SIGN_TIMEOUT, Signing};
pub use sync::SyncSettings;

use expand::Expanded;
use layers::{Layers, plus_minus};
use roots::{Roots, Start};

/// Variables that Portage does not hand on to the commands it runs, so that in a hook only the files have them
/// (`portage/package/ebuild/_config/special_env_vars.py`, `environ_filter`).
const KEPT_BACK: &str = "DEPEND RDEPEND PDEPEND SRC_URI BDEPEND IDEPEND INFOPATH MANPATH PYTHONUTF8 USER GLOBSORT \
    HISTFILE POSIXLY_CORRECT ACCEPT_CHOSTS ACCEPT_KEYWORDS ACCEPT_PROPERTIES ACCEPT_RESTRICT AUTOCLEAN \
    BINPKG_COMPRESS BINPKG_COMPRESS_FLAGS CLEAN_DELAY COLLISION_IGNORE CONFIG_PROTECT CONFIG_PROTECT_MASK \
    EGENCACHE_DEFAULT_OPTS EMERGE_DEFAULT_OPTS EMERGE_LOG_DIR EMERGE_WARNING_DELAY FETCH_WRAPPER FETCHCOMMAND \
    FETCHCOMMAND_FTP FETCHCOMMAND_HTTP FETCHCOMMAND_HTTPS FETCHCOMMAND_RSYNC FETCHCOMMAND_SFTP FETCHCOMMAND_SSH \
    GENTOO_MIRRORS NOCONFMEM O PORTAGE_BACKGROUND PORTAGE_BACKGROUND_UNMERGE PORTAGE_BINHOST PORTAGE_BINPKG_FORMAT \
    PORTAGE_BUILDDIR_LOCKED PORTAGE_CHECKSUM_FILTER PORTAGE_ELOG_CLASSES PORTAGE_ELOG_MAILFROM \
    PORTAGE_ELOG_MAILSUBJECT PORTAGE_ELOG_MAILURI PORTAGE_ELOG_SYSTEM PORTAGE_FETCH_CHECKSUM_TRY_MIRRORS \
    PORTAGE_FETCH_RESUME_MIN_SIZE PORTAGE_GPG_DIR PORTAGE_GPG_KEY PORTAGE_GPG_SIGNING_COMMAND \
    PORTAGE_IONICE_COMMAND PORTAGE_PACKAGE_EMPTY_ABORT PORTAGE_REPO_DUPLICATE_WARN PORTAGE_RO_DISTDIRS \
    PORTAGE_RSYNC_EXTRA_OPTS PORTAGE_RSYNC_OPTS PORTAGE_RSYNC_RETRIES PORTAGE_SSH_OPTS PORTAGE_SYNC_STALE \
    PORTAGE_TRUST_HELPER PORTAGE_USE PORTAGE_LOG_FILTER_FILE_CMD PORTAGE_LOGDIR PORTAGE_LOGDIR_CLEAN \
    QUICKPKG_DEFAULT_OPTS REPOMAN_DEFAULT_OPTS RESUMECOMMAND RESUMECOMMAND_FTP RESUMECOMMAND_HTTP \
    RESUMECOMMAND_HTTPS RESUMECOMMAND_RSYNC RESUMECOMMAND_SFTP RESUMECOMMAND_SSH UNINSTALL_IGNORE \
    USE_EXPAND_HIDDEN USE_ORDER __PORTAGE_HELPER SYNC";

/// Where the command line says that things are. What it does not say, the environment does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Locations {
    /// `--config-root`, over `PORTAGE_CONFIGROOT`: below it are `etc/portage` and so on.
    pub config_root: Option<PathBuf>,
    /// `--root`, over `ROOT`.
    pub root: Option<PathBuf>,
    /// `--prefix`, over both `EPREFIX` and `PORTAGE_OVERRIDE_EPREFIX`: Portage, its configuration and the target are
    /// all in this prefix.
    pub eprefix: Option<PathBuf>,
    /// `--pkgdir`, over `PKGDIR`.
    pub pkgdir: Option<PathBuf>,
}

impl Locations {
    /// Whether every place that is given is there.
    ///
    /// # Errors
    /// One is not, or is no directory.
    pub fn check(&self) -> Result<(), SettingsError> {
        for (option, place) in [
            ("--config-root", &self.config_root),
            ("--root", &self.root),
            ("--prefix", &self.eprefix),
            ("--pkgdir", &self.pkgdir),
        ] {
            if let Some(path) = place.as_ref().filter(|path| !path.as_os_str().is_empty())
                && !files::is_dir(path)?
            {
                return Err(SettingsError::Option { option, path: path.clone() });
            }
        }
        Ok(())
    }
}

/// Who made the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// Anybody; it is one layer of the configuration.
    Shell,
    /// Portage, for a hook; it is the configuration.
    Hook,
}

impl Caller {
    /// A hook is told by `PORTAGE_FEATURES`, which nothing but Portage's `config.environ()` sets, and sets equal to
    /// `FEATURES`, along with what else it never leaves out. An ebuild's own phases have `EBUILD_PHASE` as well. Where
    /// the command line names another place, Portage's values are not for that place.
    fn of(locations: &Locations, environment: &Environment) -> Self {
        const ALWAYS: [&str; 8] = [
            "FEATURES",
            "PORTAGE_BIN_PATH",
            "PORTAGE_CONFIGROOT",
            "PORTAGE_OVERRIDE_EPREFIX",
            "PORTAGE_REPOSITORIES",
            "EPREFIX",
            "EROOT",
            "ROOT",
        ];
        let elsewhere = locations.config_root.is_some() || locations.root.is_some() || locations.eprefix.is_some();
        let features = environment.get("PORTAGE_FEATURES").ok().flatten();
        let same = features.is_some() && features == environment.get("FEATURES").ok().flatten();
        let computed = same && ALWAYS.iter().all(|name| environment.has(name)) && !environment.has("EBUILD_PHASE");
        if computed && !elsewhere { Self::Hook } else { Self::Shell }
    }
}

/// Portage's configuration, and ours within it. Files are read when a value needs them, once.
#[derive(Debug)]
pub struct Settings {
    environment: Environment,
    caller: Caller,
    start: Start,
    pkgdir_given: Option<PathBuf>,
    roots: OnceLock<Roots>,
    layers: OnceLock<Layers>,
    computed_repositories: OnceLock<Repositories>,
    features: OnceLock<BTreeSet<String>>,
    pkgdir: OnceLock<PathBuf>,
}

impl Settings {
    /// Settings for these places and this environment. No file is read yet.
    ///
    /// # Errors
    /// A place that was given, or a variable that names one, is not valid UTF-8.
    pub fn load(locations: &Locations, environment: Environment) -> Result<Self, SettingsError> {
        Ok(Self {
            caller: Caller::of(locations, &environment),
            start: Start::new(locations, &environment)?,
            pkgdir_given: locations.pkgdir.clone(),
            environment,
            roots: OnceLock::new(),
            layers: OnceLock::new(),
            computed_repositories: OnceLock::new(),
            features: OnceLock::new(),
            pkgdir: OnceLock::new(),
        })
    }

    /// Whether this is a hook's configuration, computed by the Portage that runs it.
    #[must_use]
    pub fn are_of_a_hook(&self) -> bool {
        self.caller == Caller::Hook
    }

    /// The final value of a variable, as `portageq envvar` prints it; `None` if it is not set.
    ///
    /// `USE` and what follows from it (the variables of `USE_EXPAND`, `ACCEPT_LICENSE` and its like) are computed by
    /// Portage only; outside of a hook `USE` is never set here, and the others are as they stand in the topmost file.
    ///
    /// # Errors
    /// A file of the configuration cannot be read or understood, or the value in the environment is not valid UTF-8.
    pub fn get(&self, name: &str) -> Result<Option<&str>, SettingsError> {
        let own = self.environment.get(name)?;
        if self.caller == Caller::Hook {
            // The environment has the roots too, but in the form that suits ebuilds.
            if let Some((_, value)) = self.roots()?.variables().into_iter().find(|(root, _)| *root == name) {
                return Ok(Some(value));
            }
            if own.is_some() || !is_kept_back(name) {
                return Ok(own);
            }
        }
        Ok(self.layers()?.values.get(name).map(String::as_str))
    }

    /// The names of all variables that are set and begin with `beginning`, in order.
    ///
    /// # Errors
    /// A configuration cannot be read or understood.
    pub fn names(&self, beginning: &str) -> Result<BTreeSet<String>, SettingsError> {
        let own = self.environment.iter().filter_map(|(name, _)| name.to_str());
        let mut names: BTreeSet<String> = own.map(str::to_owned).collect();
        if self.caller == Caller::Shell {
            names.extend(self.layers()?.values.keys().cloned());
        }
        names.retain(|name| name.starts_with(beginning));
        Ok(names)
    }

    /// The `FEATURES` in effect.
    ///
    /// # Errors
    /// See [`Settings::get`].
    pub fn features(&self) -> Result<&BTreeSet<String>, SettingsError> {
        once(&self.features, || Ok(plus_minus(self.get("FEATURES")?)))
    }

    /// Whether `FEATURES` has `feature`.
    ///
    /// # Errors
    /// See [`Settings::get`].
    pub fn has_feature(&self, feature: &str) -> Result<bool, SettingsError> {
        Ok(self.features()?.contains(feature))
    }

    /// `PKGDIR`: where binary packages are. `//`, `.` and `..` are taken out by name, as Portage does; symbolic links
    /// stay.
    ///
    /// # Errors
    /// See [`Settings::get`]; or it is not set anywhere, or what was given for it is not valid UTF-8.
    pub fn pkgdir(&self) -> Result<&Path, SettingsError> {
        let path = once(&self.pkgdir, || {
            let value = match &self.pkgdir_given {
                Some(path) => roots::text(path, "--pkgdir")?,
                None => self.get("PKGDIR")?.map(str::to_owned).ok_or_else(|| {
                    let globals = self.start.globals().join("make.globals");
                    SettingsError::Unset { name: "PKGDIR", globals }
                })?,
            };
            Ok(PathBuf::from(files::normalize(&value)))
        })?;
        Ok(path)
    }

    /// `PORTAGE_CONFIGROOT`: what `etc/portage` is below.
    pub fn config_root(&self) -> &Path {
        Path::new(&self.start.config_root)
    }

    /// `EPREFIX`: the prefix of the target, empty where there is none.
    pub fn eprefix(&self) -> &Path {
        Path::new(&self.start.eprefix)
    }

    /// `EROOT`: `ROOT` and `EPREFIX` together, what installed packages are below.
    ///
    /// # Errors
    /// The configuration says where it is, and cannot be read or understood.
    pub fn eroot(&self) -> Result<&Path, SettingsError> {
        Ok(Path::new(&self.roots()?.eroot))
    }

    /// The file in which Portage remembers the update files it has processed (`$EROOT/var/cache/edb/mtimedb`).
    ///
    /// # Errors
    /// See [`Settings::eroot`].
    pub fn mtimedb_path(&self) -> Result<PathBuf, SettingsError> {
        Ok(self.roots()?.in_eroot("var/cache/edb/mtimedb"))
    }

    /// The ebuild repositories.
    ///
    /// # Errors
    /// repos.conf, a repository's layout.conf or what comes before them cannot be read or understood.
    pub fn repositories(&self) -> Result<&Repositories, SettingsError> {
        if let Some(repositories) = self.computed_repositories.get() {
            return Ok(repositories);
        }
        match self.environment.get("PORTAGE_REPOSITORIES")? {
            Some(text) if self.caller == Caller::Hook => {
                once(&self.computed_repositories, || self.repositories_after_sync(text))
            }
            _ => Ok(&self.layers()?.repositories),
        }
    }

    /// `text` with its variables replaced by their values (`portage.util.varexpand`); empty where Portage cannot
    /// understand it.
    ///
    /// # Errors
    /// A value in it cannot be had ([`Settings::get`]), or it becomes too long.
    pub fn expand(&self, text: &str) -> Result<String, SettingsError> {
        match expand::expand(text, &mut |name| Ok(self.get(name)?.map(str::to_owned)))? {
            Expanded::Value(value) => Ok(value),
            Expanded::Bad(what) => {
                log::warn!("{what}; it counts as empty: {text}");
                Ok(String::new())
            }
            Expanded::TooLong => Err(SettingsError::too_much(self.config_root(), "a value is too long")),
        }
    }

    /// The environment for commands that Portage would run with its own (`config.environ()`): in a hook it is ours as
    /// it is; otherwise ours and, over it, what the configuration sets.
    ///
    /// # Errors
    /// Outside of a hook: a file of the configuration cannot be read or understood.
    pub fn command_environment(&self) -> Result<BTreeMap<OsString, OsString>, SettingsError> {
        let ours = self.environment.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut all: BTreeMap<OsString, OsString> = ours.collect();
        if self.caller == Caller::Hook {
            return Ok(all);
        }
        let values = &self.layers()?.values;
        all.extend(values.iter().map(|(name, value)| (name.into(), value.into())));
        all.retain(|name, _| !name.to_str().is_some_and(is_kept_back));
        for name in ["BROOT", "EROOT", "ROOT", "SYSROOT"] {
            let value = values.get(name).map_or("", |value| value.trim_end_matches('/'));
            all.insert(name.into(), value.into());
        }
        all.remove(std::ffi::OsStr::new("ESYSROOT"));
        all.insert("PORTAGE_FEATURES".into(), values.get("FEATURES").map(OsString::from).unwrap_or_default());
        Ok(all)
    }

    fn roots(&self) -> Result<&Roots, SettingsError> {
        once(&self.roots, || {
            if self.start.has_root() { self.start.finish(None) } else { Ok(self.layers()?.roots.clone()) }
        })
    }

    fn layers(&self) -> Result<&Layers, SettingsError> {
        once(&self.layers, || Layers::load(&self.start, &self.environment))
    }
}

/// What `cell` has, or else what `make` makes, which is then kept.
fn once<T>(cell: &OnceLock<T>, make: impl FnOnce() -> Result<T, SettingsError>) -> Result<&T, SettingsError> {
    match cell.get() {
        Some(value) => Ok(value),
        None => {
            let value = make()?;
            Ok(cell.get_or_init(|| value))
        }
    }
}

/// The words of a command line, as Python's `shlex.split` takes it apart; `None` if a quotation or an escape has no end.
pub fn split_words(text: &str) -> Option<Vec<String>> {
    shlex::split(text).ok()
}

fn is_kept_back(name: &str) -> bool {
    KEPT_BACK.split(' ').any(|known| known == name)
}
