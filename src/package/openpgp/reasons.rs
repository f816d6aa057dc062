//! Why a signing command failed (key locked, wrong PIN, no card, …), read from its words, and what we say to do about it.
//! gpg is asked to say them in English.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// What kept a signing command from signing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A passphrase or PIN is needed, and nobody is there to type it.
    Locked,
    /// Somebody is there, and could not be asked for it.
    Unasked,
    /// Somebody was asked for it, and refused, or did nothing.
    Cancelled,
    /// The passphrase or PIN was wrong. On a card each such try counts.
    Refused,
    /// The card's PIN was wrong too often.
    Blocked,
    /// The card, or its reader, is not there.
    NoCard,
    /// The secret key is not there.
    NoSecretKey,
    /// The key has expired.
    Expired,
    /// gpg's configuration is wrong.
    Configuration,
    /// The agent cannot be reached.
    NoAgent,
    /// A program that the command runs is not there.
    NoProgram,
    /// Something else.
    Other,
}

/// Words of GnuPG 2.2 to 2.5 and of Sequoia's gpg; the first that are found tell.
const WORDS: [(&str, Cause); 24] = [
    ("failed to execute", Cause::NoProgram),
    ("PIN blocked", Cause::Blocked),
    ("Bad PIN", Cause::Refused),
    ("Bad passphrase", Cause::Refused),
    ("Bad Passphrase", Cause::Refused),
    ("invalid option", Cause::Configuration),
    ("is not compatible", Cause::Configuration),
    ("conflicting commands", Cause::Configuration),
    ("does not yet work with", Cause::Configuration),
    ("Card not present", Cause::NoCard),
    ("Card removed", Cause::NoCard),
    ("Card error", Cause::NoCard),
    ("No such device", Cause::NoCard),
    ("Wrong card", Cause::NoCard),
    ("No SmartCard daemon", Cause::NoCard),
    ("Inappropriate ioctl", Cause::Locked),
    ("No pinentry", Cause::Locked),
    ("batchmode", Cause::Locked),
    ("Timeout", Cause::Cancelled),
    ("Operation cancelled", Cause::Cancelled),
    ("connect to the agent", Cause::NoAgent),
    ("No agent running", Cause::NoAgent),
    ("No secret key", Cause::NoSecretKey),
    ("expired", Cause::Expired),
];

/// What shells, and what else runs programs, end with where there is no such program.
const NOT_FOUND: i32 = 127;

impl Cause {
    /// The cause that the end of a failed command and its words tell, and those of its words that do.
    pub(super) fn told_by(status: ExitStatus, stderr: &[u8]) -> (Cause, String) {
        let lines = lines_of(stderr);
        let telling =
            WORDS.iter().find_map(|(said, cause)| Some((*cause, lines.iter().find(|line| line.contains(said))?)));
        match telling {
            Some((cause, line)) => (cause, line.clone()),
            None if status.code() == Some(NOT_FOUND) => (Cause::NoProgram, lines.join("; ")),
            None if lines.is_empty() => (Cause::Other, "it printed nothing".to_owned()),
            None => (Cause::Other, lines.join("; ")),
        }
    }

    /// The same cause where somebody sits at the terminal or, with none, nobody does.
    pub(super) fn seen_from(self, terminal: Option<&str>) -> Cause {
        match (self, terminal) {
            (Cause::Locked, Some(_)) => Cause::Unasked,
            // what pinentry-tty says where there is no terminal, and others when nobody answers
            (Cause::Cancelled, None) => Cause::Locked,
            (cause, _) => cause,
        }
    }

    /// The cause in plain words, and what to do about it; nothing where only the command's own words tell.
    pub(super) fn explained(self) -> Option<(&'static str, &'static str)> {
        let (cause, advice) = match self {
            Cause::Locked => (
                "the key is locked and nobody is there to type its passphrase",
                "unlock it (sign something in a terminal)",
            ),
            Cause::Unasked => (
                "the key is locked and its passphrase could not be asked for on this terminal",
                "choose a pinentry that can (`eselect pinentry`), or unlock the key elsewhere",
            ),
            Cause::Cancelled => ("the passphrase was asked for and not given", "have it at hand to unlock the key"),
            Cause::Refused => (
                "the passphrase or PIN is wrong",
                "it is not tried again by itself; correct it, where the signing command has it from a file or a cache, \
                 or unlock the key in a terminal",
            ),
            Cause::Blocked => (
                "the PIN of the card is blocked after too many wrong tries",
                "unblock it with `gpg --card-edit` (admin, passwd)",
            ),
            Cause::NoCard => ("the card with the key cannot be used", "insert it"),
            Cause::NoSecretKey => ("the secret key is not in this gpg home", "import it, or insert its card"),
            Cause::Expired => ("the key has expired", "extend it"),
            Cause::Configuration => ("gpg's configuration is not right", "fix it"),
            Cause::NoAgent => {
                ("the gpg agent cannot be reached", "see what `gpgconf --launch gpg-agent` says of that home")
            }
            Cause::NoProgram => (
                "a program that the signing command runs is not there",
                "install it, or correct BINPKG_GPG_SIGNING_BASE_COMMAND in make.conf",
            ),
            Cause::Other => return None,
        };
        Some((cause, advice))
    }
}

