//! Reading a container on an open file.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::archive::{Attributes, Ending, Format, ReadAt, TarEntry, TarFault, TarWalk};
use super::digest::{FilePart, StreamFault};
use super::output::Output;
use super::{
    Codec, Compression, DigestPair, GpkgError, MEMBER_LIMIT, METADATA_LIMIT, Manifest, ManifestLine, Metadata,
    SMALL_MEMBER_LIMIT,
};

/// What a member is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// `gpkg-1`, which says that this is a gpkg.
    Version,
    /// `metadata.tar` with any suffix of Portage's.
    Metadata(Compression),
    /// `image.tar` with any suffix of Portage's.
    Image(Compression),
    /// A detached signature, `….sig`.
    Signature,
    /// `Manifest`.
    Manifest,
    /// Anything else; Portage allows it, if the Manifest names it.
    Other,
}

impl MemberKind {
    /// The name of the version file.
    pub const VERSION: &str = "gpkg-1";
    /// The name of the Manifest.
    pub const MANIFEST: &str = "Manifest";

    fn of(name: &str) -> MemberKind {
        if name == MemberKind::VERSION {
            MemberKind::Version
        } else if name == MemberKind::MANIFEST {
            MemberKind::Manifest
        } else if name.ends_with(".sig") {
            MemberKind::Signature
        } else if let Some(compression) = Compression::of_archive(name, "metadata") {
            MemberKind::Metadata(compression)
        } else if let Some(compression) = Compression::of_archive(name, "image") {
            MemberKind::Image(compression)
        } else {
            MemberKind::Other
        }
    }
}

/// A member of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    name: String,
    kind: MemberKind,
    size: u64,
    offset: u64,
    attributes: Attributes,
}

impl Member {
    /// The name, without prefix.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> MemberKind {
        self.kind
    }

    /// The size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where its bytes start in the file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What else its header says.
    #[must_use]
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }
}

/// A container on an open file. Only headers have been read; no digest or signature has been checked.
#[derive(Debug)]
pub struct Container {
    file: File,
    path: PathBuf,
    format: Format,
    members: Vec<Member>,
    metadata: (Member, Compression),
    image: (Member, Compression),
    prefix: String,
}

impl Container {
    /// Reads the headers of the container in `file`; `path` is only named in messages.
    ///
    /// Any one prefix, any order of members, ustar, GNU and PAX headers, and anything after the end of the archive are
    /// taken. Beyond what Portage refuses, so are: members that are no regular files (links, folders, sparse
    /// files), a prefix or name `.`, `..` or empty, names that are no UTF-8, two metadata or two image archives or
    /// none, more than one long name or PAX header for a member, and more than [`MEMBER_LIMIT`] members.
    ///
    /// # Errors
    /// The file is no such container, or cannot be read.
    pub fn open(file: File, path: &Path) -> Result<Container, GpkgError> {
        let read = |source| GpkgError::Read { path: path.to_owned(), what: "its headers".to_owned(), source };
        let status = file.metadata().map_err(read)?;
        if !status.is_file() {
            return Err(GpkgError::NotATar { path: path.to_owned(), why: "it is no regular file" });
        }
        let format = first_format(&file, status.len(), path)?;
        let mut walk = TarWalk::new(&file, status.len());
        let mut found = Found { path, prefix: None, members: Vec::new() };
        while let Some(entry) = walk.next().map_err(|fault| describe(fault, path))? {
            found.add(entry)?;
        }
        let ending = walk.ending();
        found.one(MemberKind::VERSION, |kind| kind == MemberKind::Version, ending)?;
        found.one(MemberKind::MANIFEST, |kind| kind == MemberKind::Manifest, ending)?;
        let metadata = found.one("metadata.tar", |kind| matches!(kind, MemberKind::Metadata(_)), ending)?;
        let image = found.one("image.tar", |kind| matches!(kind, MemberKind::Image(_)), ending)?;
        let (prefix, members) = (found.prefix.unwrap_or_default(), found.members);
        Ok(Container { file, path: path.to_owned(), format, members, metadata, image, prefix })
    }

