//! The mtimes of the update files that Portage has applied.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::UpdatesError;
use crate::portage::bounded;

/// The most bytes of an mtimedb that are read.
const LIMIT: u64 = 64 << 20;

/// Portage's `$EROOT/var/cache/edb/mtimedb`, of which only the update files' mtimes are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mtimedb {
    mtimes: HashMap<String, i64>,
}

/// The value of the key `updates`; `old` is what it was called long ago, and wins. The rest,
/// which may be long, is skipped.
struct Remembered(Option<Value>);

impl<'de> Deserialize<'de> for Remembered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Remembered, D::Error> {
        deserializer.deserialize_map(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Remembered;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the key \"updates\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Remembered, A::Error> {
        let (mut updates, mut old) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "updates" => updates = Some(map.next_value()?),
                "old" => old = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Remembered(old.or(updates)))
    }
}

impl Mtimedb {
    /// Reads the file as `portage.util.mtimedb.MtimeDB` does: with a file that is missing, unreadable,
    /// or no JSON, nothing is remembered, and every update file is pending. All but the first is
    /// logged as a warning.
    ///
    /// # Errors
    /// If the file is JSON, but such that Portage stops with a traceback: it, or its `updates`, is no
    /// object. A single mtime that is no number, which makes Portage stop only if that file is there,
    /// counts as none.
    pub fn read(path: &Path) -> Result<Mtimedb, UpdatesError> {
        let content = match bounded::read(path, LIMIT) {
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
        let remembered: Remembered = match serde_json::from_slice(&content) {
            Ok(remembered) => remembered,
            Err(error) if error.is_data() => return Err(bad(&error.to_string())),
            Err(error) => {
                log::warn!("{}: it is broken, so every update file counts as new: {error}", path.display());
                return Ok(Mtimedb::default());
            }
        };
        let mtimes = match remembered.0 {
            None | Some(Value::Null) => return Ok(Mtimedb::default()),
            Some(Value::Object(mtimes)) => mtimes,
            Some(_) => return Err(bad("its key \"updates\" is no object")),
        };
        let mut known = HashMap::with_capacity(mtimes.len());
        for (file, mtime) in mtimes {
            match whole_seconds(&mtime) {
                Some(mtime) => {
                    known.insert(file, mtime);
                }
                None => log::warn!("{}: the mtime it has for {file:?} is no number", path.display()),
            }
        }
        Ok(Mtimedb { mtimes: known })
    }

    /// What is remembered in both: a file that one of them does not know, or knows with another mtime, is not.
    #[must_use]
    pub fn common_with(mut self, other: &Mtimedb) -> Mtimedb {
        self.mtimes.retain(|file, mtime| other.mtimes.get(file) == Some(mtime));
        self
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(content: &str) -> Result<Mtimedb, UpdatesError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mtimedb");
        fs::write(&path, content).unwrap();
        Mtimedb::read(&path)
    }

    #[test]
    fn mtimes_are_whole_seconds() {
        let mtimedb =
            read(r#"{"info": {"a": [1]}, "updates": {"/i": 5, "/f": 5.9, "/n": -5.9, "/s": " 5 ", "/x": null}}"#)
                .unwrap();
        let mtime = |file: &str| mtimedb.mtime(Path::new(file));
        assert_eq!((mtime("/i"), mtime("/f"), mtime("/n"), mtime("/s")), (Some(5), Some(5), Some(-5), Some(5)));
        assert_eq!((mtime("/x"), mtime("/y")), (None, None));
    }

    #[test]
    fn only_what_both_remember_is_remembered() {
        let one = read(r#"{"updates": {"/same": 5, "/other": 5, "/one": 5}}"#).unwrap();
        let other = read(r#"{"updates": {"/same": 5, "/other": 6, "/two": 5}}"#).unwrap();
        assert_eq!(one.clone().common_with(&other), read(r#"{"updates": {"/same": 5}}"#).unwrap());
        assert_eq!(one.common_with(&Mtimedb::default()), Mtimedb::default());
    }

    #[test]
    fn what_portage_cannot_read_is_empty() {
        assert_eq!(Mtimedb::read(Path::new("/nonexistent/mtimedb")).unwrap(), Mtimedb::default());
        for content in ["", "{}", "{\"updates\": {\"/a\": 1}", "\u{feff}{}", "nonsense", "{\"updates\": null}"] {
            assert_eq!(read(content).unwrap(), Mtimedb::default(), "{content:?}");
        }
    }

    #[test]
    fn what_stops_portage_is_an_error() {
        for content in ["[]", "[{}, {}]", "5", "{\"updates\": []}", "{\"old\": 5, \"updates\": {}}"] {
            let error = read(content).unwrap_err().to_string();
            assert!(error.contains("mtimedb") && error.contains("remove it"), "{error}");
        }
    }
}
