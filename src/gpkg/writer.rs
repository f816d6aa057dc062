//! Writing a new container with the old one's image.
//!
//! Signatures come from a command that may be slow or absent, and nothing may be signed that was not verified. So the
//! image is copied and checked first, to where it will lie if the metadata's signature is as large as expected, and
//! head and tail are written around it when the signatures are there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::archive::{self, Facts, Format, archive_length, header, padded};
use super::{
    Compression, Container, GpkgError, Kind, Manifest, ManifestLine, Member, MemberReader, SMALL_MEMBER_LIMIT,
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
    /// The size expected of the metadata's signature, in bytes: that of the old one, made with the same key.
    pub signature_size: u64,
}

/// The image's signature in the new container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSignature {
    /// The old one, byte for byte.
    CarriedOver,
    /// A new one, by a new key.
    New(Vec<u8>),
}

/// A new container whose image is in place and verified, and which waits for its signatures.
#[derive(Debug)]
pub struct Draft<'c> {
    out: File,
    old: &'c Container,
    manifest: &'c Manifest,
    new: NewContainer,
    format: Format,
    metadata_name: String,
    image_at: u64,
}

impl<'c> Draft<'c> {
    /// Copies the image of `old` into `out`, an empty file open for reading and writing, and checks it and every other
    /// member that is carried over against `manifest`.
    ///
    /// # Errors
    /// A member cannot be read or written or differs from what the Manifest says, or the new prefix is none.
    pub fn begin(
        out: File,
        old: &'c Container,
        manifest: &'c Manifest,
        new: NewContainer,
    ) -> Result<Draft<'c>, GpkgError> {
        let proper = !matches!(new.prefix.as_str(), "" | "." | "..") && !new.prefix.contains(['/', '\0']);
        if !proper {
            let why = "it is no proper name of a folder";
            return Err(GpkgError::New { path: old.path().to_owned(), name: new.prefix, why });
        }
        let metadata_name = new.compression.archive_name("metadata");
        for member in old.members().iter().filter(|member| is_carried(old, member)) {
            if member.name().strip_suffix(".sig").unwrap_or(member.name()) == metadata_name {
                let why = "it has a member named as the new metadata or its signature";
                return Err(GpkgError::New { path: old.path().to_owned(), name: new.prefix, why });
            }
            old.verify_member(member, manifest.line(member.name())?)?;
        }
        let format = format_for(old, &new);
        let mut draft = Draft { out, old, manifest, new, format, metadata_name, image_at: 0 };
        draft.image_at = draft.place_of_image(draft.new.signature_size);
        draft.copy_image()?;
        Ok(draft)
    }

    /// The packed metadata archive, to be signed.
    #[must_use]
    pub fn metadata_bytes(&self) -> &[u8] {
        &self.new.metadata
    }

    /// The image in the new file, to be signed by a new key.
    #[must_use]
    pub fn image(&self) -> MemberReader<'_> {
        MemberReader::new(&self.out, self.image_at, self.old.image().0.size())
    }

    /// Takes the detached signatures.
    ///
    /// # Errors
    /// The old image has no signature to carry over; or it gets a new one, while there are other members that only
    /// their old signatures vouch for.
    pub fn signed(self, metadata_signature: Vec<u8>, image: ImageSignature) -> Result<Unsealed<'c>, GpkgError> {
        let refuse = |why| GpkgError::New { path: self.old.path().to_owned(), name: self.new.prefix.clone(), why };
        let old_image = self.old.image().0;
        let old_signature = self.old.signature_of(old_image);
        let image_signature_name = format!("{}.sig", old_image.name());
        let (image_signature, image_signature_line) = match image {
            ImageSignature::CarriedOver => {
                let member = old_signature.ok_or_else(|| refuse("the old image has no signature"))?;
                let line = self.manifest.line(member.name())?;
                let bytes = self.old.read_verified(member, line, SMALL_MEMBER_LIMIT)?;
                (Payload { facts: member.facts().clone(), bytes }, line.clone())
            }
            ImageSignature::New(bytes) => {
                if self.others().any(|member| member.kind() == Kind::Signature) {
                    return Err(refuse("it has members besides metadata and image, which only the old key has signed"));
                }
                let line = ManifestLine::of(&image_signature_name, &bytes);
                (Payload { facts: Facts::new(self.new.mtime), bytes }, line)
            }
        };
        let metadata_signature_name = format!("{}.sig", self.metadata_name);
        let mut lines = vec![
            self.manifest.line(Kind::VERSION)?.clone(),
            ManifestLine::of(&self.metadata_name, &self.new.metadata),
            ManifestLine::of(&metadata_signature_name, &metadata_signature),
            self.manifest.line(old_image.name())?.clone(),
            image_signature_line,
        ];
        for member in self.others() {
            lines.push(self.manifest.line(member.name())?.clone());
        }
        let manifest = Manifest::new(lines, self.old.path());
        Ok(Unsealed { draft: self, metadata_signature, image_signature, image_signature_name, manifest })
    }

    /// Members that are neither Portage's nor signatures of these.
    fn others(&self) -> impl Iterator<Item = &'c Member> + use<'c> {
        let old = self.old;
        let image_signature = old.signature_of(old.image().0);
        (old.members().iter()).filter(move |member| {
            is_carried(old, member) && member.kind() != Kind::Version && Some(*member) != image_signature
        })
    }

    fn header(&self, name: &str, size: u64, facts: &Facts) -> Vec<u8> {
        header(self.format, &format!("{}/{name}", self.new.prefix), size, facts)
    }

    fn image_header(&self) -> Vec<u8> {
        let image = self.old.image().0;
        self.header(image.name(), image.size(), image.facts())
    }

    /// Everything before the image's bytes but the contents of `gpkg-1`, the metadata and its signature.
    fn place_of_image(&self, signature_size: u64) -> u64 {
        let facts = Facts::new(self.new.mtime);
        let head = |name: &str| length(&self.header(name, 0, &facts));
        let version = self.old.member(Kind::VERSION).map_or(0, Member::size);
        let sizes = [version, length(&self.new.metadata), signature_size];
        let payloads: u64 = sizes.into_iter().map(|size| padded(size).unwrap_or(size)).sum();
        let signature = format!("{}.sig", self.metadata_name);
        head(Kind::VERSION) + head(&self.metadata_name) + head(&signature) + payloads + length(&self.image_header())
    }

    fn copy_image(&self) -> Result<(), GpkgError> {
        let image = self.old.image().0;
        self.old.copy_member_verified(image, self.manifest.line(image.name())?, &self.out, self.image_at)
    }

    fn write(&self, bytes: &[u8], offset: u64, what: &str) -> Result<(), GpkgError> {
        self.out.write_all_at(bytes, offset).map_err(|source| self.write_failed(what, source))
    }

    fn write_failed(&self, what: &str, source: io::Error) -> GpkgError {
        GpkgError::Write { path: self.old.path().to_owned(), what: what.to_owned(), source }
    }
}