    /// The path given to [`Container::open`].
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tar dialect, by the first header.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Every member, in the container's order.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The folder that all members are in: usually the file's name without `.gpkg.tar`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The member `name` (without prefix).
    #[must_use]
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// The metadata archive, and how it is packed.
    #[must_use]
    pub fn metadata(&self) -> (&Member, Compression) {
        (&self.metadata.0, self.metadata.1)
    }

    /// The image archive, and how it is packed.
    #[must_use]
    pub fn image(&self) -> (&Member, Compression) {
        (&self.image.0, self.image.1)
    }

    /// The detached signature of `member`, if there is one.
    #[must_use]
    pub fn signature_of(&self, member: &Member) -> Option<&Member> {
        let signature = format!("{}.sig", member.name);
        self.member(&signature)
    }

    /// Whether Portage takes the package for signed: any member is a `.sig`, or the Manifest has a signature
    /// (`gpkg._verify_binpkg`).
    ///
    /// # Errors
    /// The Manifest cannot be read.
    pub fn has_signatures(&self) -> Result<bool, GpkgError> {
        let has_member = self.members.iter().any(|member| member.kind == MemberKind::Signature);
        Ok(has_member || self.has_signed_manifest()?)
    }

    fn has_signed_manifest(&self) -> Result<bool, GpkgError> {
        const MARK: &[u8] = b"-----BEGIN PGP SIGNATURE-----";
        Ok(self.manifest_bytes()?.windows(MARK.len()).any(|window| window == MARK))
    }

    /// The first part that should have a signature and has none: the Manifest, or a member with data.
    ///
    /// # Errors
    /// The Manifest cannot be read.
    pub fn part_without_signature(&self) -> Result<Option<String>, GpkgError> {
        if !self.has_signed_manifest()? {
            return Ok(Some(MemberKind::MANIFEST.to_owned()));
        }
        let is_data = |kind| !matches!(kind, MemberKind::Version | MemberKind::Manifest | MemberKind::Signature);
        let bare = self.members.iter().find(|member| is_data(member.kind) && self.signature_of(member).is_none());
        Ok(bare.map(|member| member.name.clone()))
    }

    /// The bytes of the Manifest, signature and all.
    ///
    /// # Errors
    /// It cannot be read, or has more than [`SMALL_MEMBER_LIMIT`] bytes.
    pub fn manifest_bytes(&self) -> Result<Vec<u8>, GpkgError> {
        match self.members.iter().find(|member| member.kind == MemberKind::Manifest) {
            Some(manifest) => self.read_member(manifest, SMALL_MEMBER_LIMIT),
            None => Ok(Vec::new()),
        }
    }

    /// The bytes of `member`.
    ///
    /// # Errors
    /// They cannot be read, or are more than `limit`.
    pub fn read_member(&self, member: &Member, limit: u64) -> Result<Vec<u8>, GpkgError> {
        if member.size > limit {
            return Err(GpkgError::TooLarge {
                path: self.path.clone(),
                what: member.name.clone(),
                limit: format!("{limit} bytes"),
            });
        }
        let mut bytes = vec![0; usize::try_from(member.size).unwrap_or_default()];
        self.file.read_fully(&mut bytes, member.offset).map_err(|source| self.read_failed(&member.name, source))?;
        Ok(bytes)
    }

    /// The bytes of `member`, checked against its line in the Manifest.
    ///
    /// # Errors
    /// They cannot be read, are more than `limit`, or differ from what the Manifest says.
    pub fn read_verified(&self, member: &Member, line: &ManifestLine, limit: u64) -> Result<Vec<u8>, GpkgError> {
        self.compare_sizes(member, line)?;
        let bytes = self.read_member(member, limit)?;
        self.compare(member, line, &DigestPair::of(&bytes))?;
        Ok(bytes)
    }

