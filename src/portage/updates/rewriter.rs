//! Commands applied to the text of dependencies.

use std::collections::HashMap;

use super::lines::is_python_space;
use super::name_bits::NameBits;
use super::{Update, UpdateCommand};
use crate::portage::atom::{Atom, Candidate, Eapi, name_in_token};

/// A list of updates, prepared to be applied to many texts.
///
/// Gives what `portage.update.update_dbentry` gives, command after command, but looks each word of the
/// text up instead of trying every command on the whole of it. That is the same: Portage changes
/// every word that is an atom by itself, and no command makes white space.
#[derive(Clone, Debug)]
pub struct Rewriter {
    /// By update; `None` for one that changes no text.
    rules: Vec<Option<Rule>>,
    /// Which rules are for a `category/name`, in ascending order.
    by_name: HashMap<String, Vec<usize>>,
    bits: NameBits,
}

/// What a command does to an atom of the package it names.
#[derive(Clone, Debug)]
enum Rule {
    Rename { old: String, new: String },
    ChangeSlot { old: String, new: String },
}

/// A text that updates have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// The new text.
    pub text: String,
    /// Which updates changed a word of it, as ascending indices of the list that [`Rewriter::new`]
    /// was given.
    pub updates: Vec<usize>,
}

impl Rewriter {
    /// Prepares the updates, which are in the order in which they are to be applied.
    pub fn new(updates: &[Update]) -> Rewriter {
        let mut rules = Vec::with_capacity(updates.len());
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, update) in updates.iter().enumerate() {
            let (name, rule) = match &update.command {
                UpdateCommand::Move { old, new } => (old.as_str(), Rule::Rename { old: old.clone(), new: new.clone() }),
                // One with a version is for packages only: whether the atom in a text has these
                // versions in mind cannot be known.
                UpdateCommand::SlotMove { atom, .. } if atom.operator().is_some() => {
                    rules.push(None);
                    continue;
                }
                UpdateCommand::SlotMove { atom, old, new } => {
                    (atom.cp(), Rule::ChangeSlot { old: old.clone(), new: new.clone() })
                }
            };
            by_name.entry(name.to_owned()).or_default().push(index);
            rules.push(Some(rule));
        }
        let bits = NameBits::of(by_name.keys().map(String::as_str));
        Rewriter { rules, by_name, bits }
    }

    /// Whether the name of a package that an update is for stands anywhere in the text. Where none does, no update
    /// changes it: this is the quick way to tell so.
    #[must_use]
    pub fn may_change(&self, text: &[u8]) -> bool {
        self.bits.find(text, |name| self.by_name.contains_key(name))
    }

    /// The text as the updates leave it, or `None` if that is no change. See [`Update::rewrite`] for
    /// `eapi` and `parent`.
    pub fn rewrite(&self, text: &str, eapi: Eapi, parent: Option<&Candidate<'_>>) -> Option<String> {
        self.rewrite_traced(text, eapi, parent).map(|rewritten| rewritten.text)
    }

    /// The same, and which updates did it.
    pub fn rewrite_traced(&self, text: &str, eapi: Eapi, parent: Option<&Candidate<'_>>) -> Option<Rewritten> {
        let eapi = parent.map_or(eapi, |parent| parent.eapi);
        let mut new_text = String::new();
        let mut acted = Vec::new();
        let mut copied = 0;
        let mut start = 0;
        while let Some((token, after)) = next_token(text, start) {
            if let Some(new_token) = self.rewrite_token(token, eapi, parent, &mut acted) {
                let token_start = after - token.len();
                new_text.push_str(text.get(copied..token_start).unwrap_or_default());
                new_text.push_str(&new_token);
                copied = after;
            }
            start = after;
        }
        if copied == 0 {
            return None;
        }
        new_text.push_str(text.get(copied..).unwrap_or_default());
        // Moves there and back cancel out.
        if new_text == text {
            return None;
        }
        acted.sort_unstable();
        acted.dedup();
        Some(Rewritten { text: new_text, updates: acted })
    }

    /// What the updates make of one word; `None` if none of them is for it.
    fn rewrite_token(
        &self,
        token: &str,
        eapi: Eapi,
        parent: Option<&Candidate<'_>>,
        acted: &mut Vec<usize>,
    ) -> Option<String> {
        let mut rules = self.by_name.get(name_in_token(token)?)?;
        let mut atom = Atom::parse(token, eapi).ok()?;
        let mut changed = None;
        let mut next = 0;
        while let Some(&index) = rules.get(rules.partition_point(|index| *index < next)) {
            next = index + 1;
            let new_text = match self.rules.get(index) {
                Some(Some(rule)) => rule.apply(&atom, eapi, parent),
                _ => None,
            };
            let Some(new_text) = new_text.filter(|new_text| new_text != atom.as_str()) else {
                continue;
            };
            acted.push(index);
            let new_atom = Atom::parse(&new_text, eapi);
            changed = Some(new_text);
            // It always is an atom: the new name or slot is a valid one, and the rest was before.
            let Ok(new_atom) = new_atom else {
                break;
            };
            atom = new_atom;
            match self.by_name.get(atom.cp()) {
                Some(for_new_name) => rules = for_new_name,
                None => break,
            }
        }
        changed
    }
}

impl Rule {
    /// What the rule makes of an atom that names its package; `None` if it leaves it alone.
    fn apply(&self, atom: &Atom, eapi: Eapi, parent: Option<&Candidate<'_>>) -> Option<String> {
        match self {
            Rule::Rename { old, new } => {
                // Nothing before the name can look like it, so this is the name itself.
                let renamed = atom.as_str().replacen(old.as_str(), new, 1);
                if atom.blocker().is_some() {
                    if let Some(parent) = parent {
                        let new_atom = Atom::parse(&renamed, eapi).ok()?;
                        if new_atom.cp() == parent.cp && new_atom.matches(parent) {
                            return None;
                        }
                    }
                }
                Some(renamed)
            }
            Rule::ChangeSlot { old, new } => {
                if atom.slot() != Some(old.as_str()) {
                    return None;
                }
                let mut part = new.clone();
                if let Some(sub_slot) = atom.sub_slot() {
                    part.push('/');
                    part.push_str(if sub_slot == old { new } else { sub_slot });
                }
                if let Some(operator) = atom.slot_operator() {
                    part.push_str(operator.as_str());
                }
                Some(atom.text_with_slot(&part))
            }
        }
    }
}

/// The first word with a slash in it, from the byte `start` on, and where it ends. Other words are
/// no atoms.
fn next_token(text: &str, start: usize) -> Option<(&str, usize)> {
    let mut token_start = start;
    let mut has_slash = false;
    let mut end = text.len();
    for (at, &byte) in text.as_bytes().iter().enumerate().skip(start) {
        let space_length = match byte {
            // Most characters, and what follows the first byte of one outside ASCII.
            b'0'..=0xbf => continue,
            b'/' => {
                has_slash = true;
                continue;
            }
            b'\t'..=b'\r' | 0x1c..=b' ' => 1,
            0xc0.. => match text.get(at..).and_then(|rest| rest.chars().next()) {
                Some(c) if is_python_space(c) => c.len_utf8(),
                _ => continue,
            },
            _ => continue,
        };
        if has_slash {
            end = at;
            break;
        }
        token_start = at + space_length;
    }
    let token = text.get(token_start..end)?;
    has_slash.then_some((token, end))
}
