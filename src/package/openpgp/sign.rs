//! Making signatures, and checking each as a client would before it is used.

use std::io::Read;
use std::path::Path;
use std::process::ExitStatus;
use std::time::SystemTime;

use super::card::Card;
use super::command::SigningCommand;
use super::packet;
use super::reasons::{Cause, configured};
use super::verify::{Signature, SignatureState, Verifier, VerifyError};
use crate::portage::fingerprint::{Fingerprint, KeyHandle};

/// Why a signature could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The setting cannot be split into words.
    #[error("BINPKG_GPG_SIGNING_BASE_COMMAND cannot be used ({why}): {command}; fix it in make.conf")]
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
    #[error("{}", failure(program, *status, words, *cause, why.as_deref()))]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it printed.
        words: String,
        /// What they mean.
        cause: Cause,
        /// The same in other words, where more is known: what is the matter with the card or with gpg's configuration,
        /// and what to do.
        why: Option<String>,
    },
    /// The command did not end in time, with nobody there to type a passphrase.
    #[error("{}", too_late(program, *seconds, why.as_deref()))]
    TimedOut {
        /// The program.
        program: String,
        /// How long it was waited for, in seconds.
        seconds: u64,
        /// What it was waiting for, and what to do, where that is known.
        why: Option<String>,
    },
    /// Not tried, because an earlier call could not unlock the key.
    #[error(
        "not signed, since the key could not be unlocked for a package before it; unlock the key, then run `binpkg-resign held retry`"
    )]
    GivenUp,
    /// Not tried, because the passphrase or PIN was refused by an earlier run, and nothing has changed since.
    #[error(
        "the passphrase or PIN was refused by an earlier run, and is not tried again by itself (gpg: {words}); correct it, then run `binpkg-resign held retry`"
    )]
    RefusedBefore {
        /// What gpg said then.
        words: String,
    },
    /// The run was interrupted meanwhile.
    #[error("the run was interrupted while it was signed")]
    Interrupted,
    /// What came back is no good signature of the right key over these bytes.
    #[error("the signing command {program} returned {what}; check {}", blamed.as_deref().unwrap_or("BINPKG_GPG_SIGNING_BASE_COMMAND and BINPKG_GPG_SIGNING_KEY"))]
    Rubbish {
        /// The program.
        program: String,
        /// What it was.
        what: String,
        /// The line of gpg's configuration that is the likely cause, and its file.
        blamed: Option<String>,
    },
    /// The result could not be verified.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

impl SignError {
    /// Whether a passphrase or PIN at hand would have helped.
    #[must_use]
    pub fn wants_a_passphrase(&self) -> bool {
        let locked =
            |cause: &Cause| matches!(cause, Cause::Locked | Cause::Unasked | Cause::Cancelled | Cause::Refused);
        match self {
            SignError::TimedOut { why, .. } => why.is_none(),
            SignError::Failed { cause, .. } => locked(cause),
            _ => false,
        }
    }
}

const RETRY: &str = "then run `binpkg-resign held retry`";

fn failure(program: &str, status: ExitStatus, words: &str, cause: Cause, why: Option<&str>) -> String {
    match (why, cause.explained()) {
        (Some(why), _) => format!("{why}, {RETRY} (gpg: {words})"),
        (None, Some((cause, advice))) => format!("{cause} (gpg: {words}); {advice}, {RETRY}"),
        (None, None) => format!("the signing command {program} failed ({status}): {words}"),
    }
}

