//! Whose a package is, and whether it is whole: the only code that decides that, for every command. Nothing that did not
//! pass here is ever signed again.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::gpkg::{Codec, Container, GpkgError, METADATA_LIMIT, Manifest, MemberKind, Metadata, SMALL_MEMBER_LIMIT};
use super::openpgp::{Signature, SignatureState, Verifier, VerifyError};
use crate::portage::fingerprint::KeyHandle;

/// How far a package is looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The Manifest's signature, and the metadata against the Manifest. The image is checked as it is copied
    /// ([`super::gpkg::Draft`]), on the bytes that are written, before the new Manifest can be signed.
    Metadata,
    /// Every digest and every signature.
    Whole,
}

/// What came of looking at a package.
#[derive(Debug)]
pub enum Verdict {
    /// Signed by us, and whole as far as was looked.
    Ours(Box<Verified>),
    /// Not signed.
    Unsigned(Box<Unsigned>),
    /// Signed by somebody else, or not by us alone.
    Foreign(Foreign),
}

/// A package that somebody else has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// The keys that signed it that are not ours.
    pub signers: Vec<KeyHandle>,
    /// Whether the signatures could be checked.
    pub checked: Checked,
}

/// Whether a signature of somebody else could be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Checked {
    /// The key is not known here.
    No,
    /// It is good.
    Yes,
}

/// Why a package is not good: it must not be signed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The container, its Manifest or its metadata.
    #[error(transparent)]
    Container(#[from] GpkgError),
    /// gpg could not say.
    #[error(transparent)]
    Gpg(#[from] VerifyError),
    /// A part has no signature, while others have.
    #[error("{}: its {part} has no signature, while other parts of it have", path.display())]
    NoSignature {
        /// The container.
        path: PathBuf,
        /// The part: `Manifest`, or a member's name.
        part: String,
    },
    /// A signature that is not good.
    #[error("{}: the signature by {key} on its {part} is not good: {fault}", path.display())]
    Signature {
        /// The container.
        path: PathBuf,
        /// The part.
        part: String,
        /// The key, as far as gpg knows it.
        key: String,
        /// What is wrong with it.
        fault: SignatureFault,
    },
}

/// What can be wrong with a signature of a key that is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// The key is revoked: whoever has it may not be us any more.
    #[error("the key is revoked, so it may not be ours any more")]
    Revoked,
    /// Its key has expired since, and nothing says that it is still believed.
    #[error(
        "its key has expired, so the date in it proves nothing; if the packages are yours, extend the key, or name it in \
         BINPKG_GPG_SIGNING_KEY_MIGRATION=\"OLD=NEW\" (full fingerprints), then run `binpkg-resign held retry`"
    )]
    ExpiredKey,
    /// It, or its key, had expired.
    #[error("it had expired, or was made after the key had")]
    Expired,
    /// It is not over these bytes, or too weak.
    #[error("it does not fit these bytes, is broken, or too weak (gpg: {0})")]
    Bad(String),
    /// It could not be checked, though its key should be known.
    #[error("it could not be checked: {0}")]
    NotChecked(String),
    /// Its key is one of ours that is not configured.
    #[error(
        "the secret half of that key is in the signing home, but it is not the configured key; if it signed packages here \
         before, set BINPKG_GPG_SIGNING_KEY_MIGRATION=\"OLD=NEW\" (full fingerprints), then run `binpkg-resign held retry`"
    )]
    AnotherOfOurs,
    /// Its key is one that an earlier run has signed with.
    #[error(
        "an earlier run has signed with that key, but it is not the configured one; if it has been replaced, import its \
         public half into the signing home, set BINPKG_GPG_SIGNING_KEY_MIGRATION=\"OLD=NEW\" (full fingerprints), then \
         run `binpkg-resign held retry`"
    )]
    SignedBefore,
}

/// A package whose Manifest we have signed, with metadata that the Manifest vouches for. Only [`verify`] makes one.
#[derive(Debug)]
pub struct Verified {
    container: Container,
    manifest: Manifest,
    metadata: Metadata,
    signer: KeyHandle,
    certificate: Whose,
}

