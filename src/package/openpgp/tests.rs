//! With the real gpg, in homes of their own.

use super::*;
use crate::portage::fingerprint::{Fingerprint, KeyHandle};
use crate::portage::settings::Signing;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A gpg home with a short path; its agent ends with it.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Home {
        let folder = tempfile::Builder::new().prefix("g.").tempdir_in("/tmp").unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        Home { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn gpg(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut child = Command::new("gpg")
            .arg("--homedir")
            .arg(self.path())
            .args(["--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "gpg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn key(&self, user: &str, more: &[&str]) -> String {
        let mut arguments = more.to_vec();
        arguments.extend(["--quick-generate-key", user, "ed25519", "sign"]);
        arguments.push(if more.is_empty() { "never" } else { "1y" });
        self.gpg(&arguments, b"");
        self.fingerprint(user)
    }

    fn fingerprint(&self, user: &str) -> String {
        let listing = String::from_utf8(self.gpg(&["--with-colons", "--list-keys", user], b"")).unwrap();
        let line = listing.lines().find(|line| line.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().to_owned()
    }

    fn clear_sign(&self, key: &str, text: &str, more: &[&str]) -> Vec<u8> {
        let mut arguments = more.to_vec();
        arguments.extend(["--local-user", key, "--digest-algo", "SHA512", "--clear-sign"]);
        self.gpg(&arguments, text.as_bytes())
    }

    fn signing(&self, key: &str) -> Signing {
        Signing {
            home: self.path().to_str().unwrap().to_owned(),
            key: key.to_owned(),
            digest: "SHA512".to_owned(),
            base_command: "gpg --sign --armor [PORTAGE_CONFIG]".to_owned(),
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").arg("--homedir").arg(self.path()).args(["--kill", "all"]).status();
    }
}

fn state_of(keyring: &Keyring, message: &[u8]) -> Vec<SignatureState> {
    let (_, signatures) = keyring.verifier().unwrap().clear_signed(message).unwrap();
    signatures.into_iter().map(|signature| signature.state).collect()
}

fn handle(key: &str) -> KeyHandle {
    KeyHandle::new(key).unwrap()
}

fn replaced(old: &str, new: &str) -> [(Fingerprint, Fingerprint); 1] {
    [(Fingerprint::new(old).unwrap(), Fingerprint::new(new).unwrap())]
}

#[test]
fn signatures_are_told_apart() {
    let home = Home::new();
    let ours = home.key("ours <ours@example.org>", &[]);
    let other = home.key("other <other@example.org>", &[]);
    let keyring = Keyring::open(home.path(), &ours, &[]).unwrap();
    assert!(keyring.unusable().is_none());
    let good = home.clear_sign(&ours, "text\n", &[]);
    let (text, signatures) = keyring.verifier().unwrap().clear_signed(&good).unwrap();
    assert_eq!((text.as_slice(), signatures[0].key.as_ref()), (&b"text\n"[..], Some(&handle(&ours))));
    assert_eq!((signatures[0].digest.as_str(), &signatures[0].state), ("SHA512", &SignatureState::Good));
    let elsewhere = Home::new();
    let stranger = elsewhere.key("stranger <stranger@example.org>", &[]);
    let theirs = elsewhere.clear_sign(&stranger, "text\n", &[]);
    assert_eq!(state_of(&keyring, &theirs), [SignatureState::UnknownKey]);
    assert_eq!(state_of(&keyring, &home.clear_sign(&other, "text\n", &[])), [SignatureState::SecretHere]);
    home.gpg(&["--import"], &elsewhere.gpg(&["--export", &stranger], b""));
    assert_eq!(state_of(&keyring, &theirs), [SignatureState::UnknownKey]);
    let both = home.clear_sign(&ours, "text\n", &["--local-user", &other]);
    let states = state_of(&keyring, &both);
    assert!(states.len() == 2 && states.contains(&SignatureState::SecretHere), "{states:?}");
    let tampered = String::from_utf8(good.clone()).unwrap().replace("text", "test");
    assert!(matches!(state_of(&keyring, tampered.as_bytes())[..], [SignatureState::Bad(_)]));
    assert!(state_of(&keyring, b"DATA image.tar 1 SHA512 aa\n").is_empty());
    let mut framed = b"not signed\n".to_vec();
    framed.extend_from_slice(&good);
    framed.extend_from_slice(b"nor this\n");
    let (text, signatures) = keyring.verifier().unwrap().clear_signed(&framed).unwrap();
    assert_eq!((text.as_slice(), &signatures[0].state), (&b"text\n"[..], &SignatureState::Good));
}

#[test]
fn a_certificate_that_gpg_does_not_find_makes_nobody_a_stranger() {
    let home = Home::new();
    let ours = home.key("ours <ours@example.org>", &[]);
    let keyring = Keyring::open(home.path(), &ours, &[]).unwrap();
    let good = home.clear_sign(&ours, "text\n", &[]);
    std::fs::remove_file(keyring.private_home().path().join("pubring.kbx")).unwrap();
    assert!(
        matches!(state_of(&keyring, &good)[..], [SignatureState::NotChecked(_)]),
        "{:?}",
        state_of(&keyring, &good)
    );
}

#[test]
fn a_gpg_that_verifies_for_ever_is_ended() {
    let home = Home::new();
    let ours = home.key("ours <ours@example.org>", &[]);
    let patience = Patience::new(Duration::from_secs(1), std::sync::Arc::default());
    let keyring = Keyring::open_within(home.path(), &ours, &[], &patience).unwrap();
    let good = home.clear_sign(&ours, "text\n", &[]);
    let began = std::time::Instant::now();
    // a writer that never comes
    let settings = keyring.private_home().path().join("gpg.conf");
    let pipe = keyring.private_home().path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut file = std::fs::OpenOptions::new().append(true).open(settings).unwrap();
    writeln!(file, "keyring {}", pipe.display()).unwrap();
    let error = keyring.verifier().unwrap().clear_signed(&good).unwrap_err();
    assert!(matches!(error, VerifyError::TimedOut { seconds: 1 }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn an_expired_key_vouches_for_what_it_signed_while_it_lived() {
    let home = Home::new();
    let old = home.key("old <old@example.org>", &["--faked-system-time", "20200101T000000"]);
    let new = home.key("new <new@example.org>", &[]);
    let then = home.clear_sign(&old, "text\n", &["--faked-system-time", "20200601T000000"]);
    // with the key that should sign expired nothing is signed, whatever is believed
    let keyring = Keyring::open(home.path(), &old, &[]).unwrap();
    assert!(matches!(keyring.unusable(), Some(KeyError::Expired { .. })));
    assert_eq!(state_of(&keyring, &then), [SignatureState::Good]);
    assert_eq!(keyring.owner(&handle(&old)).unwrap(), Owner::Expired);
    let keyring = Keyring::open(home.path(), &new, &replaced(&old, &new)).unwrap();
    assert_eq!(state_of(&keyring, &then), [SignatureState::Good]);
    assert_eq!(keyring.owner(&handle(&old)).unwrap(), Owner::Former);
}

#[test]
fn a_revoked_key_vouches_for_nothing() {
    let home = Home::new();
    let key = home.key("gone <gone@example.org>", &[]);
    let message = home.clear_sign(&key, "text\n", &[]);
    let certificate = home.path().join(format!("openpgp-revocs.d/{key}.rev"));
    let certificate = std::fs::read_to_string(certificate).unwrap().replace(":-----BEGIN", "-----BEGIN");
    home.gpg(&["--import"], certificate.as_bytes());
    let keyring = Keyring::open(home.path(), &key, &[]).unwrap();
    assert!(matches!(keyring.unusable(), Some(KeyError::Revoked { .. })));
    assert_eq!(state_of(&keyring, &message), [SignatureState::RevokedKey]);
}

#[test]
fn keys_that_are_not_there_are_named() {
    let home = Home::new();
    let error = Keyring::open(Path::new("/nonexistent/gpg"), "0x1234", &[]).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/gpg"), "{error}");
    let error = Keyring::open(home.path(), "nobody@example.org", &[]).unwrap_err();
    assert!(error.to_string().contains("nobody@example.org"), "{error}");
    let key = home.key("k <k@example.org>", &[]);
    let public = home.gpg(&["--export", &key], b"");
    let elsewhere = Home::new();
    elsewhere.gpg(&["--import"], &public);
    let keyring = Keyring::open(elsewhere.path(), &key, &[]).unwrap();
    assert!(matches!(keyring.unusable(), Some(KeyError::NoSecret { .. })), "{:?}", keyring.unusable());
}

#[test]
fn every_way_to_name_a_key_finds_it() {
    let home = Home::new();
    let key = home.key("named <named@example.org>", &[]);
    let long_id = format!("0x{}", &key[24..]);
    let short = format!("{}!", &key[32..]);
    for name in [key.as_str(), &long_id, &short, "named@example.org", &format!("{key}!"), &format!("{long_id}!")] {
        let keyring = Keyring::open(home.path(), name, &[]).unwrap();
        assert_eq!(keyring.signing().unwrap().fingerprint.as_str(), key, "{name}");
        assert_eq!(keyring.exact().is_some(), name.ends_with('!'), "{name}");
    }
}

#[test]
fn a_migrated_key_counts_as_ours_but_does_not_sign() {
    let home = Home::new();
    let new = home.key("new <new@example.org>", &[]);
    let old = home.key("old <old@example.org>", &[]);
    let message = home.clear_sign(&old, "text\n", &[]);
    let keyring = Keyring::open(home.path(), &new, &replaced(&old, &new)).unwrap();
    assert_eq!(state_of(&keyring, &message), [SignatureState::Good]);
    assert!(keyring.has_former_keys() && keyring.is_former(&handle(&old)) && !keyring.is_former(&handle(&new)));
}

fn command_within(signing: &Signing, timeout: Duration) -> SigningCommand {
    let line = |kind| sign::with_config(signing, kind);
    let (detached, clear) = (line(sign::Kind::Detached), line(sign::Kind::Clear));
    SigningCommand::new(&detached, &clear, &signing.digest, std::env::vars_os().collect(), None, timeout).unwrap()
}

fn command(signing: &Signing) -> SigningCommand {
    command_within(signing, Duration::from_secs(20))
}

#[test]
fn the_default_command_signs_and_the_result_is_checked() {
    let home = Home::new();
    let key = home.key("ours <ours@example.org>", &[]);
    let keyring = Keyring::open(home.path(), &key, &[]).unwrap();
    let command = command(&home.signing(&key));
    let mut signer = Signer::new(&command, keyring.verifier().unwrap());
    let signature = signer.detached(b"data").unwrap();
    let found = keyring.verifier().unwrap().detached(&signature, || &b"data"[..]).unwrap();
    assert_eq!((&found[0].state, found[0].digest.as_str()), (&SignatureState::Good, "SHA512"));
    let message = signer.clear("DATA a 1 SHA512 aa\n").unwrap();
    assert!(message.starts_with(b"-----BEGIN PGP SIGNED MESSAGE-----"));
}

fn refusal(home: &Home, key: &str, base_command: &str) -> String {
    let keyring = Keyring::open(home.path(), key, &[]).unwrap();
    let signing = Signing { base_command: base_command.to_owned(), ..home.signing(key) };
    let command = command_within(&signing, Duration::from_secs(5));
    let mut signer = Signer::new(&command, keyring.verifier().unwrap());
    signer.detached(b"data").unwrap_err().to_string()
}

#[test]
fn a_command_that_does_not_sign_as_asked_is_refused() {
    let home = Home::new();
    let key = home.key("ours <ours@example.org>", &[]);
    let other = home.key("other <other@example.org>", &[]);
    let script = |text: &str| -> PathBuf {
        let path = home.path().join("wrapper");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        path
    };
    let base = home.path().display().to_string();
    let run = |text: &str| refusal(&home, &key, &format!("{} [PORTAGE_CONFIG]", script(text).display()));
    assert!(run("cat >/dev/null; echo rubbish").contains("no armored signature"));
    assert!(run("exec gpg --sign --armor --homedir \"$2\" --detach-sig -u ".to_owned().as_str()).contains("failed"));
    let other_key = format!("exec gpg --homedir {base} --batch --armor --digest-algo SHA512 -u {other} --detach-sig");
    assert!(run(&other_key).contains("a signature of another key"));
    let weaker = format!("exec gpg --homedir {base} --batch --armor --digest-algo SHA256 -u {key} --detach-sig");
    assert!(run(&weaker).contains("digest SHA256 instead of SHA512"));
    let elsewhere =
        format!("echo other | gpg --homedir {base} --batch --armor --digest-algo SHA512 -u {key} --detach-sig");
    assert!(run(&elsewhere).contains("not good"));
    assert!(run("cat >/dev/null; echo 'gpg: signing failed: No pinentry' >&2; exit 2").contains("unlock it"));
    assert!(refusal(&home, &key, "/nonexistent/gpg").contains("/nonexistent/gpg"));
}

#[test]
fn a_command_that_hangs_is_ended_and_not_tried_again() {
    let home = Home::new();
    let key = home.key("ours <ours@example.org>", &[]);
    let keyring = Keyring::open(home.path(), &key, &[]).unwrap();
    let signing = Signing { base_command: "sh -c 'sleep 600 & wait'".to_owned(), ..home.signing(&key) };
    let command = command_within(&signing, Duration::from_millis(300));
    let began = std::time::Instant::now();
    let mut signer = Signer::new(&command, keyring.verifier().unwrap());
    assert!(matches!(signer.detached(b"data"), Err(SignError::TimedOut { .. })));
    assert!(matches!(signer.detached(b"data"), Err(SignError::GivenUp)));
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn no_verification_waits_for_a_command_that_is_started_meanwhile() {
    let home = Home::new();
    let ours = home.key("ours <ours@example.org>", &[]);
    let patience = Patience::new(Duration::from_secs(20), std::sync::Arc::default());
    let keyring = Keyring::open_within(home.path(), &ours, &[], &patience).unwrap();
    let message = home.clear_sign(&ours, "text\n", &[]);
    let others = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        // as signing commands do that wait for somebody, each of these lives until all is verified
        scope.spawn(|| {
            let mut waiting = Vec::new();
            while others.load(std::sync::atomic::Ordering::Relaxed) && waiting.len() < 1000 {
                let mut command = Command::new("cat");
                waiting.push(crate::children::start(command.stdin(Stdio::piped()).stdout(Stdio::null())).unwrap());
            }
            while others.load(std::sync::atomic::Ordering::Relaxed) {
                std::thread::yield_now();
            }
            for mut child in waiting {
                drop(child.stdin.take());
                child.wait().unwrap();
            }
        });
        let mut verifier = keyring.verifier().unwrap();
        let outcomes: Vec<_> =
            (0..50).map(|_| verifier.clear_signed(&message).map(|_| ())).take_while(Result::is_ok).collect();
        others.store(false, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(outcomes.len(), 50);
    });
}

/// What is said of a detached signature, whether the quick gpg runs on, and what gpgme alone says.
fn both_ways(keyring: &Keyring, signature: &[u8], data: &[u8]) -> (Vec<Signature>, bool, Vec<Signature>) {
    let mut verifier = keyring.verifier().unwrap();
    let found = verifier.detached(signature, || data).unwrap();
    let slow = keyring.verifier().unwrap().slow().detached(signature, || data).unwrap();
    (found, verifier.is_quick(), slow)
}

#[test]
fn one_gpg_for_many_signatures_says_what_gpgme_says() {
    let home = Home::new();
    let ours = home.key("ours <ours@example.org>", &[]);
    let keyring = Keyring::open(home.path(), &ours, &[]).unwrap();
    let sign = |data: &[u8], more: &[&str]| {
        let usual = ["--local-user", &ours, "--digest-algo", "SHA512", "--armor", "--detach-sign"];
        home.gpg(&[more, &usual].concat(), data)
    };
    let large = vec![7; 200_000];
    for size in [0, 1, 65_529, 65_530, 65_531, 131_066, 200_000] {
        let data = &large[..size];
        let (found, quick, slow) = both_ways(&keyring, &sign(data, &[]), data);
        assert_eq!((&found, quick), (&slow, true), "{size} bytes");
        assert_eq!(found[0].state, SignatureState::Good);
    }
    let signature = sign(b"data", &[]);
    for (signature, data) in [
        (signature.clone(), &b"date"[..]),
        (signature.clone(), &b"data "[..]),
        (signature.clone(), &b""[..]),
        (sign(b"data", &["--local-user", &home.key("other <other@example.org>", &[])]), &b"data"[..]),
        (sign(b"data", &["--textmode"]), &b"data"[..]),
        (sign(b"data", &["--sig-notation", "a@example.org=b"]), &b"data"[..]),
        (sign(b"data", &["--comment", "a"]), &b"data"[..]),
        ([signature.clone(), signature.clone()].concat(), &b"data"[..]),
        (home.gpg(&["--local-user", &ours, "--armor", "--sign"], b"data"), &b"data"[..]),
        (b"no signature".to_vec(), &b"data"[..]),
    ] {
        let (found, quick, slow) = both_ways(&keyring, &signature, data);
        assert_eq!((&found, quick), (&slow, false), "{}", String::from_utf8_lossy(&signature));
    }
    let mut verifier = keyring.verifier().unwrap();
    for _ in 0..3 {
        assert_eq!(verifier.detached(&signature, || &b"data"[..]).unwrap()[0].state, SignatureState::Good);
        // one that is bad is asked of gpgme, and does not end the quick way for good
        assert!(verifier.is_quick());
        assert!(matches!(verifier.detached(&signature, || &b"date"[..]).unwrap()[0].state, SignatureState::Bad(_)));
    }
}

#[test]
fn a_signature_over_what_it_brings_along_is_not_one_over_the_data() {
    let home = Home::new();
    let ours = home.key("ours <ours@example.org>", &[]);
    let keyring = Keyring::open(home.path(), &ours, &[]).unwrap();
    let armored = home.gpg(&["--local-user", &ours, "--armor", "--detach-sign"], b"good");
    let mut packets = packet::dearmored(&armored).unwrap();
    // a literal data packet: binary, no name, no date
    packets.extend_from_slice(&[0xCB, 10, b'b', 0, 0, 0, 0, 0, b'g', b'o', b'o', b'd']);
    let armored = home.gpg(&["--enarmor"], &packets);
    let armored = String::from_utf8(armored).unwrap().replace("ARMORED FILE", "SIGNATURE");
    let armored: String =
        armored.lines().filter(|line| !line.starts_with("Comment")).map(|line| format!("{line}\n")).collect();
    let found = keyring.verifier().unwrap().detached(armored.as_bytes(), || &b"evil"[..]);
    let is_good = |signature: &Signature| signature.state == SignatureState::Good;
    assert!(!found.as_ref().is_ok_and(|found| found.iter().any(is_good)), "{found:?}");
}

/// GnuPG before 2.4.6 takes the line behind a packet without checksum and padding for more of it.
#[test]
fn an_armor_that_gpg_reads_otherwise_is_no_plain_one() {
    let home = Home::new();
    // their names make the packet longer
    for (user, rest) in [("o@example.org", 2), ("ou@example.org", 0), ("our@example.org", 1)] {
        let ours = home.key(user, &[]);
        let keyring = Keyring::open(home.path(), &ours, &[]).unwrap();
        let sign = || home.gpg(&["--local-user", user, "--digest-algo", "SHA512", "--armor", "--detach-sign"], b"data");
        // some signatures are a byte shorter
        let mut signed = std::iter::repeat_with(sign);
        let armored = signed.find(|armored| packet::dearmored(armored).unwrap().len() % 3 == rest).unwrap();
        let armored = String::from_utf8(armored).unwrap();
        let (found, quick, slow) = both_ways(&keyring, armored.as_bytes(), b"data");
        assert_eq!((&found, quick), (&slow, true), "{armored}");
        let begin = "-----BEGIN PGP SIGNATURE-----\n\n";
        let (data, _) = armored.rsplit_once("\n=").unwrap();
        for other in [
            format!("{data}\n-----END PGP SIGNATURE-----\n"),
            armored.replace(begin, &format!("{begin}xxx-----BEGIN PGP SIGNATURE-----\n    \n")),
            armored.replace("==\n=", "=A\n="),
        ] {
            let (found, quick, slow) = both_ways(&keyring, other.as_bytes(), b"data");
            assert_eq!((&found, quick), (&slow, other == armored), "{other}");
        }
    }
}

#[test]
fn a_clear_signed_text_is_the_same_both_ways() {
    let home = Home::new();
    let ours = home.key("ours <ours@example.org>", &[]);
    let keyring = Keyring::open(home.path(), &ours, &[]).unwrap();
    let both = |message: &[u8]| {
        let mut verifier = keyring.verifier().unwrap();
        let found = verifier.clear_signed(message).unwrap();
        let slow = keyring.verifier().unwrap().slow().clear_signed(message).unwrap();
        assert_eq!(found, slow, "{}", String::from_utf8_lossy(message));
        (found.1.into_iter().next().map(|signature| signature.state), verifier.is_quick())
    };
    for (text, plain) in [
        ("DATA a 1 SHA512 aa\nDATA b 2\n", true),
        ("ä\n\nb\n", true),
        ("- a\n", false),
        ("a \n", false),
        ("a\r\n", false),
    ] {
        assert_eq!(both(&home.clear_sign(&ours, text, &[])), (Some(SignatureState::Good), plain), "{text:?}");
    }
    let message = String::from_utf8(home.clear_sign(&ours, "a\nb\n", &[])).unwrap();
    for (from, to) in [("a\n", "c\n"), ("SHA512", "SHA256"), ("b\n", "b\n\n"), ("a\n", "a"), ("Hash: SHA512\n", "")] {
        let changed = message.replacen(from, to, 1);
        assert_ne!(both(changed.as_bytes()).0, Some(SignatureState::Good), "{changed}");
    }
    for around in [format!("x\n{message}"), format!("{message}x\n"), format!("{message}{message}")] {
        let mut verifier = keyring.verifier().unwrap();
        let found = verifier.clear_signed(around.as_bytes()).map_err(|error| error.to_string());
        let slow =
            keyring.verifier().unwrap().slow().clear_signed(around.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(found, slow, "{around}");
        assert!(!verifier.is_quick());
    }
}