fn too_late(program: &str, seconds: u64, why: Option<&str>) -> String {
    let late = format!(
        "the signing command {program} did not answer within {seconds} s (BINPKG_RESIGN_TIMEOUT) and was ended"
    );
    let why = why.unwrap_or("unlock the key, or let the command find its passphrase");
    format!("{late}; {why}, {RETRY}")
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
        let signature = self.run(Kind::Detached, data())?;
        if !signature.starts_with(b"-----BEGIN PGP SIGNATURE-----") {
            return Err(self.rubbish("no armored signature".to_owned(), &WITHOUT_OUTPUT));
        }
        let signatures = self.verifier.detached(&signature, data)?;
        self.accept(&signatures, &signature)?;
        Ok(signature)
    }

    /// A clear-signed message over `text` (a Manifest), verified.
    ///
    /// # Errors
    /// As [`Signer::detached`].
    pub fn clear(&mut self, text: &str) -> Result<Vec<u8>, SignError> {
        let message = self.run(Kind::Clear, text.as_bytes())?;
        if !message.starts_with(b"-----BEGIN PGP SIGNED MESSAGE-----") {
            return Err(self.rubbish("no clear-signed text".to_owned(), &WITHOUT_OUTPUT));
        }
        let (signed, signatures) = self.verifier.clear_signed(&message)?;
        self.accept(&signatures, &message)?;
        if !is_same_text(&signed, text.as_bytes()) {
            return Err(self.rubbish("a signature over another text".to_owned(), &[]));
        }
        Ok(message)
    }

    /// Runs the command; where it fails, looks at the card that the key may be on, and at gpg's configuration.
    fn run(&self, kind: Kind, data: impl Read) -> Result<Vec<u8>, SignError> {
        self.command.run(kind, data).map_err(|error| match error {
            SignError::Failed { program, status, words, cause, .. } => {
                let why = self.card_trouble(cause).or_else(|| self.configuration_trouble(cause, &words));
                SignError::Failed { program, status, words, cause, why }
            }
            SignError::TimedOut { program, seconds, .. } => {
                let locks = || self.verifier.keyring().home().and_then(super::gpg::foreign_locks);
                let locks = locks().map(|locks| locks.trim_start_matches("; ").to_owned());
                SignError::TimedOut { program, seconds, why: locks.or_else(|| self.card_trouble(Cause::Locked)) }
            }
            other => other,
        })
    }

    /// What is the matter with the card that the key is on, and what to do.
    fn card_trouble(&self, cause: Cause) -> Option<String> {
        let keyring = self.verifier.keyring();
        let wanted = keyring.card()?;
        let number = Card::printed(wanted);
        let locked = matches!(cause, Cause::Locked | Cause::Unasked | Cause::Cancelled);
        if !locked && !matches!(cause, Cause::NoCard | Cause::NoSecretKey | Cause::Other | Cause::Refused) {
            return None;
        }
        match Card::in_reader(keyring.home()?) {
            None => Some(format!("the card {number} with the key is not there; insert it")),
            Some(card) if card.serial != wanted => {
                let other = Card::printed(&card.serial);
                Some(format!(
                    "the card {number} with the key is not there, another one is ({other}); insert the right one"
                ))
            }
            Some(_) if cause == Cause::Cancelled => {
                Some(format!("the PIN of the card {number} was asked for and not given; have it at hand"))
            }
            Some(card) if cause == Cause::Refused => Some(match card.tries_left {
                Some(1) => format!("the PIN of the card {number} is wrong, one try is left; correct it"),
                Some(left) => format!("the PIN of the card {number} is wrong, {left} tries are left; correct it"),
                None => format!("the PIN of the card {number} is wrong; correct it"),
            }),
            Some(card) if locked && card.asks_each_time => Some(format!(
                "the card {number} asks for its PIN at each signature, and nobody is there to type it; run \
                 `gpg --card-edit` (admin, forcesig) so that it asks once, and sign something in a terminal"
            )),
            Some(_) if locked => Some(format!(
                "the card {number} is locked and nobody is there to type its PIN; unlock it (sign something in a terminal)"
            )),
            Some(_) => None,
        }
    }

    /// What in gpg's configuration keeps it from signing.
    fn configuration_trouble(&self, cause: Cause, words: &str) -> Option<String> {
        let home = self.verifier.keyring().home()?;
        match cause {
            Cause::Other => {
                let (file, line) = configured(home, &AGAINST_SIGNING)?;
                Some(format!("gpg cannot sign, likely because of `{line}` in {}; take it out", file.display()))
            }
            Cause::Configuration => {
                let file = home.join("gpg.conf").display().to_string();
                let known = Path::new(&file).exists() && !words.contains(&file);
                known.then(|| {
                    format!("gpg's configuration is not right; look at {file} and at BINPKG_GPG_SIGNING_BASE_COMMAND")
                })
            }
            _ => None,
        }
    }

    /// Whether it is what a client accepts: one signature, of the key asked for, with the digest asked for, that does
    /// not expire, in the name of the key's owner.
    fn accept(&self, signatures: &[Signature], armored: &[u8]) -> Result<(), SignError> {
        let keyring = self.verifier.keyring();
        let [signature] = signatures else {
            let what = match signatures.len() {
                0 => "nothing that gpg takes for a signature".to_owned(),
                count => format!("{count} signatures instead of one"),
            };
            return Err(self.rubbish(what, &["local-user", "u", "default-key"]));
        };
        let signing = keyring.signing();
        let key = signature.key.as_ref().and_then(|key| signing?.key(key));
        let (Some(signing), Some(key)) =
            (signing, key.filter(|key| keyring.exact().is_none_or(|exact| *exact == key.fingerprint)))
        else {
            let shown = |name: Option<&str>| name.unwrap_or("none").to_owned();
            let wanted = keyring.exact().or(signing.map(|signing| &signing.fingerprint));
            let (wanted, made) = (wanted.map(Fingerprint::as_str), signature.key.as_ref().map(KeyHandle::as_str));
            let what = format!("a signature of another key, {} instead of {}", shown(made), shown(wanted));
            return Err(self.rubbish(what, &["local-user", "u", "default-key"]));
        };
        let not_good = match &signature.state {
            SignatureState::Good => None,
            SignatureState::Bad(why) | SignatureState::NotChecked(why) => Some(why.clone()),
            SignatureState::RevokedKey => Some("the key is revoked".to_owned()),
            SignatureState::ExpiredKey | SignatureState::Expired => Some("it, or its key, has expired".to_owned()),
            SignatureState::UnknownKey
            | SignatureState::OtherKey
            | SignatureState::SecretHere
            | SignatureState::SignedBefore => Some("of another key".to_owned()),
        };
        if let Some(why) = not_good {
            let suspects = [
                "compliance",
                "require-compliance",
                "cert-notation",
                "sig-notation",
                "set-notation",
                "faked-system-time",
            ];
            return Err(self.rubbish(format!("a signature that is not good ({why})"), &suspects));
        }
        if let Some(digest) = &self.command.digest
            && *digest != signature.digest
        {
            let what =
                format!("a signature with digest {} instead of {digest} (key {})", signature.digest, key.fingerprint);
            return Err(self.rubbish(what, &["digest-algo", "compliance"]));
        }
        if signature.expires.is_some_and(|time| time != SystemTime::UNIX_EPOCH) {
            return Err(self.rubbish("a signature that expires".to_owned(), &["default-sig-expire", "ask-sig-expire"]));
        }
        let name = packet::signer_of(armored);
        let name = name.map_err(|_| self.rubbish("something else than one signature".to_owned(), &["comment"]))?;
        match name {
            Some(name) if !signing.is_named(&name) => {
                Err(self
                    .rubbish(format!("a signature in the name of {name}, which the key does not have"), &["sender"]))
            }
            _ => Ok(()),
        }
    }

    /// What came back is not what was asked for; one of these options of gpg's is the likely cause, if it is set.
    fn rubbish(&self, what: String, suspects: &[&str]) -> SignError {
        let home = self.verifier.keyring().home();
        let blamed = home.and_then(|home| configured(home, suspects));
        let blamed = blamed.map(|(file, line)| format!("`{line}` in {}", file.display()));
        SignError::Rubbish { program: self.command.program(), what, blamed }
    }
}

