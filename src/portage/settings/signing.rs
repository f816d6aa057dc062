//! Whether and how packages are signed, and our own settings beside Portage's.

use std::time::Duration;

use super::super::fingerprint::Fingerprint;
use super::files::words;
use super::{Settings, SettingsError};

/// How long one signing command may take when there is no terminal, unless it is set.
pub const SIGN_TIMEOUT: Duration = Duration::from_secs(60);

/// How Portage is configured to sign binary packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signing {
    /// `BINPKG_GPG_SIGNING_GPG_HOME`: the gpg home with the secret key.
    pub home: String,
    /// `BINPKG_GPG_SIGNING_KEY`: whatever gpg's `--local-user` takes.
    pub key: String,
    /// `BINPKG_GPG_SIGNING_DIGEST`: SHA512 unless set.
    pub digest: String,
    /// `BINPKG_GPG_SIGNING_BASE_COMMAND` as it is set, variables not expanded; empty if it is not set.
    pub base_command: String,
}

/// Programs that run another one on the same machine, as that user; Portage's default has the first.
const RUNNERS: [&str; 5] = ["flock", "env", "nice", "ionice", "timeout"];

impl Signing {
    /// Whether the signing command runs gpg on this machine: another one (a script, `ssh signer gpg`) may have the secret
    /// key anywhere.
    #[must_use]
    pub fn runs_gpg(&self) -> bool {
        let mut runner = false;
        for word in self.base_command.split_whitespace() {
            // an option of a runner, its number, a file to lock, a variable to set
            let is_argument = word.starts_with(['-', '/']) || word.contains('=') || word.parse::<f64>().is_ok();
            match word.rsplit('/').next().unwrap_or(word) {
                "gpg" | "gpg2" => return true,
                name if RUNNERS.contains(&name) => runner = true,
                _ if runner && is_argument => {}
                _ => return false,
            }
        }
        false
    }
}

/// What is missing for packages to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSigning {
    /// `FEATURES` lacks `binpkg-signing`.
    #[error("FEATURES lacks binpkg-signing")]
    Feature,
    /// `BINPKG_GPG_SIGNING_GPG_HOME` is not set or empty.
    #[error("BINPKG_GPG_SIGNING_GPG_HOME is not set")]
    Home,
    /// `BINPKG_GPG_SIGNING_KEY` is not set or empty.
    #[error("BINPKG_GPG_SIGNING_KEY is not set")]
    Key,
}

/// What happens to packages signed by somebody else that Portage would remove (`BINPKG_RESIGN_FOREIGN`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Foreign {
    /// They are left to Portage.
    #[default]
    Leave,
    /// They are held.
    Hold,
}

/// Whether there is a safety net of hard links (`BINPKG_RESIGN_NET`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetSetting {
    /// Beside PKGDIR, where links or reflinks work; else none.
    #[default]
    Auto,
    /// Beside PKGDIR, or else in our folder in it.
    Yes,
    /// None.
    No,
}

/// One pair of `BINPKG_GPG_SIGNING_KEY_MIGRATION`: what `old` signed is ours, and is signed again with `new`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyMigration {
    /// The key that signed until now.
    pub old: Fingerprint,
    /// The key that signs from now on.
    pub new: Fingerprint,
}

impl Settings {
    /// How to sign, or `None` if signing is not configured; [`Settings::why_not_signing`] then says what is missing.
    ///
    /// # Errors
    /// See [`Settings::get`].
    pub fn signing(&self) -> Result<Option<Signing>, SettingsError> {
        if self.why_not_signing()?.is_some() {
            return Ok(None);
        }
        let text = |name| Ok::<_, SettingsError>(self.get(name)?.unwrap_or_default().to_owned());
        let digest = text("BINPKG_GPG_SIGNING_DIGEST")?;
        Ok(Some(Signing {
            home: text("BINPKG_GPG_SIGNING_GPG_HOME")?,
            key: text("BINPKG_GPG_SIGNING_KEY")?,
            digest: if digest.is_empty() { "SHA512".to_owned() } else { digest },
            base_command: text("BINPKG_GPG_SIGNING_BASE_COMMAND")?,
        }))
    }

    /// What is missing for packages to be signed; `None` if nothing is.
    ///
    /// # Errors
    /// See [`Settings::get`].
    pub fn why_not_signing(&self) -> Result<Option<NotSigning>, SettingsError> {
        if !self.has_feature("binpkg-signing")? {
            return Ok(Some(NotSigning::Feature));
        }
        for (name, missing) in
            [("BINPKG_GPG_SIGNING_GPG_HOME", NotSigning::Home), ("BINPKG_GPG_SIGNING_KEY", NotSigning::Key)]
        {
            if words(self.get(name)?.unwrap_or_default()).next().is_none() {
                return Ok(Some(missing));
            }
        }
        Ok(None)
    }

