//! Signing through `BINPKG_GPG_SIGNING_BASE_COMMAND`, exactly as Portage runs it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::talk::{Ended, Talk, converse};
use super::verify::{Signature, SignatureState, Verifier, VerifyError};

/// The most that a signing command may print; signatures and clear-signed Manifests are far smaller.
const OUTPUT_LIMIT: usize = 4 << 20;

/// Why a signature could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The setting cannot be split into words.
    #[error("BINPKG_GPG_SIGNING_BASE_COMMAND cannot be used ({why}): {command}; mend it in make.conf")]
    Command {
        /// The command after expansion.
        command: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The command could not be started.
    #[error("cannot run the signing command {program} (BINPKG_GPG_SIGNING_BASE_COMMAND): {source}; is it installed?")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The command failed.
    #[error("the signing command {program} failed ({status}): {words}{advice}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it printed.
        words: String,
        /// What to do, where it can be told.
        advice: &'static str,
    },
    /// The command did not end in time, with nobody there to type a passphrase.
    #[error(
        "the signing command {program} did not answer within {seconds} s (BINPKG_RESIGN_TIMEOUT) and was ended; unlock \
         the key, or let the command find its passphrase, then run `binpkg-resign held retry`"
    )]
    TimedOut {
        /// The program.
        program: String,
        /// How long it was waited for, in seconds.
        seconds: u64,
    },
    /// Not tried, because an earlier call timed out.
    #[error(
        "not signed, since the key could not be unlocked for a package before it; unlock the key, then run `binpkg-resign held retry`"
    )]
    GivenUp,
    /// What came back is no good signature of the right key over these bytes.
    #[error(
        "the signing command {program} returned {what}; check BINPKG_GPG_SIGNING_BASE_COMMAND and BINPKG_GPG_SIGNING_KEY"
    )]
    Rubbish {
        /// The program.
        program: String,
        /// What it was.
        what: String,
    },
    /// The result could not be verified.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// What kind of signature is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A signature beside the data.
    Detached,
    /// The text with its signature.
    Clear,
}

/// The base command with `[PORTAGE_CONFIG]` replaced as `checksum_helper` does it; variables are not expanded yet.
#[must_use]
pub fn with_config(signing: &crate::portage::settings::Signing, kind: Kind) -> String {
    let option = match kind {
        Kind::Detached => "--detach-sig",
        Kind::Clear => "--clear-sign",
    };
    let config = format!(
        "--homedir {} --digest-algo {} --local-user {} {option} --batch --no-tty",
        signing.home, signing.digest, signing.key
    );
    signing.base_command.replace("[PORTAGE_CONFIG]", &config)
}

/// The signing command, ready to be run.
#[derive(Debug)]
pub struct SigningCommand {
    detached: Vec<String>,
    clear: Vec<String>,
    /// The digest asked for; `None` where the command does not pass it on.
    digest: Option<String>,
    environment: BTreeMap<OsString, OsString>,
    terminal: Option<String>,
    timeout: Option<Duration>,
    given_up: AtomicBool,
}

impl SigningCommand {
    /// The command lines for both kinds ([`with_config`], variables expanded) are split like a shell would.
    ///
    /// It runs with `environment`. With a `terminal` (its name goes to `GPG_TTY`) the command may wait for a
    /// passphrase; without one it is ended after `timeout`. Where it passes `digest` on, signatures must have it.
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
        Ok(SigningCommand {
            clear: words_of(clear)?,
            detached,
            digest: asks.then(|| digest.to_ascii_uppercase()),
            environment,
            timeout: terminal.is_none().then_some(timeout),
            terminal,
            given_up: AtomicBool::new(false),
        })
    }

    fn program(&self) -> String {
        self.detached.first().cloned().unwrap_or_default()
    }

    fn run(&self, kind: Kind, data: impl Read) -> Result<Vec<u8>, SignError> {
        if self.given_up.load(Ordering::Relaxed) {
            return Err(SignError::GivenUp);
        }
        let words = match kind {
            Kind::Detached => &self.detached,
            Kind::Clear => &self.clear,
        };
        let mut command = Command::new(self.program());
        command.args(words.iter().skip(1)).env_clear().envs(&self.environment);
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
        let child = command.spawn().map_err(|source| SignError::Start { program: self.program(), source })?;
        let (status, out, err) = self.talk(child, data)?;
        if !status.success() {
            let words = last_words(&err);
            let advice = advice(&words);
            if advice == LOCKED && self.terminal.is_none() {
                // the passphrase was forgotten halfway: asking again for each package costs a second each
                self.given_up.store(true, Ordering::Relaxed);
            }
            return Err(SignError::Failed { program: self.program(), status, words, advice });
        }
        Ok(out)
    }

    /// Feeds the child and collects what it prints, both at once, until it ends or the time is over.
    fn talk(&self, mut child: Child, data: impl Read) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), SignError> {
        let failed = |source| SignError::Start { program: self.program(), source };
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let talked = converse(&mut child, data, OUTPUT_LIMIT, deadline);
        if !matches!(talked, Ok(Talk { ended: Ended::ByItself, .. })) {
            self.end(&mut child);
        }
        let status = child.wait().map_err(failed)?;
        let talk = talked.map_err(failed)?;
        if talk.ended == Ended::OutOfTime {
            self.given_up.store(true, Ordering::Relaxed);
            let seconds = self.timeout.unwrap_or_default().as_secs();
            return Err(SignError::TimedOut { program: self.program(), seconds });
        }
        Ok((status, talk.out, talk.err))
    }

    /// Ends the command and whatever it started (flock starts gpg, gpg may wait for pinentry).
    fn end(&self, child: &mut Child) {
        let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = child.kill();
    }

    /// The terminal where a passphrase can be asked for.
    #[must_use]
    pub fn terminal(&self) -> Option<&str> {
        self.terminal.as_deref()
    }
}

