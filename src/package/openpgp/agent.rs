//! Questions to a running agent that gpg itself does not put.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::talk::{Ended, Patience, converse};

/// How long it is given: one that waits for a passphrase or a PIN may answer nobody.
const LIMIT: Duration = Duration::from_secs(5);

/// What the agent of a home answers to these commands (Assuan's lines); none where no agent runs, or it does not answer.
pub(super) fn ask(home: &Path, commands: &[&str]) -> Option<String> {
    let mut command = Command::new("gpg-connect-agent");
    command.arg("--homedir").arg(home).arg("--no-autostart").args(commands).arg("/bye");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    let patience = Patience::new(LIMIT, std::sync::Arc::default());
    let talk = converse(&mut child, std::io::empty(), 1 << 16, &patience).ok()?;
    (talk.ended == Ended::ByItself).then(|| String::from_utf8_lossy(&talk.out).into_owned())
}

/// Whether the agent is another machine's, through its extra socket: it signs, and does not tell which keys it has.
pub(super) fn is_elsewhere(home: &Path) -> bool {
    ask(home, &["GETINFO restricted"]).is_some_and(|answer| answer.starts_with("OK"))
}
