//! Atoms: their syntax (PMS 8.3) as `portage.dep.Atom` reads it.

use std::fmt;

use super::cpv::{ends_in_version, is_category, is_package_name, is_repository_name, is_slot_name};
use super::eapi::Eapi;
use super::use_deps::{self, Defaults, UseDep};
use super::version::split_version;

/// Why a text is no atom.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AtomError {
    /// It is an atom in no EAPI.
    #[error("{text:?} is no package atom: {why}")]
    Malformed {
        /// The text.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It is an atom, but has something that this EAPI does not.
    #[error("{text:?} is no package atom in this EAPI, which has no {feature}")]
    NotInEapi {
        /// The text.
        text: String,
        /// What this EAPI does not have.
        feature: &'static str,
    },
}

/// How an atom blocks (PMS 8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocker {
    /// `!`
    Weak,
    /// `!!`
    Strong,
}

/// How an atom compares versions (PMS 8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `=`
    Equal,
    /// `=` with `*` after the version: everything that begins so.
    Glob,
    /// `~`: any revision of that version.
    AnyRevision,
    /// `>=`
    GreaterOrEqual,
    /// `>`
    Greater,
}

/// The slot operator of an atom (PMS 8.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotOperator {
    /// `=`: rebuild when the sub-slot changes.
    Equal,
    /// `*`: any slot will do.
    Any,
}

impl SlotOperator {
    /// The operator as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            SlotOperator::Equal => "=",
            SlotOperator::Any => "*",
        }
    }
}

/// A part of an atom's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: usize,
    end: usize,
}

/// A package atom (PMS 8.3), such as `>=dev-libs/a-1.2:0/3=[b]`, with Portage's additions where
/// there is no EAPI to forbid them: `::repository`, and a build id after the version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Atom {
    text: String,
    blocker: Option<Blocker>,
    operator: Option<Operator>,
    cp: Span,
    version: Option<Span>,
    build_id: Option<Span>,
    slot: Option<Span>,
    sub_slot: Option<Span>,
    slot_operator: Option<SlotOperator>,
    repo: Option<Span>,
    use_deps: Option<Span>,
}

impl Atom {
    /// Reads an atom, as `portage.dep.Atom(text, eapi=…)` does; wildcards (`*/*`) are none.
    ///
    /// # Errors
    /// If Portage would raise `InvalidAtom`.
    pub fn parse(text: &str, eapi: Eapi) -> Result<Atom, AtomError> {
        let parts = Parts::parse(text, eapi).map_err(|fault| match fault {
            Fault::Syntax(why) => AtomError::Malformed { text: text.to_owned(), why },
            Fault::Eapi(feature) => AtomError::NotInEapi { text: text.to_owned(), feature },
        })?;
        // Parts are slices of `text`, so their distance from its start is their place in it.
        let span = |part: &str| {
            let start = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
            Span { start, end: start + part.len() }
        };
        Ok(Atom {
            text: text.to_owned(),
            blocker: parts.blocker,
            operator: parts.operator,
            cp: span(parts.cp),
            version: parts.version.map(span),
            build_id: parts.build_id.map(span),
            slot: parts.slot.map(span),
            sub_slot: parts.sub_slot.map(span),
            slot_operator: parts.slot_operator,
            repo: parts.repo.map(span),
            use_deps: parts.use_deps.map(span),
        })
    }

    fn part(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or_default()
    }

    /// The atom as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `category/name`.
    pub fn cp(&self) -> &str {
        self.part(self.cp)
    }

    /// Whether and how it blocks.
    pub fn blocker(&self) -> Option<Blocker> {
        self.blocker
    }

    /// How it compares versions; there is one exactly if there is a version.
    pub fn operator(&self) -> Option<Operator> {
        self.operator
    }

    /// The version with its revision, without the `*` of [`Operator::Glob`].
    pub fn version(&self) -> Option<&str> {
        self.version.map(|span| self.part(span))
    }

    /// The build id, a decimal number of any size without leading zeros.
    pub fn build_id(&self) -> Option<&str> {
        self.build_id.map(|span| self.part(span))
    }

    /// The slot.
    pub fn slot(&self) -> Option<&str> {
        self.slot.map(|span| self.part(span))
    }

    /// The sub-slot, if it is written.
    pub fn sub_slot(&self) -> Option<&str> {
        self.sub_slot.map(|span| self.part(span))
    }

    /// The slot operator.
    pub fn slot_operator(&self) -> Option<SlotOperator> {
        self.slot_operator
    }

    /// The repository.
    pub fn repo(&self) -> Option<&str> {
        self.repo.map(|span| self.part(span))
    }

    /// The USE dependencies as written, without the brackets.
    pub fn use_text(&self) -> Option<&str> {
        self.use_deps.map(|span| self.part(span))
    }

