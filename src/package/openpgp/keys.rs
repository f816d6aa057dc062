//! The certificates that count as ours, pinned in a private gpg home.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use gpgme::KeyListMode;

use super::verify::{Verifier, VerifyError};

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
        /// What gpgme said.
        source: gpgme::Error,
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
        fingerprint: String,
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
    #[error("gpg could not {action} in {}: {source}", home.display())]
    Gpg {
        /// The home.
        home: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What gpgme said.
        source: gpgme::Error,
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

/// A certificate: a primary key with its subkeys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The primary key's fingerprint, upper-case hex.
    pub fingerprint: String,
    /// The first user id, as gpg shows it.
    pub user_id: String,
    /// Whether the certificate is revoked.
    pub revoked: bool,
    /// The keys: the primary one first, then the subkeys.
    pub keys: Vec<KeyFacts>,
}

/// One key of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFacts {
    /// Its fingerprint, upper-case hex.
    pub fingerprint: String,
    /// When it expires, if ever.
    pub expires: Option<SystemTime>,
    /// Whether it is revoked.
    pub revoked: bool,
    /// Whether it is able to sign.
    pub signs: bool,
    /// Whether its secret half is in the home (also as a stub for a card).
    pub secret: bool,
}

impl Certificate {
    fn from_key(key: &gpgme::Key) -> Option<Certificate> {
        let user_id = key.user_ids().next().and_then(|user| user.id().ok().map(str::to_owned));
        Some(Certificate {
            fingerprint: key.fingerprint().ok()?.to_owned(),
            user_id: user_id.unwrap_or_default(),
            revoked: key.is_revoked(),
            keys: (key.subkeys())
                .filter_map(|subkey| {
                    Some(KeyFacts {
                        fingerprint: subkey.fingerprint().ok()?.to_owned(),
                        expires: subkey.expiration_time(),
                        revoked: subkey.is_revoked(),
                        signs: subkey.can_sign() && !subkey.is_disabled(),
                        secret: subkey.is_secret(),
                    })
                })
                .collect(),
        })
    }

    /// The key of this certificate that `id` names: a fingerprint, or a key id (its end).
    #[must_use]
    pub fn key(&self, id: &str) -> Option<&KeyFacts> {
        let id = id.trim_start_matches("0x").to_ascii_uppercase();
        if id.len() < 16 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        self.keys.iter().find(|key| key.fingerprint.ends_with(&id))
    }

    /// Whether what `key`, one of its keys, has signed is still accepted: neither it nor the primary key has expired or
    /// is revoked.
    #[must_use]
    pub fn is_valid(&self, key: &KeyFacts) -> bool {
        let now = SystemTime::now();
        let lives = |key: &KeyFacts| !key.revoked && key.expires.is_none_or(|time| time > now);
        !self.revoked && lives(key) && self.keys.first().is_none_or(lives)
    }

