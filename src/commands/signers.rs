//! How many packages which key has signed, by what the packages say: what a key change has still to do, and what there
//! is. Nothing is verified here; `verify` does that.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::Path;

use serde::Serialize;

use super::{Error, Run};
use crate::package::gpkg::Container;
use crate::package::openpgp::{KeyError, Keyring, Owner, maker_of};
use crate::pkgdir::Pkgdir;
use crate::portage::fingerprint::{Fingerprint, KeyHandle};
use crate::portage::names::PkgPath;
use crate::portage::settings::{KeyMigration, Signing};
use crate::report::plural;

/// So many packages, and their bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Pile {
    /// How many.
    pub(super) packages: usize,
    /// The size of their files.
    pub(super) bytes: u64,
}

impl Pile {
    /// One more.
    pub(super) fn add(&mut self, bytes: u64) {
        self.packages += 1;
        self.bytes += bytes;
    }

    /// These and those.
    pub(super) fn and(self, other: Pile) -> Pile {
        Pile { packages: self.packages + other.packages, bytes: self.bytes + other.bytes }
    }
}

/// The packages of PKGDIR by what they say of themselves.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// By the key that the signature of the Manifest names.
    pub(super) by_key: BTreeMap<KeyHandle, Pile>,
    /// Those with no signature at all.
    pub(super) unsigned: Pile,
    /// Those that are no container, or whose signature names no key.
    pub(super) unclear: Pile,
    /// Where those lie that are not unsigned.
    pub(super) signed: HashSet<PkgPath>,
}

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
        for (key, pile) in survey(pkgdir)?.by_key {
            let owner = owner_of(keyring, &key)?;
            let migration = match &owner {
                Owner::InHome(old) | Owner::SignedBefore(old) => pairs(&known, old.as_str(), new),
                Owner::Expired => pairs(&known, key.as_str(), new),
                Owner::Configured | Owner::Former | Owner::Other => String::new(),
            };
            signers.push(Signers { key, owner, count: pile.packages, migration });
        }
        Ok(signers)
    }
}

/// Whose a key is.
pub(super) fn owner_of(keyring: &Keyring, key: &KeyHandle) -> Result<Owner, Error> {
    let home = || keyring.home().unwrap_or(Path::new("")).to_owned();
    let failed = |source| KeyError::Gpg { home: home(), action: "look up a key", source };
    Ok(keyring.owner(key).map_err(failed)?)
}

/// The pairs that are set, and one more.
fn pairs(known: &[KeyMigration], old: &str, new: &Fingerprint) -> String {
    let others = known.iter().filter(|pair| pair.old.as_str() != old).map(|pair| format!("{}={}", pair.old, pair.new));
    others.chain([format!("{old}={new}")]).collect::<Vec<_>>().join(" ")
}

/// Reads of every package whether it is signed, and which key the signature of its Manifest names. What goes away
/// meanwhile is not there.
pub(super) fn survey(pkgdir: &Pkgdir) -> Result<Survey, Error> {
    let mut survey = Survey::default();
    for file in pkgdir.packages()? {
        let Ok(opened) = pkgdir.open_package(&file.path) else { continue };
        let bytes = opened.identity.size();
        match maker(opened.file, &pkgdir.path().join(file.path.as_str())) {
            Maker::Nobody => {
                survey.unsigned.add(bytes);
                continue;
            }
            Maker::Key(key) => survey.by_key.entry(key).or_default().add(bytes),
            Maker::Unclear => survey.unclear.add(bytes),
        }
        survey.signed.insert(file.path);
    }
    Ok(survey)
}

/// Who has signed a package, as it says.
pub(super) enum Maker {
    /// It is not signed.
    Nobody,
    /// The holder of this key.
    Key(KeyHandle),
    /// It is no container, or its signature names no key.
    Unclear,
}

/// Who has signed the package in `file`, as it says.
pub(super) fn maker(file: File, shown: &Path) -> Maker {
    let Ok(container) = Container::open(file, shown) else { return Maker::Unclear };
    let key = container.manifest_bytes().ok().and_then(|manifest| maker_of(&manifest));
    match (key, container.has_signatures()) {
        (Some(key), _) => Maker::Key(key),
        (None, Ok(false)) => Maker::Nobody,
        (None, _) => Maker::Unclear,
    }
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
