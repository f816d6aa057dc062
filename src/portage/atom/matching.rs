//! Which packages an atom means.

use std::cmp::Ordering;

use super::cpv::UNKNOWN_REPO;
use super::eapi::Eapi;
use super::use_deps::{UseDefault, UseDep, UseState};
use super::version::{vercmp, without_revision};
use super::{Atom, Operator};

/// A built package, as far as atoms can ask about it.
///
/// Portage's `_pkg_str`, and the metadata that `dbapi._match_use` reads.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// `category/name` ([`super::Cpv::cp`]).
    pub cp: &'a str,
    /// The version with the revision as written ([`super::Cpv::version`]).
    pub version: &'a str,
    /// The slot ([`super::Slot::slot`]).
    pub slot: &'a str,
    /// The sub-slot ([`super::Slot::sub_slot`]).
    pub sub_slot: &'a str,
    /// The repository ([`super::repository_name`]); `None` where the package has none.
    pub repo: Option<&'a str>,
    /// `BUILD_ID` as a number; `None` where it is missing or none that Portage reads.
    pub build_id: Option<u64>,
    /// `EAPI`.
    pub eapi: Eapi,
    /// `IUSE`: flags with their `+` or `-`, with white space between them.
    pub iuse: &'a str,
    /// `USE`: the flags that were enabled, with white space between them.
    pub use_flags: &'a str,
}

impl Atom {
    /// Whether `portage.dep.match_from_list(self, [package])` keeps the package. A blocker matches
    /// what it blocks. USE dependencies play no part: Portage asks a `_pkg_str` for none; and a package
    /// without repository matches every `::repository`.
    pub fn matches(&self, package: &Candidate<'_>) -> bool {
        self.matches_version(package)
            && self.matches_slot(package)
            && match (self.repo(), package.repo) {
                (Some(wanted), Some(repo)) => repo == wanted || repo == UNKNOWN_REPO,
                _ => true,
            }
    }

    /// Whether `bindbapi.match(self)` finds the package: [`Atom::matches`], and the repository and the
    /// USE dependencies must match, too.
    ///
    /// One thing is left out, since it takes Portage's profile to know it: flags that are implicitly
    /// part of `IUSE` (`IUSE_IMPLICIT`, `USE_EXPAND_VALUES_*`). Such a flag counts here only where the
    /// package's `IUSE` names it, or, from EAPI 5 on, its `USE`. So an atom with `[-prefix]` finds less here.
    pub fn selects(&self, package: &Candidate<'_>) -> bool {
        self.cp() == package.cp
            && self.matches(package)
            && (self.repo().is_none() || self.repo() == package.repo)
            && self.matches_use(package)
    }

    fn matches_version(&self, package: &Candidate<'_>) -> bool {
        let (Some(operator), Some(version)) = (self.operator(), self.version()) else {
            return self.cp() == package.cp;
        };
        // This one goes by the text alone.
        if operator == Operator::Glob {
            return glob_matches(self.cp(), version, package);
        }
        if self.cp() != package.cp {
            return false;
        }
        let ordering = || vercmp(package.version, version);
        match operator {
            Operator::Less => ordering().is_some_and(Ordering::is_lt),
            Operator::LessOrEqual => ordering().is_some_and(Ordering::is_le),
            Operator::GreaterOrEqual => ordering().is_some_and(Ordering::is_ge),
            Operator::Greater => ordering().is_some_and(Ordering::is_gt),
            Operator::AnyRevision => without_revision(package.version) == without_revision(version),
            Operator::Equal | Operator::Glob => {
                ordering().is_some_and(Ordering::is_eq)
                    && self.build_id().is_none_or(|wanted| package.build_id.is_some_and(|id| wanted.parse() == Ok(id)))
            }
        }
    }

    fn matches_slot(&self, package: &Candidate<'_>) -> bool {
        self.slot().is_none_or(|slot| slot == package.slot)
            && self.sub_slot().is_none_or(|sub_slot| sub_slot == package.sub_slot)
    }

    /// `dbapi._match_use` for a database of built packages, but for the implicit flags.
    fn matches_use(&self, package: &Candidate<'_>) -> bool {
        self.use_deps().all(|dep| self.use_dep_matches(dep, package))
    }

