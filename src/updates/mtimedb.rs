//! The mtimes of the update files that Portage has applied.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::UpdatesError;

/// Portage's `$EROOT/var/cache/edb/mtimedb`, of which only the update files' mtimes are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mtimedb {
    mtimes: HashMap<String, i64>,
}

/// The keys of the file that we need. `old` is what `updates` was called long ago, and wins.
#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    updates: Value,
    #[serde(default)]
    old: Option<Value>,
}

impl Mtimedb {
    /// Reads the file as `portage.util.mtimedb.MtimeDB` does: with a file that is missing, unreadable,
    /// or no JSON, nothing is remembered, and every update file is pending. All but the first is
    /// logged as a warning.
    ///
    /// # Errors
    /// If the file is JSON, but such that Portage stops with a traceback: no object, or mtimes that
    /// are no numbers.
    pub fn read(path: &Path) -> Result<Mtimedb, UpdatesError> {
        let content = match fs::read(path) {
            Ok(content) => content,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    log::warn!("{}: cannot read it, so every update file counts as new: {error}", path.display());
                }
                return Ok(Mtimedb::default());
            }
        };
        let bad = |what: &str| UpdatesError::BadMtimedb { path: path.to_owned(), what: what.to_owned() };
        if content.is_empty() {
            return Ok(Mtimedb::default());
        }
        let content: Content = match serde_json::from_slice(&content) {
            Ok(content) => content,
            Err(error) if error.is_data() => return Err(bad("it is no JSON object")),
            Err(error) => {
                log::warn!("{}: it is broken, so every update file counts as new: {error}", path.display());
                return Ok(Mtimedb::default());
            }
        };
        let mtimes = match content.old.unwrap_or(content.updates) {
            Value::Null => return Ok(Mtimedb::default()),
            Value::Object(mtimes) => mtimes,
            _ => return Err(bad("its key \"updates\" is no object")),
        };
        let mtimes = mtimes.into_iter().map(|(file, mtime)| match whole_seconds(&mtime) {
            Some(mtime) => Ok((file, mtime)),
            None => Err(bad(&format!("the mtime it has for {file:?} is no number"))),
        });
        Ok(Mtimedb { mtimes: mtimes.collect::<Result<_, _>>()? })
    }

    /// The mtime, in whole seconds, that the update file had when Portage applied it.
    pub fn mtime(&self, file: &Path) -> Option<i64> {
        self.mtimes.get(file.to_str()?).copied()
    }
}

/// What Python's `int()` makes of a JSON value.
fn whole_seconds(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) =>
        {
            #[allow(clippy::cast_possible_truncation, reason = "cutting off the fraction is meant")]
            number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds as i64))
        }
        Value::Bool(truth) => Some(i64::from(*truth)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}
