//! Writing a new container with the old one's image.
//!
//! Signatures come from a command that may be slow or absent, and nothing may be signed that was not verified. The new
//! metadata is made of verified metadata, so its signature can be there from the start; then every member that is
//! carried over is checked against the verified Manifest as it is written, and only when all of them have passed is
//! there a text of the new Manifest to be signed. So a container is written once, from its start to its end.

use std::fs::File;
use std::io;

use super::archive::{Attributes, Format, padded};
use super::header::{archive_length, fits_ustar, header};
use super::output::{Output, Target};
use super::{
    Compression, Container, FileDigests, GpkgError, Manifest, ManifestLine, Member, MemberKind, MemberReader,
    SMALL_MEMBER_LIMIT,
};

/// From this size on Portage writes GNU headers (`gpkg._get_tar_format_from_stats`).
const GNU_SIZE: u64 = 8_000_000_000;
/// From this length of the prefix on, too (`gpkg.compress`).
const GNU_PREFIX: usize = 154;

/// What is new in a new container.
#[derive(Debug, Clone)]
pub struct NewContainer {
    /// The folder that all members are in: the new file's name without `.gpkg.tar`.
    pub prefix: String,
    /// The packed metadata archive.
    pub metadata: Vec<u8>,
    /// How it is packed.
    pub compression: Compression,
    /// The time of the new members, in seconds since the epoch.
    pub mtime: u64,
    /// The detached signature of `metadata`.
    pub metadata_signature: Vec<u8>,
}

/// The image's signature in the new container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSignature {
    /// The old one, byte for byte.
    CarriedOver,
    /// A new one, by a new key.
    New(Vec<u8>),
}

/// A new container up to its image, which is verified.
#[derive(Debug)]
pub struct Draft<'c> {
    out: Output,
    old: &'c Container,
    manifest: &'c Manifest,
    prefix: String,
    mtime: u64,
    format: Format,
    image_at: u64,
    /// The new Manifest, as far as it goes.
    lines: Vec<ManifestLine>,
}

