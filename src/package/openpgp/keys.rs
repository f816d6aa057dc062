//! Whose a key is: the certificates that count as ours, pinned in a private gpg home, and the keys that are held as ours
//! all the same (in the signing home, or signed with before).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::agent;
use super::certificate::{Certificate, KeyFacts};
use super::gpg::{Gpg, GpgError, Options};
use super::home::{ask_agent, export, list, program};
use super::key_error::KeyError;
use super::private::PrivateHome;
use super::signed_with::SignedWith;
use super::talk::Patience;
use super::verify::{Verifier, VerifyError};
use super::watchdog::Watchdog;
use crate::portage::fingerprint::{Fingerprint, KeyHandle};

/// What counts as ours: the certificate of the signing key, and those it has replaced.
#[derive(Debug)]
pub struct Keyring {
    // before the home, so that nothing is watched that is gone
    watchdog: Watchdog,
    private_home: PrivateHome,
    signing: Option<Certificate>,
    exact: Option<Fingerprint>,
    unusable: Option<Arc<KeyError>>,
    migrated: Vec<Certificate>,
    // the fingerprints that the migration variable names.
    named: Vec<Fingerprint>,
    origin: Option<SigningHome>,
    // what earlier runs have signed with.
    signed_with: Option<SignedWith>,
    patience: Patience,
}

/// Where the signing key is, for questions that come up later.
#[derive(Debug)]
struct SigningHome {
    program: PathBuf,
    home: PathBuf,
    options: Options,
    /// The keys that were asked for already.
    asked: Mutex<BTreeMap<KeyHandle, SecretHalf>>,
}

/// Where the secret half of a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SecretHalf {
    /// In the signing home, as a file of its agent.
    InHome,
    /// Not there.
    NotInHome,
}

impl Keyring {
    /// [`Keyring::open_within`] a minute for each question to gpg.
    ///
    /// # Errors
    /// The home or gpg cannot be used, or no key fits.
    pub fn open(home: &Path, key: &str, migrations: &[(Fingerprint, Fingerprint)]) -> Result<Keyring, KeyError> {
        Keyring::open_within(home, key, migrations, &Patience::default())
    }

    /// Finds the certificate that `key` (as `gpg --local-user` takes it) selects in `home`, and those that it has
    /// replaced (`migrations`: pairs of fingerprints, old and new), and copies them to a private home that holds
    /// nothing else. A pair whose new key is not the one that signs concerns nothing here.
    ///
    /// A key that is there but cannot sign (expired, revoked, no secret half, no agent) still tells whose packages are
    /// ours; see [`Keyring::unusable`]. gpg is waited for as long as `patience` says, here and when verifying.
    ///
    /// # Errors
    /// The home or gpg cannot be used, or no key fits.
    pub fn open_within(
        home: &Path,
        key: &str,
        migrations: &[(Fingerprint, Fingerprint)],
        patience: &Patience,
    ) -> Result<Keyring, KeyError> {
        std::fs::read_dir(home).map_err(|source| KeyError::Home { home: home.to_owned(), source })?;
        let program = program()?;
        let failed = |action| move |source| KeyError::of_gpg(home, action, source);
        let mut gpg = Gpg { program: &program, home, options: Options::None, patience };
        let name = key.strip_suffix('!').unwrap_or(key);
        let mut found = list(&gpg, name).map_err(failed("list the keys"))?;
        if found.is_empty() {
            // the home's gpg.conf may name another keyring
            gpg.options = Options::OfHome;
            found = list(&gpg, name).map_err(failed("list the keys"))?;
        }
        if found.is_empty() {
            return Err(KeyError::Missing { home: home.to_owned(), key: key.to_owned() });
        }
        let asked = ask_agent(&gpg, &mut found);
        let (signing, unusable) = choose(found, home, key, name)
            .ok_or_else(|| KeyError::Missing { home: home.to_owned(), key: key.to_owned() })?;
        // that the agent cannot be asked explains why it has no secret key
        let unusable = match (unusable, asked) {
            (Some(KeyError::NoSecret { .. }), Err(error)) => Some(error),
            // signing will tell
            (Some(KeyError::NoSecret { .. }), Ok(())) if agent::is_elsewhere(home) => None,
            (unusable, _) => unusable,
        };
        let exact = (key.ends_with('!')).then(|| signing.key_set_as(name).map(|k| k.fingerprint.clone())).flatten();

        let mut migrated: Vec<Certificate> = Vec::new();
        let mut named: Vec<Fingerprint> = Vec::new();
        for (fingerprint, new) in migrations {
            if !signing.keys.iter().any(|key| key.fingerprint == *new) {
                log::warn!(
                    "BINPKG_GPG_SIGNING_KEY_MIGRATION names {new}, which BINPKG_GPG_SIGNING_KEY is not: what \
                     {fingerprint} signed does not count as ours"
                );
                continue;
            }
            match list(&gpg, fingerprint.as_str()).map_err(failed("look up a migrated key"))?.into_iter().next() {
                Some(certificate) => {
                    named.push(fingerprint.clone());
                    migrated.push(certificate);
                }
                None => log::warn!("{fingerprint} of BINPKG_GPG_SIGNING_KEY_MIGRATION is not in {}", home.display()),
            }
        }
        let ours: Vec<&Certificate> = std::iter::once(&signing).chain(&migrated).collect();
        let exported = export(&gpg, ours.iter().map(|certificate| certificate.fingerprint.as_str()))
            .map_err(failed("export the public keys"))?;
        let private_home = PrivateHome::with(&program, &ours, &exported, patience)?;
        let origin = SigningHome {
            home: home.to_owned(),
            options: gpg.options,
            program: program.clone(),
            asked: Mutex::default(),
        };
        Ok(Keyring {
            watchdog: Watchdog::over(private_home.path(), patience),
            private_home,
            signing: Some(signing),
            exact,
            unusable: unusable.map(Arc::new),
            migrated,
            named,
            origin: Some(origin),
            signed_with: None,
            patience: patience.clone(),
        })
    }

