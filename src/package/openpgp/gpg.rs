//! Running gpg on a home of the user's: what gpgme would do, with a deadline, and in words that do not depend on the
//! language.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use super::talk::{Ended, Patience, Talk, converse};

/// The most that gpg may print, in bytes: a keyring of thousands of certificates is smaller.
const OUTPUT_LIMIT: usize = 256 << 20;

/// Why gpg gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum GpgError {
    /// It could not be started.
    #[error("{} cannot be run: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// gpgme knows none.
    #[error(transparent)]
    Engine(#[from] gpgme::Error),
    /// It did not answer in time, and was ended.
    #[error("no answer within {seconds} s (BINPKG_RESIGN_TIMEOUT){}", locks.as_deref().unwrap_or_default())]
    TimedOut {
        /// How long it was waited for.
        seconds: u64,
        /// Lock files of other machines, where there are any, which is the likely cause.
        locks: Option<String>,
    },
    /// The run was interrupted meanwhile.
    #[error("the run was interrupted")]
    Interrupted,
    /// It failed.
    #[error("gpg: {words}")]
    Failed {
        /// The last lines it printed.
        words: String,
    },
}

/// Whose options gpg follows, beside those of `/etc/gnupg`, which nothing can switch off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Options {
    /// Nobody's.
    None,
    /// Those of the home's gpg.conf, which may name the keyring where the keys are.
    OfHome,
}

/// gpg in one home.
#[derive(Debug, Clone)]
pub(super) struct Gpg<'a> {
    pub(super) program: &'a Path,
    pub(super) home: &'a Path,
    pub(super) options: Options,
    pub(super) patience: &'a Patience,
}

/// What gpg answered.
#[derive(Debug)]
pub(super) struct Answer {
    /// What it printed.
    pub(super) out: Vec<u8>,
    /// Its status lines, without what marks them.
    pub(super) status_lines: Vec<String>,
    /// What it said besides.
    pub(super) words: Vec<String>,
    /// How it ended.
    pub(super) status: ExitStatus,
}

impl Answer {
    /// The answer, where gpg is content with it.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn checked(self) -> Result<Answer, GpgError> {
        if self.status.success() { Ok(self) } else { Err(GpgError::Failed { words: self.last_words() }) }
    }

    /// What it said last, on one line.
    pub(super) fn last_words(&self) -> String {
        let lines = self.words.get(self.words.len().saturating_sub(3)..).unwrap_or_default();
        if lines.is_empty() { format!("it says nothing ({})", self.status) } else { lines.join("; ") }
    }

    /// The first status line with this keyword, without it.
    pub(super) fn status_line(&self, keyword: &str) -> Option<&str> {
        self.status_lines.iter().find_map(|line| line.strip_prefix(keyword)?.strip_prefix(' '))
    }
}

impl Gpg<'_> {
    /// Runs gpg with these words after the options for a talk without a person, and `input` on its stdin.
    ///
    /// # Errors
    /// It could not be started, or gave no answer in time.
    pub(super) fn run<S: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Result<Answer, GpgError> {
        let failed = |source| GpgError::Start { program: self.program.to_owned(), source };
        let mut command = Command::new(self.program);
        command.arg("--homedir").arg(self.home).args(["--batch", "--no-tty", "--yes"]);
        if self.options == Options::None {
            command.arg("--no-options");
            if super::reasons::configured(self.home, &["no-autostart"]).is_some() {
                // the agent is somewhere else: one started here would take its socket away
                command.arg("--no-autostart");
            }
        }
        // what a configuration may have sent elsewhere; no lock is waited for that another machine may have left
        command.args([
            "--status-fd",
            "2",
            "--logger-fd",
            "2",
            "--output",
            "-",
            "--lock-never",
            "--no-auto-check-trustdb",
        ]);
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_remove("GPG_TTY").envs(plain_words(std::env::vars_os())).env_remove("LC_ALL").process_group(0);
        let mut child = crate::children::start(&mut command).map_err(failed)?;
        let talk = converse(&mut child, input, OUTPUT_LIMIT, self.patience).map_err(failed)?;
        match talk.ended {
            Ended::ByItself => Ok(answer(talk)),
            Ended::Stopped => Err(GpgError::Interrupted),
            Ended::OutOfTime => Err(GpgError::TimedOut {
                seconds: self.patience.limit().unwrap_or_default().as_secs(),
                locks: foreign_locks(self.home),
            }),
        }
    }
}

fn answer(talk: Talk) -> Answer {
    let said = String::from_utf8_lossy(&talk.err);
    let (mut status_lines, mut words) = (Vec::new(), Vec::new());
    for line in said.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.strip_prefix("[GNUPG:] ") {
            Some(line) => status_lines.push(line.to_owned()),
            None => words.push(line.strip_prefix("gpg: ").unwrap_or(line).to_owned()),
        }
    }
    Answer { out: talk.out, status_lines, words, status: talk.status }
}

/// What an environment needs so that messages are English, while names are read as before: the variables to set.
/// `LC_ALL` must go, it would count for more.
pub(super) fn plain_words(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let (mut all, mut ctype, mut lang) = (None, None, None);
    for (name, value) in environment {
        match name.to_str() {
            Some("LC_ALL") => all = Some(value),
            Some("LC_CTYPE") => ctype = Some(value),
            Some("LANG") => lang = Some(value),
            _ => {}
        }
    }
    let full = |value: &OsString| !value.is_empty();
    let characters = all.filter(full).or(ctype.filter(full)).or(lang.filter(full));
    let characters = characters.map(|value| (OsString::from("LC_CTYPE"), value));
    characters.into_iter().chain([("LC_MESSAGES".into(), "C".into()), ("LANGUAGE".into(), "C".into())]).collect()
}

/// Locks in a home that a process of another machine holds, so it says, as a container leaves them behind: gpg waits
/// for them for ever.
pub(super) fn foreign_locks(home: &Path) -> Option<String> {
    let here = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let folders = [home.to_owned(), home.join("public-keys.d")];
    let locks = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let foreign: Vec<String> = locks
        .filter(|entry| entry.path().extension() == Some(OsStr::new("lock")))
        .filter_map(|entry| {
            // a line with the process, a line with its machine
            let text = std::fs::read_to_string(entry.path()).ok()?;
            let host = text.lines().nth(1)?.trim().to_owned();
            (host != here).then(|| format!("{} is held by a process on {host:?}", entry.path().display()))
        })
        .collect();
    let advice = "if no gpg runs there, remove it";
    (!foreign.is_empty()).then(|| format!("; the lock {}: {advice}", foreign.join(", the lock ")))
}
