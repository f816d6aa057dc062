//! What a package says of itself, in metadata that its Manifest vouches for, against what is said of it outside: a path,
//! a block of the index. Whoever may write in PKGDIR says what he likes there; signed is only what is inside.

use super::gpkg::Metadata;
use crate::portage::atom::Cpv;
use crate::portage::index::Entry;
use crate::portage::names::PkgPath;

/// A package that is not what its name or its block in the index says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{path} is not what it is taken for: by its own signed metadata its {key} is {inside:?}, by {whence} {outside:?}; \
     somebody has put it there or changed the index: see who may write in PKGDIR, then remove the package or run \
     `binpkg-resign index --all`"
)]
pub struct Misnamed {
    /// Where it lies.
    pub path: PkgPath,
    /// What differs.
    pub key: &'static str,
    /// What the package itself says.
    pub inside: String,
    /// What is said of it.
    pub outside: String,
    /// Who says so.
    pub whence: Whence,
}

/// Where something else is said of a package than in itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// In its file's name.
    Name,
    /// In the index.
    Index,
}

impl std::fmt::Display for Whence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Whence::Name => "the name of its file",
            Whence::Index => "the index",
        })
    }
}

/// Checks that the package at `path`, of which the index says `entry`, is what both say: category, name, version, build
/// id, slot, EAPI and repository decide which updates apply to it and how.
///
/// A repository that the index leaves out is that of its header, `repository`. The name of the folder inside the
/// container tells nothing: it is not signed, Portage takes any, and a new one is given.
///
/// # Errors
/// It is not.
pub fn check_identity(metadata: &Metadata, path: &PkgPath, entry: &Entry, repository: &str) -> Result<(), Misnamed> {
    let inside = |key: &str| {
        let text = String::from_utf8_lossy(metadata.get(key).unwrap_or_default()).into_owned();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let outside = |key: &str| entry.get(key).unwrap_or_default().trim().to_owned();
    let differs = |key, inside: &str, outside: &str, whence| Misnamed {
        path: path.clone(),
        key,
        inside: inside.to_owned(),
        outside: outside.to_owned(),
        whence,
    };
    let own_name = format!("{}/{}", inside("CATEGORY"), inside("PF"));
    let own_id = inside("BUILD_ID");
    if own_name != outside("CPV") {
        return Err(differs("name", &own_name, &outside("CPV"), Whence::Index));
    }
    let cpv = Cpv::parse(&own_name).filter(|cpv| path.belongs_to(cpv));
    let Some(cpv) = cpv else { return Err(differs("name", &own_name, path.as_str(), Whence::Name)) };
    let named_id = path.build_id(&cpv).map(|id| id.to_string());
    // `ebuild … package` makes packages without a build id: then the name of the file is all that tells
    let id = match own_id.is_empty() {
        true if outside("BUILD_ID").is_empty() => String::new(),
        true => named_id.clone().unwrap_or_default(),
        false => own_id,
    };
    if let Some(named) = named_id.filter(|named| *named != id && !id.is_empty()) {
        return Err(differs("BUILD_ID", &id, &named, Whence::Name));
    }
    let or_zero = |text: String| if text.is_empty() { "0".to_owned() } else { text };
    let own_repository = inside("repository");
    let repository_said = match outside("REPO") {
        // a package that names none gets none in the index either
        said if said.is_empty() && !own_repository.is_empty() => repository.trim().to_owned(),
        said => said,
    };
    for (key, inside, outside) in [
        ("BUILD_ID", id, outside("BUILD_ID")),
        ("SLOT", or_zero(inside("SLOT")), or_zero(outside("SLOT"))),
        ("EAPI", or_zero(inside("EAPI")), or_zero(outside("EAPI"))),
        ("repository", own_repository, repository_said),
    ] {
        if inside != outside {
            return Err(differs(key, &inside, &outside, Whence::Index));
        }
    }
    Ok(())
}