/// A small member that is ready to be written.
#[derive(Debug)]
struct Payload {
    facts: Facts,
    bytes: Vec<u8>,
}

/// A new container that only lacks its signed Manifest.
#[derive(Debug)]
pub struct Unsealed<'c> {
    draft: Draft<'c>,
    metadata_signature: Vec<u8>,
    image_signature: Payload,
    image_signature_name: String,
    manifest: Manifest,
}

impl Unsealed<'_> {
    /// The Manifest's text, to be clear-signed.
    #[must_use]
    pub fn manifest_text(&self) -> String {
        self.manifest.render()
    }

    /// Writes everything around the image, with `manifest`, the clear-signed text. Returns the file, which is
    /// complete but not flushed to the disk.
    ///
    /// # Errors
    /// Something cannot be written, or what is carried over cannot be read or differs from before.
    pub fn finish(mut self, manifest: &[u8]) -> Result<File, GpkgError> {
        let place = self.draft.place_of_image(length(&self.metadata_signature));
        if place != self.draft.image_at {
            log::debug!("{}: the signature's size was not as expected", self.draft.old.path().display());
            self.draft.image_at = place;
            self.draft.copy_image()?;
        }
        let head = self.head()?;
        self.draft.write(&head, 0, "the metadata")?;
        let end = self.write_tail(manifest)?;
        // what may be left of a misplaced image goes, the rest is zeros
        let set_length =
            |length| self.draft.out.set_len(length).map_err(|source| self.draft.write_failed("the end", source));
        set_length(end)?;
        set_length(archive_length(end))?;
        Ok(self.draft.out)
    }

    /// Everything before the image's bytes.
    fn head(&self) -> Result<Vec<u8>, GpkgError> {
        let draft = &self.draft;
        let facts = Facts::new(draft.new.mtime);
        let version = match draft.old.member(Kind::VERSION) {
            Some(member) => draft.old.read_verified(member, draft.manifest.line(Kind::VERSION)?, SMALL_MEMBER_LIMIT)?,
            None => Vec::new(),
        };
        let signature = format!("{}.sig", draft.metadata_name);
        let mut head = Vec::new();
        for (name, bytes) in [
            (Kind::VERSION, &version),
            (&draft.metadata_name, &draft.new.metadata),
            (&signature, &self.metadata_signature),
        ] {
            head.extend(draft.header(name, length(bytes), &facts));
            head.extend_from_slice(bytes);
            archive::pad(&mut head);
        }
        head.extend(draft.image_header());
        Ok(head)
    }

    /// Writes everything after the image's bytes, and returns where it ends.
    fn write_tail(&self, manifest: &[u8]) -> Result<u64, GpkgError> {
        let draft = &self.draft;
        let image_end = draft.image_at + draft.old.image().0.size();
        let mut tail = padding(image_end);
        let Payload { facts, bytes } = &self.image_signature;
        tail.extend(draft.header(&self.image_signature_name, length(bytes), facts));
        tail.extend_from_slice(bytes);
        let mut end = image_end + length(&tail);
        draft.write(&tail, image_end, &self.image_signature_name)?;

        for member in draft.others() {
            let mut blocks = padding(end);
            blocks.extend(draft.header(member.name(), member.size(), member.facts()));
            draft.write(&blocks, end, member.name())?;
            end += length(&blocks);
            draft.old.copy_member_verified(member, draft.manifest.line(member.name())?, &draft.out, end)?;
            end += member.size();
        }

        let mut blocks = padding(end);
        blocks.extend(draft.header(Kind::MANIFEST, length(manifest), &Facts::new(draft.new.mtime)));
        blocks.extend_from_slice(manifest);
        draft.write(&blocks, end, Kind::MANIFEST)?;
        Ok(end + length(&blocks))
    }
}

/// Whether a member of `old` goes into the new container as it is; the image does too, but is looked after by itself.
fn is_carried(old: &Container, member: &Member) -> bool {
    match member.kind() {
        Kind::Version | Kind::Other => true,
        Kind::Signature => old.signature_of(old.metadata().0) != Some(member),
        Kind::Metadata(_) | Kind::Image(_) | Kind::Manifest => false,
    }
}

fn format_for(old: &Container, new: &NewContainer) -> Format {
    let fits = |member: &Member| {
        member.size() < GNU_SIZE
            && member.facts().fit_ustar()
            && archive::fits_ustar(&format!("{}/{}", new.prefix, member.name()))
    };
    let plain = new.prefix.len() < GNU_PREFIX && Facts::new(new.mtime).fit_ustar();
    if old.format() == Format::Gnu || !plain || !old.members().iter().all(fits) { Format::Gnu } else { Format::Ustar }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// The zeros from `end` to the next block.
fn padding(end: u64) -> Vec<u8> {
    vec![0; usize::try_from(padded(end).unwrap_or(end) - end).unwrap_or_default()]
}
