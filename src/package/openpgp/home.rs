//! Asks gpg, and its agent, which keys a home of the user has.

use std::path::PathBuf;

use super::certificate::Certificate;
use super::daemon::Daemon;
use super::gpg::{Answer, Gpg, GpgError};
use super::key_error::KeyError;

/// The gpg that gpgme runs.
pub(super) fn program() -> Result<PathBuf, KeyError> {
    let _starts = crate::children::GpgmeStarts::begin();
    let context = gpgme::Context::from_protocol(gpgme::Protocol::OpenPgp)
        .map_err(|source| KeyError::Engine { source: source.into() })?;
    let path = context.engine_info().path().ok().map(PathBuf::from);
    Ok(path.unwrap_or_else(|| PathBuf::from("gpg")))
}

/// The certificates that `name` selects, in the order of the keyring. The agent is not asked, and with `trust-model
/// always` gpg does not write its trust database.
pub(super) fn list(gpg: &Gpg<'_>, name: &str) -> Result<Vec<Certificate>, GpgError> {
    gpg.run([&LISTING[..], &["--list-keys", name]].concat(), b"").and_then(certificates)
}

/// What makes a listing complete.
const LISTING: [&str; 6] =
    ["--trust-model", "always", "--with-colons", "--with-keygrip", "--with-fingerprint", "--with-fingerprint"];

/// The certificates of an answer; none where gpg says that it has none.
pub(super) fn certificates(answer: Answer) -> Result<Vec<Certificate>, GpgError> {
    const NO_PUBLIC_KEY: &str = "9";
    let found = Certificate::of_listing(&answer.out);
    let none = answer.status_line("ERROR keylist.getkey") == Some(NO_PUBLIC_KEY)
        || answer.words.iter().any(|line| line.ends_with("No public key"));
    if found.is_empty() && none {
        return Ok(found);
    }
    answer.checked().map(|_| found)
}

/// The certificates with these fingerprints as they are, or all that there are.
pub(super) fn export<'a>(gpg: &Gpg<'_>, fingerprints: impl IntoIterator<Item = &'a str>) -> Result<Vec<u8>, GpgError> {
    let words = ["--trust-model", "always", "--no-armor", "--export"].into_iter().chain(fingerprints);
    Ok(gpg.run(words, b"")?.checked()?.out)
}

/// Asks the agent which secret halves it has, or a card of its.
pub(super) fn ask_agent(gpg: &Gpg<'_>, found: &mut [Certificate]) -> Result<(), KeyError> {
    let failed = |source| KeyError::of_gpg(gpg.home, "ask the agent for the secret keys", source);
    let names = found.iter().map(|certificate| certificate.fingerprint.as_str());
    let words: Vec<&str> = LISTING.iter().copied().chain(["--with-secret", "--list-keys"]).chain(names).collect();
    let answer = gpg.run(words, b"").map_err(failed)?;
    for answered in Certificate::of_listing(&answer.out) {
        let same = found.iter_mut().find(|certificate| certificate.fingerprint == answered.fingerprint);
        let Some(same) = same else { continue };
        for (key, answered) in same.keys.iter_mut().zip(answered.keys) {
            key.secret = answered.secret;
            key.card = answered.card;
        }
    }
    let any_secret = found.iter().flat_map(|certificate| &certificate.keys).any(|key| key.secret);
    if !any_secret && answer.words.iter().any(|line| line.contains("agent")) {
        let (home, words) = (gpg.home.to_owned(), answer.last_words());
        return Err(KeyError::Agent { advice: Daemon::Agent.advice(gpg.home), home, words });
    }
    Ok(())
}
