//! Remembers that a passphrase or PIN was refused: a card counts wrong tries, and a sync must not use them up.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::own_file;

/// The file that remembers it: below a folder that only root can write, or whoever runs this.
///
/// What is remembered holds for one configuration: the words of the signing command, every file that they name (a
/// passphrase file), and the settings of gpg and its agent. When one of these changes, it is forgotten.
#[derive(Debug, Clone)]
pub struct Refusals {
    file: PathBuf,
}

impl Refusals {
    /// Remembered in `file`; its folder is made when something is.
    #[must_use]
    pub fn in_file(file: PathBuf) -> Refusals {
        Refusals { file }
    }

    /// What was said when this configuration was refused; none if it was not.
    pub(super) fn standing(&self, words: &[String]) -> Option<String> {
        let text = std::fs::read_to_string(&self.file).ok()?;
        let (configuration, said) = text.split_once('\n')?;
        (configuration == fingerprint(words)).then(|| said.trim_end().to_owned())
    }

    /// Remembers that this configuration was refused, with these words.
    pub(super) fn remember(&self, words: &[String], said: &str) {
        if let Err(error) = own_file::replace(&self.file, &format!("{}\n{said}\n", fingerprint(words))) {
            log::warn!(
                "cannot write {}: {error}; the wrong passphrase or PIN will be tried again by the next run",
                self.file.display()
            );
        }
    }

    /// Nothing stands any more: something was signed, or a person wants it tried again.
    #[allow(clippy::disallowed_methods, reason = "our own state, not PKGDIR")]
    pub fn forget(&self) {
        match std::fs::remove_file(&self.file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                log::warn!("cannot remove {}: {error}", self.file.display());
            }
            _ => {}
        }
    }
}

/// What tells one configuration from another.
fn fingerprint(words: &[String]) -> String {
    let mut digest = Sha256::new();
    for word in words {
        digest.update(word.as_bytes());
        digest.update([0]);
        let file = word.split_once('=').map_or(word.as_str(), |(_, value)| value);
        note(&mut digest, Path::new(file));
        if Path::new(file).is_dir() {
            for name in ["gpg.conf", "gpg-agent.conf", "scdaemon.conf"] {
                note(&mut digest, &Path::new(file).join(OsStr::new(name)));
            }
        }
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file counts with its identity, size and times.
fn note(digest: &mut Sha256, file: &Path) {
    if let Ok(facts) = std::fs::metadata(file)
        && facts.is_file()
    {
        digest.update(format!("{} {} {} {} ", facts.ino(), facts.size(), facts.mtime(), facts.mtime_nsec()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_until_the_configuration_changes() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("passphrase");
        std::fs::write(&secret, "wrong").unwrap();
        let words = vec!["gpg".to_owned(), format!("--passphrase-file={}", secret.display())];
        let refusals = Refusals::in_file(folder.path().join("state/refused"));
        assert_eq!(refusals.standing(&words), None);
        refusals.remember(&words, "Bad PIN");
        assert_eq!(refusals.standing(&words).as_deref(), Some("Bad PIN"));
        assert_eq!(refusals.standing(&words[..1]), None);
        std::fs::write(&secret, "another").unwrap();
        assert_eq!(refusals.standing(&words), None);
        refusals.remember(&words, "Bad PIN");
        refusals.forget();
        assert_eq!(refusals.standing(&words), None);
    }
}
