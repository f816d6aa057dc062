//! OpenPGP: whose a signature is, and making new ones. The only place that knows gpgme and the signing command.
//!
//! gpgme finds keys and verifies; the signing itself runs `BINPKG_GPG_SIGNING_BASE_COMMAND`, as Portage does
//! (`portage/gpg.py`, `gpkg.py: checksum_helper`), because gpgme knows no digest, wrapper, lock or passphrase file.
//! Nothing here imports into, or writes to, a keyring of the user's, and no network is used.

pub mod keys;
pub mod sign;
mod talk;
pub mod verify;

pub use keys::{Certificate, KeyError, Keyring};
pub use sign::{SignError, Signer, SigningCommand};
pub use verify::{Signature, SignatureState, Verifier, VerifyError};

/// An OpenPGP context for the gpg home `home`, that reads no network and changes no trust.
fn context(home: &std::path::Path) -> Result<gpgme::Context, gpgme::Error> {
    let mut context = gpgme::Context::from_protocol(gpgme::Protocol::OpenPgp)?;
    context.set_engine_home_dir(home.as_os_str().as_encoded_bytes())?;
    context.set_offline(true);
    context.set_flag("auto-key-retrieve", "0")?;
    // with any other model listing keys makes gpg write its trust database; what is ours is pinned by fingerprint
    context.set_flag("trust-model", "always")?;
    Ok(context)
}

#[cfg(test)]
mod tests;
