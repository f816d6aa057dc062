//! Whether this host's own Portage trusts our key, and can read the keyring that says so.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Doctor, remedy};
use crate::commands::{Error, Run};
use crate::package::openpgp::trust;
use crate::portage::fingerprint::Fingerprint;
use crate::portage::settings::Signing;

const AT_ALL: &str = "if this host installs its own packages:";
/// What getuto makes, with Gentoo's own keys; it does so only where nothing is there yet.
const GETUTO: &str = "/etc/portage/gnupg";
/// What gpg has to read there to verify.
const READ: [&str; 3] = ["pubring.kbx", "pubring.gpg", "trustdb.gpg"];

/// Whether the keyring that Portage verifies with trusts the key (`BINPKG_GPG_VERIFY_GPG_HOME`).
pub(super) fn clients(
    doctor: &mut Doctor,
    run: &Run<'_>,
    signing: &Signing,
    fingerprint: &Fingerprint,
) -> Result<(), Error> {
    let home = run.settings.get("BINPKG_GPG_VERIFY_GPG_HOME")?.unwrap_or_default();
    let place = Path::new(home);
    let real = place.canonicalize().unwrap_or_else(|_| place.to_owned());
    match trust::trust_in(place, fingerprint) {
        Ok(trust::Trust::Full) if trust::uses_keyboxd(place) => doctor.warn(
            "trust",
            format!("{home} trusts the key, but keeps it in keyboxd, which Portage cannot use as nobody"),
            &format!("{AT_ALL} remove use-keyboxd from its common.conf, and import the key again"),
        ),
        Ok(trust::Trust::Full) => match kept_from_portage(run, &real)? {
            None => doctor.ok("trust", format!("{home} trusts the key")),
            Some(kept) => {
                let text = format!("{home} trusts the key, but Portage verifies as {}, who may not read", kept.from);
                let fix = match kept.path.starts_with(&real) {
                    true => readable(&real),
                    false => "keep it in a place that they can reach (BINPKG_GPG_VERIFY_GPG_HOME)".to_owned(),
                };
                doctor.warn("trust", format!("{text} {}", kept.path.display()), &format!("{AT_ALL} {fix}"));
            }
        },
        Ok(trust::Trust::Less) => {
            let text = format!("{home} has the key, but does not trust it");
            doctor.warn("trust", text, &format!("{AT_ALL}\n{}", trusting(home, fingerprint)));
        }
        Ok(trust::Trust::Absent) => {
            let text = format!("{home} does not have the key");
            doctor.warn("trust", text, &format!("{AT_ALL}\n{}", adding(home, signing, fingerprint)));
        }
        Err(_) if is_absence(place) => {
            let first = match home {
                GETUTO => "getuto".to_owned(),
                _ => format!("mkdir -m 755 {home}"),
            };
            let fix = format!("{AT_ALL}\n{first}\n{}", adding(home, signing, fingerprint));
            doctor.warn("trust", format!("{home} is not there, with which Portage verifies"), &fix);
        }
        Err(error) => doctor.warn("trust", error.to_string(), remedy(&error, "Portage cannot use it either")),
    }
    Ok(())
}

fn is_absence(path: &Path) -> bool {
    path.metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// The commands that add the key to the keyring, and trust in it.
fn adding(home: &str, signing: &Signing, fingerprint: &Fingerprint) -> String {
    let from = &signing.home;
    format!(
        "gpg --homedir {from} --export {fingerprint} | gpg --homedir {home} --import\n{}",
        trusting(home, fingerprint)
    )
}

/// The commands that have the keyring trust a key it has, and Portage read that.
fn trusting(home: &str, fingerprint: &Fingerprint) -> String {
    format!(
        "echo {fingerprint}:6: | gpg --homedir {home} --import-ownertrust\n\
         gpg --homedir {home} --check-trustdb\n\
         chmod go+rX {home} {home}/pubring.kbx {home}/trustdb.gpg"
    )
}

/// The command that has everybody read what Portage needs there, and nothing else: getuto keeps a secret key there.
fn readable(home: &Path) -> String {
    let files = READ.iter().map(|name| home.join(name)).filter(|file| file.exists());
    let paths: Vec<String> =
        [home.to_owned()].into_iter().chain(files).map(|path| path.display().to_string()).collect();
    format!("chmod go+rX {}", paths.join(" "))
}

/// Something that Portage has to read and may not.
struct Kept {
    from: String,
    path: PathBuf,
}

/// Portage, run by root, verifies as another user: what of this home is kept from them. Access control lists, and groups
/// beside the one that Portage chooses, are passed over.
fn kept_from_portage(run: &Run<'_>, home: &Path) -> Result<Option<Kept>, Error> {
    let user = run.settings.get("GPG_VERIFY_USER_DROP")?.unwrap_or("nobody");
    let group = run.settings.get("GPG_VERIFY_GROUP_DROP")?.unwrap_or("nogroup");
    if user.is_empty() || !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let group = match group {
        "" => Some(rustix::process::getegid().as_raw()),
        _ => id_in("/etc/group", group),
    };
    let reader = Reader { user: id_in("/etc/passwd", user), group };
    let is_kept = |path: &Path, bit| path.metadata().is_ok_and(|facts| !reader.may(bit, &facts));
    let above = home.ancestors().filter(|folder| is_kept(folder, SEARCH)).last().map(Path::to_owned);
    let file = || READ.iter().map(|name| home.join(name)).find(|file| is_kept(file, READ_BIT));
    Ok(above.or_else(file).map(|path| Kept { from: user.to_owned(), path }))
}

const READ_BIT: u32 = 0o4;
const SEARCH: u32 = 0o1;

/// Who reads; a user or group that nobody knows owns nothing.
struct Reader {
    user: Option<u32>,
    group: Option<u32>,
}

impl Reader {
    /// Whether the mode of a file lets them.
    fn may(&self, bit: u32, facts: &Metadata) -> bool {
        let shift = match (Some(facts.uid()) == self.user, Some(facts.gid()) == self.group) {
            (true, _) => 6,
            (false, true) => 3,
            (false, false) => 0,
        };
        facts.mode() >> shift & bit != 0
    }
}

/// The number of a user or group, which stands in the third field of both files.
fn id_in(file: &str, name: &str) -> Option<u32> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_the_mode_lets_them() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let facts = |mode| {
            file.as_file().set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
            file.as_file().metadata().unwrap()
        };
        let (own, other) = (file.as_file().metadata().unwrap(), Some(u32::MAX));
        let reader = |user, group| Reader { user, group };
        let (owner, member) = (reader(Some(own.uid()), other), reader(other, Some(own.gid())));
        let (anybody, unknown) = (reader(other, other), reader(None, None));
        let may = |reader: &Reader| [0o400, 0o040, 0o004].map(|mode| reader.may(READ_BIT, &facts(mode)));
        assert_eq!(may(&owner), [true, false, false]);
        assert_eq!(may(&member), [false, true, false]);
        assert_eq!(may(&anybody), [false, false, true]);
        assert_eq!(may(&unknown), [false, false, true]);
    }

    #[test]
    fn numbers() {
        assert_eq!(id_in("/etc/passwd", "root"), Some(0));
        assert_eq!(id_in("/etc/passwd", "no such user"), None);
        assert_eq!(id_in("/nowhere", "root"), None);
    }
}
