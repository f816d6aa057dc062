//! Reading files and joining paths as Portage does (`portage/util/__init__.py`, Python's `os.path`).

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::SettingsError;

/// No configuration file is larger, in bytes; a larger one is refused.
const FILE_LIMIT: u64 = 16 << 20;

/// No configuration directory holds more files and directories; more are refused (links may go in circles).
const ENTRY_LIMIT: usize = 20_000;

/// The directories of version control systems, which are never looked into (`portage.const.VCS_DIRS`).
const VCS_DIRS: [&str; 7] = ["CVS", "RCS", "SCCS", ".bzr", ".git", ".hg", ".svn"];

/// What the file at `path` says: invalid UTF-8 replaced and every line end made `\n`, as Python reads text.
/// `None` if there is no such file.
pub(super) fn read_text(path: &Path) -> Result<Option<String>, SettingsError> {
    let file = match crate::portage::bounded::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SettingsError::read(path, error)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(|error| SettingsError::read(path, error))?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(SettingsError::too_much(path, "the file is too large"));
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(Some(if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text.into_owned() }))
}

/// Like [`read_text`], for files that Portage passes over when it cannot read them.
pub(super) fn read_text_if_possible(path: &Path) -> Option<String> {
    read_text(path).unwrap_or_else(|error| {
        log::debug!("{error}");
        None
    })
}

/// Whether Python's `str.isspace` says so: Unicode's white space and the four information separators.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// The words of a text, as Python's `str.split()`.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// The text without white space around it, as Python's `str.strip()`.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// The lines of a list file, comments and white space removed (`portage.util.grabfile`).
pub(super) fn grab_lines(path: &Path) -> Result<Vec<String>, SettingsError> {
    let text = read_text(path)?.unwrap_or_default();
    let lines = text.split('\n').map(|line| words(line).take_while(|word| !word.starts_with('#')).collect::<Vec<_>>());
    Ok(lines.filter(|words| !words.is_empty()).map(|words| words.join(" ")).collect())
}

/// The regular files at `path`, a file or a directory: everything below it in name order, files and directories
/// together; hidden names, names that end in `~` and version control directories are passed over
/// (`portage.util._recursive_file_list`). What does not exist is an empty list.
pub(super) fn recursive_files(path: &Path) -> Result<Vec<PathBuf>, SettingsError> {
    let mut files = Vec::new();
    let mut waiting = vec![path.to_owned()];
    let mut seen = 0;
    while let Some(next) = waiting.pop() {
        seen += 1;
        if seen > ENTRY_LIMIT {
            return Err(SettingsError::too_much(path, "too many files and directories"));
        }
        let name = next.file_name().unwrap_or_default().as_encoded_bytes();
        let skipped = name.starts_with(b".") || name.ends_with(b"~");
        let kind = match std::fs::metadata(&next) {
            Ok(metadata) => metadata.file_type(),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                return Err(SettingsError::read(&next, error));
            }
            Err(_) => continue,
        };
        if kind.is_file() && !skipped {
            files.push(next);
        } else if kind.is_dir() && !skipped && !VCS_DIRS.iter().any(|vcs| vcs.as_bytes() == name) {
            let mut children = match std::fs::read_dir(&next).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
                Ok(children) => children.into_iter().map(|child| child.path()).collect::<Vec<_>>(),
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    return Err(SettingsError::read(&next, error));
                }
                Err(_) => continue,
            };
            children.sort_unstable_by(|one, other| other.as_os_str().cmp(one.as_os_str()));
            waiting.extend(children);
        }
    }
    Ok(files)
}

/// Whether there is a directory at `path`; an error where we may not look (`isdir_raise_eaccess`).
pub(super) fn is_dir(path: &Path) -> Result<bool, SettingsError> {
    Ok(stat(path)?.is_some_and(|metadata| metadata.is_dir()))
}

/// Whether there is anything at `path`; an error where we may not look (`exists_raise_eaccess`).
pub(super) fn exists(path: &Path) -> Result<bool, SettingsError> {
    Ok(stat(path)?.is_some())
}

fn stat(path: &Path) -> Result<Option<std::fs::Metadata>, SettingsError> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(SettingsError::read(path, error)),
        Err(_) => Ok(None),
    }
}

/// `path` without `//`, `.` and, by name only, `..` (`portage.util.normalize_path`). An empty path becomes `.`.
pub(super) fn normalize(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part != ".." || (!absolute && parts.last().is_none_or(|last| *last == "..")) {
            parts.push(part);
        } else {
            parts.pop();
        }
    }
    let joined = parts.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// `path` made absolute from the working directory and normalized (`os.path.abspath`).
pub(super) fn absolute(path: &str) -> String {
    if path.starts_with('/') {
        return normalize(path);
    }
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    normalize(&join(&here.to_string_lossy(), path))
}

/// Both paths joined; `path` alone if it is absolute (`os.path.join`).
pub(super) fn join(base: &str, path: &str) -> String {
    if path.starts_with('/') || base.is_empty() {
        path.to_owned()
    } else if base.ends_with('/') {
        format!("{base}{path}")
    } else {
        format!("{base}/{path}")
    }
}

/// The last part of `path`: what follows its last slash, so nothing if it ends in one (`os.path.basename`).
pub(super) fn basename(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `path` without symbolic links, as far as it exists (`os.path.realpath`).
pub(super) fn real_path(path: &str) -> String {
    let path = if path.starts_with('/') { path.to_owned() } else { absolute(path) };
    let mut missing: VecDeque<&str> = VecDeque::new();
    let mut known = Path::new(&path);
    loop {
        if let Ok(real) = known.canonicalize() {
            let rest = missing.iter().fold(real.to_string_lossy().into_owned(), |base, part| join(&base, part));
            return normalize(&rest);
        }
        match (known.parent(), known.file_name().and_then(|name| name.to_str())) {
            (Some(parent), Some(name)) => {
                missing.push_front(name);
                known = parent;
            }
            _ => return normalize(&path),
        }
    }
}
