//! How many packages which key has signed, by what the packages say: what a key change has still to do. Nothing is
//! verified here; `verify` does that.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Error, Run};
use crate::package::gpkg::Container;
use crate::package::openpgp::{KeyError, Keyring, Owner, maker_of};
use crate::pkgdir::Pkgdir;
use crate::portage::fingerprint::{Fingerprint, KeyHandle};
use crate::portage::settings::{KeyMigration, Signing};
use crate::report::plural;

/// The packages of one key.
pub(super) struct Signers {
    /// The key.
    key: KeyHandle,
    /// Whose it is.
    pub(super) owner: Owner,
    count: usize,
    /// `BINPKG_GPG_SIGNING_KEY_MIGRATION` as it should be, where the key is to be named there.
    migration: String,
}

impl Run<'_> {
    /// The packages of each key, where the keys can be asked.
    pub(super) fn signers(&self, signing: &Signing, pkgdir: &Pkgdir) -> Result<Vec<Signers>, Error> {
        match self.open_keyring(signing)? {
            Ok(keyring) => self.signers_by(&keyring, pkgdir),
            // told of where it is used
            Err(_) => Ok(Vec::new()),
        }
    }

    /// The same with a keyring that is open.
    pub(super) fn signers_by(&self, keyring: &Keyring, pkgdir: &Pkgdir) -> Result<Vec<Signers>, Error> {
        let known = self.settings.key_migrations()?;
        let Some(signing) = keyring.signing() else { return Ok(Vec::new()) };
        let new = &signing.fingerprint;
        let mut signers = Vec::new();
        for (key, count) in count(pkgdir)? {
            let home = || keyring.home().unwrap_or(Path::new("")).to_owned();
            let failed = |source| KeyError::Gpg { home: home(), action: "look up a key", source };
            let owner = keyring.owner(&key).map_err(failed)?;
            let migration = match &owner {
                Owner::InHome(old) | Owner::SignedBefore(old) => pairs(&known, old.as_str(), new),
                Owner::Expired => pairs(&known, key.as_str(), new),
                Owner::Configured | Owner::Former | Owner::Other => String::new(),
            };
            signers.push(Signers { key, owner, count, migration });
        }
        Ok(signers)
    }
}

/// The pairs that are set, and one more.
fn pairs(known: &[KeyMigration], old: &str, new: &Fingerprint) -> String {
    let others = known.iter().filter(|pair| pair.old.as_str() != old).map(|pair| format!("{}={}", pair.old, pair.new));
    others.chain([format!("{old}={new}")]).collect::<Vec<_>>().join(" ")
}

/// How many packages name which key in the signature of their Manifest.
fn count(pkgdir: &Pkgdir) -> Result<BTreeMap<KeyHandle, usize>, Error> {
    let mut counts: BTreeMap<KeyHandle, usize> = BTreeMap::new();
    for file in pkgdir.packages()? {
        let shown = pkgdir.path().join(file.path.as_str());
        let manifest = pkgdir.open_package(&file.path).ok().and_then(|opened| {
            let container = Container::open(opened.file, &shown).ok()?;
            container.manifest_bytes().ok()
        });
        if let Some(key) = manifest.and_then(|manifest| maker_of(&manifest)) {
            *counts.entry(key).or_default() += 1;
        }
    }
    Ok(counts)
}

impl Signers {
    /// Whether the key is one that should be named in `BINPKG_GPG_SIGNING_KEY_MIGRATION` and is not.
    pub(super) fn is_unnamed(&self) -> bool {
        matches!(self.owner, Owner::InHome(_) | Owner::SignedBefore(_) | Owner::Expired)
    }

    /// How many packages, and what their key is.
    pub(super) fn text(&self) -> String {
        let packages = plural(self.count, "package is", "packages are");
        let key = &self.key;
        match &self.owner {
            Owner::Configured => format!("{packages} signed by {key}, the configured key"),
            Owner::Former => format!("{packages} signed by {key}, which has been replaced"),
            Owner::Expired => format!("{packages} signed by {key}, which has expired or is revoked"),
            Owner::InHome(_) => {
                format!(
                    "{packages} signed by {key}, whose secret half is in the signing home, which is not the configured one"
                )
            }
            Owner::SignedBefore(_) => {
                format!("{packages} signed by {key}, which signed here before and is not the configured one")
            }
            Owner::Other => format!("{packages} signed by {key}, which is not ours"),
        }
    }

    /// What to do about them.
    pub(super) fn advice(&self) -> String {
        match &self.owner {
            Owner::InHome(_) => format!(
                "if it has been replaced, set BINPKG_GPG_SIGNING_KEY_MIGRATION=\"{}\" in make.conf and run \
                 `binpkg-resign rekey`; until then such packages are held where an update concerns them",
                self.migration
            ),
            Owner::SignedBefore(_) => format!(
                "if it has been replaced, import its public half into the signing home, set \
                 BINPKG_GPG_SIGNING_KEY_MIGRATION=\"{}\" in make.conf and run `binpkg-resign rekey`; until then such \
                 packages are held where an update concerns them",
                self.migration
            ),
            Owner::Expired => format!(
                "extend it; or if it has been replaced, set BINPKG_GPG_SIGNING_KEY_MIGRATION=\"{}\" in make.conf and run \
                 `binpkg-resign rekey`; until then such packages are held where an update concerns them",
                self.migration
            ),
            Owner::Former => "`binpkg-resign rekey` signs them with the new one".to_owned(),
            Owner::Configured | Owner::Other => String::new(),
        }
    }
}
