//! Questions to a running agent that gpg itself does not put.

use std::io::Read;
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
    let mut child = crate::children::start(&mut command).ok()?;
    let patience = Patience::new(LIMIT, std::sync::Arc::default());
    let talk = converse(&mut child, std::io::empty(), 1 << 16, &patience).ok()?;
    (talk.ended == Ended::ByItself).then(|| String::from_utf8_lossy(&talk.out).into_owned())
}

/// Within so many bytes a file of the agent says which kind of key it has; what is secret comes later.
const KIND: u64 = 64;

/// Whether a key signs without anybody's passphrase: it has none, or the agent knows it. A key that neither the agent nor
/// a file of the home tells of may ask.
pub(super) fn asks_nobody(home: &Path, keygrip: &str) -> bool {
    let answer = ask(home, &[&format!("KEYINFO {keygrip}")]).unwrap_or_default();
    let info = answer.lines().find_map(|line| line.strip_prefix("S KEYINFO ")?.strip_prefix(keygrip));
    if let Some(info) = info {
        let [kind, _serial, _id, cached, protection, ..] = info.split_whitespace().collect::<Vec<_>>()[..] else {
            return false;
        };
        return kind == "D" && (cached == "1" || protection == "C");
    }
    let file = home.join(format!("private-keys-v1.d/{keygrip}.key"));
    // `private-key` by itself; one with a passphrase is a `protected-private-key`, a stub for a card a `shadowed-` one
    let mut key = Vec::new();
    // its kind stands at the beginning; what is secret is not read
    let _ = std::fs::File::open(file).and_then(|file| file.take(KIND).read_to_end(&mut key));
    let has = |word: &[u8]| key.windows(word.len()).any(|window| window == word);
    has(b"private-key") && !has(b"protected-private-key") && !has(b"shadowed-private-key")
}

/// Whether the agent is another machine's, through its extra socket: it signs, and does not tell which keys it has.
pub(super) fn is_elsewhere(home: &Path) -> bool {
    ask(home, &["GETINFO restricted"]).is_some_and(|answer| answer.starts_with("OK"))
}
