//! Categories, package names, slots and repository names: what a package is called.

use std::borrow::Cow;

use super::eapi::Eapi;
use super::version::split_version;

/// The repository of a package whose own name for it has no valid character
/// (`portage.versions._unknown_repo`).
pub(super) const UNKNOWN_REPO: &str = "__unknown__";

/// A package's full name, `category/name-version`, taken apart as `portage.versions._pkg_str` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cpv<'a> {
    /// The category (PMS 3.1.1).
    pub category: &'a str,
    /// The package name (PMS 3.1.2), Portage's and PMS's `PN`.
    pub pn: &'a str,
    /// The version with the revision as written: `PVR`, except that `-r0` stays where it is written.
    pub version: &'a str,
    text: &'a str,
}

impl<'a> Cpv<'a> {
    /// Takes `text` apart; `None` if it is no full name. Which names are valid does not depend on
    /// the EAPI.
    ///
    /// Stricter than Portage in two cases that no index can hold: Portage puts a name without
    /// category into the category `null`, and lets one newline at the end (of the category, too) pass.
    pub fn parse(text: &'a str) -> Option<Cpv<'a>> {
        let (category, pf) = text.split_once('/')?;
        let (pn, version) = split_version(pf)?;
        let valid = is_category(category) && is_package_name(pn) && !ends_in_version(pn);
        valid.then_some(Cpv { category, pn, version, text })
    }

    /// `category/name`.
    pub fn cp(&self) -> &'a str {
        self.text.get(..self.category.len() + 1 + self.pn.len()).unwrap_or_default()
    }

    /// `name-version`, PMS's `PF` (with `-r0` where it is written).
    pub fn pf(&self) -> &'a str {
        self.text.get(self.category.len() + 1..).unwrap_or_default()
    }
}

/// The same with a text of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CpvBuf {
    text: String,
    /// The length of the category, in bytes.
    category: usize,
    /// The length of the package name, in bytes.
    pn: usize,
}

impl CpvBuf {
    /// Takes `text` apart; `None` if it is no full name.
    #[must_use]
    pub fn new(text: &str) -> Option<CpvBuf> {
        let cpv = Cpv::parse(text)?;
        Some(CpvBuf { text: text.to_owned(), category: cpv.category.len(), pn: cpv.pn.len() })
    }