impl<'c> Draft<'c> {
    /// Writes the start of a new container into `out`, an empty file open for reading and writing: the new metadata and
    /// the image of `old`. Everything carried over is checked against `manifest`.
    ///
    /// # Errors
    /// A member cannot be read or written or differs from what the Manifest says, or the new prefix is none.
    pub fn begin(
        out: impl Into<Target>,
        old: &'c Container,
        manifest: &'c Manifest,
        new: NewContainer,
    ) -> Result<Draft<'c>, GpkgError> {
        let refuse = |why| GpkgError::New { path: old.path().to_owned(), name: new.prefix.clone(), why };
        if matches!(new.prefix.as_str(), "" | "." | "..") || new.prefix.contains(['/', '\0']) {
            return Err(refuse("it is no proper name of a folder"));
        }
        let metadata_name = new.compression.archive_name("metadata");
        let same = |member: &Member| member.name().strip_suffix(".sig").unwrap_or(member.name()) == metadata_name;
        if old.members().iter().any(|member| is_carried(old, member) && same(member)) {
            return Err(refuse("it has a member named as the new metadata or its signature"));
        }
        let version_line = manifest.line(MemberKind::VERSION)?;
        let version = match old.member(MemberKind::VERSION) {
            Some(member) => old.read_verified(member, version_line, SMALL_MEMBER_LIMIT)?,
            None => Vec::new(),
        };
        let format = format_for(old, &new);
        let NewContainer { prefix, metadata, mtime, metadata_signature, .. } = new;
        let metadata_signature_name = format!("{metadata_name}.sig");
        let lines = vec![
            version_line.clone(),
            ManifestLine::of(&metadata_name, &metadata),
            ManifestLine::of(&metadata_signature_name, &metadata_signature),
        ];
        let out = Output::new(out.into());
        let mut draft = Draft { out, old, manifest, prefix, mtime, format, image_at: 0, lines };
        let attributes = Attributes::new(mtime);
        draft.write_member(MemberKind::VERSION, &version, &attributes)?;
        draft.write_member(&metadata_name, &metadata, &attributes)?;
        draft.write_member(&metadata_signature_name, &metadata_signature, &attributes)?;
        draft.image_at = draft.copy_member(old.image().0)?;
        Ok(draft)
    }

    /// Writes the start of a container whose members stay what they are and get their first signatures: the metadata with
    /// `metadata_signature`, over the very bytes, and the image. The prefix stays, too. Everything is checked against
    /// `manifest`. `mtime` is the time of the new members, in seconds since the epoch.
    ///
    /// # Errors
    /// A member cannot be read or written or differs from what the Manifest says; or there are other members, which
    /// would stay without a signature, and which no Portage writes.
    pub fn begin_unsigned(
        out: impl Into<Target>,
        old: &'c Container,
        manifest: &'c Manifest,
        metadata_signature: &[u8],
        mtime: u64,
    ) -> Result<Draft<'c>, GpkgError> {
        let known = |member: &Member| !matches!(member.kind(), MemberKind::Other | MemberKind::Signature);
        let (prefix, format) = (old.prefix().to_owned(), old.format());
        if !old.members().iter().all(known) {
            let why = "it has members besides metadata and image, or is signed in part";
            return Err(GpkgError::New { path: old.path().to_owned(), name: prefix, why });
        }
        let version_line = manifest.line(MemberKind::VERSION)?;
        let version = match old.member(MemberKind::VERSION) {
            Some(member) => old.read_verified(member, version_line, SMALL_MEMBER_LIMIT)?,
            None => Vec::new(),
        };
        let metadata = old.metadata().0;
        let signature_name = format!("{}.sig", metadata.name());
        let lines = vec![version_line.clone()];
        let mut draft =
            Draft { out: Output::new(out.into()), old, manifest, prefix, mtime, format, image_at: 0, lines };
        draft.write_member(MemberKind::VERSION, &version, &Attributes::new(mtime))?;
        draft.copy_member(metadata)?;
        draft.lines.push(ManifestLine::of(&signature_name, metadata_signature));
        draft.write_member(&signature_name, metadata_signature, &Attributes::new(mtime))?;
        draft.image_at = draft.copy_member(old.image().0)?;
        Ok(draft)
    }

    /// The image in the new file, to be signed by a new key.
    #[must_use]
    pub fn image(&self) -> MemberReader<'_> {
        MemberReader::new(self.out.file(), self.image_at, self.old.image().0.size())
    }

    /// Takes the image's signature, and writes it and whatever other members there are.
    ///
    /// # Errors
    /// The old image has no signature to carry over; or it gets a new one, while there are other members that only
    /// their old signatures vouch for; or a member cannot be read or written or differs from what the Manifest says.
    pub fn signed(mut self, image: ImageSignature) -> Result<Unsealed<'c>, GpkgError> {
        let old = self.old;
        let refuse = |why| GpkgError::New { path: old.path().to_owned(), name: self.prefix.clone(), why };
        let image_signature = old.signature_of(old.image().0);
        let others = (old.members().iter()).filter(|member| {
            is_carried(old, member) && member.kind() != MemberKind::Version && Some(*member) != image_signature
        });
        match image {
            ImageSignature::CarriedOver => {
                let member = image_signature.ok_or_else(|| refuse("the old image has no signature"))?;
                self.copy_member(member)?;
            }
            ImageSignature::New(bytes) => {
                if others.clone().any(|member| member.kind() == MemberKind::Signature) {
                    return Err(refuse("it has members besides metadata and image, which only the old key has signed"));
                }
                if let Some(member) = image_signature {
                    // it is not carried over, but a Manifest that is wrong about it is wrong
                    old.verify_member(member, self.manifest.line(member.name())?)?;
                }
                let name = format!("{}.sig", old.image().0.name());
                self.lines.push(ManifestLine::of(&name, &bytes));
                self.write_member(&name, &bytes, &Attributes::new(self.mtime))?;
            }
        }
        for member in others {
            self.copy_member(member)?;
        }
        let manifest = Manifest::new(std::mem::take(&mut self.lines), old.path());
        Ok(Unsealed { draft: self, manifest })
    }

    fn header(&self, name: &str, size: u64, attributes: &Attributes) -> Vec<u8> {
        header(self.format, &format!("{}/{name}", self.prefix), size, attributes)
    }

    /// Writes a member of ours.
    fn write_member(&mut self, name: &str, bytes: &[u8], attributes: &Attributes) -> Result<(), GpkgError> {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let mut blocks = self.padding();
        blocks.extend(self.header(name, size, attributes));
        blocks.extend_from_slice(bytes);
        self.write(&blocks, name)
    }

    /// Copies a member of the old container, checks it, and takes its line over. Returns where its bytes start.
    fn copy_member(&mut self, member: &Member) -> Result<u64, GpkgError> {
        let line = self.manifest.line(member.name())?;
        let mut blocks = self.padding();
        blocks.extend(self.header(member.name(), member.size(), member.attributes()));
        self.write(&blocks, member.name())?;
        let start = self.out.written();
        self.old.copy_member_verified(member, line, &mut self.out)?;
        self.lines.push(line.clone());
        Ok(start)
    }

    /// The zeros from the end of what is written to the next block.
    fn padding(&self) -> Vec<u8> {
        let end = self.out.written();
        zeros(padded(end).unwrap_or(end) - end)
    }

    fn write(&mut self, bytes: &[u8], what: &str) -> Result<(), GpkgError> {
        let failed =
            |source: io::Error| GpkgError::Write { path: self.old.path().to_owned(), what: what.to_owned(), source };
        self.out.write(bytes).map_err(failed)
    }
}

