//! The lines of an update file (PMS 4.4.4), as `portage.update.parse_updates` reads them.

use std::path::Path;
use std::sync::Arc;

use super::{Problem, Update, UpdateCommand};
use crate::portage::atom::{Atom, AtomError, Eapi, is_slot_name};

/// What is wrong with a line of an update file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// It begins with no known command. There are no comments in update files.
    #[error("{0:?} is no update command; there are \"move\" and \"slotmove\", and no comments")]
    UnknownCommand(String),
    /// The command has too few or too many words.
    #[error("{text:?} has {found} words after the command instead of {expected}")]
    WordCount {
        /// The line.
        text: String,
        /// How many words there must be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// What is moved, or where to, is no plain package name.
    #[error("{0:?} is no plain \"category/name\", which is all that \"move\" takes")]
    NotAName(String),
    /// A slotmove's atom is none.
    #[error(transparent)]
    NotAnAtom(#[from] AtomError),
    /// A slotmove's atom is a blocker.
    #[error("{0:?} is a blocker, which makes no sense in \"slotmove\"")]
    Blocker(String),
    /// A slot is not valid, or has a sub-slot.
    #[error("{0:?} is no slot (sub-slots cannot be moved)")]
    NotASlot(String),
}

/// Appends the commands of one file to `updates`, and what is wrong with it to `problems`.
pub(super) fn parse(file: &Arc<Path>, content: &str, updates: &mut Vec<Update>, problems: &mut Vec<Problem>) {
    for (number, line) in split_lines(content).enumerate() {
        let words: Vec<&str> = line.split(is_python_space).filter(|word| !word.is_empty()).collect();
        if words.is_empty() {
            continue;
        }
        match command(&words) {
            Ok(command) => {
                updates.push(Update { command, file: Arc::clone(file), line: number + 1, text: words.join(" ") })
            }
            Err(fault) => {
                problems.push(Problem::Line { file: Arc::clone(file), line: number + 1, fault });
            }
        }
    }
}

/// The command that a line's words make.
fn command(words: &[&str]) -> Result<UpdateCommand, LineFault> {
    let wrong_count =
        |expected| LineFault::WordCount { text: words.join(" "), expected, found: words.len().saturating_sub(1) };
    match words {
        ["move", old, new] => Ok(UpdateCommand::Move { old: plain_name(old)?, new: plain_name(new)? }),
        ["move", ..] => Err(wrong_count(2)),
        ["slotmove", atom, old, new] => {
            let atom = Atom::parse(atom, Eapi::UNSPECIFIED)?;
            if atom.blocker().is_some() {
                return Err(LineFault::Blocker(atom.to_string()));
            }
            Ok(UpdateCommand::SlotMove { atom, old: slot(old)?, new: slot(new)? })
        }
        ["slotmove", ..] => Err(wrong_count(3)),
        _ => Err(LineFault::UnknownCommand(words.join(" "))),
    }
}

fn plain_name(word: &str) -> Result<String, LineFault> {
    match Atom::parse(word, Eapi::UNSPECIFIED) {
        Ok(atom) if atom.cp() == word => Ok(word.to_owned()),
        _ => Err(LineFault::NotAName(word.to_owned())),
    }
}

fn slot(word: &str) -> Result<String, LineFault> {
    if is_slot_name(word) { Ok(word.to_owned()) } else { Err(LineFault::NotASlot(word.to_owned())) }
}

/// Python's `str.splitlines`.
fn split_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.find(ends_line);
        let (line, after) = end.and_then(|end| rest.split_at_checked(end)).unwrap_or((rest, ""));
        let mut skipped = after.chars();
        skipped.next();
        rest = after.strip_prefix("\r\n").unwrap_or(skipped.as_str());
        Some(line)
    })
}

fn ends_line(c: char) -> bool {
    matches!(c, '\n'..='\r' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What Python's `str.split()` and `\s` take for white space: Unicode's, and four separators.
pub(super) fn is_python_space(c: char) -> bool {
    matches!(c, '\u{1c}'..='\u{1f}') || c.is_whitespace()
}