    /// Its parts.
    #[must_use]
    pub fn parts(&self) -> Cpv<'_> {
        let part = |from, to| self.text.get(from..to).unwrap_or_default();
        let pn = self.category + 1;
        let version = pn + self.pn + 1;
        Cpv {
            category: part(0, self.category),
            pn: part(pn, pn + self.pn),
            version: part(version, self.text.len()),
            text: &self.text,
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Display for CpvBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl serde::Serialize for CpvBuf {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// A package's slot and sub-slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot<'a> {
    /// The slot.
    pub slot: &'a str,
    /// The sub-slot; without one of its own it is the slot (PMS 7.2).
    pub sub_slot: &'a str,
}

impl<'a> Slot<'a> {
    /// Splits a package's `SLOT` as `portage.versions._pkg_str` does. What is no valid slot in this
    /// EAPI counts as slot `0`, as Portage has it.
    pub fn parse(text: &'a str, eapi: Eapi) -> Slot<'a> {
        // Portage's pattern ends in `$`, which lets one newline through.
        let checked = text.strip_suffix('\n').unwrap_or(text);
        match checked.split_once('/') {
            None if is_slot_name(checked) => Slot { slot: text, sub_slot: text },
            Some((slot, sub_slot)) if eapi.slot_operator() && is_slot_name(slot) && is_slot_name(sub_slot) => {
                Slot { slot, sub_slot: text.get(slot.len() + 1..).unwrap_or_default() }
            }
            _ => Slot { slot: "0", sub_slot: "0" },
        }
    }
}

/// A repository's name as `portage.repository.config._gen_valid_repo` makes it valid: characters
/// that a name may not have become hyphens, and none is left at the start. With nothing left it is
/// [`UNKNOWN_REPO`].
///
/// Outside ASCII, which letters count is Unicode's business, and Rust and Python may differ.
pub fn repository_name(name: &str) -> Cow<'_, str> {
    if is_repository_name(name) {
        return Cow::Borrowed(name);
    }
    let allowed = |c: char| c == '_' || c == '-' || c.is_alphanumeric();
    let words: Vec<&str> = name.split(|c| !allowed(c)).filter(|word| !word.is_empty()).collect();
    let joined = words.join("-");
    let valid = joined.trim_start_matches('-');
    Cow::Owned(if valid.is_empty() { UNKNOWN_REPO } else { valid }.to_owned())
}

/// PMS 3.1.1: `[A-Za-z0-9_][A-Za-z0-9+_.-]*`.
pub(super) fn is_category(text: &str) -> bool {
    starts_with_word(text) && text.bytes().all(|byte| is_word(byte) || matches!(byte, b'+' | b'.' | b'-'))
}

/// PMS 3.1.2, but for the rule that no version may be at the end: `[A-Za-z0-9_][A-Za-z0-9+_-]*`.
pub(super) fn is_package_name(text: &str) -> bool {
    starts_with_word(text) && text.bytes().all(|byte| is_word(byte) || matches!(byte, b'+' | b'-'))
}

/// Whether what [`is_package_name`] breaks the last rule of PMS 3.1.2: no version at the end.
pub(super) fn ends_in_version(pn: &str) -> bool {
    split_version(pn).is_some()
}

/// PMS 3.1.3: `[A-Za-z0-9_][A-Za-z0-9+_.-]*`, which is a slot or a sub-slot alone.
pub(crate) fn is_slot_name(text: &str) -> bool {
    is_category(text)
}

/// PMS 3.1.5: `[A-Za-z0-9_][A-Za-z0-9_-]*`.
pub(super) fn is_repository_name(text: &str) -> bool {
    starts_with_word(text) && text.bytes().all(|byte| is_word(byte) || byte == b'-')
}

fn starts_with_word(text: &str) -> bool {
    text.bytes().next().is_some_and(is_word)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let cpv = Cpv::parse("dev-lang/python-exec-2.4.10-r0").unwrap();
        assert_eq!((cpv.category, cpv.pn, cpv.version), ("dev-lang", "python-exec", "2.4.10-r0"));
        assert_eq!((cpv.cp(), cpv.pf()), ("dev-lang/python-exec", "python-exec-2.4.10-r0"));
        for text in ["a/b", "b-1", "a/b-1-2", "a/b.c-1", "-a/b-1", "a/+b-1", "a/b-1\n", "a/b/c-1", "a/b-\u{661}", ""] {
            assert_eq!(Cpv::parse(text), None, "{text:?}");
        }
        assert_eq!(Cpv::parse("a/1-2").map(|cpv| cpv.pn), Some("1"));
        let owned = CpvBuf::new("dev-lang/python-exec-2.4.10-r0").unwrap();
        assert_eq!(owned.parts(), cpv);
    }

    #[test]
    fn slots_are_split() {
        let five = Eapi::parse("5");
        assert_eq!(Slot::parse("0/2.30", five), Slot { slot: "0", sub_slot: "2.30" });
        assert_eq!(Slot::parse("3", five), Slot { slot: "3", sub_slot: "3" });
        for bad in ["", "/", "0/", "/1", "-1", "0/1/2", "0 ", ".5"] {
            assert_eq!(Slot::parse(bad, five), Slot { slot: "0", sub_slot: "0" }, "{bad:?}");
        }
        assert_eq!(Slot::parse("4/5", Eapi::parse("4")).slot, "0");
    }

    #[test]
    fn repository_names_are_made_valid() {
        assert_eq!(repository_name("gentoo"), "gentoo");
        assert_eq!(repository_name(" -my  over.lay "), "my-over-lay");
        assert_eq!(repository_name("."), UNKNOWN_REPO);
    }
}