    /// No certificate counts as ours: where packages are not signed here, only others' signatures can be looked at.
    ///
    /// # Errors
    /// gpg cannot be used, or the private home cannot be made.
    pub fn none() -> Result<Keyring, KeyError> {
        let patience = Patience::default();
        let private_home = PrivateHome::with(&program()?, &[], b"", &patience)?;
        Ok(Keyring {
            watchdog: Watchdog::over(private_home.path(), &patience),
            private_home,
            signing: None,
            exact: None,
            unusable: None,
            migrated: Vec::new(),
            named: Vec::new(),
            origin: None,
            signed_with: None,
            patience,
        })
    }

    /// Lets the private home know the public keys of `home` as well (`BINPKG_GPG_VERIFY_GPG_HOME`): their signatures
    /// can be verified, and do not count as ours.
    ///
    /// # Errors
    /// gpg cannot read them.
    pub fn know_others(&mut self, home: &Path) -> Result<(), KeyError> {
        std::fs::read_dir(home).map_err(|source| KeyError::Home { home: home.to_owned(), source })?;
        let copy = PrivateHome::copy_of(home, &program()?)?;
        let exported = export(&copy.gpg(&self.patience), []);
        let exported = exported.map_err(|source| KeyError::of_gpg(home, "export the public keys", source))?;
        self.private_home.add(&exported, &self.patience)
    }

    /// Lets a revocation count that only `home` (`BINPKG_GPG_VERIFY_GPG_HOME`) knows: a key, named `key` where it is the one
    /// that signs, that clients do not accept any more. The home is read, in a copy, and nothing else is taken from it.
    ///
    /// # Errors
    /// gpg cannot read it.
    pub fn heed_revocations(mut self, home: &Path, key: &str) -> Result<Keyring, KeyError> {
        let copy = PrivateHome::copy_of(home, &program()?)?;
        let gpg = copy.gpg(&self.patience);
        let mut learned = false;
        for certificate in self.signing.iter_mut().chain(&mut self.migrated) {
            let found = list(&gpg, certificate.fingerprint.as_str());
            let found = found.map_err(|source| KeyError::of_gpg(home, "look for revocations", source))?;
            learned |= found.iter().any(|known| certificate.take_revocations_of(known));
        }
        if learned && let (Some(origin), Some(signing)) = (&self.origin, &self.signing) {
            let name = key.strip_suffix('!').unwrap_or(key);
            if let Err(error @ KeyError::Revoked { .. }) = usable(signing, &origin.home, key, name) {
                self.unusable = Some(Arc::new(error));
            }
        }
        Ok(self)
    }