/// What a failed command said last: without what comes before it in gpg's lines, and each thing once.
fn lines_of(stderr: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(stderr);
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("[GNUPG:]")) {
        let line = line.strip_prefix("gpg: ").unwrap_or(line);
        let line = line.split_once(" failed: ").map_or(line, |(_, why)| why);
        if !lines.iter().any(|said| said.ends_with(line)) {
            lines.push(line.to_owned());
        }
    }
    // what comes last is why it failed
    lines.split_off(lines.len().saturating_sub(3))
}

/// Where gpg's configuration of a home, or of the whole machine, has one of these options.
pub(super) fn configured(home: &Path, options: &[&str]) -> Option<(PathBuf, String)> {
    let files = [home.join("gpg.conf"), PathBuf::from("/etc/gnupg/gpg.conf")];
    files.into_iter().find_map(|file| {
        let text = std::fs::read_to_string(&file).ok()?;
        let line = text.lines().map(str::trim).find(|line| {
            let name = line.split([' ', '\t', '=']).next().unwrap_or_default().trim_start_matches("--");
            options.contains(&name)
        })?;
        Some((file, line.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn words_are_shortened_and_understood() {
        let told = |stderr: &str| Cause::told_by(ExitStatus::from_raw(2 << 8), stderr.as_bytes());
        for (stderr, cause, words) in [
            (
                "gpg: WARNING: unsafe permissions on homedir '/home'\ngpg: signing failed: Inappropriate ioctl for device\n\
                 gpg: [stdin]: clear-sign failed: Inappropriate ioctl for device\n",
                Cause::Locked,
                "Inappropriate ioctl for device",
            ),
            (
                "gpg: skipped \"ours\": No secret key\ngpg: signing failed: No secret key\n",
                Cause::NoSecretKey,
                "skipped \"ours\": No secret key",
            ),
            ("gpg: signing failed: Bad PIN\n", Cause::Refused, "Bad PIN"),
            ("the card is busy today\ncome again\n", Cause::Other, "the card is busy today; come again"),
            ("\n", Cause::Other, "it printed nothing"),
        ] {
            assert_eq!(told(stderr), (cause, words.to_owned()));
        }
        let not_found = Cause::told_by(ExitStatus::from_raw(NOT_FOUND << 8), b"sh: 1: gpg: not found\n");
        assert_eq!(not_found, (Cause::NoProgram, "sh: 1: gpg: not found".to_owned()));
    }

    #[test]
    fn whether_somebody_is_there_makes_a_difference() {
        let terminal = Some("/dev/pts/1");
        assert_eq!(Cause::Cancelled.seen_from(terminal), Cause::Cancelled);
        assert_eq!(Cause::Cancelled.seen_from(None), Cause::Locked);
        assert_eq!(Cause::Locked.seen_from(terminal), Cause::Unasked);
        assert_eq!(Cause::Locked.seen_from(None), Cause::Locked);
        assert_eq!(Cause::Refused.seen_from(terminal), Cause::Refused);
    }

    #[test]
    fn every_cause_is_explained_in_plain_words() {
        let causes = [
            Cause::Locked,
            Cause::Unasked,
            Cause::Cancelled,
            Cause::Refused,
            Cause::Blocked,
            Cause::NoCard,
            Cause::NoSecretKey,
            Cause::Expired,
            Cause::Configuration,
            Cause::NoAgent,
            Cause::NoProgram,
        ];
        let told: Vec<String> = (causes.iter())
            .filter_map(|cause| cause.explained().map(|(cause, advice)| format!("{cause}; {advice}")))
            .collect();
        insta::assert_snapshot!("causes", told.join("\n"));
        assert_eq!(Cause::Other.explained(), None);
    }
}
