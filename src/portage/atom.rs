//! Names, versions, slots and atoms: strings only, no files.
//!
//! Everything here follows Portage's reading of the Package Manager Specification (PMS), not the
//! letter of PMS: what Portage takes for an atom is what its update pass acts on. Where the two
//! differ, Portage's `portage.dep` and `portage.versions` are the measure, and `tests/atoms.rs`
//! compares them.
//!
//! - [`Eapi`]: which syntax an atom may use.
//! - [`vercmp`]: the order of versions.
//! - [`Cpv`], [`Slot`]: a package's name and slot, taken apart.
//! - [`Atom`]: a dependency atom; [`Candidate`]: a package to match it with.

mod cpv;
mod eapi;
mod matching;
mod parse;
mod use_deps;
mod version;

use std::collections::HashSet;
use std::fmt;

pub use cpv::{Cpv, CpvBuf, Slot, repository_name};
pub use eapi::Eapi;
pub use matching::Candidate;
pub use use_deps::{UseDefault, UseDep, UseState};
pub use version::vercmp;

pub(crate) use cpv::is_slot_name;
pub(crate) use parse::name_in_token;
pub(crate) use use_deps::is_flag as is_use_flag;

use parse::{AtomFault, Parts};

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
            AtomFault::Syntax(why) => AtomError::Malformed { text: text.to_owned(), why },
            AtomFault::Eapi(feature) => AtomError::NotInEapi { text: text.to_owned(), feature },
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

    /// The text of the same atom with its USE dependencies decided for a package that has these flags on
    /// (PMS 8.3.4; `portage.dep.Atom.evaluate_conditionals`, which takes the repository away as well); none where none
    /// of them depends on USE.
    pub(crate) fn decided(&self, flags: &HashSet<&str>) -> Option<String> {
        let text = self.use_text()?;
        let deps = use_deps::decide(text, flags)?;
        let mut atom = self.text.split([':', '[']).next().unwrap_or_default().to_owned();
        if self.slot.is_some() || self.slot_operator.is_some() {
            atom.push(':');
            atom.push_str(self.slot().unwrap_or_default());
            if let Some(sub_slot) = self.sub_slot() {
                atom.push('/');
                atom.push_str(sub_slot);
            }
            atom.push_str(self.slot_operator.map_or("", SlotOperator::as_str));
        }
        if !deps.is_empty() {
            atom.push('[');
            atom.push_str(&deps.join(","));
            atom.push(']');
        }
        Some(atom)
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
