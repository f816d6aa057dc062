//! How far the keyring that Portage verifies with trusts a key. Only looked at, in a copy: no trust is changed.

use std::path::{Path, PathBuf};

use super::home::{certificates, program};
use super::key_error::KeyError;
use super::private::PrivateHome;
use super::talk::Patience;
use crate::portage::fingerprint::Fingerprint;

/// How far a keyring trusts a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Fully or ultimately: Portage accepts its signatures.
    Full,
    /// It has the key, and Portage calls its signatures untrusted.
    Less,
    /// It does not have the key.
    Absent,
}

/// Whether the keys of a home are kept by keyboxd (GnuPG 2.4 and newer).
#[must_use]
pub fn uses_keyboxd(home: &Path) -> bool {
    let files = [home.join("common.conf"), PathBuf::from("/etc/gnupg/common.conf")];
    let has_it = |file: &PathBuf| {
        std::fs::read_to_string(file).is_ok_and(|text| text.lines().any(|line| line.trim() == "use-keyboxd"))
    };
    files.iter().any(has_it)
}

/// How far the keyring in `home` trusts the certificate with this fingerprint; nothing is changed.
///
/// # Errors
/// The home cannot be read.
pub fn trust_in(home: &Path, fingerprint: &Fingerprint) -> Result<Trust, KeyError> {
    std::fs::read_dir(home).map_err(|source| KeyError::Home { home: home.to_owned(), source })?;
    let copy = PrivateHome::copy_of(home, &program()?)?;
    let patience = Patience::default();
    let words = ["--trust-model", "pgp", "--with-colons", "--with-fingerprint", "--list-keys", fingerprint.as_str()];
    let listed = copy.gpg(&patience).run(words, b"").and_then(certificates);
    let found = listed.map_err(|source| KeyError::of_gpg(home, "look up the key", source))?;
    Ok(match found.first() {
        None => Trust::Absent,
        Some(certificate) if certificate.trusted => Trust::Full,
        Some(_) => Trust::Less,
    })
}