/// A package that nobody has signed, with metadata that its Manifest vouches for. Only [`verify`] makes one.
#[derive(Debug)]
pub struct Unsigned {
    container: Container,
    manifest: Manifest,
    metadata: Metadata,
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
    pub fn signer(&self) -> &KeyHandle {
        &self.signer
    }

    /// Which of our certificates that key belongs to.
    #[must_use]
    pub fn whose(&self) -> Whose {
        self.certificate
    }
}

impl Unsigned {
    /// The metadata archive, packed as it is, checked against the Manifest once more.
    ///
    /// # Errors
    /// It cannot be read, or is another one by now.
    pub fn packed_metadata(&self) -> Result<Vec<u8>, GpkgError> {
        let (member, _) = self.container.metadata();
        self.container.read_verified(member, self.manifest.line(member.name())?, METADATA_LIMIT)
    }

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
}

/// Verifies the package in `file`, which stays open: what is written later is taken from this descriptor.
///
/// `path` is only named in messages.
///
/// # Errors
/// Something is wrong with it, or could not be found out.
pub fn verify(
    file: File,
    path: &Path,
    codec: &Codec,
    verifier: &mut Verifier<'_>,
    depth: Depth,
) -> Result<Verdict, Refusal> {
    let container = Container::open(file, path)?;
    let message = container.manifest_bytes()?;
    if !container.has_signatures()? {
        return unsigned(container, &message, path, codec, depth);
    }
    let (text, signatures) = verifier.clear_signed(&message)?;
    let mut maker = judge("Manifest", &signatures, |key| verifier.keyring().is_former(key), path)?;
    if depth == Depth::Metadata
        && let Maker::Other(foreign) = maker
    {
        return Ok(Verdict::Foreign(foreign));
    }
    // only what gpg returns as signed counts, not what stands around it
    let (manifest, metadata) = read(&container, &String::from_utf8_lossy(&text), codec, path)?;
    match depth {
        Depth::Metadata => {
            if let Some(signature) = container.signature_of(container.metadata().0) {
                // it is not carried over, but a Manifest that is wrong about it is wrong
                container.verify_member(signature, manifest.line(signature.name())?)?;
            }
            if maker == Maker::Ours(Whose::Current) && has_former_image(&container, &manifest, verifier)? {
                maker = Maker::Ours(Whose::Migrated);
            }
        }
        Depth::Whole => {
            digests(&container, &manifest)?;
            for member in [container.metadata().0, container.image().0] {
                let Some(signature) = container.signature_of(member) else {
                    return Err(Refusal::NoSignature { path: path.to_owned(), part: member.name().to_owned() });
                };
                let signature = container.read_member(signature, SMALL_MEMBER_LIMIT)?;
                let signatures = verifier.detached(&signature, || container.reader(member))?;
                let is_former = |key: &KeyHandle| verifier.keyring().is_former(key);
                maker = maker.and(judge(member.name(), &signatures, is_former, path)?);
            }
        }
    }
    Ok(match maker {
        Maker::Other(foreign) => Verdict::Foreign(foreign),
        Maker::Ours(certificate) => {
            let Some(signer) = signatures.into_iter().find_map(|signature| signature.key) else {
                return Err(Refusal::NoSignature { path: path.to_owned(), part: "Manifest".to_owned() });
            };
            Verdict::Ours(Box::new(Verified { container, manifest, metadata, signer, certificate }))
        }
    })
}

fn unsigned(container: Container, text: &[u8], path: &Path, codec: &Codec, depth: Depth) -> Result<Verdict, Refusal> {
    let (manifest, metadata) = read(&container, &String::from_utf8_lossy(text), codec, path)?;
    if depth == Depth::Whole {
        digests(&container, &manifest)?;
    }
    Ok(Verdict::Unsigned(Box::new(Unsigned { container, manifest, metadata })))
}

/// The Manifest, which must speak of every member and no other, and the metadata that it vouches for.
fn read(container: &Container, text: &str, codec: &Codec, path: &Path) -> Result<(Manifest, Metadata), GpkgError> {
    let manifest = Manifest::parse(text, path)?;
    manifest.check_complete(container)?;
    let metadata = container.read_metadata(&manifest, codec)?;
    Ok((manifest, metadata))
}

fn digests(container: &Container, manifest: &Manifest) -> Result<(), GpkgError> {
    let members = container.members().iter().filter(|member| member.kind() != MemberKind::Manifest);
    members.into_iter().try_for_each(|member| container.verify_member(member, manifest.line(member.name())?))
}