fn words_of(line: &str) -> Result<Vec<String>, SignError> {
    let wrong = |why| SignError::Command { command: line.to_owned(), why };
    let words = crate::portage::settings::split_words(line).ok_or_else(|| wrong("a quote is not closed"))?;
    let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
    if words.is_empty() { Err(wrong("it is empty")) } else { Ok(words) }
}

/// What a failed command said last, on one line.
fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let tail = lines.get(lines.len().saturating_sub(3)..).unwrap_or_default();
    if tail.is_empty() { "it printed nothing".to_owned() } else { tail.join("; ") }
}

/// The advice for a key whose passphrase nobody can type.
const LOCKED: &str = "; the key is locked and nobody is there to type its passphrase: unlock it (sign something in \
        a terminal), then run `binpkg-resign held retry`";

/// What to do about the failures that gpg words in a known way (GnuPG 2.2 and 2.4, English).
fn advice(words: &str) -> &'static str {
    const CASES: [(&str, &str); 10] = [
        ("Inappropriate ioctl", LOCKED),
        ("Operation cancelled", LOCKED),
        ("No pinentry", LOCKED),
        ("batchmode", LOCKED),
        ("Bad passphrase", LOCKED),
        ("Timeout", LOCKED),
        ("No secret key", "; the secret key is not in this gpg home, or its smartcard is absent"),
        ("Card", "; insert the smartcard, then run `binpkg-resign held retry`"),
        ("card", "; insert the smartcard, then run `binpkg-resign held retry`"),
        ("expired", "; extend the key, then run `binpkg-resign held retry`"),
    ];
    CASES.iter().find(|(said, _)| words.contains(said)).map_or("", |(_, advice)| advice)
}

/// The signing command with a verifier for what comes back; belongs to one thread.
#[derive(Debug)]
pub struct Signer<'run> {
    command: &'run SigningCommand,
    verifier: Verifier<'run>,
}

impl<'run> Signer<'run> {
    /// A signer that accepts only signatures of the keyring's signing certificate.
    #[must_use]
    pub fn new(command: &'run SigningCommand, verifier: Verifier<'run>) -> Signer<'run> {
        Signer { command, verifier }
    }

    /// The verifier, for other signatures in the same thread.
    pub fn verifier(&mut self) -> &mut Verifier<'run> {
        &mut self.verifier
    }

    /// A detached, armored signature over `data`, verified.
    ///
    /// # Errors
    /// The command failed, or what it returned is not a signature of the signing key over these bytes with the digest
    /// asked for.
    pub fn detached(&mut self, data: &[u8]) -> Result<Vec<u8>, SignError> {
        self.detached_stream(&|| data)
    }

    /// The same over something large: `data` gives it to be read from its start, once for signing and once for
    /// verifying.
    ///
    /// # Errors
    /// As [`Signer::detached`].
    pub fn detached_stream<R: Read + Send>(&mut self, data: &dyn Fn() -> R) -> Result<Vec<u8>, SignError> {
        let signature = self.command.run(Kind::Detached, data())?;
        if !signature.starts_with(b"-----BEGIN PGP SIGNATURE-----") {
            return Err(self.rubbish("no armored signature".to_owned()));
        }
        let signatures = self.verifier.detached(&signature, data())?;
        self.accept(&signatures)?;
        Ok(signature)
    }

    /// A clear-signed message over `text` (a Manifest, lines without trailing blanks), verified.
    ///
    /// # Errors
    /// As [`Signer::detached`].
    pub fn clear(&mut self, text: &str) -> Result<Vec<u8>, SignError> {
        let message = self.command.run(Kind::Clear, text.as_bytes())?;
        if !message.starts_with(b"-----BEGIN PGP SIGNED MESSAGE-----") {
            return Err(self.rubbish("no clear-signed text".to_owned()));
        }
        let (signed, signatures) = self.verifier.clear_signed(&message)?;
        self.accept(&signatures)?;
        if signed != text.as_bytes() {
            return Err(self.rubbish("a signature over another text".to_owned()));
        }
        Ok(message)
    }

    fn accept(&self, signatures: &[Signature]) -> Result<(), SignError> {
        let keyring = self.verifier.keyring();
        let [signature] = signatures else {
            return Err(self.rubbish(format!("{} signatures instead of one", signatures.len())));
        };
        let key = keyring.signing().key(&signature.key);
        let Some(key) = key.filter(|key| keyring.exact().is_none_or(|exact| exact == key.fingerprint)) else {
            return Err(self.rubbish(format!("a signature of another key, {}", signature.key)));
        };
        match &signature.state {
            SignatureState::Good => {}
            SignatureState::Bad(why) => return Err(self.rubbish(format!("a signature that is not good ({why})"))),
            other => return Err(self.rubbish(format!("a signature that is not good ({other:?})"))),
        }
        match &self.command.digest {
            Some(digest) if *digest != signature.digest => Err(self.rubbish(format!(
                "a signature with digest {} instead of {digest} (key {})",
                signature.digest, key.fingerprint
            ))),
            _ => Ok(()),
        }
    }

    fn rubbish(&self, what: String) -> SignError {
        SignError::Rubbish { program: self.command.program(), what }
    }
}
