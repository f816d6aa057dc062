//! `doctor`: whether signing, keys, hook, PKGDIR and index are in order, and how to mend what is not.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use crate::index::PackageIndex;
use crate::openpgp::{Keyring, Signer, keys};
use crate::report::{Level, Status, Style, mark};
use crate::settings::{Signing, SyncHooks};
use crate::store::{self, Store};
use crate::updates::Selection;
use crate::{Error, Run, run};

/// A key that expires within this time is warned of.
pub const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// The hook as it is installed.
const HOOK: &str = include_str!("../hooks/postsync.d/50-binpkg-resign");

/// What `doctor` found.
#[derive(Debug, Serialize)]
pub struct Diagnosis {
    command: &'static str,
    status: Status,
    checks: Vec<Check>,
    counts: Counts,
    seconds: f64,
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it is.
    pub state: State,
    /// What was found.
    pub text: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// In order.
    Ok,
    /// It works, but somebody should know.
    Warning,
    /// Packages can be lost, or cannot be signed.
    Problem,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Counts {
    ok: usize,
    warning: usize,
    problem: usize,
}

struct Doctor {
    checks: Vec<Check>,
}

impl Doctor {
    fn note(&mut self, name: &'static str, state: State, text: impl Into<String>, fix: Option<&str>) {
        self.checks.push(Check { name, state, text: text.into(), fix: fix.map(str::to_owned) });
    }

    fn ok(&mut self, name: &'static str, text: impl Into<String>) {
        self.note(name, State::Ok, text, None);
    }

    fn warn(&mut self, name: &'static str, text: impl Into<String>, fix: &str) {
        self.note(name, State::Warning, text, Some(fix));
    }