    /// The metadata, which `manifest` must vouch for.
    ///
    /// # Errors
    /// The archive differs from what the Manifest says, cannot be unpacked, or is not as Portage has it
    /// ([`Metadata::read`]).
    pub fn read_metadata(&self, manifest: &Manifest, codec: &Codec) -> Result<Metadata, GpkgError> {
        let (member, compression) = self.metadata();
        let bytes = self.read_verified(member, manifest.line(&member.name)?, METADATA_LIMIT)?;
        Metadata::read(&bytes, compression, codec, &self.path)
    }

    /// Checks the bytes of `member` against its line in the Manifest.
    ///
    /// # Errors
    /// They cannot be read, or size or a digest differ.
    pub fn verify_member(&self, member: &Member, line: &ManifestLine) -> Result<(), GpkgError> {
        self.compare_sizes(member, line)?;
        let part = FilePart { file: &self.file, offset: member.offset, size: member.size, first: 0 };
        let digests = DigestPair::stream(&part, &mut [], |_| Ok(())).map_err(|fault| self.broken(member, fault))?;
        self.compare(member, line, &digests)
    }

    /// Copies the bytes of `member` to the end of `out`, and checks the very bytes written against the member's line
    /// in the Manifest.
    ///
    /// # Errors
    /// They cannot be read or written, or size or a digest differ; then `out` holds bytes that nobody vouches for.
    pub(super) fn copy_member_verified(
        &self,
        member: &Member,
        line: &ManifestLine,
        out: &mut Output,
    ) -> Result<(), GpkgError> {
        self.compare_sizes(member, line)?;
        let copied = out.copy(&self.file, member.offset, member.size);
        let digests = copied.map_err(|fault| self.broken(member, fault))?;
        self.compare(member, line, &digests)
    }

    /// Reads `member` from its start; nothing is checked.
    #[must_use]
    pub fn reader(&self, member: &Member) -> MemberReader<'_> {
        MemberReader::new(&self.file, member.offset, member.size)
    }

    fn broken(&self, member: &Member, fault: StreamFault) -> GpkgError {
        match fault {
            StreamFault::Read(source) => self.read_failed(&member.name, source),
            StreamFault::Sink(source) => {
                GpkgError::Write { path: self.path.clone(), what: member.name.clone(), source }
            }
        }
    }

    fn compare_sizes(&self, member: &Member, line: &ManifestLine) -> Result<(), GpkgError> {
        if line.name() != member.name || line.size() != member.size {
            let why = format!("has {} bytes, its Manifest says {}", member.size, line.size());
            return Err(self.mismatch(member, why));
        }
        Ok(())
    }

    fn compare(&self, member: &Member, line: &ManifestLine, digests: &DigestPair) -> Result<(), GpkgError> {
        let wanted = line.digests();
        let differing = match (digests.blake2b == wanted.blake2b, digests.sha512 == wanted.sha512) {
            (true, true) => return Ok(()),
            (false, true) => "BLAKE2B digest",
            (true, false) => "SHA512 digest",
            (false, false) => "BLAKE2B and SHA512 digests",
        };
        Err(self.mismatch(member, format!("has other {differing} than its Manifest says")))
    }

    fn mismatch(&self, member: &Member, why: String) -> GpkgError {
        GpkgError::Mismatch { path: self.path.clone(), member: member.name.clone(), why }
    }

    fn read_failed(&self, what: &str, source: io::Error) -> GpkgError {
        GpkgError::Read { path: self.path.clone(), what: what.to_owned(), source }
    }
}

/// Reads part of a file, without moving the file's own position.
#[derive(Debug)]
pub struct MemberReader<'f> {
    file: &'f File,
    next: u64,
    left: u64,
}

impl<'f> MemberReader<'f> {
    pub(super) fn new(file: &'f File, offset: u64, size: u64) -> Self {
        MemberReader { file, next: offset, left: size }
    }
}

impl Read for MemberReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(buffer.get_mut(..most).unwrap_or_default(), self.next)?;
        if read == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let taken = u64::try_from(read).unwrap_or_default();
        self.next += taken;
        self.left -= taken;
        Ok(read)
    }
}