    /// The certificate that signs; none where nothing is signed.
    #[must_use]
    pub fn signing(&self) -> Option<&Certificate> {
        self.signing.as_ref()
    }

    /// The first user id of that certificate.
    #[must_use]
    pub fn user_id(&self) -> &str {
        self.signing.as_ref().map_or("nobody", |signing| &signing.user_id)
    }

    /// The gpg home with the signing key; none where nothing is signed.
    #[must_use]
    pub fn home(&self) -> Option<&Path> {
        self.origin.as_ref().map(|origin| origin.home.as_path())
    }

    /// The same, for a signing command that has the secret half somewhere else (on another machine): that it is not in
    /// the home is no obstacle then, nor is an agent that cannot be asked.
    #[must_use]
    pub fn with_secret_elsewhere(self) -> Keyring {
        let of_secrets = |problem: &KeyError| {
            use KeyError::{Agent, Gpg, Keyboxd, NoSecret};
            matches!(problem, NoSecret { .. } | Agent { .. } | Keyboxd { .. } | Gpg { .. })
        };
        let unusable = self.unusable.filter(|problem| !of_secrets(problem));
        Keyring { unusable, ..self }
    }

    /// The same, knowing what earlier runs have signed with.
    #[must_use]
    pub fn remembering(self, signed_with: SignedWith) -> Keyring {
        Keyring { signed_with: Some(signed_with), ..self }
    }

    /// Remembers, for later runs, that the certificate that signs has signed.
    pub fn remember_signing(&self) {
        if let (Some(memory), Some(signing)) = (&self.signed_with, &self.signing) {
            memory.remember(signing);
        }
    }

    /// The key `id`, if an earlier run has signed with it.
    #[must_use]
    pub(super) fn signed_before(&self, id: &KeyHandle) -> Option<&Fingerprint> {
        self.signed_with.as_ref()?.find(id)
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
    pub fn exact(&self) -> Option<&Fingerprint> {
        self.exact.as_ref()
    }

    /// The serial number of the card with the key that signs, where it is on one.
    #[must_use]
    pub fn card(&self) -> Option<&str> {
        self.signing.as_ref()?.signing_key(self.exact())?.card.as_deref()
    }

    /// Whether it is known that nobody will be asked for a passphrase or PIN when the key signs.
    #[must_use]
    pub fn asks_nobody(&self) -> bool {
        let key = self.signing.as_ref().and_then(|signing| signing.signing_key(self.exact()));
        self.home().zip(key).is_some_and(|(home, key)| agent::asks_nobody(home, &key.keygrip))
    }

    /// The certificate of ours, signing or migrated, that has the key `id`.
    #[must_use]
    pub fn find(&self, id: &KeyHandle) -> Option<&Certificate> {
        self.signing.iter().chain(&self.migrated).find(|certificate| certificate.key(id).is_some())
    }

    /// Whose the key `id` is, by the setting and the signing home.
    ///
    /// # Errors
    /// gpg could not say.
    pub fn owner(&self, id: &KeyHandle) -> Result<Owner, GpgError> {
        if self.find(id).is_some() {
            return Ok(match self.is_former(id) {
                true if self.is_named(id) => Owner::Former,
                true => Owner::Expired,
                false => Owner::Configured,
            });
        }
        match (self.secret_half_of(id)?, &self.origin) {
            (SecretHalf::InHome, Some(SigningHome { program, home, options, .. })) => {
                let gpg = Gpg { program, home, options: *options, patience: &self.patience };
                let certificate = list(&gpg, id.as_str())?.into_iter().next();
                Ok(certificate.map_or(Owner::Other, |certificate| Owner::InHome(certificate.fingerprint)))
            }
            _ => Ok(self.signed_before(id).map_or(Owner::Other, |key| Owner::SignedBefore(key.clone()))),
        }
    }

    /// Whether the signing home has the secret half of a key that is none of ours. The agent is not asked: it may be
    /// what does not answer.
    pub(super) fn secret_half_of(&self, id: &KeyHandle) -> Result<SecretHalf, GpgError> {
        let Some(origin) = &self.origin else { return Ok(SecretHalf::NotInHome) };
        let mut asked = origin.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&known) = asked.get(id) {
            return Ok(known);
        }
        let SigningHome { program, home, options, .. } = origin;
        let gpg = Gpg { program, home, options: *options, patience: &self.patience };
        let is_there = |key: &KeyFacts| {
            !key.keygrip.is_empty() && home.join(format!("private-keys-v1.d/{}.key", key.keygrip)).exists()
        };
        let found = list(&gpg, id.as_str())?;
        let there = found.iter().flat_map(|certificate| &certificate.keys).any(is_there);
        let half = if there { SecretHalf::InHome } else { SecretHalf::NotInHome };
        asked.insert(id.clone(), half);
        Ok(half)
    }