    fn problem(&mut self, name: &'static str, text: impl Into<String>, fix: &str) {
        self.note(name, State::Problem, text, Some(fix));
    }
}

/// Looks at everything that must be in order for a sync to cost no package. Nothing is changed; one test signature is
/// made, as `emerge` makes to unlock the key.
///
/// # Errors
/// Portage's configuration cannot be read at all.
pub fn diagnose(run: &Run<'_>) -> Result<Diagnosis, Error> {
    let began = Instant::now();
    let mut doctor = Doctor { checks: Vec::new() };
    match run.settings.signing()? {
        Some(signing) => {
            doctor.ok("signing", format!("binary packages are signed with {}", signing.key));
            keys_of(&mut doctor, run, &signing)?;
        }
        None => doctor.warn(
            "signing",
            format!("binary packages are not signed here ({})", run.why_not_configured()?),
            "to sign them, set FEATURES=\"binpkg-signing\", BINPKG_GPG_SIGNING_GPG_HOME and BINPKG_GPG_SIGNING_KEY",
        ),
    }
    hook(&mut doctor, run);
    switches(&mut doctor, run)?;
    packages(&mut doctor, run)?;
    held(&mut doctor, run)?;
    next_sync(&mut doctor, run)?;
    let count = |state| doctor.checks.iter().filter(|check| check.state == state).count();
    let counts = Counts { ok: count(State::Ok), warning: count(State::Warning), problem: count(State::Problem) };
    let status = if counts.problem > 0 { Status::Incomplete } else { Status::Done };
    let seconds = (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    Ok(Diagnosis { command: "doctor", status, checks: doctor.checks, counts, seconds })
}

fn keys_of(doctor: &mut Doctor, run: &Run<'_>, signing: &Signing) -> Result<(), Error> {
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
pub fn expiry(keyring: &Keyring) -> Option<String> {
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
    match Signer::new(&command, keyring.verifier().map_err(crate::openpgp::SignError::from)?).detached(b"") {
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

fn hook(doctor: &mut Doctor, run: &Run<'_>) {
    let folder = run.settings.config_root().join("etc/portage/postsync.d");
    let mut found = Vec::new();
    hooks_below(&folder, 8, &mut found);
    let Some((path, text)) = found.into_iter().next() else {
        let text = format!("no hook below {}: emerge --sync will remove signed packages", folder.display());
        doctor.problem("hook", text, "install hooks/postsync.d/50-binpkg-resign there, executable");
        return;
    };
    let mode = path.metadata().map_or(0, |facts| facts.permissions().mode());
    let shown = path.display();
    if mode & 0o111 == 0 {
        doctor.problem(
            "hook",
            format!("{shown} is not executable: Portage passes it over"),
            &format!("chmod +x {shown}"),
        );
    } else if text != HOOK {
        doctor.warn("hook", format!("{shown} is not the hook of this version"), "compare it with the one shipped");
    } else {
        doctor.ok("hook", format!("{shown} is installed"));
    }
}

/// Files that mention us, as Portage walks the folder: recursively, names with a dot before or `~` behind passed over.
fn hooks_below(folder: &Path, depth: usize, found: &mut Vec<(PathBuf, String)>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        if path.is_dir() && depth > 0 {
            hooks_below(&path, depth - 1, found);
        } else if let Ok(text) = std::fs::read_to_string(&path)
            && text.contains("binpkg-resign")
        {
            found.push((path, text));
        }
    }
}

/// Settings of Portage's that keep the hook, or the pass, from running.
fn switches(doctor: &mut Doctor, run: &Run<'_>) -> Result<(), Error> {
    let repositories = run.settings.repositories()?;
    let on_change = repositories.iter().filter(|repository| repository.sync_hooks == SyncHooks::OnChange).count();
    let always = repositories.iter().any(|repository| repository.sync_hooks == SyncHooks::Always);
    if on_change > 0 && !always {
        doctor.problem(
            "hooks",
            "sync-hooks-only-on-change is set on every repository: Portage's pass can run without the hook before it",
            "take it out of repos.conf for one repository",
        );
    } else {
        doctor.ok("hooks", "every sync runs the hooks");
    }
    let options = run.settings.get("EMERGE_DEFAULT_OPTS")?.unwrap_or_default();
    let words: Vec<&str> = options.split_whitespace().collect();
    let off = words.contains(&"--package-moves=n") || words.windows(2).any(|pair| pair == ["--package-moves", "n"]);
    if off {
        doctor.warn(
            "moves",
            "EMERGE_DEFAULT_OPTS has --package-moves=n: Portage applies no updates at all",
            "with the hook it is not needed any more: take it out",
        );
    } else {
        doctor.ok("moves", "Portage applies package moves");
    }
    Ok(())
}

/// PKGDIR and its index: readable, writable, in agreement.
fn packages(doctor: &mut Doctor, run: &Run<'_>) -> Result<(), Error> {
    let pkgdir = run.settings.pkgdir()?;
    let shown = pkgdir.display();
    if !pkgdir.is_dir() {
        doctor.warn("pkgdir", format!("PKGDIR {shown} is not there yet"), "the first package that is built makes it");
        return Ok(());
    }
    match rustix::fs::access(pkgdir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::READ_OK) {
        Ok(()) => doctor.ok("pkgdir", format!("PKGDIR {shown} can be written")),
        Err(error) => {
            doctor.problem("pkgdir", format!("PKGDIR {shown} cannot be written: {error}"), "run this as root")
        }
    }
    match run::read_index(pkgdir) {
        Ok(Some(index)) => agreement(doctor, pkgdir, &index),
        Ok(None) => doctor.ok("index", "there are no packages yet"),
        Err(error) => doctor.problem("index", error.to_string(), "emaint binhost --fix"),
    }
    Ok(())
}

fn agreement(doctor: &mut Doctor, pkgdir: &Path, index: &PackageIndex) {
    let mut wrong = Vec::new();
    for entry in (0..index.len()).filter_map(|number| index.entry(number)) {
        let Some(path) = entry.get("PATH") else { continue };
        let Ok(full) = store::below(pkgdir, path) else {
            wrong.push(path.to_owned());
            continue;
        };
        let fits = full.symlink_metadata().is_ok_and(|facts| {
            entry.get("SIZE").is_none_or(|size| *size == facts.size().to_string())
                && entry.get("MTIME").is_none_or(|mtime| *mtime == facts.mtime().to_string())
        });
        if !fits {
            wrong.push(path.to_owned());
        }
    }
    if wrong.is_empty() {
        doctor.ok("index", format!("the index agrees with its {} packages", index.len()));
    } else {
        let first = wrong.first().cloned().unwrap_or_default();
        let text = format!("the index does not agree with {} of {} packages ({first} …)", wrong.len(), index.len());
        doctor.problem("index", text, "emaint binhost --fix; `binpkg-resign verify` looks closer");
    }
}

fn held(doctor: &mut Doctor, run: &Run<'_>) -> Result<(), Error> {
    let count = Store::held_packages(run.settings.pkgdir()?)?.len();
    if count == 0 {
        doctor.ok("held", "no package is held");
    } else {
        doctor.warn(
            "held",
            format!("{count} packages are held"),
            "`binpkg-resign held` says why; `held retry` tries again",
        );
    }
    Ok(())
}

/// How many packages the updates concern that Portage has yet to process.
fn next_sync(doctor: &mut Doctor, run: &Run<'_>) -> Result<(), Error> {
    let updates = run::read_updates(run.settings, Selection::Pending)?;
    let concerned = match run::read_index(run.settings.pkgdir()?) {
        Ok(Some(index)) => crate::make_plan(run.settings, &index, &updates, run.settings.pkgdir()?)?.works.len(),
        _ => 0,
    };
    if concerned == 0 {
        doctor.ok("pending", "no package waits for an update");
    } else {
        doctor.warn(
            "pending",
            format!("{concerned} packages wait for updates: the next emerge applies them, and no hook runs before it"),
            "run `binpkg-resign apply` first (`apply --pretend` shows what it does)",
        );
    }
    Ok(())
}

impl Diagnosis {
    /// 0, or 1 where there is a problem.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        u8::from(self.status == Status::Incomplete)
    }

    /// One JSON object.
    ///
    /// # Errors
    /// It cannot be made (it always can).
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// The text for people: a line a check, with the way to mend it beneath.
    #[must_use]
    pub fn to_text(&self, style: Style) -> String {
        let mut out = String::new();
        for check in &self.checks {
            let (level, word) = match check.state {
                State::Ok => (Level::Info, "ok     "),
                State::Warning => (Level::Warning, "warning"),
                State::Problem => (Level::Error, "problem"),
            };
            out += &format!("{}{word}  {}\n", mark(level, style), check.text);
            if let Some(fix) = &check.fix {
                out += &format!("{}           {fix}\n", mark(level, style));
            }
        }
        out
    }
}