fn first_format(file: &File, length: u64, path: &Path) -> Result<Format, GpkgError> {
    let not = |why| GpkgError::NotATar { path: path.to_owned(), why };
    let mut block = [0; 512];
    let read = |source| GpkgError::Read { path: path.to_owned(), what: "its first header".to_owned(), source };
    if is_xpak(file, length).map_err(read)? {
        return Err(GpkgError::OldFormat { path: path.to_owned() });
    }
    if length < 512 {
        return Err(not("it is shorter than a tar header"));
    }
    file.read_fully(&mut block, 0).map_err(read)?;
    Format::of_first_header(&block).ok_or(not("it does not start with a ustar, GNU or PAX tar header"))
}

/// Whether the file ends as a package of the old format does: with its metadata, their length and a mark (`xpak(5)`).
fn is_xpak(file: &File, length: u64) -> io::Result<bool> {
    let Some(start) = length.checked_sub(16) else { return Ok(false) };
    let mut end = [0; 16];
    file.read_fully(&mut end, start)?;
    Ok(end.starts_with(b"XPAKSTOP") && end.ends_with(b"STOP"))
}

fn describe(fault: TarFault, path: &Path) -> GpkgError {
    let path = path.to_owned();
    match fault {
        TarFault::Io(source) => GpkgError::Read { path, what: "its headers".to_owned(), source },
        TarFault::Header { offset, why } => GpkgError::Header { path, offset, why },
        TarFault::Truncated { name, end, length } => GpkgError::Truncated { path, member: name, end, length },
    }
}

/// The members found so far.
struct Found<'p> {
    path: &'p Path,
    prefix: Option<String>,
    members: Vec<Member>,
}

impl Found<'_> {
    fn add(&mut self, entry: TarEntry) -> Result<(), GpkgError> {
        let bad = |why| GpkgError::Structure { path: self.path.to_owned(), member: entry.name.clone(), why };
        let (prefix, name) = match entry.name.split_once('/') {
            None => return Err(bad("is in no folder")),
            Some(("", _)) => return Err(bad("has an absolute name")),
            Some((_, name)) if name.contains('/') => return Err(bad("is more than one folder deep")),
            Some((prefix, name)) => (prefix, name),
        };
        if [prefix, name].iter().any(|part| matches!(*part, "" | "." | "..")) {
            return Err(bad("has no proper name"));
        }
        if entry.name.contains('\0') {
            return Err(bad("has a NUL in its name"));
        }
        if !entry.regular {
            return Err(bad("is no regular file"));
        }
        if self.prefix.as_ref().is_some_and(|known| known != prefix) {
            return Err(bad("is in another folder than those before it"));
        }
        if self.members.iter().any(|member| member.name == name) {
            return Err(bad("is there twice"));
        }
        if self.members.len() >= MEMBER_LIMIT {
            return Err(bad("is one too many"));
        }
        self.prefix = Some(prefix.to_owned());
        self.members.push(Member {
            name: name.to_owned(),
            kind: MemberKind::of(name),
            size: entry.size,
            offset: entry.offset,
            attributes: entry.attributes,
        });
        Ok(())
    }

    /// The one member of a kind, and how it is packed if it is an archive.
    fn one(
        &self,
        name: &'static str,
        wanted: impl Fn(MemberKind) -> bool,
        ending: Ending,
    ) -> Result<(Member, Compression), GpkgError> {
        let mut members = self.members.iter().filter(|member| wanted(member.kind));
        let member = members.next().ok_or_else(|| GpkgError::Missing {
            path: self.path.to_owned(),
            member: name,
            ending: match ending {
                Ending::Marker => String::new(),
                Ending::EndOfFile => ", and ends without an end-of-archive mark".to_owned(),
                Ending::NoHeader { offset } => format!(", and is unreadable from byte {offset} on"),
            },
        })?;
        if let Some(second) = members.next() {
            let why = "is a second archive of its kind";
            return Err(GpkgError::Structure { path: self.path.to_owned(), member: second.name.clone(), why });
        }
        let compression = match member.kind {
            MemberKind::Metadata(compression) | MemberKind::Image(compression) => compression,
            _ => Compression::None,
        };
        Ok((member.clone(), compression))
    }
}
