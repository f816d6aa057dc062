//! The block of the index that a package file comes to, as Portage writes it (`binarytree._read_metadata`,
//! `_pkgindex_entry`, `_eval_use_flags`). Signatures are not looked at: an index vouches for nothing.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use super::{Opened, Pkgdir};
use crate::package::gpkg::{Codec, Container, GpkgError, Manifest, Metadata, file_digests};
use crate::portage::atom::Cpv;
use crate::portage::index::{DEPENDENCY_KEYS, Entry};
use crate::portage::names::{BuildId, PkgPath};
use crate::portage::reduce::{BadDependencies, REDUCED_KEYS, Words, reduce};

/// What the index says of a package besides its dependencies, by the names of both (`bindbapi._aux_cache_keys`).
const OTHER_KEYS: [(&str, &str); 14] = [
    ("BUILD_ID", "BUILD_ID"),
    ("BUILD_TIME", "BUILD_TIME"),
    ("CHOST", "CHOST"),
    ("DEFINED_PHASES", "DEFINED_PHASES"),
    ("IUSE", "IUSE"),
    ("KEYWORDS", "KEYWORDS"),
    ("LICENSE", "LICENSE"),
    ("PROPERTIES", "PROPERTIES"),
    ("PROVIDES", "PROVIDES"),
    ("REQUIRES", "REQUIRES"),
    ("RESTRICT", "RESTRICT"),
    ("USE", "USE"),
    ("USER_PATCHES", "USER_PATCHES"),
    ("repository", "REPO"),
];

/// Every key that a block gets from its file.
pub(super) fn entry_keys() -> impl Iterator<Item = &'static str> {
    let own = ["CPV", "PATH", "SLOT", "EAPI", "SIZE", "MTIME", "MD5", "SHA1"];
    own.into_iter().chain(OTHER_KEYS.map(|(_, name)| name)).chain(DEPENDENCY_KEYS)
}

/// Why a file cannot be in the index.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unlistable {
    /// It is no container, or its metadata are not what its Manifest says.
    #[error(transparent)]
    Container(#[from] GpkgError),
    /// It cannot be read to its end.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its metadata lack what every package has.
    #[error("{path}: its metadata have no {key}; it cannot be used, build it again")]
    Lacks {
        /// The file.
        path: PkgPath,
        /// The key.
        key: &'static str,
    },
    /// Its metadata have a build id that is none.
    #[error("{path}: its metadata have the build id {build_id:?}, which is none; build it again")]
    BuildId {
        /// The file.
        path: PkgPath,
        /// The text in its place.
        build_id: String,
    },
    /// It is another package than its name says.
    #[error("{path} holds the package {cpv}, whose file has another name; move it where it belongs, or remove it")]
    Misplaced {
        /// The file.
        path: PkgPath,
        /// Category, name and version by its metadata.
        cpv: String,
    },
    /// A dependency string that is none.
    #[error("{path}: its {key} cannot be understood: {source}; build it again")]
    Dependencies {
        /// The file.
        path: PkgPath,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        source: BadDependencies,
    },
}

/// The whole block of a file.
///
/// # Errors
/// It is no package, or not the one that its name says.
pub(crate) fn whole_entry(
    opened: &Opened,
    pkgdir: &Pkgdir,
    path: &PkgPath,
    codec: &Codec,
) -> Result<Entry, Unlistable> {
    let shown = pkgdir.path().join(path.as_str());
    let failed = |source| Unlistable::Read { path: shown.clone(), source };
    let container = Container::open(opened.file.try_clone().map_err(failed)?, &shown)?;
    let mut entry = described(&metadata(&container, codec, &shown)?, path)?;
    reduce_by_use(&mut entry, path)?;
    let digests = file_digests(&opened.file).map_err(failed)?;
    entry.set("SIZE", &opened.identity.size().to_string());
    entry.set("MTIME", &opened.identity.mtime().to_string());
    entry.set("MD5", &digests.md5);
    entry.set("SHA1", &digests.sha1);
    Ok(entry)
}

/// A block with what the metadata say, dependencies whole; nothing is said of the file.
///
/// # Errors
/// They are not those of a package that can lie at `path`.
pub(super) fn described(metadata: &Metadata, path: &PkgPath) -> Result<Entry, Unlistable> {
    let value = |key: &str| value_of(metadata, key);
    for key in ["CATEGORY", "PF", "SLOT"] {
        if value(key).is_empty() {
            return Err(Unlistable::Lacks { path: path.clone(), key });
        }
    }
    let cpv_text = format!("{}/{}", value("CATEGORY"), value("PF"));
    if !Cpv::parse(&cpv_text).is_some_and(|cpv| path.belongs_to(&cpv)) {
        return Err(Unlistable::Misplaced { path: path.clone(), cpv: cpv_text });
    }
    let build_id = value("BUILD_ID");
    if !build_id.is_empty() && BuildId::new(&build_id).is_none() {
        return Err(Unlistable::BuildId { path: path.clone(), build_id });
    }
    let mut entry = Entry::from_text("");
    entry.set("CPV", &cpv_text);
    entry.set("PATH", path.as_str());
    entry.set("SLOT", &value("SLOT"));
    let eapi = value("EAPI");
    entry.set("EAPI", if eapi == "0" { "" } else { &eapi });
    for (key, name) in OTHER_KEYS {
        entry.set(name, &value(key));
    }
    for key in DEPENDENCY_KEYS {
        entry.set(key, &value(key));
    }
    Ok(entry)
}

fn reduce_by_use(entry: &mut Entry, path: &PkgPath) -> Result<(), Unlistable> {
    let flags_text = entry.get("USE").unwrap_or_default().to_owned();
    let flags: HashSet<&str> = flags_text.split_whitespace().collect();
    for key in REDUCED_KEYS {
        let Some(text) = entry.get(key) else { continue };
        let reduced = reduce(text, Words::of_key(key), &flags).map_err(|source| Unlistable::Dependencies {
            path: path.clone(),
            key,
            source,
        })?;
        entry.set(key, &reduced);
    }
    Ok(())
}

/// A value as the index would have it.
pub(super) fn value_of(metadata: &Metadata, key: &str) -> String {
    let value = String::from_utf8_lossy(metadata.get(key).unwrap_or_default()).into_owned();
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The metadata, which the Manifest must speak of as they are. Whose Manifest it is, nobody asks here.
fn metadata(container: &Container, codec: &Codec, path: &Path) -> Result<Metadata, GpkgError> {
    let manifest = Manifest::parse(&manifest_text(&container.manifest_bytes()?), path)?;
    manifest.check_complete(container)?;
    container.read_metadata(&manifest, codec)
}

/// The text of a Manifest, out of its signature where it is signed (RFC 4880, 7).
fn manifest_text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut lines = text.lines();
    if !lines.by_ref().any(|line| line.trim_end() == "-----BEGIN PGP SIGNED MESSAGE-----") {
        return text;
    }
    let signed = lines.skip_while(|line| !line.trim().is_empty()).skip(1);
    let signed = signed.take_while(|line| line.trim_end() != "-----BEGIN PGP SIGNATURE-----");
    signed.flat_map(|line| [line.strip_prefix("- ").unwrap_or(line), "\n"]).collect()
}