/// The options with which gpg prints no signature, or something else before it.
const WITHOUT_OUTPUT: [&str; 9] =
    ["output", "o", "status-fd", "logger-fd", "attribute-fd", "max-output", "dry-run", "n", "no-armor"];

/// The options that keep gpg from using a key, or what it signs with.
const AGAINST_SIGNING: [&str; 6] =
    ["compliance", "require-compliance", "disable-pubkey-algo", "weak-digest", "min-rsa-length", "debug-quick-random"];

/// Whether a clear-signed text is this one: as clear-signing defines it (RFC 9580, 7.2), blanks at the end of a line and
/// the last line end are not signed, and line ends are all the same. Sequoia signs the last line end, and adds another
/// one: empty lines at the end do not count.
fn is_same_text(signed: &[u8], text: &[u8]) -> bool {
    let lines = |text: &'_ [u8]| -> Vec<Vec<u8>> {
        let mut lines: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(|line| trimmed(line).to_vec()).collect();
        while lines.last().is_some_and(Vec::is_empty) {
            lines.pop();
        }
        lines
    };
    lines(signed) == lines(text)
}

/// A line without the blanks at its end.
fn trimmed(mut line: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t' | b'\r'] = line {
        line = rest;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clear_signing_leaves_out_makes_no_other_text() {
        for (one, other) in [("a\nb\n", "a\nb"), ("a\nb\n", "a \r\nb\t\r\n"), ("", "\n"), ("a\n\n", "a\n")] {
            assert!(is_same_text(one.as_bytes(), other.as_bytes()), "{one:?} {other:?}");
        }
        for (one, other) in [("a\nb\n", "a\n\nb\n"), ("a\n", "\na\n"), ("a\n", " a\n"), ("a\nb", "ab")] {
            assert!(!is_same_text(one.as_bytes(), other.as_bytes()), "{one:?} {other:?}");
        }
    }
}
