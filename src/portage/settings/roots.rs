//! Where everything is: `PORTAGE_CONFIGROOT`, `ROOT`, `EPREFIX` and what follows from them (`LocationsManager`).

use std::path::{Path, PathBuf};

use super::files::{absolute, is_dir, join, normalize};
use super::{Environment, Locations, SettingsError};

/// What the command line and the environment say, before make.conf is read.
#[derive(Debug, Clone)]
pub(super) struct Start {
    /// `PORTAGE_CONFIGROOT`, with a slash at the end.
    pub(super) config_root: String,
    /// The prefix of the running Portage, `BROOT`; empty outside of a prefix.
    pub(super) broot: String,
    /// The prefix of the target, `EPREFIX`.
    pub(super) eprefix: String,
    sysroot: String,
    /// `ROOT`, unless only make.conf may say it.
    root: Option<String>,
}

impl Start {
    /// Takes `locations` over the environment.
    pub(super) fn new(locations: &Locations, environment: &Environment) -> Result<Self, SettingsError> {
        let given = |option: &Option<PathBuf>, flag: &str, name: &str| match option {
            Some(path) => text(path, flag).map(Some),
            None => environment.get(name).map(|value| value.map(str::to_owned)),
        };
        let broot = given(&locations.eprefix, "--prefix", "PORTAGE_OVERRIDE_EPREFIX")?;
        let broot = prefix(broot.as_deref().unwrap_or_default());
        let eprefix = given(&locations.eprefix, "--prefix", "EPREFIX")?;
        let config_root = given(&locations.config_root, "--config-root", "PORTAGE_CONFIGROOT")?;
        Ok(Self {
            config_root: directory(&config_root.unwrap_or_else(|| format!("{broot}/"))),
            eprefix: eprefix.map_or_else(|| broot.clone(), |path| prefix(&path)),
            broot,
            sysroot: directory(environment.get("SYSROOT")?.unwrap_or_default()),
            root: given(&locations.root, "--root", "ROOT")?,
        })
    }

    /// Whether make.conf has no say in `ROOT`.
    pub(super) fn has_root(&self) -> bool {
        self.root.is_some()
    }

    /// The directory of make.globals and the default repos.conf: that of a Portage installed into the system, or else
    /// that of one installed by pip.
    pub(super) fn globals(&self) -> PathBuf {
        let [system, module] = ["usr/share/portage/config", "share/portage/config"]
            .map(|path| PathBuf::from(format!("{}/{path}", self.broot)));
        if !system.join("make.globals").is_file() && module.join("make.globals").is_file() { module } else { system }
    }

    /// The roots, where make.conf sets `ROOT` to `make_conf_root`.
    pub(super) fn finish(&self, make_conf_root: Option<&str>) -> Result<Roots, SettingsError> {
        let chosen = self.root.as_deref().or(make_conf_root).unwrap_or_default();
        // Portage takes a blank ROOT from make.conf for none; from elsewhere only an empty one.
        let blank = self.root.is_none() && chosen.trim().is_empty();
        let root = directory(if blank { "" } else { chosen });
        if self.sysroot != "/" && root == "/" {
            return Err(SettingsError::Sysroot { sysroot: self.sysroot.clone() });
        }
        let eroot = format!("{}{}/", root.trim_end_matches('/'), self.eprefix);
        let esysroot = if self.sysroot == root {
            format!("{}{}/", self.sysroot.trim_end_matches('/'), self.eprefix)
        } else if self.sysroot == "/" {
            format!("{}/", self.broot)
        } else {
            self.sysroot.clone()
        };
        Ok(Roots {
            config_root: self.config_root.clone(),
            broot: self.broot.clone(),
            eprefix: self.eprefix.clone(),
            sysroot: self.sysroot.clone(),
            root,
            eroot,
            esysroot,
        })
    }

    /// An error unless the directory of the configuration is there.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let path = Path::new(&self.config_root);
        if is_dir(path)? { Ok(()) } else { Err(SettingsError::ConfigRoot { path: path.to_owned() }) }
    }
}

/// All the roots, as Portage's variables have them: with a slash at the end, but for the prefixes.
#[derive(Debug, Clone)]
pub(super) struct Roots {
    pub(super) config_root: String,
    pub(super) broot: String,
    pub(super) eprefix: String,
    pub(super) sysroot: String,
    pub(super) root: String,
    pub(super) eroot: String,
    pub(super) esysroot: String,
}

impl Roots {
    /// The variables that the roots are known by.
    pub(super) fn variables(&self) -> [(&'static str, &str); 7] {
        [
            ("BROOT", &self.broot),
            ("EPREFIX", &self.eprefix),
            ("EROOT", &self.eroot),
            ("ESYSROOT", &self.esysroot),
            ("PORTAGE_CONFIGROOT", &self.config_root),
            ("ROOT", &self.root),
            ("SYSROOT", &self.sysroot),
        ]
    }

    /// A path below `EROOT`.
    pub(super) fn in_eroot(&self, path: &str) -> PathBuf {
        PathBuf::from(join(&self.eroot, path))
    }
}

/// `path` as text, `name` being what it is called when it cannot be.
pub(super) fn text(path: &Path, name: &str) -> Result<String, SettingsError> {
    path.to_str().map(str::to_owned).ok_or_else(|| SettingsError::NotUtf8 { name: name.to_owned() })
}

fn prefix(path: &str) -> String {
    if path.is_empty() { String::new() } else { normalize(path).trim_end_matches('/').to_owned() }
}

fn directory(path: &str) -> String {
    let path = if path.is_empty() { "/".to_owned() } else { absolute(path) };
    format!("{}/", path.trim_end_matches('/'))
}
