//! Reads atoms (PMS 8.3) as `portage.dep.Atom` does.

use super::cpv::{ends_in_version, is_category, is_package_name, is_repository_name, is_slot_name};
use super::eapi::Eapi;
use super::use_deps::{self, Defaults};
use super::version::split_version;
use super::{Blocker, Operator, SlotOperator};

/// What is wrong with a text that is no atom.
pub(super) enum AtomFault {
    /// It is none in any EAPI, and this is why.
    Syntax(&'static str),
    /// The EAPI does not have this.
    Eapi(&'static str),
}

/// The parts of an atom as slices of its text.
pub(super) struct Parts<'a> {
    pub(super) blocker: Option<Blocker>,
    pub(super) operator: Option<Operator>,
    pub(super) cp: &'a str,
    pub(super) version: Option<&'a str>,
    pub(super) build_id: Option<&'a str>,
    pub(super) slot: Option<&'a str>,
    pub(super) sub_slot: Option<&'a str>,
    pub(super) slot_operator: Option<SlotOperator>,
    pub(super) repo: Option<&'a str>,
    pub(super) use_deps: Option<&'a str>,
}

impl<'a> Parts<'a> {
    /// Reads an atom.
    pub(super) fn parse(text: &'a str, eapi: Eapi) -> Result<Parts<'a>, AtomFault> {
        let head = Head::split(text);
        let (cp, version, build_id) = name_and_version(head.name, head.operator, eapi)?;
        let mut parts = Parts {
            blocker: head.blocker,
            operator: head.operator,
            cp,
            version,
            build_id,
            slot: None,
            sub_slot: None,
            slot_operator: None,
            repo: None,
            use_deps: None,
        };
        if parts.blocker == Some(Blocker::Strong) && !eapi.strong_blocks() {
            return Err(AtomFault::Eapi("strong blockers (\"!!\")"));
        }
        let rest = match head.rest.strip_prefix(':') {
            Some(slot) if !slot.starts_with(':') => parts.read_slot(slot, eapi)?,
            _ => head.rest,
        };
        let rest = match rest.strip_prefix("::") {
            Some(repo) => parts.read_repo(repo, eapi)?,
            None => rest,
        };
        parts.read_use(rest, eapi)?;
        Ok(parts)
    }

    /// Reads the slot part; returns what follows it.
    fn read_slot(&mut self, text: &'a str, eapi: Eapi) -> Result<&'a str, AtomFault> {
        let (part, rest) = split_at_any(text, b":[");
        if !eapi.slot_operator() {
            if !is_slot_name(part) {
                return Err(AtomFault::Syntax("its slot is not valid (in its EAPI)"));
            }
            if !eapi.slot_deps() {
                return Err(AtomFault::Eapi("slots in dependencies"));
            }
            self.slot = Some(part);
            return Ok(rest);
        }
        let (part, operator) = match part.as_bytes() {
            [.., b'='] => (part.strip_suffix('='), Some(SlotOperator::Equal)),
            [.., b'*'] => (part.strip_suffix('*'), Some(SlotOperator::Any)),
            _ => (Some(part), None),
        };
        let part = part.unwrap_or_default();
        self.slot_operator = operator;
        if part.is_empty() {
            return match operator {
                Some(_) => Ok(rest),
                None => Err(AtomFault::Syntax("it has a colon, but no slot")),
            };
        }
        let (slot, sub_slot) = match part.split_once('/') {
            Some((slot, sub_slot)) => (slot, Some(sub_slot)),
            None => (part, None),
        };
        if !is_slot_name(slot) || sub_slot.is_some_and(|sub_slot| !is_slot_name(sub_slot)) {
            return Err(AtomFault::Syntax("its slot is not valid"));
        }
        if operator == Some(SlotOperator::Any) {
            return Err(AtomFault::Syntax("it names a slot and yet allows any (\"*\")"));
        }
        self.slot = Some(slot);
        self.sub_slot = sub_slot;
        Ok(rest)
    }

    /// Reads the repository; returns what follows it.
    fn read_repo(&mut self, text: &'a str, eapi: Eapi) -> Result<&'a str, AtomFault> {
        let (repo, rest) = split_at_any(text, b"[");
        if !is_repository_name(repo) {
            return Err(AtomFault::Syntax("its repository's name is not valid"));
        }
        if !eapi.repo_deps() {
            return Err(AtomFault::Eapi("repositories in dependencies"));
        }
        self.repo = Some(repo);
        Ok(rest)
    }

    /// Reads the USE dependencies, after which nothing may follow.
    fn read_use(&mut self, text: &'a str, eapi: Eapi) -> Result<(), AtomFault> {
        if text.is_empty() {
            return Ok(());
        }
        let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let Some(inner) = inner else {
            return Err(AtomFault::Syntax("there is something odd after the name"));
        };
        let Some(defaults) = use_deps::check(inner) else {
            return Err(AtomFault::Syntax("its USE dependencies are not valid"));
        };
        if !eapi.use_deps() {
            return Err(AtomFault::Eapi("USE dependencies"));
        }
        if defaults == Defaults::Present && !eapi.use_dep_defaults() {
            return Err(AtomFault::Eapi("defaults in USE dependencies"));
        }
        self.use_deps = Some(inner);
        Ok(())
    }
}

/// An atom's text, cut at the places that need no knowledge of names and versions.
struct Head<'a> {
    blocker: Option<Blocker>,
    operator: Option<Operator>,
    /// The name, with the version if there is an operator.
    name: &'a str,
    /// From the colon or bracket on.
    rest: &'a str,
}

impl<'a> Head<'a> {
    fn split(text: &'a str) -> Head<'a> {
        let (blocker, text) = match (text.strip_prefix("!!"), text.strip_prefix('!')) {
            (Some(rest), _) => (Some(Blocker::Strong), rest),
            (None, Some(rest)) => (Some(Blocker::Weak), rest),
            (None, None) => (None, text),
        };
        let (operator, length) = match text.as_bytes() {
            [b'>', b'=', ..] => (Some(Operator::GreaterOrEqual), 2),
            [b'<', b'=', ..] => (Some(Operator::LessOrEqual), 2),
            [b'>', ..] => (Some(Operator::Greater), 1),
            [b'<', ..] => (Some(Operator::Less), 1),
            [b'=', ..] => (Some(Operator::Equal), 1),
            [b'~', ..] => (Some(Operator::AnyRevision), 1),
            _ => (None, 0),
        };
        let text = text.get(length..).unwrap_or_default();
        let (name, rest) = split_at_any(text, b":[");
        match (operator, name.strip_suffix('*')) {
            (Some(Operator::Equal), Some(name)) => Head { blocker, operator: Some(Operator::Glob), name, rest },
            _ => Head { blocker, operator, name, rest },
        }
    }
}

/// Cuts `text` before the first of these ASCII characters.
fn split_at_any<'a>(text: &'a str, stops: &[u8]) -> (&'a str, &'a str) {
    let end = text.bytes().position(|byte| stops.contains(&byte));
    end.and_then(|end| text.split_at_checked(end)).unwrap_or((text, ""))
}

/// An atom's `category/name`, its version and its build id.
type NameParts<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

/// Reads the name of an atom, and the version if it has an operator.
fn name_and_version(text: &str, operator: Option<Operator>, eapi: Eapi) -> Result<NameParts<'_>, AtomFault> {
    let Some((category, pf)) = text.split_once('/') else {
        return Err(AtomFault::Syntax("a category and a name with \"/\" between them are needed"));
    };
    if !is_category(category) {
        return Err(AtomFault::Syntax("its category is not valid"));
    }
    let cp = |pn: &str| text.get(..category.len() + 1 + pn.len()).unwrap_or_default();
    let Some(operator) = operator else {
        return if !is_package_name(pf) {
            Err(AtomFault::Syntax("its name is not valid"))
        } else if ends_in_version(pf) {
            Err(AtomFault::Syntax("it has a version, but no operator (such as \"=\")"))
        } else {
            Ok((text, None, None))
        };
    };
    let Some((name, version)) = split_version(pf) else {
        return Err(AtomFault::Syntax("it has an operator, but no version"));
    };
    match split_version(name) {
        Some((pn, inner)) if is_package_name(pn) => {
            let valid_id = version.bytes().all(|byte| byte.is_ascii_digit())
                && (version == "0" || !version.starts_with('0'))
                && version.len() <= MAX_BUILD_ID_DIGITS;
            if operator == Operator::Glob || !eapi.build_ids() || !valid_id {
                return Err(AtomFault::Syntax("its name ends in a version, before the version"));
            }
            Ok((cp(pn), Some(inner), Some(version)))
        }
        _ if is_package_name(name) => Ok((cp(name), Some(version), None)),
        _ => Err(AtomFault::Syntax("its name is not valid")),
    }
}

/// Python's `int()` takes no more digits, so Portage refuses the atom.
const MAX_BUILD_ID_DIGITS: usize = 4300;

/// The `category/name` that a token has if it is an atom at all; quick, and without checking that it
/// is one. `None` if it cannot be.
pub(crate) fn name_in_token(token: &str) -> Option<&str> {
    let head = Head::split(token);
    if head.operator.is_none() {
        return Some(head.name);
    }
    let (mut name, last) = head.name.rsplit_once('-')?;
    if last.starts_with('r') {
        (name, _) = name.rsplit_once('-')?;
    }
    // Before a build id there is another version. A name may end in something that begins like one.
    match split_version(name) {
        Some((inner, _)) if !inner.ends_with('/') => Some(inner),
        _ => Some(name),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Atom;
    use super::*;

    /// Every part of an atom, with `|` between them, `-` for one that is not there.
    fn parts(text: &str, eapi: Eapi) -> Option<String> {
        let parts = Parts::parse(text, eapi).ok()?;
        let operator = parts.operator.map(|operator| format!("{operator:?}"));
        let slot_operator = parts.slot_operator.map(SlotOperator::as_str);
        let shown = [
            operator.as_deref(),
            Some(parts.cp),
            parts.version,
            parts.build_id,
            parts.slot,
            parts.sub_slot,
            slot_operator,
            parts.repo,
            parts.use_deps,
        ];
        Some(shown.map(|part| part.unwrap_or("-")).join("|"))
    }

    #[test]
    fn every_part_is_found() {
        for (text, expected) in [
            ("a/b", "-|a/b|-|-|-|-|-|-|-"),
            ("!!>=a/b-1.2-r3:0/4=[c,-d(+)]", "GreaterOrEqual|a/b|1.2-r3|-|0|4|=|-|c,-d(+)"),
            ("=a/b-1*:0", "Glob|a/b|1|-|0|-|-|-|-"),
            ("=a/b-1:*", "Equal|a/b|1|-|-|-|*|-|-"),
            ("~a/b--1::r", "AnyRevision|a/b-|1|-|-|-|-|r|-"),
            ("=a/b-1-2", "Equal|a/b|1|2|-|-|-|-|-"),
            ("=a/b-1-2-3", "Equal|a/b-1|2|3|-|-|-|-|-"),
            ("=a/1-2", "Equal|a/1|2|-|-|-|-|-|-"),
        ] {
            assert_eq!(parts(text, Eapi::UNSPECIFIED).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_no_atom_is_says_why() {
        let why = |text| Atom::parse(text, Eapi::UNSPECIFIED).unwrap_err().to_string();
        assert!(why("a/b-1").contains("no operator"));
        assert!(why("=a/b").contains("no version"));
        assert!(why("(a/b").contains("category"));
        assert!(why("a/b:0*").contains("allows any"));
        assert!(why("a/b[!c]").contains("USE dependencies are not valid"));
        for text in
            ["", "/", "a", "a/", "!", "=", "!!!a/b", "a/b:", "a/b[", "a/b[]", "a/b ", "a/b\n", "=a/b-1-02", "*/*"]
        {
            assert!(Atom::parse(text, Eapi::UNSPECIFIED).is_err(), "{text:?}");
        }
    }

    #[test]
    fn each_eapi_has_its_own() {
        for (text, first) in [("a/b:0", 1), ("a/b[c]", 2), ("!!a/b", 2), ("a/b[c(+)]", 4), ("a/b:0/1", 5), ("a/b:=", 5)]
        {
            for eapi in 0..=9 {
                let read = Atom::parse(text, Eapi::parse(&eapi.to_string()));
                assert_eq!(read.is_ok(), eapi >= first, "{text} in EAPI {eapi}");
            }
        }
        let in_eight = Atom::parse("a/b::r", Eapi::parse("8")).unwrap_err().to_string();
        assert!(in_eight.contains("repositories"), "{in_eight}");
        assert!(Atom::parse("a/b::r", Eapi::parse("strange")).is_ok());
        assert!(Atom::parse("=a/b-1-2", Eapi::parse("strange")).is_err());
    }

    #[test]
    fn the_quick_name_is_the_name() {
        for text in [
            "a/b",
            "!!=a/b-1-2:0",
            "=a/b-1-2-3",
            "=a/1-2",
            "=a/1-2-3",
            "=a-1/1-2*",
            "~a/1-r1-2",
            "<a/b-1--2:0",
            "a/b[c]",
        ] {
            let atom = Atom::parse(text, Eapi::UNSPECIFIED).unwrap();
            assert_eq!(name_in_token(text), Some(atom.cp()), "{text}");
        }
    }
}
