//! Whether the key can sign, also without a terminal, and how many packages each key has signed.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::{Doctor, clients, remedy};
use crate::commands::{Error, Run};
use crate::package::openpgp::card::{ALL_TRIES, Card};
use crate::package::openpgp::{Cause, Keyring, Owner, SignError, Signer};
use crate::pkgdir::Pkgdir;
use crate::portage::settings::Signing;

/// A key that expires within this time is warned of.
pub(super) const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

pub(super) fn keys_of(
    doctor: &mut Doctor,
    run: &Run<'_>,
    signing: &Signing,
    pkgdir: Option<&Pkgdir>,
) -> Result<(), Error> {
    let keyring = match run.open_keyring(signing)? {
        Ok(keyring) => keyring,
        Err(error) => {
            let fix = remedy(&error, "see BINPKG_GPG_SIGNING_GPG_HOME and BINPKG_GPG_SIGNING_KEY");
            doctor.problem("key", error.to_string(), fix);
            return Ok(());
        }
    };
    let Some(certificate) = keyring.signing() else { return Ok(()) };
    let name = format!("{} ({})", certificate.fingerprint, certificate.user_id);
    if let Some(problem) = keyring.unusable() {
        doctor.problem("key", problem.to_string(), "packages are held until the key can sign");
        return Ok(());
    }
    let usable = match keyring.card() {
        None => {
            doctor.ok("key", format!("the secret key {name} is there"));
            true
        }
        Some(serial) => card(doctor, signing, &name, serial),
    };
    match expiry(&keyring) {
        Some(text) => {
            let fix = format!("gpg --homedir {} --quick-set-expire {} 2y", signing.home, certificate.fingerprint);
            doctor.warn("expiry", text, &fix);
        }
        None => doctor.ok("expiry", "the signing key does not expire within 30 days"),
    }
    if usable {
        let what = "whether the signing command works";
        doctor.look("command", what, |doctor| test_signatures(doctor, run, signing, &keyring));
    }
    if let Some(pkgdir) = pkgdir {
        let what = "which keys have signed the packages";
        doctor.look("signers", what, |doctor| signers(doctor, run, &keyring, pkgdir));
    }
    let what = "whether Portage trusts the key";
    doctor.look("trust", what, |doctor| clients::clients(doctor, run, signing, &certificate.fingerprint));
    Ok(())
}

/// How many packages which key has signed, by what they say themselves.
fn signers(doctor: &mut Doctor, run: &Run<'_>, keyring: &Keyring, pkgdir: &Pkgdir) -> Result<(), Error> {
    for signers in run.signers_by(keyring, pkgdir)? {
        match signers.owner {
            Owner::Configured | Owner::Other => doctor.ok("signers", signers.text()),
            Owner::Former => doctor.warn("signers", signers.text(), &signers.advice()),
            Owner::InHome(_) | Owner::SignedBefore(_) | Owner::Expired => {
                doctor.problem("signers", signers.text(), &signers.advice());
            }
        }
    }
    Ok(())
}

/// What is to be said of a signing key that expires soon.
#[must_use]
pub(crate) fn expiry(keyring: &Keyring) -> Option<String> {
    let expires = keyring.signing()?.signing_expires(keyring.exact())?;
    let left = expires.duration_since(SystemTime::now()).ok()?;
    (left < SOON).then(|| match left.as_secs() / 86400 {
        0 => "the signing key expires within a day".to_owned(),
        1 => "the signing key expires in 1 day".to_owned(),
        days => format!("the signing key expires in {days} days"),
    })
}

/// Whether the card with the key is there, and nothing is lost by trying it.
fn card(doctor: &mut Doctor, signing: &Signing, name: &str, serial: &str) -> bool {
    let number = Card::printed(serial);
    let home = &signing.home;
    let found = match Card::in_reader(Path::new(home)) {
        Some(found) if found.serial == serial => found,
        other => {
            let instead = other.map(|other| format!(", another one is ({})", Card::printed(&other.serial)));
            let text =
                format!("the key {name} is on the card {number}, which is not there{}", instead.unwrap_or_default());
            doctor.problem("key", text, "insert it; packages are held until then");
            return false;
        }
    };
    doctor.ok("key", format!("the key {name} is on the card {number}, which is there"));
    if found.asks_each_time {
        doctor.warn(
            "card",
            "the card asks for its PIN at each signature: once, and twice for each package (21 times for 10 packages)",
            &format!("to be asked once: gpg --homedir {home} --card-edit, then admin and forcesig"),
        );
    }
    match found.tries_left {
        Some(left) if left < ALL_TRIES => {
            let tries = if left == 1 { "one try is".to_owned() } else { format!("{left} tries are") };
            let text = format!("a wrong PIN was given to the card, {tries} left; no signature is tried");
            let fix = "sign something in a terminal with the right PIN, which sets the counter back; if the signing \
                       command has the PIN from a file, correct that";
            doctor.problem("card", text, fix);
            false
        }
        _ => true,
    }
}

/// Signs nothing, as a file and as a text, without a terminal, as a sync under cron would.
fn test_signatures(doctor: &mut Doctor, run: &Run<'_>, signing: &Signing, keyring: &Keyring) -> Result<(), Error> {
    let command = match run.signing_command_without_terminal(signing) {
        Ok(command) => command,
        Err(error) => {
            doctor.problem("command", error.to_string(), "fix BINPKG_GPG_SIGNING_BASE_COMMAND in make.conf");
            return Ok(());
        }
    };
    let mut signer = Signer::new(&command, keyring.verifier().map_err(SignError::from)?);
    let signed = signer.detached(b"").and_then(|_| signer.clear("a test by binpkg-resign\n"));
    match signed {
        Ok(_) => doctor.ok("command", "the signing command works, also without a terminal"),
        Err(
            error @ (SignError::Start { .. }
            | SignError::Failed { cause: Cause::NoProgram, .. }
            | SignError::Rubbish { .. }),
        ) => {
            doctor.problem("command", error.to_string(), "packages are held until it signs as Portage asks it to");
        }
        Err(error @ SignError::RefusedBefore { .. }) => {
            let fix =
                "correct the passphrase or PIN, then run `binpkg-resign held retry`; packages are held until then";
            doctor.problem("command", error.to_string(), fix);
        }
        Err(error) if error.wants_a_passphrase() => doctor.warn(
            "command",
            format!("no signature without a terminal: {error}"),
            "packages that a sync under cron concerns would be held; give the command its passphrase \
             (--pinentry-mode loopback --passphrase-file …) or unlock the key before",
        ),
        Err(error) => {
            doctor.problem(
                "command",
                format!("no signature without a terminal: {error}"),
                "packages are held until it signs",
            );
        }
    }
    Ok(())
}