    /// The private home, for gpgs that verify.
    pub(super) fn private_home(&self) -> &PrivateHome {
        &self.private_home
    }

    /// Whether `id` is a key of ours whose signatures do not last: of a replaced certificate, expired or revoked.
    #[must_use]
    pub fn is_former(&self, id: &KeyHandle) -> bool {
        let current = |signing: &Certificate| signing.key(id).is_some_and(|key| signing.is_valid(key));
        self.find(id).is_some() && !self.signing.as_ref().is_some_and(current)
    }

    /// Whether the key `id` of ours, or its certificate, is named as one that has been replaced.
    #[must_use]
    pub fn is_named(&self, id: &KeyHandle) -> bool {
        let is_of = |certificate: &Certificate| {
            self.named.contains(&certificate.fingerprint)
                || certificate.key(id).is_some_and(|key| self.named.contains(&key.fingerprint))
        };
        self.find(id).is_some_and(is_of)
    }

    /// Whether what the expired key `id` signed while it lived counts as ours: if it is named as replaced; or if the key
    /// that should sign has expired itself, since nothing can be signed then, and that is the better reason to give.
    pub(super) fn believes_expired(&self, id: &KeyHandle) -> bool {
        self.is_named(id) || matches!(self.unusable(), Some(KeyError::Expired { .. }))
    }

    /// Whether there are any such keys.
    #[must_use]
    pub fn has_former_keys(&self) -> bool {
        let has_some = |signing: &Certificate| signing.keys.iter().any(|key| !signing.is_valid(key));
        !self.migrated.is_empty() || self.signing.as_ref().is_some_and(has_some)
    }

    /// A verifier for one thread.
    ///
    /// # Errors
    /// gpgme cannot be set up.
    pub fn verifier(&self) -> Result<Verifier<'_>, VerifyError> {
        Verifier::new(self, self.private_home.path(), &self.watchdog)
    }
}

/// Whose a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Ours: it signs now.
    Configured,
    /// Ours, and named as replaced by another one.
    Former,
    /// Of the certificate that signs, but expired or revoked, and not named as replaced.
    Expired,
    /// Its secret half is in the signing home, but it is not the configured key; the fingerprint of its certificate.
    InHome(Fingerprint),
    /// An earlier run has signed with it, and its secret half is not in the signing home; the key.
    SignedBefore(Fingerprint),
    /// Nobody's here.
    Other,
}

/// The certificate that signs, the way gpg chooses it for `--local-user`: the first that can sign; and where none can,
/// the first of all, with the reason.
fn choose(found: Vec<Certificate>, home: &Path, key: &str, name: &str) -> Option<(Certificate, Option<KeyError>)> {
    let mut second_best = None;
    for certificate in found {
        match usable(&certificate, home, key, name) {
            Ok(()) => return Some((certificate, None)),
            Err(error) => second_best = second_best.or(Some((certificate, Some(error)))),
        }
    }
    second_best
}

fn usable(certificate: &Certificate, home: &Path, key: &str, name: &str) -> Result<(), KeyError> {
    let exact = (key.ends_with('!')).then(|| certificate.key_set_as(name)).flatten();
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
