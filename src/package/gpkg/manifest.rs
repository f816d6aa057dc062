//! The Manifest: the size and digests of every other member (GLEP 78, "The container format"; GLEP 74 for the lines).

use std::path::{Path, PathBuf};

use super::{Container, DigestPair, GpkgError, MemberKind};

/// A line `DATA NAME SIZE ALGORITHM HEX …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestLine {
    text: String,
    name: String,
    size: u64,
    digests: DigestPair,
}

impl ManifestLine {
    /// The line for a member, in the order in which Portage writes it (`gpkg._record_checksum`).
    #[must_use]
    pub fn new(name: &str, size: u64, digests: DigestPair) -> ManifestLine {
        let text = format!("DATA {name} {size} BLAKE2B {} SHA512 {}", digests.blake2b, digests.sha512);
        ManifestLine { text, name: name.to_owned(), size, digests }
    }

    /// The line for a member with these bytes.
    #[must_use]
    pub fn of(name: &str, bytes: &[u8]) -> ManifestLine {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        ManifestLine::new(name, size, DigestPair::of(bytes))
    }

    fn parse(text: &str) -> Result<ManifestLine, &'static str> {
        if text.chars().any(|character| character.is_control() && character != '\t') {
            return Err("has control characters");
        }
        let mut words = text.split_whitespace();
        if words.next() != Some("DATA") {
            return Err("is no DATA line, the only kind that a gpkg Manifest has");
        }
        let name = words.next().ok_or("names no file")?;
        let size = words.next().ok_or("has no size")?;
        let digits = size.bytes().all(|byte| byte.is_ascii_digit());
        let size = size.parse().ok().filter(|_| digits).ok_or("has a size that is no number")?;
        let (mut blake2b, mut sha512) = (None, None);
        while let Some(algorithm) = words.next() {
            let digest = words.next().ok_or("has an algorithm without a digest")?.to_ascii_lowercase();
            let slot = match algorithm {
                "BLAKE2B" => &mut blake2b,
                "SHA512" => &mut sha512,
                _ => continue,
            };
            if slot.replace(digest).is_some() {
                return Err("has two digests of one algorithm");
            }
        }
        let digests = DigestPair {
            blake2b: blake2b.ok_or("has no BLAKE2B digest")?,
            sha512: sha512.ok_or("has no SHA512 digest")?,
        };
        let hex = |digest: &str| digest.len() == 128 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !hex(&digests.blake2b) || !hex(&digests.sha512) {
            return Err("has a digest that is not 128 hex digits");
        }
        Ok(ManifestLine { text: text.to_owned(), name: name.to_owned(), size, digests })
    }

    /// The member's name, without prefix.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The member's size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The member's digests.
    #[must_use]
    pub fn digests(&self) -> &DigestPair {
        &self.digests
    }
}

/// What a Manifest says, by its signed text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    path: PathBuf,
    lines: Vec<ManifestLine>,
}

impl Manifest {
    /// Reads the *signed* text of a Manifest, as gpg returned it, never the clear-signed member itself: text around
    /// the signed part proves nothing. `path` is the container, for messages.
    ///
    /// # Errors
    /// A line is no DATA line with name, size, BLAKE2B and SHA512, or a file has two lines
    /// (`gpkg._load_manifest`, and the check of digests in `gpkg._verify_binpkg`).
    pub fn parse(text: &str, path: &Path) -> Result<Manifest, GpkgError> {
        let mut lines: Vec<ManifestLine> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let bad = |why| GpkgError::Manifest { path: path.to_owned(), line: index + 1, why };
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let line = ManifestLine::parse(line).map_err(bad)?;
            if lines.iter().any(|other| other.name == line.name) {
                return Err(bad("names a file for the second time"));
            }
            if lines.len() >= super::MEMBER_LIMIT {
                return Err(bad("is one too many"));
            }
            lines.push(line);
        }
        Ok(Manifest { path: path.to_owned(), lines })
    }

    /// A Manifest of these lines. `path` is the container, for messages.
    #[must_use]
    pub fn new(lines: Vec<ManifestLine>, path: &Path) -> Manifest {
        Manifest { path: path.to_owned(), lines }
    }

    /// The line for the member `name` (without prefix).
    ///
    /// # Errors
    /// There is none.
    pub fn line(&self, name: &str) -> Result<&ManifestLine, GpkgError> {
        let line = self.lines.iter().find(|line| line.name == name);
        line.ok_or_else(|| self.mismatch(name, "is in the package, but not in its Manifest".to_owned()))
    }

    /// The text to sign: a line a member.
    #[must_use]
    pub fn render(&self) -> String {
        self.lines.iter().flat_map(|line| [line.text.as_str(), "\n"]).collect()
    }

    /// Checks that the Manifest and the container name the same members with the same sizes and that, in a signed
    /// container, every member with data but `gpkg-1` has a signature somewhere after it. No digest is computed.
    ///
    /// # Errors
    /// A member is not listed, missing, of another size, or not signed (`gpkg._verify_binpkg`).
    pub fn check_complete(&self, container: &Container) -> Result<(), GpkgError> {
        let signed = container.has_signatures()?;
        for member in container.members().iter().filter(|member| member.kind() != MemberKind::Manifest) {
            let line = self.line(member.name())?;
            if line.size != member.size() {
                let why = format!("has {} bytes, its Manifest says {}", member.size(), line.size);
                return Err(self.mismatch(member.name(), why));
            }
            if !signed || matches!(member.kind(), MemberKind::Signature | MemberKind::Version) {
                continue;
            }
            match container.signature_of(member) {
                None => {
                    let why = "has no signature, though the package is signed".to_owned();
                    return Err(self.mismatch(member.name(), why));
                }
                Some(signature) if signature.offset() < member.offset() => {
                    let why = "comes after its signature, and Portage wants it before".to_owned();
                    return Err(self.mismatch(member.name(), why));
                }
                Some(_) => {}
            }
        }
        for line in &self.lines {
            if line.name == MemberKind::MANIFEST || container.member(&line.name).is_none() {
                return Err(self.mismatch(&line.name, "is in the Manifest, but not in the package".to_owned()));
            }
        }
        Ok(())
    }

    fn mismatch(&self, member: &str, why: String) -> GpkgError {
        GpkgError::Mismatch { path: self.path.clone(), member: member.to_owned(), why }
    }
}