/// Whether a key of ours that does not count any more has signed the image, while a newer one has signed the Manifest.
fn has_former_image(container: &Container, manifest: &Manifest, verifier: &mut Verifier<'_>) -> Result<bool, Refusal> {
    let keyring = verifier.keyring();
    if !keyring.has_former_keys() {
        return Ok(false);
    }
    let Some(signature) = container.signature_of(container.image().0) else { return Ok(false) };
    let bytes = container.read_verified(signature, manifest.line(signature.name())?, SMALL_MEMBER_LIMIT)?;
    Ok(verifier.makers(&bytes)?.iter().any(|key| keyring.is_former(key)))
}

/// Who made the signatures of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Maker {
    Ours(Whose),
    Other(Foreign),
}

impl Maker {
    /// Who made these and those: whoever is the least ours.
    fn and(self, other: Maker) -> Maker {
        match (self, other) {
            (Maker::Ours(Whose::Current), other) => other,
            (ours @ Maker::Ours(Whose::Migrated), Maker::Ours(_)) => ours,
            (Maker::Ours(_), other) => other,
            (Maker::Other(mut foreign), Maker::Other(more)) => {
                let new: Vec<KeyHandle> =
                    more.signers.into_iter().filter(|signer| !foreign.signers.contains(signer)).collect();
                foreign.signers.extend(new);
                foreign.checked = foreign.checked.min(more.checked);
                Maker::Other(foreign)
            }
            (foreign, Maker::Ours(_)) => foreign,
        }
    }
}

