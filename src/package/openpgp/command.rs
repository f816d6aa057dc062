//! `BINPKG_GPG_SIGNING_BASE_COMMAND`, run exactly as Portage runs it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::gpg::plain_words;
use super::reasons::Cause;
use super::refusal::Refusals;
use super::sign::{Kind, SignError};
use super::talk::{Ended, Patience, converse};

/// The most that a signing command may print; signatures and clear-signed Manifests are far smaller.
const OUTPUT_LIMIT: usize = 4 << 20;

/// The signing command, ready to be run.
#[derive(Debug)]
pub struct SigningCommand {
    detached: Vec<String>,
    clear: Vec<String>,
    /// The digest asked for; `None` where the command does not pass it on.
    pub(super) digest: Option<String>,
    environment: BTreeMap<OsString, OsString>,
    terminal: Option<String>,
    patience: Patience,
    refusals: Option<Refusals>,
    given_up: AtomicBool,
}

impl SigningCommand {
    /// The command lines for both kinds ([`super::sign::with_config`], variables expanded) are split like a shell would.
    ///
    /// It runs with `environment`, but for the language of messages. With a `terminal` (its name goes to `GPG_TTY`) the
    /// command may wait for a passphrase; without one it is ended after `timeout`. Where it passes `digest` on,
    /// signatures must have it.
    ///
    /// # Errors
    /// A command line is empty or has an open quote.
    pub fn new(
        detached: &str,
        clear: &str,
        digest: &str,
        environment: BTreeMap<OsString, OsString>,
        terminal: Option<String>,
        timeout: Duration,
    ) -> Result<SigningCommand, SignError> {
        let detached = words_of(detached)?;
        let asks = detached.iter().any(|word| word == "--digest-algo");
        let patience = Patience::new(timeout, Arc::default());
        Ok(SigningCommand {
            clear: words_of(clear)?,
            detached,
            digest: asks.then(|| digest.to_ascii_uppercase()),
            environment,
            patience: if terminal.is_some() { patience.unlimited() } else { patience },
            terminal,
            refusals: None,
            given_up: AtomicBool::new(false),
        })
    }

    /// The same, ended when `stop` is not 0 any more (the number of a signal).
    #[must_use]
    pub fn stopped_by(self, stop: Arc<AtomicUsize>) -> SigningCommand {
        SigningCommand { patience: self.patience.stopped_by(stop), ..self }
    }

    /// The same; a wrong passphrase or PIN is remembered, and one that was refused is not tried again, unless a person
    /// is asked for it.
    #[must_use]
    pub fn remembering(self, refusals: Refusals) -> SigningCommand {
        SigningCommand { refusals: Some(refusals), ..self }
    }

    pub(super) fn program(&self) -> String {
        self.detached.first().cloned().unwrap_or_default()
    }

    /// The terminal where a passphrase can be asked for.
    #[must_use]
    pub fn terminal(&self) -> Option<&str> {
        self.terminal.as_deref()
    }

    /// Whether a person would be asked for the passphrase, if the key has one.
    #[must_use]
    pub fn asks_a_person(&self) -> bool {
        self.terminal.is_some() && !self.detached.iter().any(|word| word.contains("loopback"))
    }

    pub(super) fn run(&self, kind: Kind, data: impl Read) -> Result<Vec<u8>, SignError> {
        if self.given_up.load(Ordering::Relaxed) {
            return Err(SignError::GivenUp);
        }
        if let Some(words) = self.refusals.as_ref().and_then(|refusals| refusals.standing(&self.detached))
            && !self.asks_a_person()
        {
            return Err(SignError::RefusedBefore { words });
        }
        let words = match kind {
            Kind::Detached => &self.detached,
            Kind::Clear => &self.clear,
        };
        let failed = |source| SignError::Start { program: self.program(), source };
        let mut command = Command::new(self.program());
        command.args(words.iter().skip(1)).env_clear().envs(&self.environment);
        command.envs(plain_words(self.environment.clone())).env_remove("LC_ALL");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        match &self.terminal {
            Some(terminal) => {
                command.env("GPG_TTY", terminal);
            }
            None => {
                // a terminal of somebody else must not be waited on
                command.env_remove("GPG_TTY");
                command.process_group(0);
            }
        }
        let mut child = crate::children::start(&mut command).map_err(failed)?;
        let talk = converse(&mut child, data, OUTPUT_LIMIT, &self.patience).map_err(failed)?;
        match talk.ended {
            // Ctrl-C ends what runs on the terminal, too
            Ended::ByItself if !talk.status.success() && self.patience.is_stopped() => Err(SignError::Interrupted),
            Ended::ByItself if talk.status.success() => {
                if let Some(refusals) = &self.refusals {
                    refusals.forget();
                }
                Ok(talk.out)
            }
            Ended::ByItself => {
                let (cause, words) = Cause::told_by(talk.status, &talk.err);
                let cause = cause.seen_from(self.terminal());
                self.give_up_after(cause, &words);
                Err(SignError::Failed { program: self.program(), status: talk.status, words, cause, why: None })
            }
            Ended::Stopped => Err(SignError::Interrupted),
            Ended::OutOfTime => {
                self.given_up.store(true, Ordering::Relaxed);
                let seconds = self.patience.limit().unwrap_or_default().as_secs();
                Err(SignError::TimedOut { program: self.program(), seconds, why: None })
            }
        }
    }

    /// Whether the next package need not try either.
    fn give_up_after(&self, cause: Cause, words: &str) {
        match cause {
            // asking again for each package costs a second each, and a person's patience
            Cause::Locked
            | Cause::Unasked
            | Cause::Cancelled
            | Cause::NoCard
            | Cause::NoAgent
            | Cause::NoProgram
            | Cause::Blocked => {
                self.given_up.store(true, Ordering::Relaxed);
            }
            Cause::Refused => {
                self.given_up.store(true, Ordering::Relaxed);
                if let Some(refusals) = &self.refusals {
                    refusals.remember(&self.detached, words);
                }
            }
            Cause::NoSecretKey | Cause::Expired | Cause::Configuration | Cause::Other => {}
        }
    }
}

fn words_of(line: &str) -> Result<Vec<String>, SignError> {
    let wrong = |why| SignError::Command { command: line.to_owned(), why };
    let words = crate::portage::settings::split_words(line).ok_or_else(|| wrong("a quote is not closed"))?;
    let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
    if words.is_empty() { Err(wrong("it is empty")) } else { Ok(words) }
}
