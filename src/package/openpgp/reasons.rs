//! Why a signing command failed, read from its words: gpg is asked to say them in English.

use std::path::{Path, PathBuf};

/// What kept a signing command from signing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A passphrase or PIN is needed, and nobody is there to type it.
    Locked,
    /// Somebody was asked for it, and refused.
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
    /// Something else.
    Other,
}

/// Words of GnuPG 2.2 to 2.5 and of Sequoia's gpg; the first that are found tell.
const WORDS: [(&str, Cause); 21] = [
    ("PIN blocked", Cause::Blocked),
    ("Bad PIN", Cause::Refused),
    ("Bad passphrase", Cause::Refused),
    ("Bad Passphrase", Cause::Refused),
    ("invalid option", Cause::Configuration),
    ("is not compatible", Cause::Configuration),
    ("Card not present", Cause::NoCard),
    ("Card removed", Cause::NoCard),
    ("Card error", Cause::NoCard),
    ("No such device", Cause::NoCard),
    ("Wrong card", Cause::NoCard),
    ("No SmartCard daemon", Cause::NoCard),
    ("Inappropriate ioctl", Cause::Locked),
    ("No pinentry", Cause::Locked),
    ("batchmode", Cause::Locked),
    ("Timeout", Cause::Locked),
    ("Operation cancelled", Cause::Cancelled),
    ("connect to the agent", Cause::NoAgent),
    ("No agent running", Cause::NoAgent),
    ("No secret key", Cause::NoSecretKey),
    ("expired", Cause::Expired),
];

impl Cause {
    /// The cause that a command's last words tell.
    pub(super) fn of(words: &str) -> Cause {
        WORDS.iter().find(|(said, _)| words.contains(said)).map_or(Cause::Other, |(_, cause)| *cause)
    }

    /// The cause in plain words, and what to do about it; nothing where only the command's own words tell.
    pub(super) fn explained(self) -> Option<(&'static str, &'static str)> {
        let (cause, advice) = match self {
            Cause::Locked => (
                "the key is locked and nobody is there to type its passphrase",
                "unlock it (sign something in a terminal)",
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
            Cause::Other => return None,
        };
        Some((cause, advice))
    }
}

/// What a failed command said last: without what comes before it in gpg's lines, and once.
pub(super) fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("[GNUPG:]")) {
        let line = line.strip_prefix("gpg: ").unwrap_or(line);
        let line = line.split_once(" failed: ").map_or(line, |(_, why)| why);
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    let tail = lines.get(lines.len().saturating_sub(3)..).unwrap_or_default();
    if tail.is_empty() { "it printed nothing".to_owned() } else { tail.join("; ") }
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
    use super::*;

    #[test]
    fn words_are_shortened_and_understood() {
        let stderr = b"gpg: signing failed: Inappropriate ioctl for device\n\
            gpg: [stdin]: clear-sign failed: Inappropriate ioctl for device\n";
        assert_eq!(last_words(stderr), "Inappropriate ioctl for device");
        assert_eq!(Cause::of(&last_words(stderr)), Cause::Locked);
        assert_eq!(last_words(b"\n"), "it printed nothing");
        assert_eq!(last_words(b"the card is busy today\n"), "the card is busy today");
        assert_eq!(Cause::of("the card is busy today"), Cause::Other);
        assert_eq!(Cause::of("Bad PIN"), Cause::Refused);
    }
}
