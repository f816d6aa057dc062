//! Paths of packages and build ids, as types (category, name and version are [`super::atom::CpvBuf`]): made once, where the
//! text is read, and not checked again.

use std::fmt;

use super::atom::Cpv;

/// What every binary package of ours is called in the end (GLEP 78).
pub const SUFFIX: &str = ".gpkg.tar";

/// A path below PKGDIR (`PATH` in an index): names with a slash between them, none of them empty, `.` or `..`.
///
/// It is only a name: what lies there is found out by [`crate::pkgdir::Pkgdir`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PkgPath(String);

/// Why a text is no [`PkgPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the path {path:?} does not lead to a place below PKGDIR")]
pub struct BadPath {
    path: String,
}

impl PkgPath {
    /// Takes a text as it stands in an index, an archive or a journal.
    ///
    /// # Errors
    /// It is absolute or empty, has an empty name, `.`, `..` or a NUL in it, or leads into a folder whose name begins
    /// with a dot (ours among them), where no tool looks for packages.
    pub fn new(text: &str) -> Result<PkgPath, BadPath> {
        let bad = |name: &str| matches!(name, "" | "." | "..") || name.contains('\0');
        if text.split('/').any(bad) || text.starts_with('.') {
            return Err(BadPath { path: text.to_owned() });
        }
        Ok(PkgPath(text.to_owned()))
    }

    /// The path that the system takes such a text for: `a//b` and `./a/b` are `a/b`.
    ///
    /// # Errors
    /// As [`PkgPath::new`].
    pub fn cleaned(text: &str) -> Result<PkgPath, BadPath> {
        let bad = || BadPath { path: text.to_owned() };
        if text.starts_with('/') || text.ends_with('/') {
            return Err(bad());
        }
        let names: Vec<&str> = text.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
        PkgPath::new(&names.join("/")).map_err(|_| bad())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folders that lead to it, below PKGDIR; empty for what lies in PKGDIR itself.
    #[must_use]
    pub fn folder(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// Its last name.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(self.0.as_str(), |(_, name)| name)
    }

    /// Its last name without `.gpkg.tar`: the folder inside the container (GLEP 78). None where it ends otherwise.
    #[must_use]
    pub fn stem(&self) -> Option<&str> {
        self.file_name().strip_suffix(SUFFIX)
    }

    /// Whether a package of this name and build id belongs here: `category/name/PF-BUILDID.gpkg.tar`
    /// (`binpkg-multi-instance`), or `category/PF.gpkg.tar`, once also `All/PF.gpkg.tar` (`binarytree._allocate_filename`,
    /// `_populate_local`).
    #[must_use]
    pub fn belongs_to(&self, cpv: &Cpv<'_>) -> bool {
        let Some(stem) = self.stem() else { return false };
        let pf = cpv.pf();
        match stem.strip_prefix(pf).and_then(|rest| rest.strip_prefix('-')).and_then(BuildId::new) {
            Some(_) => self.folder() == cpv.cp(),
            None => stem == pf && (self.folder() == cpv.category || self.folder() == "All"),
        }
    }

    /// Its build id, as the name has it, for a package called so.
    #[must_use]
    pub fn build_id(&self, cpv: &Cpv<'_>) -> Option<BuildId> {
        self.stem()?.strip_prefix(cpv.pf())?.strip_prefix('-').and_then(BuildId::new)
    }
}

impl fmt::Display for PkgPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for PkgPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl serde::Serialize for PkgPath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for PkgPath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<PkgPath, D::Error> {
        let text = String::deserialize(deserializer)?;
        PkgPath::new(&text).map_err(serde::de::Error::custom)
    }
}

/// The number of a build (`BUILD_ID`), from 1 (`_pkg_str`, `_parse_build_id`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BuildId(u64);

impl BuildId {
    /// Takes a text of digits; none where it is something else, or 0.
    #[must_use]
    pub fn new(text: &str) -> Option<BuildId> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten().filter(|&id| id > 0).map(BuildId)
    }

    /// The first of all.
    pub const FIRST: BuildId = BuildId(1);

    /// The one after it.
    #[must_use]
    pub fn next(self) -> BuildId {
        BuildId(self.0.saturating_add(1))
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<BuildId> for String {
    fn from(id: BuildId) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for BuildId {
    type Error = String;

    fn try_from(text: String) -> Result<BuildId, String> {
        BuildId::new(&text).ok_or_else(|| format!("{text:?} is no build id"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_pkgdir() {
        for text in
            ["../x", "/etc/passwd", "", "a/../../x", "a//b", "./a", "a/./b", "a\0b", "a/", ".binpkg-resign/held/x"]
        {
            assert!(PkgPath::new(text).is_err(), "{text:?}");
        }
        let path = PkgPath::new("a/b/b-1-1.gpkg.tar").unwrap();
        assert_eq!((path.folder(), path.file_name(), path.stem()), ("a/b", "b-1-1.gpkg.tar", Some("b-1-1")));
        let path = PkgPath::new("b-1.xpak").unwrap();
        assert_eq!((path.folder(), path.file_name(), path.stem()), ("", "b-1.xpak", None));
    }

    #[test]
    fn a_package_belongs_where_portage_puts_it() {
        let cpv = Cpv::parse("x11-apps/ksnip-9.9").unwrap();
        let belongs = |path: &str| PkgPath::new(path).unwrap().belongs_to(&cpv);
        for path in ["x11-apps/ksnip/ksnip-9.9-7.gpkg.tar", "x11-apps/ksnip-9.9.gpkg.tar", "All/ksnip-9.9.gpkg.tar"] {
            assert!(belongs(path), "{path}");
        }
        for path in [
            "x11-apps/ksnip/ksnip-9.9.gpkg.tar",
            "x11-apps/ksnip-9.9-7.gpkg.tar",
            "x11-apps/ksnip/ksnip-9.9-0.gpkg.tar",
            "x11-apps/other/ksnip-9.9-7.gpkg.tar",
            "x11-apps/ksnip/ksnip-9.8-7.gpkg.tar",
            "x11-apps/ksnip/ksnip-9.9-7.xpak",
        ] {
            assert!(!belongs(path), "{path}");
        }
    }

    #[test]
    fn build_ids_are_numbers_from_one() {
        assert_eq!(BuildId::new("7").map(|id| id.next().to_string()).as_deref(), Some("8"));
        for text in ["", "0", "-1", "+1", "1a", "99999999999999999999999"] {
            assert_eq!(BuildId::new(text), None, "{text:?}");
        }
    }
}
