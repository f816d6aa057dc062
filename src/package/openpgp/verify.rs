//! Verifying signatures against the certificates that count as ours.

use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use super::keys::{Keyring, SecretHalf};
use super::multifile::Multifile;
use super::packet::maker_of;
use super::plain::{self, Class, ClearSigned, Good};
use super::watchdog::Watchdog;
use crate::children::GpgmeStarts;
use crate::portage::fingerprint::KeyHandle;

/// Why a verification could not be carried out (not: that a signature is bad).
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// gpg failed.
    #[error("gpg could not verify a signature: {source}")]
    Gpg {
        /// What gpgme said.
        #[from]
        source: gpgme::Error,
    },
    /// gpg did not answer in time, and was ended.
    #[error("gpg could not verify a signature: no answer within {seconds} s (BINPKG_RESIGN_TIMEOUT)")]
    TimedOut {
        /// How long it was waited for.
        seconds: u64,
    },
    /// The run was interrupted meanwhile.
    #[error("the run was interrupted while a signature was verified")]
    Interrupted,
}

/// One signature of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The key that made it; none where gpg does not say.
    pub key: Option<KeyHandle>,
    /// What came of it.
    pub state: SignatureState,
    /// The digest it was made over, as gpg names it (`SHA512`).
    pub digest: String,
    /// When it expires, if ever.
    pub expires: Option<SystemTime>,
}

/// What came of verifying a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureState {
    /// It is good, and so is its key; or that has expired since, and is named in `BINPKG_GPG_SIGNING_KEY_MIGRATION`.
    Good,
    /// The key is none of ours, and not known otherwise, so that nobody can tell whether it is good.
    UnknownKey,
    /// The key is not one that counts as ours, but its secret half is in the signing home: it may have signed here
    /// before. Whether it is good was not found out.
    SecretHere,
    /// The key is not one that counts as ours, but an earlier run has signed with it. Whether it is good was not found
    /// out.
    SignedBefore,
    /// gpg could not check it, although the key is ours, or did not say whose it is; with the reason.
    NotChecked(String),
    /// It is good, by a key that is known, but none of ours.
    OtherKey,
    /// The key is ours, and revoked.
    RevokedKey,
    /// Its key has expired since the time that it says it was made at, and is not named as one that was ours: whoever
    /// got hold of the old key can date a signature back.
    ExpiredKey,
    /// The signature was made after its key had expired, or has itself expired.
    Expired,
    /// It does not fit the text, is broken or too weak for gpg; with gpg's word for it.
    Bad(String),
}

/// Verifies in the private home; belongs to one thread.
pub struct Verifier<'keyring> {
    keyring: &'keyring Keyring,
    watchdog: &'keyring Watchdog,
    context: gpgme::Context,
    quick: Quick,
}

/// The gpg that is asked first, for what is most likely a good signature of ours.
enum Quick {
    /// None is running.
    NotStarted,
    /// This one.
    Running(Multifile),
    /// It has just not called a signature good; what gpgme makes of that tells whether another one is worth starting.
    Doubted,
    /// Not asked any more, since that signature was good.
    Useless,
}

