//! Versions: their syntax (PMS 3.2) and their order (PMS 3.3).

use std::cmp::Ordering;
use std::sync::LazyLock;

use regex::Regex;

/// A version in its parts; each is as written.
#[derive(Clone, Copy)]
struct Version<'a> {
    /// The first number.
    integer: &'a str,
    /// The further numbers with their dots: empty or `.2.3`.
    components: &'a str,
    /// The letter after them, or nothing.
    letter: &'a str,
    /// The suffixes with their underscores: empty or `_alpha1_p`.
    suffixes: &'a str,
    /// The digits after `-r`.
    revision: &'a str,
}

/// PMS 3.2, as in `portage.versions.ver_regexp`: number, further numbers, letter, suffixes, revision.
static VERSION: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new("^([0-9]+)((?:\\.[0-9]+)*)([a-z]?)((?:_(?:alpha|beta|p(?:re)?|rc)[0-9]*)*)(?:-r([0-9]+))?$").ok()
});

impl<'a> Version<'a> {
    fn parse(text: &'a str) -> Option<Version<'a>> {
        let found = VERSION.as_ref()?.captures(text)?;
        let part = |number| found.get(number).map_or("", |part| part.as_str());
        let [integer, components, letter, suffixes, revision] = [1, 2, 3, 4, 5].map(part);
        Some(Version { integer, components, letter, suffixes, revision })
    }

    /// The components without their dots; none at all for an empty text.
    fn components(&self) -> impl Iterator<Item = &'a str> {
        self.components.split('.').skip(1)
    }

    /// The suffixes as (rank, digits), for example `_rc2` as (-1, "2").
    fn suffixes(&self) -> impl Iterator<Item = (i8, &'a str)> {
        self.suffixes.split('_').skip(1).filter_map(split_suffix_name)
    }
}

/// The name of a suffix that `text` begins with as its rank (PMS 3.3, algorithm 3.6), and the rest.
fn split_suffix_name(text: &str) -> Option<(i8, &str)> {
    // `pre` before `p`, which begins it.
    const RANKS: [(&str, i8); 5] = [("alpha", -4), ("beta", -3), ("pre", -2), ("rc", -1), ("p", 0)];
    RANKS.iter().find_map(|(name, rank)| Some((*rank, text.strip_prefix(name)?)))
}

/// Compares two strings of ASCII digits as whole numbers of any size.
fn compare_numbers(one: &str, other: &str) -> Ordering {
    let one = one.trim_start_matches('0');
    let other = other.trim_start_matches('0');
    one.len().cmp(&other.len()).then_with(|| one.cmp(other))
}

/// Compares two components after the first. With a leading zero in either they are decimal
/// fractions (`1.02` < `1.1`), otherwise whole numbers (PMS 3.3, algorithm 3.3).
fn compare_components(one: &str, other: &str) -> Ordering {
    if one.starts_with('0') || other.starts_with('0') {
        // The digits are those of fractions, so zeros at the end count for nothing.
        one.trim_end_matches('0').cmp(other.trim_end_matches('0'))
    } else {
        compare_numbers(one, other)
    }
}

/// Compares two versions, with or without revision, as `portage.versions.vercmp` does; numbers may
/// be of any size (Portage's Python refuses more than 4300 digits).
///
/// Returns `None` if one of them is no version. Two equal texts are equal even if they are none.
/// Portage also takes the decimal digits of other scripts here; they are no versions to us, and no
/// atom or package name with them gets as far as this.
pub fn vercmp(one: &str, other: &str) -> Option<Ordering> {
    if one == other {
        return Some(Ordering::Equal);
    }
    // Portage's pattern ends in `$`, which lets one newline through.
    let one = Version::parse(one.strip_suffix('\n').unwrap_or(one))?;
    let other = Version::parse(other.strip_suffix('\n').unwrap_or(other))?;

    let mut order = compare_numbers(one.integer, other.integer);
    let (mut left, mut right) = (one.components(), other.components());
    while order.is_eq() {
        order = match (left.next(), right.next()) {
            (Some(left), Some(right)) => compare_components(left, right),
            (None, None) => break,
            (left, right) => left.is_some().cmp(&right.is_some()),
        };
    }
    // No letter sorts before any.
    order = order.then(one.letter.cmp(other.letter));
    let (mut left, mut right) = (one.suffixes(), other.suffixes());
    while order.is_eq() {
        // A suffix that is not there is a `_p` below `_p0`.
        order = match (left.next(), right.next()) {
            (Some(left), Some(right)) => left.0.cmp(&right.0).then_with(|| compare_numbers(left.1, right.1)),
            (Some(left), None) => left.0.cmp(&0).then(Ordering::Greater),
            (None, Some(right)) => 0.cmp(&right.0).then(Ordering::Less),
            (None, None) => break,
        };
    }
    Some(order.then_with(|| compare_numbers(one.revision, other.revision)))
}

