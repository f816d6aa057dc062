//! Verifying signatures against the certificates that count as ours.

use std::io::Read;
use std::path::Path;
use std::time::SystemTime;

use super::keys::Keyring;

/// Why a verification could not be carried out (not: that a signature is bad).
#[derive(Debug, thiserror::Error)]
#[error("gpg could not verify a signature: {source}")]
pub struct VerifyError {
    /// What gpgme said.
    #[from]
    source: gpgme::Error,
}

/// One signature of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The key that made it: its fingerprint, or its long key id where gpg knows no more.
    pub key: String,
    /// What came of it.
    pub state: SignatureState,
    /// The digest it was made over, as gpg names it (`SHA512`).
    pub digest: String,
}

/// What came of verifying a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureState {
    /// It is good, and its key was valid when it was made (it may have expired since).
    Good,
    /// The key is none of ours, and not known otherwise, so that nobody can tell whether it is good.
    UnknownKey,
    /// It is good, by a key that is known, but none of ours.
    OtherKey,
    /// The key is ours, and revoked.
    RevokedKey,
    /// The signature was made after its key had expired, or has itself expired.
    Expired,
    /// It does not fit the text, is broken or too weak for gpg; with gpg's word for it.
    Bad(String),
}

/// Verifies in the private home; belongs to one thread.
pub struct Verifier<'keyring> {
    keyring: &'keyring Keyring,
    context: gpgme::Context,
}

impl std::fmt::Debug for Verifier<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl<'keyring> Verifier<'keyring> {
    pub(super) fn new(keyring: &'keyring Keyring, home: &Path) -> Result<Verifier<'keyring>, VerifyError> {
        Ok(Verifier { keyring, context: super::context(home)? })
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
        let mut text = Vec::new();
        let outcome = self.context.verify_opaque(message, &mut text);
        let signatures = match outcome {
            Ok(result) => self.signatures(&result),
            Err(error) if error.code() == gpgme::Error::NO_DATA.code() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        Ok((text, signatures))
    }

    /// Verifies a detached signature over `data`.
    ///
    /// # Errors
    /// gpg could not be run.
    pub fn detached(&mut self, signature: &[u8], data: impl Read + Send) -> Result<Vec<Signature>, VerifyError> {
        let data = gpgme::Data::from_reader(data).map_err(|error| error.error())?;
        match self.context.verify_detached(signature, data) {
            Ok(result) => Ok(self.signatures(&result)),
            Err(error) if error.code() == gpgme::Error::NO_DATA.code() => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// The keys that made a detached signature, whatever it is over.
    ///
    /// # Errors
    /// gpg could not be run.
    pub fn makers(&mut self, signature: &[u8]) -> Result<Vec<String>, VerifyError> {
        let signatures = self.detached(signature, std::io::empty())?;
        Ok(signatures.into_iter().map(|signature| signature.key).collect())
    }

    fn signatures(&self, result: &gpgme::VerificationResult) -> Vec<Signature> {
        (result.signatures())
            .map(|signature| {
                let key = signature.fingerprint().unwrap_or_default().to_owned();
                Signature {
                    state: self.state(&key, &signature),
                    digest: signature.hash_algorithm().name().unwrap_or_default().to_owned(),
                    key,
                }
            })
            .collect()
    }

    fn state(&self, key: &str, signature: &gpgme::Signature<'_>) -> SignatureState {
        let Some(certificate) = self.keyring.find(key) else {
            return match signature.status() {
                Ok(()) => SignatureState::OtherKey,
                Err(error) if error.code() == gpgme::Error::BAD_SIGNATURE.code() => {
                    SignatureState::Bad(error.description().into_owned())
                }
                Err(_) => SignatureState::UnknownKey,
            };
        };
        let facts = certificate.key(key);
        if certificate.revoked || facts.is_some_and(|facts| facts.revoked) {
            return SignatureState::RevokedKey;
        }
        match signature.status() {
            Ok(()) => SignatureState::Good,
            Err(error) if error.code() == gpgme::Error::KEY_EXPIRED.code() => {
                let made = signature.creation_time().unwrap_or(SystemTime::UNIX_EPOCH);
                let lived = |expires: Option<SystemTime>| expires.is_none_or(|time| made < time);
                let primary = certificate.keys.first().and_then(|primary| primary.expires);
                if lived(primary) && lived(facts.and_then(|facts| facts.expires)) {
                    SignatureState::Good
                } else {
                    SignatureState::Expired
                }
            }
            Err(error) if error.code() == gpgme::Error::SIG_EXPIRED.code() => SignatureState::Expired,
            Err(error) if error.code() == gpgme::Error::CERT_REVOKED.code() => SignatureState::RevokedKey,
            Err(error) if error.code() == gpgme::Error::NO_PUBKEY.code() => SignatureState::UnknownKey,
            Err(error) => SignatureState::Bad(error.description().into_owned()),
        }
    }
}
