//! Whether the key can sign, also without a terminal, and whether this host's own Portage trusts it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use super::Doctor;
use crate::commands::{Error, Run};
use crate::package::openpgp::{Keyring, Signer, keys};
use crate::portage::settings::Signing;

/// A key that expires within this time is warned of.
pub(super) const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

pub(super) fn keys_of(doctor: &mut Doctor, run: &Run<'_>, signing: &Signing) -> Result<(), Error> {
    let keyring = match run.open_keyring(signing)? {
        Ok(keyring) => keyring,
        Err(error) => {
            doctor.problem("key", error.to_string(), "see BINPKG_GPG_SIGNING_GPG_HOME and BINPKG_GPG_SIGNING_KEY");
            return Ok(());
        }
    };
    let certificate = keyring.signing();
    let name = format!("{} ({})", certificate.fingerprint, certificate.user_id);
    if let Some(problem) = keyring.unusable() {
        doctor.problem("key", problem.to_string(), "packages are held until the key can sign");
        return Ok(());
    }
    doctor.ok("key", format!("the secret key {name} is there"));
    match expiry(&keyring) {
        Some(text) => {
            let fix = format!("gpg --homedir {} --quick-set-expire {} 2y", signing.home, certificate.fingerprint);
            doctor.warn("expiry", text, &fix);
        }
        None => doctor.ok("expiry", "the signing key does not expire within 30 days"),
    }
    test_signature(doctor, run, signing, &keyring)?;
    clients(doctor, run, &certificate.fingerprint)
}

/// What is to be said of a signing key that expires soon.
#[must_use]
pub(crate) fn expiry(keyring: &Keyring) -> Option<String> {
    let expires = keyring.signing().signing_expires(keyring.exact())?;
    let left = expires.duration_since(SystemTime::now()).ok()?;
    (left < SOON).then(|| format!("the signing key expires in {} days", left.as_secs() / 86400))
}

/// Signs nothing, without a terminal, as a sync under cron would.
fn test_signature(doctor: &mut Doctor, run: &Run<'_>, signing: &Signing, keyring: &Keyring) -> Result<(), Error> {
    let command = match run.signing_command_without_terminal(signing) {
        Ok(command) => command,
        Err(error) => {
            doctor.problem("command", error.to_string(), "mend BINPKG_GPG_SIGNING_BASE_COMMAND in make.conf");
            return Ok(());
        }
    };
    match Signer::new(&command, keyring.verifier().map_err(crate::package::openpgp::SignError::from)?).detached(b"") {
        Ok(_) => doctor.ok("command", "the signing command works, also without a terminal"),
        Err(error) => doctor.warn(
            "command",
            format!("no signature without a terminal: {error}"),
            "packages that a sync under cron concerns would be held; give the command its passphrase \
             (--pinentry-mode loopback --passphrase-file …) or unlock the key before",
        ),
    }
    Ok(())
}

/// Whether the keyring that Portage verifies with trusts the key (`BINPKG_GPG_VERIFY_GPG_HOME`).
fn clients(doctor: &mut Doctor, run: &Run<'_>, fingerprint: &str) -> Result<(), Error> {
    let home = run.settings.get("BINPKG_GPG_VERIFY_GPG_HOME")?.unwrap_or_default().to_owned();
    let fix = format!(
        "if this host installs its own packages: gpg --homedir {home} --import, then set the key's ownertrust to ultimate \
         (getuto does it)"
    );
    match keys::trust_in(Path::new(&home), fingerprint) {
        Ok(keys::Trust::Full) => doctor.ok("trust", format!("{home} trusts the key")),
        Ok(keys::Trust::Less) => doctor.warn("trust", format!("{home} has the key, but does not trust it"), &fix),
        Ok(keys::Trust::Absent) => doctor.warn("trust", format!("{home} does not have the key"), &fix),
        Err(error) => doctor.warn("trust", error.to_string(), &fix),
    }
    Ok(())
}