/// A new container that only lacks its signed Manifest.
#[derive(Debug)]
pub struct Unsealed<'c> {
    draft: Draft<'c>,
    manifest: Manifest,
}

impl Unsealed<'_> {
    /// The Manifest's text, to be clear-signed: everything it speaks of has been verified and written.
    #[must_use]
    pub fn manifest_text(&self) -> String {
        self.manifest.render()
    }

    /// Writes `manifest`, the clear-signed text, and the end. Returns the file, which is complete but not flushed to
    /// the disk, and what the index says of its bytes.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(mut self, manifest: &[u8]) -> Result<(File, FileDigests), GpkgError> {
        let attributes = Attributes::new(self.draft.mtime);
        self.draft.write_member(MemberKind::MANIFEST, manifest, &attributes)?;
        let end = self.draft.out.written();
        self.draft.write(&zeros(archive_length(end) - end), "the end")?;
        Ok(self.draft.out.finish())
    }
}

/// Whether a member of `old` goes into the new container as it is; the image does too, but is looked after by itself.
fn is_carried(old: &Container, member: &Member) -> bool {
    match member.kind() {
        MemberKind::Version | MemberKind::Other => true,
        MemberKind::Signature => old.signature_of(old.metadata().0) != Some(member),
        MemberKind::Metadata(_) | MemberKind::Image(_) | MemberKind::Manifest => false,
    }
}

fn format_for(old: &Container, new: &NewContainer) -> Format {
    let fits = |member: &Member| {
        member.size() < GNU_SIZE
            && member.attributes().fit_ustar()
            && fits_ustar(&format!("{}/{}", new.prefix, member.name()))
    };
    let plain = new.prefix.len() < GNU_PREFIX && Attributes::new(new.mtime).fit_ustar();
    if old.format() == Format::Gnu || !plain || !old.members().iter().all(fits) { Format::Gnu } else { Format::Ustar }
}

fn zeros(count: u64) -> Vec<u8> {
    vec![0; usize::try_from(count).unwrap_or_default()]
}