    /// When the last of its keys that can sign will have expired; `None` for never.
    #[must_use]
    pub fn signing_expires(&self, exact: Option<&str>) -> Option<SystemTime> {
        let primary_expires = self.keys.first().and_then(|key| key.expires);
        let mut last = None;
        // a wrapper may sign on another machine, with no secret half here
        let here = self.keys.iter().any(|key| key.signs && key.secret);
        for key in self.keys.iter().filter(|key| key.signs && key.secret == here && !key.revoked) {
            if exact.is_some_and(|exact| exact != key.fingerprint) {
                continue;
            }
            match key.expires {
                None => return primary_expires,
                Some(time) => last = last.max(Some(time)),
            }
        }
        match (last, primary_expires) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
}

/// What counts as ours: the certificate of the signing key, and those it has replaced.
#[derive(Debug)]
pub struct Keyring {
    private_home: tempfile::TempDir,
    signing: Certificate,
    exact: Option<String>,
    unusable: Option<Arc<KeyError>>,
    migrated: Vec<Certificate>,
}

impl Keyring {
    /// Finds the certificate that `key` (as `gpg --local-user` takes it) selects in `home`, and those that it has
    /// replaced (`migrations`: pairs of fingerprints, old and new), and exports them to a private home that holds
    /// nothing else. A pair whose new key is not the one that signs concerns nothing here.
    ///
    /// A key that is there but cannot sign (expired, revoked, no secret half) still tells whose packages are ours; see
    /// [`Keyring::unusable`].
    ///
    /// # Errors
    /// The home or gpg cannot be used, or no key fits.
    pub fn open(home: &Path, key: &str, migrations: &[(String, String)]) -> Result<Keyring, KeyError> {
        std::fs::read_dir(home).map_err(|source| KeyError::Home { home: home.to_owned(), source })?;
        let gpg = |action| {
            let home = home.to_owned();
            move |source| KeyError::Gpg { home, action, source }
        };
        let mut context = super::context(home).map_err(|source| KeyError::Engine { source })?;
        let name = key.strip_suffix('!').unwrap_or(key);
        let (signing, signing_key, unusable) = find_signing(&mut context, home, key, name)?;
        let exact = (key.ends_with('!')).then(|| signing.key(name).map(|k| k.fingerprint.clone())).flatten();

        let mut certificates = Vec::new();
        let mut exported = Vec::new();
        let mut export = vec![signing_key];
        for (fingerprint, new) in migrations {
            if signing.key(new).is_none() {
                log::warn!(
                    "BINPKG_GPG_SIGNING_KEY_MIGRATION names {new}, which BINPKG_GPG_SIGNING_KEY is not: what \
                     {fingerprint} signed does not count as ours"
                );
                continue;
            }
            // not `get_key`: gpgme makes another context for it, with the trust model of the home
            let found = context.find_keys([fingerprint.as_str()]).and_then(|mut keys| keys.next().transpose());
            match found.map_err(gpg("look up a migrated key"))? {
                Some(key) => {
                    certificates.extend(Certificate::from_key(&key));
                    export.push(key);
                }
                None => log::warn!("{fingerprint} of BINPKG_GPG_SIGNING_KEY_MIGRATION is not in {}", home.display()),
            }
        }
        context
            .export_keys(&export, gpgme::ExportMode::empty(), &mut exported)
            .map_err(gpg("export the public keys"))?;
        let private_home = private_home(&exported)?;
        Ok(Keyring { private_home, signing, exact, unusable: unusable.map(Arc::new), migrated: certificates })
    }

    /// No certificate counts as ours: where packages are not signed here, only others' signatures can be looked at.
    ///
    /// # Errors
    /// The private home cannot be made.
    pub fn none() -> Result<Keyring, KeyError> {
        let nobody =
            Certificate { fingerprint: String::new(), user_id: String::new(), revoked: false, keys: Vec::new() };
        Ok(Keyring {
            private_home: private_home(&[])?,
            signing: nobody,
            exact: None,
            unusable: None,
            migrated: Vec::new(),
        })
    }

    /// Lets the private home know the public keys of `home` as well (`BINPKG_GPG_VERIFY_GPG_HOME`): their signatures
    /// can be verified, and do not count as ours.
    ///
    /// # Errors
    /// gpg cannot read them.
    pub fn know_others(&mut self, home: &Path) -> Result<(), KeyError> {
        let gpg = |source| KeyError::Gpg { home: home.to_owned(), action: "export the public keys", source };
        std::fs::read_dir(home).map_err(|source| KeyError::Home { home: home.to_owned(), source })?;
        let mut exported = Vec::new();
        let copy = private_copy(home)?;
        let mut context = super::context(copy.path()).map_err(gpg)?;
        context.export_all(gpgme::ExportMode::empty(), &mut exported).map_err(gpg)?;
        let mut private = super::context(self.private_home.path()).map_err(gpg)?;
        private.import(exported).map_err(gpg)?;
        Ok(())
    }

    /// The certificate that signs.
    #[must_use]
    pub fn signing(&self) -> &Certificate {
        &self.signing
    }

