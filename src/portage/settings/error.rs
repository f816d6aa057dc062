//! What can be wrong with a configuration.

use std::path::{Path, PathBuf};

/// Why the configuration cannot be used. Each text says what is wrong, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// `PORTAGE_CONFIGROOT` (or `--config-root`) names no directory.
    #[error("PORTAGE_CONFIGROOT={path:?} is not a directory; correct PORTAGE_CONFIGROOT or --config-root")]
    ConfigRoot {
        /// The directory looked for.
        path: PathBuf,
    },
    /// A place that the command line names is not there.
    #[error("{option} {}: there is no such directory; correct the option", path.display())]
    Option {
        /// The option.
        option: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// `SYSROOT` is set although `ROOT` is `/`; Portage refuses this as well.
    #[error("SYSROOT={sysroot:?} must be unset or / when ROOT is /")]
    Sysroot {
        /// What it is set to.
        sysroot: String,
    },
    /// A file or directory could not be read.
    #[error("cannot read {path:?}: {source}")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A configuration file that Portage refuses, too.
    #[error("{path:?}, line {line}: {what}; correct the line")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1, as Portage counts.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A file that is too large, or a chain of files that is too long, to be a configuration.
    #[error("{path:?}: {what}; Portage would not get through this either")]
    TooMuch {
        /// Where reading stopped.
        path: PathBuf,
        /// Of what there was too much.
        what: &'static str,
    },
    /// A variable or path that we need is not valid UTF-8.
    #[error("{name} is not valid UTF-8; set it to a name that is")]
    NotUtf8 {
        /// The variable or option.
        name: String,
    },
    /// A variable that cannot be done without is not set anywhere.
    #[error(
        "{name} is not set, not even in make.globals (looked for it in {globals:?}); is Portage installed, and \
             --prefix (PORTAGE_OVERRIDE_EPREFIX) right?"
    )]
    Unset {
        /// The variable.
        name: &'static str,
        /// The make.globals that should have had it.
        globals: PathBuf,
    },
    /// A variable has a value that means nothing.
    #[error("{name}={value:?}: {why}")]
    Value {
        /// The variable.
        name: &'static str,
        /// Its value, or the part of it that is wrong.
        value: String,
        /// What is wrong with it and what is allowed.
        why: &'static str,
    },
    /// An alias of a repository that has no directory, on which Portage breaks, too.
    #[error(
        "{alias:?} in repos.conf is another name of a repository that is not there ({location:?}); \
             sync it, or remove the name"
    )]
    AliasOfNothing {
        /// The other name.
        alias: String,
        /// Where the repository should be.
        location: PathBuf,
    },
    /// The `[DEFAULT]` section of repos.conf has an option on which Portage breaks, too.
    #[error("the [DEFAULT] section of repos.conf may not set {option}; set it in the sections of repositories")]
    DefaultSection {
        /// The option.
        option: &'static str,
    },
}

impl SettingsError {
    pub(super) fn read(path: &Path, source: std::io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    pub(super) fn too_much(path: &Path, what: &'static str) -> Self {
        Self::TooMuch { path: path.to_owned(), what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_told() {
        let path = || PathBuf::from("/etc/portage/make.conf");
        let errors = [
            SettingsError::ConfigRoot { path: PathBuf::from("/srv/none") },
            SettingsError::Sysroot { sysroot: "/srv/root".into() },
            SettingsError::read(&path(), std::io::Error::from(std::io::ErrorKind::PermissionDenied)),
            SettingsError::Syntax { path: path(), line: 7, what: "a quote is not closed".into() },
            SettingsError::too_much(&path(), "more than 100 files that source each other"),
            SettingsError::NotUtf8 { name: "PKGDIR".into() },
            SettingsError::Unset { name: "PKGDIR", globals: PathBuf::from("/usr/share/portage/config/make.globals") },
            SettingsError::Value { name: "BINPKG_RESIGN_NET", value: "maybe".into(), why: "it is auto, yes or no" },
            SettingsError::AliasOfNothing { alias: "local".into(), location: PathBuf::from("/var/db/repos/local") },
            SettingsError::DefaultSection { option: "location" },
        ];
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!("settings-errors", told.join("\n"));
    }
}
