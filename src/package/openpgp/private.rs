//! Private, temporary gpg homes (0700): with what counts as ours and nothing else, or a copy of somebody's public keys.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::certificate::Certificate;
use super::gpg::{Gpg, GpgError, Options};
use super::key_error::KeyError;
use super::talk::{Patience, converse};
use super::temporary::TemporaryFolder;
use crate::portage::fingerprint::Fingerprint;

/// gpg's own settings there: neither a lock on the random seed nor a trust database is needed, which is also faster.
const SETTINGS: &str = "no-random-seed-file\nno-auto-check-trustdb\nbatch\nlock-never\n";

/// A file of certificates, one after the other as gpg exports them, is a keyring to gpg: nothing has to be imported,
/// which a configuration in `/etc/gnupg` could prevent.
const RING: &str = "pubring.gpg";

/// Where certificates of others are, beside ours in a keybox: a keyring as well.
const OTHERS: &str = "others.gpg";

/// Where gpg keeps public keys and trust in them, whatever it is configured to use: its own files, those of keyboxd,
/// and those of Sequoia's gpg.
const PUBLIC: [&str; 7] = [
    "pubring.kbx",
    RING,
    "trustdb.gpg",
    "common.conf",
    "public-keys.d/pubring.db",
    "public-keys.d/pubring.db-wal",
    "pubring.cert.d",
];

/// A private home; what was started for it ends with it.
#[derive(Debug)]
pub(super) struct PrivateHome {
    folder: TemporaryFolder,
    program: PathBuf,
    holds: Holds,
}

/// How the public keys are in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// Ours in a keybox. gpg has looked at what they say of themselves as it put them there, and not each time that it
    /// starts, which is 3.6 ms instead of 5.5.
    Box,
    /// As a file that gpg reads.
    Ring,
    /// As gpg has put them; a keyboxd may be running.
    Imported,
}

impl PrivateHome {
    /// A home with these certificates, as exported, and nothing else; gpg finds each of them there.
    pub(super) fn with(
        program: &Path,
        certificates: &[&Certificate],
        exported: &[u8],
        patience: &Patience,
    ) -> Result<PrivateHome, KeyError> {
        if !certificates.is_empty() {
            let home = PrivateHome::empty(program, Holds::Box)?;
            home.write("gpg.conf", format!("{SETTINGS}no-autostart\n").as_bytes())?;
            let imported = home.gpg(patience).run(["--import"], exported).is_ok();
            if imported && matches!(home.lacks(certificates, patience), Ok(None)) {
                return Ok(home);
            }
        }
        let home = PrivateHome::empty(program, Holds::Ring)?;
        let settings = format!("{SETTINGS}no-autostart\nkeyring {}\n", home.path().join(RING).display());
        home.write("gpg.conf", settings.as_bytes())?;
        home.write(RING, exported)?;
        if certificates.is_empty() || home.lacks(certificates, patience)?.is_none() {
            return Ok(home);
        }
        // a gpg that reads no such file: with `use-keyboxd` in /etc/gnupg, or another program of that name
        let home = PrivateHome::empty(program, Holds::Imported)?;
        home.write("gpg.conf", SETTINGS.as_bytes())?;
        let answer = home.gpg(patience).run(["--import"], exported).map_err(|source| home.error(source))?;
        match home.lacks(certificates, patience)? {
            None => Ok(home),
            Some(fingerprint) => Err(KeyError::NotExported { fingerprint, words: answer.last_words() }),
        }
    }

    /// A copy of the public keys of `home` and their trust: gpg writes lock files and its trust database even where it
    /// is only asked.
    pub(super) fn copy_of(home: &Path, program: &Path) -> Result<PrivateHome, KeyError> {
        let copy = PrivateHome::empty(program, Holds::Imported)?;
        copy.write("gpg.conf", SETTINGS.as_bytes())?;
        for name in PUBLIC {
            copy_all(&home.join(name), &copy.path().join(name))
                .map_err(|source| KeyError::Home { home: home.to_owned(), source })?;
        }
        Ok(copy)
    }