    /// The same, for a signing command that has the secret half somewhere else (on another machine): that it is not in
    /// the home is no obstacle then.
    #[must_use]
    pub fn with_secret_elsewhere(self) -> Keyring {
        let unusable = self.unusable.filter(|problem| !matches!(**problem, KeyError::NoSecret { .. }));
        Keyring { unusable, ..self }
    }

    /// Why the key cannot sign, where that is known without trying.
    #[must_use]
    pub fn unusable(&self) -> Option<&KeyError> {
        self.unusable.as_deref()
    }

    /// The same, to be kept with each package that waits for it.
    #[must_use]
    pub fn problem(&self) -> Option<Arc<KeyError>> {
        self.unusable.clone()
    }

    /// The fingerprint of the one key that must sign, where the setting ends in `!`.
    #[must_use]
    pub fn exact(&self) -> Option<&str> {
        self.exact.as_deref()
    }

    /// The certificate of ours, signing or migrated, that has the key `id` (fingerprint or long key id).
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Certificate> {
        std::iter::once(&self.signing).chain(&self.migrated).find(|certificate| certificate.key(id).is_some())
    }

    /// Whether `id` is a key of ours whose signatures do not last: of a replaced certificate, expired or revoked.
    #[must_use]
    pub fn is_former(&self, id: &str) -> bool {
        let current = |key| self.signing.is_valid(key);
        self.find(id).is_some() && !self.signing.key(id).is_some_and(current)
    }

    /// Whether there are any such keys.
    #[must_use]
    pub fn has_former_keys(&self) -> bool {
        !self.migrated.is_empty() || self.signing.keys.iter().any(|key| !self.signing.is_valid(key))
    }

    /// A verifier for one thread.
    ///
    /// # Errors
    /// gpgme cannot be set up.
    pub fn verifier(&self) -> Result<Verifier<'_>, VerifyError> {
        Verifier::new(self, self.private_home.path())
    }
}

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

/// How far the keyring in `home` trusts the certificate with this fingerprint; nothing is changed.
///
/// # Errors
/// The home cannot be read.
pub fn trust_in(home: &Path, fingerprint: &str) -> Result<Trust, KeyError> {
    std::fs::read_dir(home).map_err(|source| KeyError::Home { home: home.to_owned(), source })?;
    let gpg = |source| KeyError::Gpg { home: home.to_owned(), action: "look up the key", source };
    let copy = private_copy(home)?;
    let mut context = super::context(copy.path()).map_err(gpg)?;
    context.set_flag("trust-model", "pgp").map_err(gpg)?;
    let key = context.find_keys([fingerprint]).map_err(gpg)?.next().transpose().map_err(gpg)?;
    let Some(key) = key else { return Ok(Trust::Absent) };
    let full = key.user_ids().any(|user| matches!(user.validity(), gpgme::Validity::Full | gpgme::Validity::Ultimate));
    Ok(if full { Trust::Full } else { Trust::Less })
}

/// The certificate `key` selects, the way gpg chooses it for `--local-user`: the first that can sign; and where none
/// can, the first of all, with the reason.
fn find_signing(
    context: &mut gpgme::Context,
    home: &Path,
    key: &str,
    name: &str,
) -> Result<(Certificate, gpgme::Key, Option<KeyError>), KeyError> {
    let gpg = |source| KeyError::Gpg { home: home.to_owned(), action: "list the keys", source };
    context.set_key_list_mode(KeyListMode::LOCAL | KeyListMode::WITH_SECRET).map_err(gpg)?;
    let found: Vec<gpgme::Key> = context.find_keys([name]).map_err(gpg)?.collect::<Result<Vec<_>, _>>().map_err(gpg)?;
    let mut second_best = None;
    for candidate in found {
        let Some(certificate) = Certificate::from_key(&candidate) else { continue };
        match usable(&certificate, home, key, name) {
            Ok(()) => return Ok((certificate, candidate, None)),
            Err(error) => second_best = second_best.or(Some((certificate, candidate, Some(error)))),
        }
    }
    // to gpgme, a gpg that cannot be started is one that knows no keys
    second_best.ok_or_else(|| match gpgme::init().check_engine_version(gpgme::Protocol::OpenPgp) {
        Ok(()) => KeyError::Missing { home: home.to_owned(), key: key.to_owned() },
        Err(source) => KeyError::Engine { source },
    })
}

