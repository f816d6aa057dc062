//! Whose a package is, and whether it is whole: nothing that did not pass here is ever signed.

use std::fs::File;
use std::path::Path;

use crate::package::gpkg::{Codec, Container, GpkgError, Manifest, Metadata, SMALL_MEMBER_LIMIT};
use crate::package::openpgp::{Signature, SignatureState, Verifier};

/// What came of looking at a package.
#[derive(Debug)]
pub enum Verdict {
    /// Signed by us, and whole as far as the Manifest and the metadata go.
    Ours(Box<Verified>),
    /// Not signed: Portage updates it by itself.
    Unsigned,
    /// Signed by somebody else, or not by us alone.
    Foreign {
        /// The keys that signed it (fingerprints or key ids) that are not ours.
        signers: Vec<String>,
    },
    /// Something is wrong with it: it must not be signed, and is kept safe.
    Refused {
        /// What is wrong.
        reason: String,
    },
}

/// A package whose Manifest we have signed, with metadata that the Manifest vouches for. Only [`verify`] makes one.
///
/// The image is checked as it is copied ([`crate::package::gpkg::Draft`]), on the bytes that are written, before the new Manifest
/// can be signed.
#[derive(Debug)]
pub struct Verified {
    container: Container,
    manifest: Manifest,
    metadata: Metadata,
    signer: String,
    certificate: Whose,
}

/// Which of our certificates has signed a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The one that signs now: the image's signature is carried over.
    Current,
    /// One that it has replaced, or a key of it that has expired, so that clients refuse what it signed: everything is
    /// signed anew.
    Migrated,
}

impl Verified {
    /// The container.
    #[must_use]
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// What its Manifest says.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its metadata.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The key that signed its Manifest.
    #[must_use]
    pub fn signer(&self) -> &str {
        &self.signer
    }

    /// Which of our certificates that key belongs to.
    #[must_use]
    pub fn whose(&self) -> Whose {
        self.certificate
    }
}

/// Verifies the package in `file`, which stays open: what is written later is taken from this descriptor.
///
/// `path` is only named in messages.
pub fn verify(file: File, path: &Path, codec: &Codec, verifier: &mut Verifier<'_>) -> Verdict {
    match examine(file, path, codec, verifier) {
        Ok(verdict) => verdict,
        Err(error) => Verdict::Refused { reason: error.to_string() },
    }
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Container(#[from] GpkgError),
    #[error(transparent)]
    Gpg(#[from] crate::package::openpgp::VerifyError),
}

fn examine(file: File, path: &Path, codec: &Codec, verifier: &mut Verifier<'_>) -> Result<Verdict, Fault> {
    let container = Container::open(file, path)?;
    if !container.has_signatures()? {
        return Ok(Verdict::Unsigned);
    }
    let (text, signatures) = verifier.clear_signed(&container.manifest_bytes()?)?;
    let (signer, certificate) = match judge(&signatures, verifier) {
        Ok(ours) => ours,
        Err(Verdict::Refused { reason }) => return Ok(refused(format!("{}: {reason}", path.display()))),
        Err(verdict) => return Ok(verdict),
    };
    // only what gpg returns as signed counts, not what stands around it
    let manifest = Manifest::parse(&String::from_utf8_lossy(&text), path)?;
    manifest.check_complete(&container)?;
    if let Some(signature) = container.signature_of(container.metadata().0) {
        // it is not carried over, but a Manifest that is wrong about it is wrong
        container.verify_member(signature, manifest.line(signature.name())?)?;
    }
    let metadata = container.read_metadata(&manifest, codec)?;
    let certificate = match certificate {
        Whose::Current if has_former_image(&container, &manifest, verifier)? => Whose::Migrated,
        certificate => certificate,
    };
    Ok(Verdict::Ours(Box::new(Verified { container, manifest, metadata, signer, certificate })))
}

/// Whether a key of ours that does not count any more has signed the image, while a newer one has signed the Manifest.
fn has_former_image(container: &Container, manifest: &Manifest, verifier: &mut Verifier<'_>) -> Result<bool, Fault> {
    let keyring = verifier.keyring();
    if !keyring.has_former_keys() {
        return Ok(false);
    }
    let Some(signature) = container.signature_of(container.image().0) else { return Ok(false) };
    let bytes = container.read_verified(signature, manifest.line(signature.name())?, SMALL_MEMBER_LIMIT)?;
    Ok(verifier.makers(&bytes)?.iter().any(|key| keyring.is_former(key)))
}

/// Whether every signature is a good one of ours.
fn judge(signatures: &[Signature], verifier: &Verifier<'_>) -> Result<(String, Whose), Verdict> {
    let foreign: Vec<String> = (signatures.iter())
        .filter(|signature| matches!(signature.state, SignatureState::UnknownKey | SignatureState::OtherKey))
        .map(|signature| signature.key.clone())
        .collect();
    if !foreign.is_empty() {
        return Err(Verdict::Foreign { signers: foreign });
    }
    let Some(first) = signatures.first() else {
        return Err(refused("its Manifest has no signature, while other parts of it have".to_owned()));
    };
    for signature in signatures {
        let key = &signature.key;
        match &signature.state {
            SignatureState::Good | SignatureState::UnknownKey | SignatureState::OtherKey => {}
            SignatureState::SecretHere => {
                return Err(refused(format!(
                    "it is signed with {key}, whose secret half is in the signing home, but which is not the configured \
                     key; if it signed packages here before, set BINPKG_GPG_SIGNING_KEY_MIGRATION=\"{key}=NEW\" (full \
                     fingerprints), then run `binpkg-resign held retry`"
                )));
            }
            SignatureState::NotChecked(why) => {
                return Err(refused(format!("the signature by {key} on its Manifest could not be checked: {why}")));
            }
            SignatureState::RevokedKey => {
                return Err(refused(format!("the key that signed it, {key}, is revoked: it may not be ours any more")));
            }
            SignatureState::Expired => {
                return Err(refused(format!("its signature by {key} had expired, or was made after the key had")));
            }
            SignatureState::Bad(why) => {
                return Err(refused(format!("the signature by {key} on its Manifest is not good ({why})")));
            }
        }
    }
    let former = signatures.iter().any(|signature| verifier.keyring().is_former(&signature.key));
    let whose = if former { Whose::Migrated } else { Whose::Current };
    Ok((first.key.clone(), whose))
}

fn refused(reason: String) -> Verdict {
    Verdict::Refused { reason }
}
