//! The gpkg container (GLEP 78): reading it, checking it against its Manifest, and writing a new one.
//!
//! A container is a plain tar with one directory level: `gpkg-1`, the metadata archive, the image archive, a detached
//! signature for each of the two, and a `Manifest` with the size and digests of every other member. What is accepted
//! is what Portage accepts (`portage.gpkg.gpkg._verify_binpkg`), less what is ambiguous or unsafe (see
//! [`Container::open`]).
//!
//! Nothing here knows PKGDIR or keys, and signatures are only bytes: the text of a signed Manifest comes from whoever
//! verified it. Settings are not read either; [`Codec::from_portage`] is given a way to ask for those that say how
//! Portage packs.
//!
//! The way through: [`Container::open`], [`Manifest::parse`] of the verified text, [`Manifest::check_complete`],
//! [`Container::read_metadata`]; then, for a new container, [`Draft::begin`], [`Draft::signed`] and
//! [`Unsealed::finish`].

mod archive;
mod codec;
mod compression;
mod digest;
mod error;
mod header;
mod manifest;
mod metadata;
mod output;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use archive::{Attributes, Format};
pub use codec::Codec;
pub use compression::Compression;
pub use digest::{DigestPair, FileDigests, file_digests};
pub use error::GpkgError;
pub use manifest::{Manifest, ManifestLine};
pub use metadata::Metadata;
pub use output::Target;
pub use reader::{Container, Member, MemberKind, MemberReader};
pub use writer::{Draft, ImageSignature, NewContainer, Unsealed};

/// The largest `Manifest`, `gpkg-1` or signature that is read, in bytes.
pub const SMALL_MEMBER_LIMIT: u64 = 1 << 20;
/// The most that a metadata archive may take, packed or unpacked, in bytes.
pub const METADATA_LIMIT: u64 = 128 << 20;
/// The most entries that a metadata archive may have.
pub const METADATA_ENTRY_LIMIT: usize = 4096;
/// The most members that a container may have.
pub const MEMBER_LIMIT: usize = 1024;