fn usable(certificate: &Certificate, home: &Path, key: &str, name: &str) -> Result<(), KeyError> {
    let exact = (key.ends_with('!')).then(|| certificate.key(name)).flatten();
    let candidates: Vec<&KeyFacts> = match exact {
        Some(exact) => vec![exact],
        None => certificate.keys.iter().collect(),
    };
    if certificate.revoked || exact.is_some_and(|exact| exact.revoked) {
        return Err(KeyError::Revoked { key: key.to_owned() });
    }
    let able: Vec<&&KeyFacts> = candidates.iter().filter(|k| k.signs && !k.revoked).collect();
    if able.is_empty() && !candidates.iter().any(|k| k.expires.is_some_and(|time| time <= SystemTime::now())) {
        return Err(KeyError::CannotSign { key: key.to_owned() });
    }
    let now = SystemTime::now();
    let lives = |k: &KeyFacts| k.expires.is_none_or(|time| time > now);
    let primary_lives = certificate.keys.first().is_none_or(lives);
    let alive: Vec<&&&KeyFacts> = able.iter().filter(|k| primary_lives && lives(k)).collect();
    if alive.is_empty() {
        let fingerprint = certificate.fingerprint.clone();
        let subkey = match able.last() {
            Some(last) if primary_lives => format!(" {}", last.fingerprint),
            _ => String::new(),
        };
        return Err(KeyError::Expired { home: home.to_owned(), key: key.to_owned(), fingerprint, subkey });
    }
    if !alive.iter().any(|k| k.secret) {
        return Err(KeyError::NoSecret { home: home.to_owned(), key: key.to_owned() });
    }
    Ok(())
}

/// A temporary gpg home with a copy of the public keys of `home` and their trust: gpg writes lock files and its trust
/// database even where it is only asked.
#[allow(clippy::disallowed_methods, reason = "a temporary folder, not PKGDIR")]
fn private_copy(home: &Path) -> Result<tempfile::TempDir, KeyError> {
    let copy = private_home(&[])?;
    for name in ["pubring.kbx", "pubring.gpg", "trustdb.gpg"] {
        match std::fs::copy(home.join(name), copy.path().join(name)) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(KeyError::Home { home: home.to_owned(), source });
            }
            _ => {}
        }
    }
    Ok(copy)
}

/// A temporary gpg home (0700) with these public keys and nothing else: pins what may verify, and is faster, since gpg
/// needs neither a lock on its random seed nor a trust database.
#[allow(clippy::disallowed_methods, reason = "a temporary folder, not PKGDIR")]
fn private_home(public_keys: &[u8]) -> Result<tempfile::TempDir, KeyError> {
    let directory = std::env::temp_dir();
    let failed = |source| KeyError::PrivateHome { directory: directory.clone(), source };
    let home = tempfile::Builder::new()
        .prefix("binpkg-resign.")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .map_err(failed)?;
    let mut settings = std::fs::File::create(home.path().join("gpg.conf")).map_err(failed)?;
    settings
        .write_all(b"no-random-seed-file\nno-autostart\nno-auto-check-trustdb\nbatch\nlock-never\n")
        .map_err(failed)?;
    let gpg = |source| KeyError::Gpg { home: home.path().to_owned(), action: "put our public keys", source };
    if public_keys.is_empty() {
        return Ok(home);
    }
    let mut context = super::context(home.path()).map_err(gpg)?;
    let result = context.import(public_keys).map_err(gpg)?;
    log::debug!("{} public keys in the private home {}", result.considered(), home.path().display());
    Ok(home)
}