/// Whose the signatures of a part are, all of which must be good. `is_former` knows keys of ours that do not sign any
/// more.
fn judge(
    part: &str,
    signatures: &[Signature],
    is_former: impl Fn(&KeyHandle) -> bool,
    path: &Path,
) -> Result<Maker, Refusal> {
    let is_foreign = |state: &SignatureState| matches!(state, SignatureState::UnknownKey | SignatureState::OtherKey);
    let foreign: Vec<&Signature> = signatures.iter().filter(|signature| is_foreign(&signature.state)).collect();
    if !foreign.is_empty() {
        let unknown = foreign.iter().any(|signature| signature.state == SignatureState::UnknownKey);
        let signers = foreign.into_iter().filter_map(|signature| signature.key.clone()).collect();
        return Ok(Maker::Other(Foreign { signers, checked: if unknown { Checked::No } else { Checked::Yes } }));
    }
    if signatures.is_empty() {
        return Err(Refusal::NoSignature { path: path.to_owned(), part: part.to_owned() });
    }
    for signature in signatures {
        let fault = match &signature.state {
            SignatureState::Good | SignatureState::UnknownKey | SignatureState::OtherKey => continue,
            SignatureState::SecretHere => SignatureFault::AnotherOfOurs,
            SignatureState::SignedBefore => SignatureFault::SignedBefore,
            SignatureState::NotChecked(why) => SignatureFault::NotChecked(why.clone()),
            SignatureState::RevokedKey => SignatureFault::Revoked,
            SignatureState::ExpiredKey => SignatureFault::ExpiredKey,
            SignatureState::Expired => SignatureFault::Expired,
            SignatureState::Bad(why) => SignatureFault::Bad(why.clone()),
        };
        let key = signature.key.as_ref().map_or("an unknown key", KeyHandle::as_str).to_owned();
        let part = part.to_owned();
        return Err(Refusal::Signature { path: path.to_owned(), part, key, fault });
    }
    let former = signatures.iter().filter_map(|signature| signature.key.as_ref()).any(is_former);
    Ok(Maker::Ours(if former { Whose::Migrated } else { Whose::Current }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "0123456789ABCDEF0123456789ABCDEF01234567";
    const FORMER: &str = "1123456789ABCDEF0123456789ABCDEF01234567";
    const OTHER: &str = "2123456789ABCDEF0123456789ABCDEF01234567";

    fn by(key: &str, state: SignatureState) -> Signature {
        Signature { key: KeyHandle::new(key), state, digest: "SHA512".into(), expires: None }
    }

    fn judged(signatures: &[Signature]) -> Result<Maker, Refusal> {
        let is_former = |key: &KeyHandle| key.as_str() == FORMER;
        judge("Manifest", signatures, is_former, Path::new("/pkgdir/a/b/b-1-1.gpkg.tar"))
    }

    fn foreign(keys: &[&str], checked: Checked) -> Maker {
        Maker::Other(Foreign { signers: keys.iter().filter_map(|key| KeyHandle::new(key)).collect(), checked })
    }

    #[test]
    fn whose_a_part_is() {
        use SignatureState::{Good, OtherKey, UnknownKey};
        let cases = [
            (vec![by(OURS, Good)], Maker::Ours(Whose::Current)),
            (vec![by(FORMER, Good)], Maker::Ours(Whose::Migrated)),
            (vec![by(OURS, Good), by(FORMER, Good)], Maker::Ours(Whose::Migrated)),
            (vec![by(OTHER, OtherKey)], foreign(&[OTHER], Checked::Yes)),
            (vec![by(OTHER, UnknownKey)], foreign(&[OTHER], Checked::No)),
            // one that is somebody else's makes it somebody else's, however good the others are, or bad
            (vec![by(OURS, Good), by(OTHER, OtherKey)], foreign(&[OTHER], Checked::Yes)),
            (vec![by(OTHER, UnknownKey), by(OURS, SignatureState::Bad("x".into()))], foreign(&[OTHER], Checked::No)),
        ];
        for (signatures, maker) in cases {
            assert_eq!(judged(&signatures).unwrap(), maker, "{signatures:?}");
        }
    }

    #[test]
    fn a_part_whose_signatures_are_not_all_good_is_refused() {
        use SignatureState as State;
        assert!(matches!(judged(&[]), Err(Refusal::NoSignature { .. })));
        let states = [
            State::SecretHere,
            State::SignedBefore,
            State::NotChecked("why".into()),
            State::RevokedKey,
            State::ExpiredKey,
            State::Expired,
            State::Bad("why".into()),
        ];
        let mut faults = Vec::new();
        for state in states {
            for signatures in [vec![by(OURS, state.clone())], vec![by(OURS, State::Good), by(OURS, state.clone())]] {
                match judged(&signatures) {
                    Err(Refusal::Signature { fault, .. }) => faults.push(fault),
                    other => panic!("{state:?}: {other:?}"),
                }
            }
        }
        faults.dedup();
        assert_eq!(faults.len(), 7, "{faults:?}");
    }

    #[test]
    fn a_package_is_whose_the_least_of_its_parts_is() {
        let (current, migrated) = (Maker::Ours(Whose::Current), Maker::Ours(Whose::Migrated));
        let other = foreign(&[OTHER], Checked::Yes);
        for (one, two, both) in [
            (&current, &current, &current),
            (&current, &migrated, &migrated),
            (&current, &other, &other),
            (&migrated, &other, &other),
            (&other, &other, &other),
        ] {
            assert_eq!(one.clone().and(two.clone()), *both);
            assert_eq!(two.clone().and(one.clone()), *both);
        }
        let more = foreign(&[FORMER, OTHER], Checked::No);
        assert_eq!(other.and(more), foreign(&[OTHER, FORMER], Checked::No));
    }

    #[test]
    fn every_refusal_is_told() {
        let path = || PathBuf::from("/pkgdir/a/b/b-1-1.gpkg.tar");
        let by =
            |fault| Refusal::Signature { path: path(), part: "Manifest".into(), key: "0123456789ABCDEF".into(), fault };
        // what the container and gpg say, they say themselves
        let refusals = [
            Refusal::NoSignature { path: path(), part: "metadata.tar.zst".into() },
            by(SignatureFault::Revoked),
            by(SignatureFault::ExpiredKey),
            by(SignatureFault::Expired),
            by(SignatureFault::Bad("Bad signature".into())),
            by(SignatureFault::NotChecked("gpg does not say which key made it".into())),
            by(SignatureFault::AnotherOfOurs),
            by(SignatureFault::SignedBefore),
            Refusal::Gpg(VerifyError::TimedOut { seconds: 60 }),
            Refusal::Gpg(VerifyError::Interrupted),
        ];
        let told: Vec<String> = refusals.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!("refusals", told.join("\n"));
    }
}
