//! Whether a block of the index agrees with the file it is about: the one place where that is decided.

use super::Identity;
use crate::package::gpkg::FileDigests;
use crate::portage::index::Entry;

/// Something that the index says of a file and that is not so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the index says {key} {said}, the file has {is}")]
pub(crate) struct Disagreement {
    /// The index's key: `SIZE`, `MTIME`, `MD5` or `SHA1`.
    pub key: &'static str,
    /// What the index says.
    pub said: String,
    /// What the file has.
    pub is: String,
}

/// Where size and time differ; a block that says nothing of one agrees.
#[must_use]
pub(crate) fn differs_from_file(entry: &Entry, identity: &Identity) -> Option<Disagreement> {
    differs(entry, "SIZE", || identity.size().to_string())
        .or_else(|| differs(entry, "MTIME", || identity.mtime().to_string()))
}

/// Where digests differ.
#[must_use]
pub(crate) fn differs_from_bytes(entry: &Entry, digests: &FileDigests) -> Option<Disagreement> {
    differs(entry, "MD5", || digests.md5.clone()).or_else(|| differs(entry, "SHA1", || digests.sha1.clone()))
}

fn differs(entry: &Entry, key: &'static str, is: impl FnOnce() -> String) -> Option<Disagreement> {
    let said = entry.get(key)?.trim();
    let is = is();
    (!said.eq_ignore_ascii_case(&is)).then(|| Disagreement { key, said: said.to_owned(), is })
}
