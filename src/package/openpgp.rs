//! OpenPGP: whose a signature is, and making new ones. The only place that knows gpgme and the signing command.
//!
//! gpgme verifies, in a private home; what is plainly a good signature of ours is told by one gpg for all of them, since
//! most of what a verification costs is gpg's start. gpg itself is asked for the keys of the user's home, with a
//! deadline, which gpgme has none of: agents hang, and locks are left behind. The signing runs `BINPKG_GPG_SIGNING_BASE_COMMAND`, as Portage
//! does (`portage/gpg.py`, `gpkg.py: checksum_helper`), because gpgme knows no digest, wrapper, lock or passphrase
//! file. Nothing here imports into, or writes to, a keyring of the user's, and no network is used.

mod agent;
pub mod card;
mod certificate;
mod command;
mod daemon;
mod gpg;
mod home;
mod key_error;
pub mod keys;
mod multifile;
mod own_file;
mod packet;
mod plain;
mod private;
mod reasons;
mod refusal;
pub mod sign;
mod signed_with;
mod talk;
mod temporary;
pub mod trust;
pub mod verify;
mod watchdog;

pub use certificate::{Certificate, KeyFacts};
pub use command::SigningCommand;
pub use gpg::GpgError;
pub use key_error::KeyError;
pub use keys::{Keyring, Owner};
pub use packet::maker_of;
pub use reasons::Cause;
pub use refusal::Refusals;
pub use sign::{SignError, Signer};
pub use signed_with::SignedWith;
pub use talk::Patience;
pub use verify::{Signature, SignatureState, Verifier, VerifyError};

/// An OpenPGP context for the gpg home `home`, that reads no network and changes no trust.
fn context(home: &std::path::Path) -> Result<gpgme::Context, gpgme::Error> {
    // it asks gpg for its version
    let _starts = crate::children::GpgmeStarts::begin();
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