impl std::fmt::Debug for Verifier<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl<'keyring> Verifier<'keyring> {
    pub(super) fn new(
        keyring: &'keyring Keyring,
        home: &Path,
        watchdog: &'keyring Watchdog,
    ) -> Result<Verifier<'keyring>, VerifyError> {
        Ok(Verifier { keyring, watchdog, context: super::context(home)?, quick: Quick::NotStarted })
    }

    /// Whether a gpg is running that is asked first.
    #[cfg(test)]
    pub(super) fn is_quick(&self) -> bool {
        matches!(self.quick, Quick::Running(_))
    }

    /// The same, asking gpgme alone.
    #[cfg(test)]
    pub(super) fn slow(self) -> Verifier<'keyring> {
        Verifier { quick: Quick::Useless, ..self }
    }

    /// The certificates it verifies against.
    #[must_use]
    pub fn keyring(&self) -> &'keyring Keyring {
        self.keyring
    }

    /// Verifies a clear-signed text. Returns what was signed, and nothing that stands outside, with every signature;
    /// no signatures at all where the text is not signed.
    ///
    /// # Errors
    /// gpg could not be run, or the text is not what gpg can read at all.
    pub fn clear_signed(&mut self, message: &[u8]) -> Result<(Vec<u8>, Vec<Signature>), VerifyError> {
        if let Some(plain) = ClearSigned::of(message)
            && let Some(good) = self.plainly_good(plain.signature, Class::Text, plain.signed().as_slice())?
            && good.digest == plain.digest
        {
            return Ok((plain.text.as_bytes().to_vec(), vec![good]));
        }
        let mut text = Vec::new();
        let context = &mut self.context;
        let outcome = self.watchdog.watch(|progress| {
            let message = GpgmeStarts::begin().until_asked_for(progress.of(message));
            let message = gpgme::Data::from_reader(message).map_err(|error| error.error())?;
            context.verify_opaque(message, &mut text)
        })?;
        let signatures = match outcome {
            Ok(result) => self.signatures(&result),
            Err(error) if error.code() == gpgme::Error::NO_DATA.code() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        self.compare(&signatures);
        Ok((text, signatures))
    }

    /// Verifies a detached signature over what `data` gives to be read, each time from its start.
    ///
    /// # Errors
    /// gpg could not be run.
    pub fn detached<R: Read + Send>(
        &mut self,
        signature: &[u8],
        data: impl Fn() -> R,
    ) -> Result<Vec<Signature>, VerifyError> {
        if let Some(good) = self.plainly_good(signature, Class::Binary, data())? {
            return Ok(vec![good]);
        }
        let signatures = self.detached_by_gpgme(signature, data())?;
        self.compare(&signatures);
        Ok(signatures)
    }

    fn detached_by_gpgme(&mut self, signature: &[u8], data: impl Read + Send) -> Result<Vec<Signature>, VerifyError> {
        let context = &mut self.context;
        let outcome = self.watchdog.watch(|progress| {
            let data = GpgmeStarts::begin().until_asked_for(progress.of(data));
            let data = gpgme::Data::from_reader(data).map_err(|error| error.error())?;
            context.verify_detached(signature, data)
        })?;
        match outcome {
            Ok(result) => Ok(self.signatures(&result)),
            Err(error) if error.code() == gpgme::Error::NO_DATA.code() => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// The signature, where it is a plain one by a key of ours that counts, and gpg, asked without a start of its own, calls
    /// it good; none where gpgme has to be asked.
    fn plainly_good(
        &mut self,
        armored: &[u8],
        class: Class,
        data: impl Read,
    ) -> Result<Option<Signature>, VerifyError> {
        let Some(key) = maker_of(armored) else { return Ok(None) };
        if self.keyring.find(&key).is_none() || self.keyring.is_former(&key) {
            return Ok(None);
        }
        let Some(packet) = plain::signature(armored) else { return Ok(None) };
        let Some(mut gpg) = self.take_quick() else { return Ok(None) };
        let lines = self.watchdog.watch(|progress| gpg.verify(&packet, class, progress.of(data)))?;
        let good = lines.ok().and_then(|lines| Good::of(&lines, class)).filter(|good| good.key == key);
        self.quick = if good.is_some() { Quick::Running(gpg) } else { Quick::Doubted };
        Ok(good.map(|good| Signature {
            key: Some(good.key),
            state: SignatureState::Good,
            digest: good.digest.to_owned(),
            expires: None,
        }))
    }

    /// The gpg that is running, or a new one.
    fn take_quick(&mut self) -> Option<Multifile> {
        match std::mem::replace(&mut self.quick, Quick::NotStarted) {
            Quick::Running(gpg) => Some(gpg),
            Quick::NotStarted | Quick::Doubted => {
                let home = self.keyring.private_home();
                let started = Multifile::start(home.program(), home.path());
                started.inspect_err(|error| log::debug!("gpg --verify-files cannot be started: {error}")).ok()
            }
            Quick::Useless => {
                self.quick = Quick::Useless;
                None
            }
        }
    }

    /// What gpgme has found, where the other gpg was asked before and did not say good: if this does, nothing is gained by
    /// asking both.
    fn compare(&mut self, signatures: &[Signature]) {
        if matches!(self.quick, Quick::Doubted) {
            let was_good = matches!(signatures, [Signature { state: SignatureState::Good, .. }]);
            self.quick = if was_good { Quick::Useless } else { Quick::NotStarted };
        }
    }

    /// The keys that made a detached signature, whatever it is over.
    ///
    /// # Errors
    /// gpg could not be run.
    pub fn makers(&mut self, signature: &[u8]) -> Result<Vec<KeyHandle>, VerifyError> {
        let signatures = self.detached_by_gpgme(signature, std::io::empty())?;
        Ok(signatures.into_iter().filter_map(|signature| signature.key).collect())
    }

    fn signatures(&self, result: &gpgme::VerificationResult) -> Vec<Signature> {
        (result.signatures())
            .map(|signature| {
                let key = signature.fingerprint().ok().and_then(KeyHandle::new);
                Signature {
                    state: self.state(key.as_ref(), &signature),
                    digest: signature.hash_algorithm().name().unwrap_or_default().to_owned(),
                    expires: signature.expiration_time(),
                    key,
                }
            })
            .collect()
    }

    fn state(&self, key: Option<&KeyHandle>, signature: &gpgme::Signature<'_>) -> SignatureState {
        let is = |error: &gpgme::Error, known: gpgme::Error| error.code() == known.code();
        let Some(key) = key else {
            return SignatureState::NotChecked("gpg does not say which key made it".to_owned());
        };
        let Some(certificate) = self.keyring.find(key) else {
            return match signature.status() {
                Err(error) if is(&error, gpgme::Error::BAD_SIGNATURE) => {
                    SignatureState::Bad(error.description().into_owned())
                }
                status => match self.keyring.secret_half_of(key) {
                    Ok(SecretHalf::InHome) => SignatureState::SecretHere,
                    _ if self.keyring.signed_before(key).is_some() => SignatureState::SignedBefore,
                    Ok(SecretHalf::NotInHome) if status.is_ok() => SignatureState::OtherKey,
                    Ok(SecretHalf::NotInHome) => SignatureState::UnknownKey,
                    Err(error) => SignatureState::NotChecked(format!("whose key it is cannot be told: {error}")),
                },
            };
        };
        let facts = certificate.key(key);
        if certificate.revoked || facts.is_some_and(|facts| facts.revoked) {
            return SignatureState::RevokedKey;
        }
        match signature.status() {
            Ok(()) => SignatureState::Good,
            Err(error) if is(&error, gpgme::Error::KEY_EXPIRED) => {
                let made = signature.creation_time().unwrap_or(SystemTime::UNIX_EPOCH);
                let lived = |expires: Option<SystemTime>| expires.is_none_or(|time| made < time);
                let primary = certificate.keys.first().and_then(|primary| primary.expires);
                match lived(primary) && lived(facts.and_then(|facts| facts.expires)) {
                    true if self.keyring.believes_expired(key) => SignatureState::Good,
                    true => SignatureState::ExpiredKey,
                    false => SignatureState::Expired,
                }
            }
            Err(error) if is(&error, gpgme::Error::SIG_EXPIRED) => SignatureState::Expired,
            Err(error) if is(&error, gpgme::Error::CERT_REVOKED) => SignatureState::RevokedKey,
            Err(error) if is(&error, gpgme::Error::NO_PUBKEY) => SignatureState::NotChecked(
                "gpg does not find our certificate where it was put; see /etc/gnupg/gpg.conf and /etc/gnupg/common.conf"
                    .to_owned(),
            ),
            Err(error) => SignatureState::Bad(error.description().into_owned()),
        }
    }
}
