//! Containers built by hand, so that anything can be wrong with them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::oracle::{from_hex, hex};
use binpkg_resign::package::gpkg::{Codec, Container, DigestPair, GpkgError, Manifest, MemberKind};

/// A tar member, or anything else that goes between members.
#[derive(Clone)]
pub(crate) struct Part {
    /// The header's type flag.
    pub kind: u8,
    /// The whole name.
    pub name: Vec<u8>,
    /// The payload.
    pub data: Vec<u8>,
    /// What the header's size field says, if not the payload's size.
    pub size: Option<[u8; 12]>,
    /// The header's magic and version.
    pub magic: [u8; 8],
    /// Added to the checksum.
    pub wrong_sum: u32,
    /// What the link points to.
    pub link: &'static [u8],
}

pub(crate) const USTAR: [u8; 8] = *b"ustar\x0000";
pub(crate) const GNU: [u8; 8] = *b"ustar  \0";

impl Part {
    pub(crate) fn new(name: impl AsRef<[u8]>, data: impl Into<Vec<u8>>) -> Part {
        let (name, data) = (name.as_ref().to_vec(), data.into());
        Part { kind: b'0', name, data, size: None, magic: USTAR, wrong_sum: 0, link: b"" }
    }

    pub(crate) fn of_kind(kind: u8, name: &str, data: impl Into<Vec<u8>>) -> Part {
        Part { kind, ..Part::new(name, data) }
    }

    pub(crate) fn sized(self, field: &[u8]) -> Part {
        let mut size = [0; 12];
        size[..field.len()].copy_from_slice(field);
        Part { size: Some(size), ..self }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut block = vec![0; 512];
        let mut put = |at: usize, field: &[u8]| block[at..at + field.len()].copy_from_slice(field);
        put(0, &self.name[..self.name.len().min(100)]);
        put(100, b"0000644\x000000000\x000000000\0");
        put(124, &self.size.unwrap_or_else(|| format!("{:011o}\0", self.data.len()).into_bytes().try_into().unwrap()));
        put(136, b"14500000000\0");
        put(148, b"        ");
        put(156, &[self.kind]);
        put(157, self.link);
        put(257, &self.magic);
        let sum = block.iter().map(|byte| u32::from(*byte)).sum::<u32>() + self.wrong_sum;
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block.extend(&self.data);
        block.resize(block.len().next_multiple_of(512), 0);
        block
    }
}

/// A PAX record.
pub(crate) fn record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let length =
        (1..4).map(|digits| rest.len() + digits).find(|length| length.to_string().len() + rest.len() == *length);
    format!("{}{rest}", length.unwrap())
}

/// The blocks of these members, with nothing after them.
pub(crate) fn members(parts: &[Part]) -> Vec<u8> {
    parts.iter().flat_map(Part::bytes).collect()
}

/// A whole archive.
pub(crate) fn tar(parts: &[Part]) -> Vec<u8> {
    let mut bytes = members(parts);
    bytes.resize((bytes.len() + 1024).next_multiple_of(10240), 0);
    bytes
}

/// A metadata archive, not packed.
pub(crate) fn metadata(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let parts: Vec<Part> = entries.iter().map(|(name, value)| Part::new(format!("metadata/{name}"), *value)).collect();
    tar(&parts)
}

/// What every package here has.
pub(crate) const ENTRIES: [(&str, &[u8]); 3] =
    [("CATEGORY", b"app-misc\n"), ("PF", b"foo-1\n"), ("RDEPEND", b"\xff dev-util/a\n")];

/// The members of an honest package, but for its Manifest.
pub(crate) fn honest() -> Vec<Part> {
    vec![
        Part::new("foo-1/gpkg-1", ""),
        Part::new("foo-1/metadata.tar", metadata(&ENTRIES)),
        Part::new("foo-1/image.tar", tar(&[Part::new("image/usr", "something")])),
    ]
}

/// An honest package's members with other metadata.
pub(crate) fn with_metadata(name: &str, archive: impl Into<Vec<u8>>) -> Vec<Part> {
    let mut parts = honest();
    parts[1] = Part::new(format!("foo-1/{name}"), archive);
    parts
}

/// The Manifest's line for a member.
pub(crate) fn line(part: &Part) -> String {
    let name = String::from_utf8_lossy(&part.name).into_owned();
    let digests = DigestPair::of(&part.data);
    let name = name.rsplit('/').next().unwrap();
    format!("DATA {name} {} BLAKE2B {} SHA512 {}\n", part.data.len(), digests.blake2b, digests.sha512)
}

/// These members with an honest Manifest at the end.
pub(crate) fn sealed(mut parts: Vec<Part>) -> Vec<Part> {
    let text: String = parts.iter().map(line).collect();
    parts.push(Part::new("foo-1/Manifest", text));
    parts
}

/// What we read in a container that we accept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub metadata: BTreeMap<String, Vec<u8>>,
    pub image: Vec<u8>,
}

impl Seen {
    /// Compares this with Portage's answer to `read`.
    pub(crate) fn assert_same(&self, answer: &Value, what: &str) {
        let theirs = answer["metadata"].as_object().unwrap().iter();
        let theirs = theirs.map(|(key, value)| (key.clone(), from_hex(value.as_str().unwrap()))).collect();
        assert_eq!(self.metadata, theirs, "{what}");
        assert_eq!(answer["image"], hex(&Sha256::digest(&self.image)), "{what}");
    }
}

/// Everything that a caller does with a container, but signatures.
pub(crate) fn examine(bytes: &[u8]) -> Result<Seen, GpkgError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    examine_file(file, &Codec::default())
}

/// The same, of a file.
pub(crate) fn examine_file(file: File, codec: &Codec) -> Result<Seen, GpkgError> {
    let path = Path::new("app-misc/foo-1.gpkg.tar");
    let container = Container::open(file, path)?;
    let text = container.manifest_bytes()?;
    let manifest = Manifest::parse(&String::from_utf8_lossy(&text), path)?;
    manifest.check_complete(&container)?;
    for member in container.members().iter().filter(|member| member.kind() != MemberKind::Manifest) {
        container.verify_member(member, manifest.line(member.name())?)?;
    }
    let metadata = container.read_metadata(&manifest, codec)?;
    let metadata = metadata.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
    let image = container.read_member(container.image().0, u64::MAX)?;
    Ok(Seen { metadata, image })
}