    fn empty(program: &Path, holds: Holds) -> Result<PrivateHome, KeyError> {
        Ok(PrivateHome { folder: TemporaryFolder::new()?, program: program.to_owned(), holds })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The gpg that works in it.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    pub(super) fn gpg<'a>(&'a self, patience: &'a Patience) -> Gpg<'a> {
        Gpg { program: &self.program, home: self.path(), options: Options::OfHome, patience }
    }

    /// Adds certificates of others, as exported. Ours come first, and gpg takes the first of two that are the same.
    pub(super) fn add(&self, exported: &[u8], patience: &Patience) -> Result<(), KeyError> {
        match self.holds {
            Holds::Ring => self.append(RING, exported),
            Holds::Box => {
                let keyring = format!("keyring {}\n", self.path().join(OTHERS).display());
                self.append(OTHERS, exported)?;
                self.append("gpg.conf", keyring.as_bytes())
            }
            Holds::Imported => {
                let answer = self.gpg(patience).run(["--import"], exported).and_then(super::gpg::Answer::checked);
                answer.map(|_| ()).map_err(|source| self.error(source))
            }
        }
    }

    /// The first of these certificates of which gpg does not find every key here.
    fn lacks(&self, certificates: &[&Certificate], patience: &Patience) -> Result<Option<Fingerprint>, KeyError> {
        let words = ["--with-colons", "--with-fingerprint", "--with-fingerprint", "--list-keys"];
        let answer = self.gpg(patience).run(words, b"").map_err(|source| self.error(source))?;
        let found = Certificate::of_listing(&answer.out);
        let is_there = |wanted: &Certificate| {
            let same = found.iter().find(|found| found.fingerprint == wanted.fingerprint);
            same.is_some_and(|same| {
                wanted.keys.iter().all(|key| same.keys.iter().any(|same| same.fingerprint == key.fingerprint))
            })
        };
        let missing = certificates.iter().find(|wanted| !is_there(wanted));
        Ok(missing.map(|certificate| certificate.fingerprint.clone()))
    }

    fn error(&self, source: GpgError) -> KeyError {
        KeyError::of_gpg(self.path(), "read our public keys", source)
    }

    #[allow(clippy::disallowed_methods, reason = "a temporary folder, not PKGDIR")]
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), KeyError> {
        std::fs::write(self.path().join(name), bytes)
            .map_err(|source| KeyError::PrivateHome { directory: self.path().to_owned(), source })
    }

    fn append(&self, name: &str, bytes: &[u8]) -> Result<(), KeyError> {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(self.path().join(name));
        file.and_then(|mut file| file.write_all(bytes))
            .map_err(|source| KeyError::PrivateHome { directory: self.path().to_owned(), source })
    }
}

impl Drop for PrivateHome {
    /// Ends a keyboxd that gpg has started here.
    fn drop(&mut self) {
        if self.holds != Holds::Imported
            || !self.path().join("S.keyboxd").exists() && !self.path().join("public-keys.d").exists()
        {
            return;
        }
        let mut command = Command::new(self.program.with_file_name("gpgconf"));
        command.arg("--homedir").arg(self.path()).args(["--kill", "keyboxd"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let patience = Patience::new(Duration::from_secs(5), std::sync::Arc::default());
        let ended = crate::children::start(&mut command)
            .and_then(|mut child| converse(&mut child, std::io::empty(), 4096, &patience));
        if let Err(error) = ended {
            log::debug!("gpgconf cannot end the keyboxd of {}: {error}", self.path().display());
        }
    }
}

/// Copies a file, or a folder with what is in it; what is not there is left out, and so are locks.
#[allow(clippy::disallowed_methods, reason = "a temporary folder, not PKGDIR")]
fn copy_all(from: &Path, to: &Path) -> std::io::Result<()> {
    let facts = match std::fs::metadata(from) {
        Ok(facts) => facts,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if facts.is_dir() {
        std::fs::create_dir_all(to)?;
        for entry in std::fs::read_dir(from)? {
            let name = entry?.file_name();
            if !name.to_string_lossy().contains("lock") {
                copy_all(&from.join(&name), &to.join(&name))?;
            }
        }
    } else if facts.is_file() {
        to.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::copy(from, to)?;
    }
    Ok(())
}
