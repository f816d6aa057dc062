//! Why the keys cannot be used at all, whoever asks, and what to do about it; why one signature failed (key locked, wrong
//! PIN, no card), [`super::reasons`] says.

use std::path::{Path, PathBuf};

use super::daemon::Daemon;
use super::gpg::GpgError;
use crate::portage::fingerprint::Fingerprint;

/// Why the keys cannot be used. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The home does not exist or is no directory that can be read.
    #[error("the gpg home {} cannot be read: {source}; check the path and its owner", home.display())]
    Home {
        /// The home.
        home: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// gpg itself cannot be run.
    #[error("gpg cannot be used ({source}); is app-crypt/gnupg installed?")]
    Engine {
        /// Why not.
        source: GpgError,
    },
    /// No key fits the setting.
    #[error("the gpg home {} has no key {key} (BINPKG_GPG_SIGNING_KEY); list its keys with `gpg --homedir {} --list-secret-keys`", home.display(), home.display())]
    Missing {
        /// The home.
        home: PathBuf,
        /// The key as configured.
        key: String,
    },
    /// The key is there without its secret half.
    #[error("the gpg home {} has no secret key for {key} (BINPKG_GPG_SIGNING_KEY), it cannot sign; import the secret key or choose another one", home.display())]
    NoSecret {
        /// The home.
        home: PathBuf,
        /// The key as configured.
        key: String,
    },
    /// The key is revoked.
    #[error(
        "the signing key {key} is revoked; create a new key, set BINPKG_GPG_SIGNING_KEY to it and see BINPKG_GPG_SIGNING_KEY_MIGRATION"
    )]
    Revoked {
        /// The key as configured.
        key: String,
    },
    /// The key has expired.
    #[error("the signing key {key} has expired; extend it with `gpg --homedir {} --quick-set-expire {fingerprint} 2y{subkey}`, then run `binpkg-resign held retry`", home.display())]
    Expired {
        /// The home.
        home: PathBuf,
        /// The key as configured.
        key: String,
        /// The certificate's fingerprint.
        fingerprint: Fingerprint,
        /// Empty, or where only a subkey has expired: a blank and its fingerprint.
        subkey: String,
    },
    /// The key is disabled, or has nothing that can sign.
    #[error("the key {key} (BINPKG_GPG_SIGNING_KEY) cannot sign; choose one that has a signing key or subkey")]
    CannotSign {
        /// The key as configured.
        key: String,
    },
    /// gpg could not list or export keys.
    #[error("gpg could not {action} in {} ({source})", home.display())]
    Gpg {
        /// The home.
        home: PathBuf,
        /// What was being done.
        action: &'static str,
        /// Why not.
        source: GpgError,
    },
    /// The agent, which has the secret keys, cannot be reached.
    #[error("the gpg agent of {} cannot be reached, so that nothing can be signed: {advice} (gpg: {words})", home.display())]
    Agent {
        /// The home.
        home: PathBuf,
        /// What to do.
        advice: String,
        /// What gpg said.
        words: String,
    },
    /// keyboxd, which has the public keys, cannot be reached.
    #[error("the keyboxd of {} cannot be reached, which has its public keys: {advice} (gpg: {words})", home.display())]
    Keyboxd {
        /// The home.
        home: PathBuf,
        /// What to do.
        advice: String,
        /// What gpg said.
        words: String,
    },
    /// A certificate that is in the home does not arrive in the private one.
    #[error(
        "gpg does not find the certificate {fingerprint} where it was put for verifying; see /etc/gnupg/gpg.conf and /etc/gnupg/common.conf (gpg: {words})"
    )]
    NotExported {
        /// Its fingerprint.
        fingerprint: Fingerprint,
        /// What gpg said.
        words: String,
    },
    /// The private home could not be made.
    #[error("cannot make a private gpg home below {}: {source}", directory.display())]
    PrivateHome {
        /// The folder for temporary files.
        directory: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl KeyError {
    pub(super) fn of_gpg(home: &Path, action: &'static str, source: GpgError) -> KeyError {
        match source {
            source @ (GpgError::Start { .. } | GpgError::Engine(_)) => KeyError::Engine { source },
            // gpg's words of keyboxd, and those of 2.5's keyboxd that waits for the lock on its database
            GpgError::Failed { words } if words.contains("keyboxd") || words.contains("database_open") => {
                KeyError::Keyboxd { home: home.to_owned(), advice: Daemon::Keyboxd.advice(home), words }
            }
            source => KeyError::Gpg { home: home.to_owned(), action, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_told() {
        let home = || PathBuf::from("/etc/portage/gnupg-signing");
        let key = || "Binhost".to_owned();
        let denied = || std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let fingerprint = || Fingerprint::new("0123456789ABCDEF0123456789ABCDEF01234567").unwrap();
        let start = || GpgError::Start { program: PathBuf::from("/usr/bin/gpg"), source: denied() };
        let late = || GpgError::TimedOut { seconds: 60, locks: None };
        let errors = [
            KeyError::Home { home: home(), source: denied() },
            KeyError::Engine { source: start() },
            KeyError::Missing { home: home(), key: key() },
            KeyError::NoSecret { home: home(), key: key() },
            KeyError::Revoked { key: key() },
            KeyError::Expired { home: home(), key: key(), fingerprint: fingerprint(), subkey: String::new() },
            KeyError::CannotSign { key: key() },
            KeyError::of_gpg(&home(), "list the keys", start()),
            KeyError::of_gpg(&home(), "list the keys", late()),
            KeyError::of_gpg(&home(), "list the keys", GpgError::Interrupted),
            KeyError::of_gpg(&home(), "export the keys", GpgError::Failed { words: "keydb_search failed".into() }),
            KeyError::Agent { home: home(), advice: "start it".into(), words: "No agent running".into() },
            KeyError::of_gpg(
                &home(),
                "list the keys",
                GpgError::Failed { words: "can't connect to the keyboxd".into() },
            ),
            KeyError::NotExported { fingerprint: fingerprint(), words: "no valid OpenPGP data found".into() },
            KeyError::PrivateHome { directory: PathBuf::from("/tmp"), source: denied() },
        ];
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!("key-errors", told.join("\n"));
    }
}
