//! Files in the syntax of make.conf: make.globals, make.defaults, make.conf, profile.env and what they source.
//!
//! The syntax looks like shell and is none: `NAME=value`, quotes, backslashes, `$NAME`, comments, `export`, and in
//! make.conf `source FILE` (`portage.util.getconfig`). Nothing is ever executed.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::SettingsError;
use super::expand::{Expanded, expand};
use super::files::{self, read_text};
use super::shlex::{Lexer, Unfinished};

/// Variables and their values.
pub(super) type Variables = BTreeMap<String, String>;

/// How deep files may source each other.
const SOURCE_DEPTH: usize = 64;
/// How many files one file may source in all.
const SOURCE_LIMIT: usize = 4096;
/// How many bytes the values of one file may come to.
const TOTAL_LIMIT: usize = 16 << 20;

/// What the word `source` does in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sourcing {
    /// It reads another file in place, as in make.conf.
    Allowed,
    /// It is a word like any other, as in make.defaults.
    Word,
}

/// The variables of the file at `path`, `None` if there is no file. Values are expanded from `known`, which also takes
/// every variable as it is read; without `known` they stay as written.
pub(super) fn read(
    path: &Path,
    sourcing: Sourcing,
    known: Option<&mut Variables>,
) -> Result<Option<Variables>, SettingsError> {
    let text = match read_text(path) {
        Ok(Some(text)) => text,
        Ok(None) => return Ok(None),
        // Portage mentions it and goes on.
        Err(SettingsError::Read { path, source }) if source.kind() == ErrorKind::IsADirectory => {
            log::warn!("{path:?} is a directory where a file is looked for; it is not read");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut lexer = Lexer::make_conf(path, &text);
    if !text.is_empty() && !text.ends_with('\n') {
        // A `source` at the very end needs a line end after it.
        lexer = Lexer::make_conf(path, &format!("{text}\n"));
    }
    Reader { lexer, sourcing, sourced: 0, left: TOTAL_LIMIT }.read(known).map(Some)
}

/// The variables of the file at `path`, or of every file in the directory at `path`, later ones over earlier ones;
/// `None` if there is no file at all.
pub(super) fn read_recursively(
    path: &Path,
    sourcing: Sourcing,
    known: &mut Variables,
) -> Result<Option<Variables>, SettingsError> {
    let mut all = None;
    for file in files::recursive_files(path)? {
        let variables = read(&file, sourcing, Some(known))?.unwrap_or_default();
        all.get_or_insert_with(Variables::new).extend(variables);
    }
    Ok(all)
}

struct Reader {
    lexer: Lexer,
    sourcing: Sourcing,
    sourced: usize,
    left: usize,
}

impl Reader {
    fn read(mut self, known: Option<&mut Variables>) -> Result<Variables, SettingsError> {
        let mut variables = Variables::new();
        let mut own = Variables::new();
        let (known, expanding) = match known {
            Some(known) => (known, true),
            None => (&mut own, false),
        };
        loop {
            let mut key = self.next(known)?;
            if key.as_deref() == Some("export") {
                key = self.next(known)?;
            }
            let Some(key) = key else { return Ok(variables) };
            match self.next(known)?.as_deref() {
                Some("=") => {}
                None | Some("") => return Err(self.syntax(format!("the file ends after {key:?}, a = should follow"))),
                Some(other) => return Err(self.syntax(format!("{other:?} follows {key:?} where a = should"))),
            }
            let Some(value) = self.next(known)? else {
                return Err(self.syntax(format!("the file ends before the value of {key}")));
            };
            if !is_name(&key) {
                return Err(self.syntax(format!("{key:?} is no name for a variable")));
            }
            let value = if expanding { self.expand(&value, known)? } else { value };
            self.left = self.left.saturating_sub(value.len());
            if self.left == 0 {
                return Err(SettingsError::too_much(&self.lexer.position().0, "the values are too long"));
            }
            if expanding {
                known.insert(key.clone(), value.clone());
            }
            variables.insert(key, value);
        }
    }

    /// The next word, through `source` and the ends of sourced files; `None` at the end of it all.
    fn next(&mut self, known: &Variables) -> Result<Option<String>, SettingsError> {
        loop {
            if let Some(word) = self.lexer.waiting() {
                return Ok(Some(word));
            }
            match self.word()? {
                Some(word) if word == "source" && self.sourcing == Sourcing::Allowed => self.source(known)?,
                Some(word) => return Ok(Some(word)),
                None if self.lexer.pop() => {}
                None => return Ok(None),
            }
        }
    }

    fn word(&mut self) -> Result<Option<String>, SettingsError> {
        self.lexer.read_word().map_err(|Unfinished(what)| self.syntax(what.to_owned()))
    }

    fn source(&mut self, known: &Variables) -> Result<(), SettingsError> {
        let Some(word) = self.word()? else {
            return Err(self.syntax("no file name follows source".to_owned()));
        };
        let name = self.expand(&word, known)?;
        let (from, line) = self.lexer.position();
        let name = match name.strip_prefix('"') {
            Some(rest) => rest.strip_suffix(|_: char| true).unwrap_or(rest),
            None if name.is_empty() => return Err(self.syntax("no file name follows source".to_owned())),
            None => &name,
        };
        let path: PathBuf = from.parent().map_or_else(|| PathBuf::from(name), |folder| folder.join(name));
        self.sourced += 1;
        if self.lexer.depth() > SOURCE_DEPTH || self.sourced > SOURCE_LIMIT {
            return Err(SettingsError::TooMuch { path: from, what: "files source each other without end" });
        }
        match read_text(&path) {
            Ok(Some(text)) => {
                self.lexer.push(&path, &text);
                Ok(())
            }
            Ok(None) => {
                let what = format!("the sourced file {path:?} does not exist");
                Err(SettingsError::Syntax { path: from, line, what })
            }
            Err(SettingsError::Read { source, .. }) => {
                let what = format!("the sourced file {path:?} cannot be read: {source}");
                Err(SettingsError::Syntax { path: from, line, what })
            }
            Err(error) => Err(error),
        }
    }

    fn expand(&self, value: &str, known: &Variables) -> Result<String, SettingsError> {
        match expand(value, &mut |name| Ok(known.get(name).cloned()))? {
            Expanded::Value(value) => Ok(value),
            Expanded::Bad(what) => {
                let (path, line) = self.lexer.position();
                log::warn!("{path:?}, line {line}: {what}; the value counts as empty");
                Ok(String::new())
            }
            Expanded::TooLong => Err(SettingsError::too_much(&self.lexer.position().0, "a value is too long")),
        }
    }

    fn syntax(&self, what: String) -> SettingsError {
        let (path, line) = self.lexer.position();
        SettingsError::Syntax { path, line, what }
    }
}

/// Whether Portage takes this for a variable's name: letters, digits and `_`, no digit first. Nothing is a name, too.
fn is_name(name: &str) -> bool {
    !name.starts_with(char::is_numeric) && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}
