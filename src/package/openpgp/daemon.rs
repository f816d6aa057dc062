//! What may keep gpg's daemons, which have the keys, from running in a home.

use std::path::Path;

use rustix::fs::{Access, access};

use super::gpg::foreign_locks;

/// What a socket's name may be long, in bytes (`sockaddr_un`).
const SOCKET_NAME: usize = 107;

/// A daemon that gpg starts, and asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Daemon {
    /// The agent, which has the secret keys.
    Agent,
    /// keyboxd, which has the public ones where it is used (GnuPG 2.4 and newer).
    Keyboxd,
}

impl Daemon {
    /// What to do where it cannot be reached in this home.
    pub(super) fn advice(self, home: &Path) -> String {
        let (name, socket, program) = match self {
            Daemon::Agent => ("the agent", "S.gpg-agent.browser", "gpg-agent"),
            Daemon::Keyboxd => ("keyboxd", "S.keyboxd", "keyboxd"),
        };
        // GnuPG 2.5 gives up waiting for these by itself
        if let Some(locks) = foreign_locks(home) {
            return locks.trim_start_matches("; ").to_owned();
        }
        if access(home, Access::WRITE_OK).is_err() {
            return format!("the home cannot be written, which {name} needs for its socket");
        }
        if home.join(socket).as_os_str().len() > SOCKET_NAME {
            return format!("the path of the home is too long for {name}'s sockets; choose a shorter one");
        }
        let settings = home.join("gpg-agent.conf");
        if self == Daemon::Agent && settings.exists() {
            return format!(
                "see what `gpg-agent --homedir {} --gpgconf-test` says of {}",
                home.display(),
                settings.display()
            );
        }
        format!("see what `gpgconf --homedir {} --launch {program}` says", home.display())
    }
}