    fn use_dep_matches(&self, dep: UseDep<'_>, package: &Candidate<'_>) -> bool {
        let enabled = package.use_flags.split_whitespace().any(|flag| flag == dep.flag);
        let known = (enabled && package.eapi.iuse_effective())
            || package.iuse.split_whitespace().any(|entry| entry.strip_prefix(['+', '-']).unwrap_or(entry) == dep.flag);
        match (dep.state, dep.default) {
            // A flag that is not there has its default's state.
            (UseState::Enabled, Some(default)) if !known => default == UseDefault::Enabled,
            (UseState::Disabled, Some(default)) if !known => default == UseDefault::Disabled,
            (UseState::Conditional, Some(_)) => true,
            (UseState::Conditional, None) => known,
            (UseState::Enabled, _) => known && enabled,
            (UseState::Disabled, _) => known && !enabled,
        }
    }
}

/// `=cp-version*`: the package's text begins with the atom's, leading zeros of both versions aside,
/// and the next character is not in the middle of a number or a word. The name of the package may be
/// another, longer one.
fn glob_matches(cp: &str, version: &str, package: &Candidate<'_>) -> bool {
    let wanted = format!("{cp}-{}", without_leading_zeros(version));
    let found = format!("{}-{}", package.cp, without_leading_zeros(package.version));
    let Some(rest) = found.strip_prefix(&wanted) else {
        return false;
    };
    let ends_in_digit = wanted.bytes().last().is_some_and(|byte| byte.is_ascii_digit());
    rest.bytes().next().is_none_or(|next| matches!(next, b'.' | b'_' | b'-') || ends_in_digit != next.is_ascii_digit())
}

/// The version without the zeros before its first number, one of which stays if it was all zeros.
fn without_leading_zeros(version: &str) -> &str {
    let end = version.bytes().position(|byte| byte != b'0').unwrap_or(version.len());
    let next_is_digit = version.as_bytes().get(end).is_some_and(u8::is_ascii_digit);
    let start = if next_is_digit { end } else { end.saturating_sub(1) };
    version.get(start..).unwrap_or(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portage::atom::{Cpv, Slot};

    fn package<'a>(cpv: &'a str, slot: &'a str) -> Candidate<'a> {
        let cpv = Cpv::parse(cpv).unwrap();
        let slot = Slot::parse(slot, Eapi::parse("8"));
        Candidate {
            cp: cpv.cp(),
            version: cpv.version,
            slot: slot.slot,
            sub_slot: slot.sub_slot,
            repo: Some("gentoo"),
            build_id: Some(2),
            eapi: Eapi::parse("8"),
            iuse: "+a -b c",
            use_flags: "a d",
        }
    }

    fn atom(text: &str) -> Atom {
        Atom::parse(text, Eapi::UNSPECIFIED).unwrap()
    }

    #[test]
    fn versions_and_slots_match() {
        let it = package("x/y-1.2-r1", "0/3");
        for text in [
            "x/y",
            "!x/y",
            "=x/y-1.2-r1",
            "=x/y-1.2-r1-2",
            "~x/y-1.2",
            ">=x/y-1.2",
            "<x/y-1.10",
            "=x/y-1*",
            "=x/y-01*",
            "x/y:0",
            "x/y:0/3=",
            "x/y:=",
            "x/y::gentoo",
            "x/y[zzz]",
        ] {
            assert!(atom(text).matches(&it), "{text}");
        }
        for text in [
            "x/z",
            "=x/y-1.2",
            "=x/y-1.2-r1-3",
            "~x/y-1.20",
            ">x/y-1.2-r1",
            "=x/y-1.2-r10*",
            "x/y:3",
            "x/y:0/0",
            "x/y::guru",
        ] {
            assert!(!atom(text).matches(&it), "{text}");
        }
        assert!(!atom("=x/y-1*").matches(&package("x/y-10", "0")));
    }

    #[test]
    fn only_selecting_looks_at_use_and_asks_for_the_repository() {
        let it = package("x/y-1", "0");
        for text in ["x/y[a,-b,-c,d]", "x/y[e(+),-f(-)]", "x/y[a?]", "x/y::gentoo"] {
            assert!(atom(text).selects(&it), "{text}");
        }
        for text in ["x/y[-a]", "x/y[b]", "x/y[e]", "x/y[-e]", "x/y[e(-)]", "x/y[-e(+)]", "x/y[e?]"] {
            assert!(!atom(text).selects(&it), "{text}");
        }
        let nowhere = Candidate { repo: None, ..it };
        assert!(atom("x/y::gentoo").matches(&nowhere) && !atom("x/y::gentoo").selects(&nowhere));
    }
}
