//! Remembers the signing keys of every certificate that our runs have signed with: a key that has been replaced stays
//! known as ours when its secret half, or all of it, has gone from the signing home, so that the packages that it signed
//! are held and not left.
//!
//! What stands in it only ever keeps packages from being removed; nothing is signed because of it.

use std::path::PathBuf;

use super::certificate::Certificate;
use super::own_file;
use crate::portage::bounded;
use crate::portage::fingerprint::{Fingerprint, KeyHandle};

/// The file is not larger, in bytes.
const READ_LIMIT: u64 = 64 << 10;
/// So many keys are remembered; the oldest are forgotten.
const KEY_LIMIT: usize = 500;

/// The keys that our runs have signed with, and the file that remembers them: a whole fingerprint a line.
#[derive(Debug)]
pub struct SignedWith {
    file: PathBuf,
    /// In the order in which they came.
    keys: Vec<Fingerprint>,
}

impl SignedWith {
    /// Reads what `file` remembers; a file that cannot be read remembers nothing, and lines that are no fingerprints are
    /// passed over.
    #[must_use]
    pub fn in_file(file: PathBuf) -> SignedWith {
        let text = bounded::read(&file, READ_LIMIT).unwrap_or_else(|error| {
            if error.kind() != std::io::ErrorKind::NotFound {
                log::info!("cannot read {}: {error}; keys of earlier runs are not known", file.display());
            }
            Vec::new()
        });
        let keys = String::from_utf8_lossy(&text).lines().filter_map(Fingerprint::new).take(KEY_LIMIT).collect();
        SignedWith { file, keys }
    }

    /// The key that a signature names so, if one of our runs has signed with it.
    #[must_use]
    pub fn find(&self, name: &KeyHandle) -> Option<&Fingerprint> {
        let KeyHandle::Fingerprint(fingerprint) = name else { return None };
        self.keys.iter().find(|key| *key == fingerprint)
    }

    /// Remembers that the keys of this certificate have signed.
    pub(super) fn remember(&self, certificate: &Certificate) {
        let signing = certificate.keys.iter().filter(|key| key.signs).map(|key| &key.fingerprint);
        let new: Vec<&Fingerprint> = signing.filter(|key| !self.keys.contains(key)).collect();
        if new.is_empty() {
            return;
        }
        let all: Vec<&Fingerprint> = self.keys.iter().chain(new).collect();
        let text: String = all.iter().skip(all.len().saturating_sub(KEY_LIMIT)).map(|key| format!("{key}\n")).collect();
        if let Err(error) = own_file::replace(&self.file, &text) {
            log::info!("cannot write {}: {error}; the signing key is not remembered", self.file.display());
        }
    }
}