/// Cuts the version (with its revision) off the end of `name`, as in `pkg-1.2-r1`, and returns what
/// is before and after the hyphen. `None` if the text does not end in one. What is before need not
/// be a valid name.
pub(super) fn split_version(name: &str) -> Option<(&str, &str)> {
    let (head, last) = name.rsplit_once('-')?;
    if last.starts_with('r') {
        let (head, _) = head.rsplit_once('-')?;
        let version = name.get(head.len() + 1..)?;
        is_version(version).then_some((head, version))
    } else {
        is_version(last).then_some((head, last))
    }
}

/// Whether `text` is a version, with or without revision (PMS 3.2).
fn is_version(text: &str) -> bool {
    // most words of a name are none, by their first character
    text.starts_with(|first: char| first.is_ascii_digit())
        && VERSION.as_ref().is_some_and(|version| version.is_match(text))
}

/// A valid version without its revision.
pub(super) fn without_revision(version: &str) -> &str {
    version.split_once('-').map_or(version, |(base, _)| base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_ascending_order() {
        let ordered = [
            "0",
            "1_alpha",
            "1_alpha1",
            "1_beta_p1",
            "1_pre3",
            "1_rc",
            "1",
            "1-r1",
            "1_p",
            "1_p0-r1",
            "1_p1",
            "1a",
            "1b",
            "1.0",
            "1.01",
            "1.02",
            "1.1",
            "1.1.0",
            "1.2",
            "1.10",
            "2",
            "10",
            "100000000000000000000000000000000000001",
            "100000000000000000000000000000000000002",
        ];
        for (i, one) in ordered.iter().enumerate() {
            for (j, other) in ordered.iter().enumerate() {
                assert_eq!(vercmp(one, other), Some(i.cmp(&j)), "{one} {other}");
            }
        }
    }

    #[test]
    fn equal_without_being_the_same() {
        for (one, other) in [("1", "1-r0"), ("1.0", "1.00"), ("1_p", "1_p0"), ("1_p", "1_p00-r0"), ("01", "1")] {
            assert_eq!(vercmp(one, other), Some(Ordering::Equal), "{one} {other}");
        }
    }

    #[test]
    fn no_versions() {
        for text in ["", "a", "1.", "1..2", "1aa", "1_", "1_foo", "1-r", "1-1", "1_p1a", "1-r1-r1", "\u{661}", "1 "] {
            assert_eq!(vercmp(text, "1"), None, "{text:?}");
        }
        assert_eq!(vercmp("x", "x"), Some(Ordering::Equal));
        assert_eq!(vercmp("1\n", "1"), Some(Ordering::Equal));
    }

    #[test]
    fn names_end_in_versions() {
        assert_eq!(split_version("pkg-1.2-r1"), Some(("pkg", "1.2-r1")));
        assert_eq!(split_version("pkg-1-2"), Some(("pkg-1", "2")));
        assert_eq!(split_version("a--1"), Some(("a-", "1")));
        assert_eq!(split_version("pkg-r1"), None);
        assert_eq!(split_version("1-r1"), None);
        assert_eq!(split_version("pkg"), None);
    }
}
