//! The environment, as it was when we started.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::SettingsError;

/// A snapshot of environment variables: what is configuration is taken from it, never from the process.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// The variables of this process.
    pub fn of_process() -> Self {
        std::env::vars_os().collect()
    }

    /// The value of `name`, `None` if it is not set.
    ///
    /// # Errors
    /// The value is not valid UTF-8.
    pub fn get(&self, name: &str) -> Result<Option<&str>, SettingsError> {
        match self.variables.get(OsStr::new(name)) {
            None => Ok(None),
            Some(value) => value.to_str().map(Some).ok_or_else(|| SettingsError::NotUtf8 { name: name.to_owned() }),
        }
    }

    /// Whether `name` is set, to whatever value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.variables.contains_key(OsStr::new(name))
    }

    /// Every variable, names in order.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.variables.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self { variables: variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }
}