    /// `BINPKG_GPG_SIGNING_KEY_MIGRATION`: pairs `OLD=NEW` of fingerprints, separated by white space.
    ///
    /// # Errors
    /// See [`Settings::get`]; or a word of it is no such pair.
    pub fn key_migrations(&self) -> Result<Vec<KeyMigration>, SettingsError> {
        const NAME: &str = "BINPKG_GPG_SIGNING_KEY_MIGRATION";
        let wrong = |value: &str, why| SettingsError::Value { name: NAME, value: value.to_owned(), why };
        let mut migrations: Vec<KeyMigration> = Vec::new();
        for pair in words(self.get(NAME)?.unwrap_or_default()) {
            let (old, new) =
                pair.split_once('=').ok_or_else(|| wrong(pair, "write it as OLD=NEW, two fingerprints"))?;
            let why = "not a fingerprint; write all of its 40 (or 64) hexadecimal digits, without spaces";
            let old = Fingerprint::new(old).ok_or_else(|| wrong(pair, why))?;
            let new = Fingerprint::new(new).ok_or_else(|| wrong(pair, why))?;
            if old == new {
                return Err(wrong(pair, "both keys are the same; remove the pair"));
            }
            if migrations.iter().any(|known| known.old == old && known.new != new) {
                return Err(wrong(pair, "this old key has another new key already; keep one of the pairs"));
            }
            if !migrations.iter().any(|known| known.old == old) {
                migrations.push(KeyMigration { old, new });
            }
        }
        Ok(migrations)
    }

    /// `BINPKG_RESIGN_FOREIGN`: `leave` (the default) or `hold`.
    ///
    /// # Errors
    /// See [`Settings::get`]; or it has another value.
    pub fn foreign(&self) -> Result<Foreign, SettingsError> {
        const NAME: &str = "BINPKG_RESIGN_FOREIGN";
        let value = self.get(NAME)?.unwrap_or_default();
        let mut words = words(value);
        match (words.next(), words.next()) {
            (None | Some("leave"), None) => Ok(Foreign::Leave),
            (Some("hold"), None) => Ok(Foreign::Hold),
            _ => Err(SettingsError::Value { name: NAME, value: value.to_owned(), why: "set it to leave or to hold" }),
        }
    }

    /// `BINPKG_RESIGN_NET`: `auto` (the default), `yes` or `no`.
    ///
    /// # Errors
    /// It is something else, or see [`Settings::get`].
    pub fn net(&self) -> Result<NetSetting, SettingsError> {
        const NAME: &str = "BINPKG_RESIGN_NET";
        let value = self.get(NAME)?.unwrap_or_default();
        let mut words = words(value);
        match (words.next(), words.next()) {
            (None | Some("auto"), None) => Ok(NetSetting::Auto),
            (Some("yes"), None) => Ok(NetSetting::Yes),
            (Some("no"), None) => Ok(NetSetting::No),
            _ => Err(SettingsError::Value {
                name: NAME,
                value: value.to_owned(),
                why: "set it to auto, to yes or to no",
            }),
        }
    }

    /// `BINPKG_RESIGN_TIMEOUT`: how long gpg may take to answer and, when there is no terminal, one signing command or the lock on
    /// the index; 60 seconds unless set.
    ///
    /// # Errors
    /// See [`Settings::get`]; or it is no such number.
    pub fn sign_timeout(&self) -> Result<Duration, SettingsError> {
        const NAME: &str = "BINPKG_RESIGN_TIMEOUT";
        let value = self.get(NAME)?.unwrap_or_default();
        let text = super::files::strip(value);
        if text.is_empty() {
            return Ok(SIGN_TIMEOUT);
        }
        let seconds = text.parse::<u32>().ok().filter(|seconds| *seconds > 0 && !text.starts_with('+'));
        seconds.map(|seconds| Duration::from_secs(seconds.into())).ok_or_else(|| SettingsError::Value {
            name: NAME,
            value: value.to_owned(),
            why: "set it to a whole number of seconds, at least 1",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_gpg_runs() {
        let runs_gpg = |base_command: &str| {
            let text = String::new;
            let signing = Signing { home: text(), key: text(), digest: text(), base_command: base_command.to_owned() };
            signing.runs_gpg()
        };
        for here in [
            "/usr/bin/flock /run/lock/portage-binpkg-gpg.lock /usr/bin/gpg --sign --armor [PORTAGE_CONFIG]",
            "gpg --sign [PORTAGE_CONFIG]",
            "flock -w 60 /run/lock/a gpg2 [PORTAGE_CONFIG]",
            "env LANG=C nice -n 10 gpg [PORTAGE_CONFIG]",
        ] {
            assert!(runs_gpg(here), "{here}");
        }
        for elsewhere in [
            "ssh signer gpg --sign --armor [PORTAGE_CONFIG]",
            "flock /run/lock/a ssh signer gpg [PORTAGE_CONFIG]",
            "/usr/bin/flock /run/lock/a /usr/bin/ssh -p 22 signer gpg [PORTAGE_CONFIG]",
            "/usr/local/bin/sign [PORTAGE_CONFIG]",
            "",
        ] {
            assert!(!runs_gpg(elsewhere), "{elsewhere}");
        }
    }
}
