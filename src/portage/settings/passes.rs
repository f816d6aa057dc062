//! Which update passes Portage will run after us, and with what configuration: in a hook, the sync may have changed
//! profiles and repositories, and Portage reads its files again before the pass; and where `ROOT` is elsewhere, there
//! are two.

use std::path::{Path, PathBuf};

use super::layers::computed_sources;
use super::repos::{Loaded, Repositories};
use super::{Caller, Environment, Locations, Settings, SettingsError};

/// Variables of the caller's that Portage takes over into the configuration of the running root (`create_trees`), and
/// those that a command needs to find its way.
const TAKEN_OVER: &str = "MAKEFLAGS PATH PORTAGE_GRPNAME PORTAGE_USERNAME PYTHONPATH SSH_AGENT_PID SSH_AUTH_SOCK TERM \
    ftp_proxy http_proxy https_proxy no_proxy HOME LANG LC_ALL LOGNAME TMPDIR USER XDG_RUNTIME_DIR";

impl Settings {
    /// The configuration of the running root, where that is not the target (`ROOT=/elsewhere emerge …`); `None` where
    /// it is. Portage then runs its update pass for both, each over the PKGDIR of its configuration (3.0.67 and newer;
    /// `_do_pkg_moves`, `run_action`). The repositories are the same for both.
    ///
    /// # Errors
    /// A configuration cannot be read or understood.
    pub fn running_root(&self) -> Result<Option<Settings>, SettingsError> {
        let roots = self.roots()?;
        if roots.root == "/" && roots.eprefix == roots.broot {
            return Ok(None);
        }
        let locations = Locations {
            config_root: Some(PathBuf::from(format!("{}/", roots.broot))),
            root: Some(PathBuf::from("/")),
            eprefix: Some(PathBuf::from(&roots.broot)),
            pkgdir: None,
        };
        let running = Self::load(&locations, self.taken_over())?;
        let repositories = self.repositories()?.clone();
        running.computed_repositories.get_or_init(|| repositories);
        Ok(Some(running))
    }

    /// The mtimedb of a second update pass that Portage runs over the same PKGDIR: that of the running root, where it
    /// is not the target. An update file is pending if either of the two does not know it.
    ///
    /// # Errors
    /// A configuration cannot be read or understood.
    pub fn second_mtimedb_path(&self) -> Result<Option<PathBuf>, SettingsError> {
        match self.running_root()? {
            Some(running) if real(running.pkgdir()?) == real(self.pkgdir()?) => running.mtimedb_path().map(Some),
            _ => Ok(None),
        }
    }

    /// The repositories of `text`, which Portage wrote before the sync, as it finds them when it reads its files again
    /// after the hooks. A section that does not fit its repository any more has been renamed by the sync. It is looked
    /// for in the files then, unless those are about other repositories (`text` came from the caller's environment).
    pub(super) fn repositories_after_sync(&self, text: &str) -> Result<Repositories, SettingsError> {
        let Loaded { repositories, passed_over, .. } = Loaded::load(&computed_sources(self.roots()?, text))?;
        if passed_over.is_empty() {
            return Ok(repositories);
        }
        let Some(files) = self.files_alone()? else { return Ok(repositories) };
        let Ok(in_files) = files.repositories() else { return Ok(repositories) };
        let has = |location: &Path| in_files.iter().any(|repository| repository.location == location);
        let are_same = repositories.iter().map(|repository| repository.location.as_path());
        let are_same = are_same.chain(passed_over.iter().map(Path::new)).all(has);
        Ok(if are_same { in_files.clone() } else { repositories })
    }

    /// In a hook: what the files say now, without the caller's environment. Portage reads them again before its pass.
    fn files_alone(&self) -> Result<Option<Settings>, SettingsError> {
        if self.caller == Caller::Shell {
            return Ok(None);
        }
        let roots = self.roots()?;
        let path = |text: &str| Some(PathBuf::from(text));
        let locations = Locations {
            config_root: path(&roots.config_root),
            root: path(&roots.root),
            eprefix: path(&roots.eprefix),
            pkgdir: None,
        };
        Self::load(&locations, self.taken_over()).map(Some)
    }

    fn taken_over(&self) -> Environment {
        let own = self.environment.iter();
        own.filter(|(name, _)| TAKEN_OVER.split(' ').any(|known| *name == known)).collect()
    }

    /// Whether Portage's pass believes the index (`FEATURES=pkgdir-index-trusted`), rather than read every file. In a
    /// hook it does only if the files say so as well: the sync may have brought a profile that says otherwise.
    ///
    /// # Errors
    /// A configuration cannot be read or understood.
    pub fn trusts_index(&self) -> Result<bool, SettingsError> {
        const FEATURE: &str = "pkgdir-index-trusted";
        let in_files = match self.files_alone()? {
            Some(files) => files.has_feature(FEATURE).unwrap_or(true),
            None => true,
        };
        Ok(in_files && self.has_feature(FEATURE)?)
    }

    /// Configurations with another PKGDIR that Portage's passes go over as well, or may go over: that of the running
    /// root where it is not the target; and in a hook that of the files, which the sync may have changed.
    /// None where the command line names one PKGDIR.
    ///
    /// # Errors
    /// A configuration cannot be read or understood.
    pub fn other_pkgdirs(&self) -> Result<Vec<Settings>, SettingsError> {
        let mut others: Vec<Settings> = Vec::new();
        if self.pkgdir_given.is_some() {
            return Ok(others);
        }
        let mut seen = vec![real(self.pkgdir()?)];
        for other in [self.running_root()?, self.files_alone()?].into_iter().flatten() {
            // where the files cannot be read, Portage has nothing to go over either
            let Ok(pkgdir) = other.pkgdir().map(real) else { continue };
            if !seen.contains(&pkgdir) {
                seen.push(pkgdir);
                others.push(other);
            }
        }
        Ok(others)
    }
}

/// A path without symbolic links, where it is there.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