    /// The USE dependencies one by one.
    pub fn use_deps(&self) -> impl Iterator<Item = UseDep<'_>> {
        self.use_text().into_iter().flat_map(use_deps::use_deps)
    }

    /// The same atom with `part` (`slot`, or `slot/sub-slot` with or without operator) for its slot,
    /// as `portage.dep.Atom.with_slot` makes it: the operator, the version, the repository and the
    /// USE dependencies stay.
    ///
    /// # Errors
    /// If `part` is no slot. Which slots are valid is judged without an EAPI, as Portage does it.
    pub fn with_slot(&self, part: &str) -> Result<Atom, AtomError> {
        Atom::parse(&self.text_with_slot(part), Eapi::UNSPECIFIED)
    }

    /// The text of [`Atom::with_slot`].
    pub(crate) fn text_with_slot(&self, part: &str) -> String {
        let name = self.text.split([':', '[']).next().unwrap_or_default();
        let mut text = String::with_capacity(self.text.len() + part.len() + 1);
        text.push_str(name);
        text.push(':');
        text.push_str(part);
        if let Some(repo) = self.repo() {
            text.push_str("::");
            text.push_str(repo);
        }
        if let Some(deps) = self.use_text() {
            text.push('[');
            text.push_str(deps);
            text.push(']');
        }
        text
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What is wrong with a text that is no atom.
enum Fault {
    /// It is none in any EAPI, and this is why.
    Syntax(&'static str),
    /// The EAPI does not have this.
    Eapi(&'static str),
}

/// The parts of an atom as slices of its text.
struct Parts<'a> {
    blocker: Option<Blocker>,
    operator: Option<Operator>,
    cp: &'a str,
    version: Option<&'a str>,
    build_id: Option<&'a str>,
    slot: Option<&'a str>,
    sub_slot: Option<&'a str>,
    slot_operator: Option<SlotOperator>,
    repo: Option<&'a str>,
    use_deps: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn parse(text: &'a str, eapi: Eapi) -> Result<Parts<'a>, Fault> {
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
            return Err(Fault::Eapi("strong blockers (\"!!\")"));
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
    fn read_slot(&mut self, text: &'a str, eapi: Eapi) -> Result<&'a str, Fault> {
        let (part, rest) = split_at_any(text, b":[");
        if !eapi.slot_operator() {
            if !is_slot_name(part) {
                return Err(Fault::Syntax("its slot is not valid (in its EAPI)"));
            }
            if !eapi.slot_deps() {
                return Err(Fault::Eapi("slots in dependencies"));
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
                None => Err(Fault::Syntax("it has a colon, but no slot")),
            };
        }
        let (slot, sub_slot) = match part.split_once('/') {
            Some((slot, sub_slot)) => (slot, Some(sub_slot)),
            None => (part, None),
        };
        if !is_slot_name(slot) || sub_slot.is_some_and(|sub_slot| !is_slot_name(sub_slot)) {
            return Err(Fault::Syntax("its slot is not valid"));
        }
        if operator == Some(SlotOperator::Any) {
            return Err(Fault::Syntax("it names a slot and yet allows any (\"*\")"));
        }
        self.slot = Some(slot);
        self.sub_slot = sub_slot;
        Ok(rest)
    }

    /// Reads the repository; returns what follows it.
    fn read_repo(&mut self, text: &'a str, eapi: Eapi) -> Result<&'a str, Fault> {
        let (repo, rest) = split_at_any(text, b"[");
        if !is_repository_name(repo) {
            return Err(Fault::Syntax("its repository's name is not valid"));
        }
        if !eapi.repo_deps() {
            return Err(Fault::Eapi("repositories in dependencies"));
        }
        self.repo = Some(repo);
        Ok(rest)
    }

    /// Reads the USE dependencies, after which nothing may follow.
    fn read_use(&mut self, text: &'a str, eapi: Eapi) -> Result<(), Fault> {
        if text.is_empty() {
            return Ok(());
        }
        let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let Some(inner) = inner else {
            return Err(Fault::Syntax("there is something odd after the name"));
        };
        let Some(defaults) = use_deps::check(inner) else {
            return Err(Fault::Syntax("its USE dependencies are not valid"));
        };
        if !eapi.use_deps() {
            return Err(Fault::Eapi("USE dependencies"));
        }
        if defaults == Defaults::Present && !eapi.use_dep_defaults() {
            return Err(Fault::Eapi("defaults in USE dependencies"));
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
type Name<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

/// Reads the name of an atom, and the version if it has an operator.
fn name_and_version(text: &str, operator: Option<Operator>, eapi: Eapi) -> Result<Name<'_>, Fault> {
    let Some((category, pf)) = text.split_once('/') else {
        return Err(Fault::Syntax("a category and a name with \"/\" between them are needed"));
    };
    if !is_category(category) {
        return Err(Fault::Syntax("its category is not valid"));
    }
    let cp = |pn: &str| text.get(..category.len() + 1 + pn.len()).unwrap_or_default();
    let Some(operator) = operator else {
        return if !is_package_name(pf) {
            Err(Fault::Syntax("its name is not valid"))
        } else if ends_in_version(pf) {
            Err(Fault::Syntax("it has a version, but no operator (such as \"=\")"))
        } else {
            Ok((text, None, None))
        };
    };
    let Some((name, version)) = split_version(pf) else {
        return Err(Fault::Syntax("it has an operator, but no version"));
    };
    if !is_package_name(name) {
        // With a dot in it, it may end in a version like the one below.
        if !ends_in_version(name) {
            return Err(Fault::Syntax("its name is not valid"));
        }
    }
    match split_version(name) {
        Some((pn, inner)) if is_package_name(pn) => {
            let valid_id = version.bytes().all(|byte| byte.is_ascii_digit())
                && (version == "0" || !version.starts_with('0'))
                && version.len() <= MAX_BUILD_ID_DIGITS;
            if operator == Operator::Glob || !eapi.build_ids() || !valid_id {
                return Err(Fault::Syntax("its name ends in a version, before the version"));
            }
            Ok((cp(pn), Some(inner), Some(version)))
        }
        _ => Ok((cp(name), Some(version), None)),
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
    let (name, _) = split_version(head.name)?;
    // Before a build id there is another version.
    match split_version(name) {
        Some((inner, _)) if !inner.ends_with('/') => Some(inner),
        _ => Some(name),
    }
}
