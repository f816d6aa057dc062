//! `verify`: every package of PKGDIR, or the files given: container, digests, signatures, whose they are, and what the
//! index says of them.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use serde::Serialize;

use super::{Error, Run};
use crate::package::gpkg::{self, Codec, Container, GpkgError, Manifest};
use crate::package::openpgp::{KeyError, Keyring, Signature, SignatureState, Verifier};
use crate::portage::index::Entry;
use crate::report::{Detail, Level, Status, Style, mark};

/// What `verify` found.
#[derive(Debug, Serialize)]
pub struct Audit {
    command: &'static str,
    status: Status,
    packages: Vec<Finding>,
    counts: Counts,
    seconds: f64,
}

/// What was found of one package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file, below PKGDIR or as it was given.
    pub path: String,
    /// Category, name and version, where the index has it.
    pub cpv: Option<String>,
    /// Its build id, if it has one.
    pub build_id: Option<String>,
    /// Whether it is good, and whose.
    pub outcome: Grade,
    /// The keys that signed it.
    pub signers: Vec<String>,
    /// What is wrong, or what could not be found out.
    pub reason: Option<String>,
}

/// How a package fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// Whole, and signed by us.
    Ours,
    /// Whole, and signed by somebody else.
    Foreign,
    /// Whole, and not signed.
    Unsigned,
    /// Something is wrong with it.
    Bad,
}

#[derive(Debug, Default, Clone, Copy, Serialize)]
struct Counts {
    ours: usize,
    foreign: usize,
    unsigned: usize,
    bad: usize,
}

/// One file to look at.
struct Subject {
    shown: String,
    path: PathBuf,
    entry: Option<Entry>,
}

/// Checks the files given, or every package that PKGDIR or its index has.
///
/// # Errors
/// The configuration, the index or the keys cannot be read.
pub fn audit(run: &Run<'_>, files: &[PathBuf]) -> Result<Audit, Error> {
    let began = Instant::now();
    let pkgdir = run.settings.pkgdir()?;
    let mut missing = Vec::new();
    let subjects = if files.is_empty() { all_of(pkgdir, &mut missing)? } else { given(files) };
    let keyring = keyring(run)?;
    let codec = run.codec()?;
    let mut packages = missing;
    packages.extend(look_at_all(run, &subjects, &keyring, &codec));
    packages.sort_by(|a, b| a.path.cmp(&b.path));
    let count = |grade| packages.iter().filter(|finding| finding.outcome == grade).count();
    let counts = Counts {
        ours: count(Grade::Ours),
        foreign: count(Grade::Foreign),
        unsigned: count(Grade::Unsigned),
        bad: count(Grade::Bad),
    };
    let status = match packages.len() {
        _ if counts.bad > 0 => Status::Incomplete,
        0 => Status::NothingToDo,
        _ => Status::Done,
    };
    let seconds = (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    Ok(Audit { command: "verify", status, packages, counts, seconds })
}

/// Our keys, where packages are signed here, and those that clients trust.
fn keyring(run: &Run<'_>) -> Result<Keyring, Error> {
    let mut keyring = match run.settings.signing()? {
        Some(signing) => match run.open_keyring(&signing)? {
            Ok(keyring) => keyring,
            Err(error @ KeyError::Engine { .. }) => return Err(error.into()),
            Err(error) => {
                log::warn!("{error}; no package can be told to be ours");
                Keyring::none()?
            }
        },
        None => Keyring::none()?,
    };
    if let Some(home) = run.settings.get("BINPKG_GPG_VERIFY_GPG_HOME")?.filter(|home| !home.is_empty())
        && let Err(error) = keyring.know_others(Path::new(home))
    {
        log::info!("{error}; signatures of others are not checked");
    }
    Ok(keyring)
}

fn given(files: &[PathBuf]) -> Vec<Subject> {
    let subject = |file: &PathBuf| Subject { shown: file.display().to_string(), path: file.clone(), entry: None };
    files.iter().map(subject).collect()
}

/// What the index names and what lies in PKGDIR; packages of the index that are not there go to `missing`.
fn all_of(pkgdir: &Path, missing: &mut Vec<Finding>) -> Result<Vec<Subject>, Error> {
    let mut entries: HashMap<String, Entry> = HashMap::new();
    if let Some(index) = super::read_index(pkgdir)? {
        for entry in (0..index.len()).filter_map(|number| index.entry(number)) {
            if let Some(path) = entry.get("PATH").filter(|path| path.ends_with(".gpkg.tar")) {
                entries.insert(path.to_owned(), entry);
            }
        }
    }
    let mut files = Vec::new();
    packages_below(pkgdir, "", 4, &mut files);
    let mut subjects = Vec::new();
    for file in files {
        let entry = entries.remove(&file);
        subjects.push(Subject { path: pkgdir.join(&file), shown: file, entry });
    }
    for (path, entry) in entries {
        let reason = "the index names it, but the file is not there; run `emaint binhost --fix`";
        missing.push(finding(path, Some(&entry), Grade::Bad, Vec::new(), Some(reason.to_owned())));
    }
    Ok(subjects)
}

fn packages_below(folder: &Path, below: &str, depth: usize, found: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{below}{name}");
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 1 && !name.starts_with('.') => {
                packages_below(&entry.path(), &format!("{path}/"), depth - 1, found);
            }
            Ok(kind) if !kind.is_dir() && name.ends_with(".gpkg.tar") && !name.starts_with('.') => found.push(path),
            _ => {}
        }
    }
}

fn look_at_all(run: &Run<'_>, subjects: &[Subject], keyring: &Keyring, codec: &Codec) -> Vec<Finding> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::sync_channel(run.jobs);
    let mut findings = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..run.jobs.min(subjects.len()) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                let mut verifier = keyring.verifier();
                while let Some(subject) = subjects.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if run.interrupt.signal().is_some() {
                        return;
                    }
                    let found = match &mut verifier {
                        Ok(verifier) => look_at(subject, codec, verifier),
                        Err(error) => bad(subject, Vec::new(), error.to_string()),
                    };
                    if sender.send(found).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for found in receiver {
            findings.push(found);
            (run.progress)(findings.len(), subjects.len());
        }
    });
    findings
}

fn finding(
    path: String,
    entry: Option<&Entry>,
    outcome: Grade,
    signers: Vec<String>,
    reason: Option<String>,
) -> Finding {
    let text = |key: &str| entry.and_then(|entry| entry.get(key)).map(str::to_owned);
    Finding { path, cpv: text("CPV"), build_id: text("BUILD_ID"), outcome, signers, reason }
}

fn bad(subject: &Subject, signers: Vec<String>, reason: String) -> Finding {
    finding(subject.shown.clone(), subject.entry.as_ref(), Grade::Bad, signers, Some(reason))
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("cannot read it: {0}")]
    Read(#[from] std::io::Error),
    #[error(transparent)]
    Container(#[from] GpkgError),
    #[error(transparent)]
    Gpg(#[from] crate::package::openpgp::VerifyError),
    #[error("{0}")]
    Wrong(String),
}

fn look_at(subject: &Subject, codec: &Codec, verifier: &mut Verifier<'_>) -> Finding {
    let mut signers = Vec::new();
    match grade(subject, codec, verifier, &mut signers) {
        Ok((grade, remark)) => finding(subject.shown.clone(), subject.entry.as_ref(), grade, signers, remark),
        Err(fault) => bad(subject, signers, fault.to_string()),
    }
}

fn grade(
    subject: &Subject,
    codec: &Codec,
    verifier: &mut Verifier<'_>,
    signers: &mut Vec<String>,
) -> Result<(Grade, Option<String>), Fault> {
    if std::fs::symlink_metadata(&subject.path)?.is_symlink() {
        return Err(Fault::Wrong("it is a symbolic link, which Portage passes over".to_owned()));
    }
    let file = File::open(&subject.path)?;
    let facts = file.metadata()?;
    let container = Container::open(file, &subject.path)?;
    let signed = container.has_signatures()?;
    let message = container.manifest_bytes()?;
    let (text, signatures) = if signed { verifier.clear_signed(&message)? } else { (message, Vec::new()) };
    signers.extend(signatures.iter().map(|signature| signature.key.clone()));
    if signed && signatures.is_empty() {
        return Err(Fault::Wrong("its Manifest has no signature, while other parts of it have".to_owned()));
    }
    let mut state = judge("Manifest", &signatures)?;
    let manifest = Manifest::parse(&String::from_utf8_lossy(&text), &subject.path)?;
    manifest.check_complete(&container)?;
    container.read_metadata(&manifest, codec)?;
    for member in container.members().iter().filter(|member| member.kind() != gpkg::Kind::Manifest) {
        container.verify_member(member, manifest.line(member.name())?)?;
    }
    for member in [container.metadata().0, container.image().0] {
        let Some(signature) = container.signature_of(member) else { continue };
        let signature = container.read_member(signature, gpkg::SMALL_MEMBER_LIMIT)?;
        let signatures = verifier.detached(&signature, container.reader(member))?;
        if signatures.is_empty() {
            return Err(Fault::Wrong(format!("the signature of {} is none", member.name())));
        }
        state = state.and(judge(member.name(), &signatures)?);
    }
    if let Some(difference) = subject.entry.as_ref().and_then(|entry| index_difference(entry, &facts, &subject.path)) {
        return Err(Fault::Wrong(difference));
    }
    let unindexed = (subject.entry.is_none() && !subject.shown.starts_with('/')).then(|| "not in the index".to_owned());
    Ok(match (signed, state) {
        (false, _) => (Grade::Unsigned, unindexed),
        (true, State::Ours) => (Grade::Ours, unindexed),
        (true, State::Other) => (Grade::Foreign, unindexed),
        (true, State::Unknown) => {
            (Grade::Foreign, Some("the key that signed it is not known here: its signature was not checked".to_owned()))
        }
    })
}

/// Whose the signatures seen so far are, the least certain one counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Unknown,
    Other,
    Ours,
}

impl State {
    fn and(self, other: State) -> State {
        self.min(other)
    }
}

fn judge(what: &str, signatures: &[Signature]) -> Result<State, Fault> {
    let mut state = State::Ours;
    for signature in signatures {
        let key = &signature.key;
        let wrong = |why: &str| Err(Fault::Wrong(format!("the signature by {key} on {what} is not good: {why}")));
        state = state.and(match &signature.state {
            SignatureState::Good => State::Ours,
            SignatureState::OtherKey => State::Other,
            SignatureState::UnknownKey | SignatureState::SecretHere => State::Unknown,
            SignatureState::RevokedKey => return wrong("the key is revoked"),
            SignatureState::Expired => return wrong("it had expired, or was made after the key had"),
            SignatureState::Bad(why) | SignatureState::NotChecked(why) => return wrong(why),
        });
    }
    Ok(state)
}

/// Where the index says something else of a file than what is so.
fn index_difference(entry: &Entry, facts: &std::fs::Metadata, path: &Path) -> Option<String> {
    let differs = |key: &str, is: String| {
        let said = entry.get(key)?;
        (said != is).then(|| format!("the index says {key} {said}, the file has {is}; run `emaint binhost --fix`"))
    };
    differs("SIZE", facts.size().to_string()).or_else(|| differs("MTIME", facts.mtime().to_string())).or_else(|| {
        let digests = gpkg::file_digests(&File::open(path).ok()?).ok()?;
        differs("MD5", digests.md5).or_else(|| differs("SHA1", digests.sha1))
    })
}

impl Audit {
    /// 0, or 1 where something is wrong.
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

    /// The text for people: what is wrong, then how many are how.
    #[must_use]
    pub fn to_text(&self, style: Style, detail: Detail) -> String {
        let mut out = String::new();
        let mut line = |level, text: String| out += &format!("{}{text}\n", mark(level, style));
        for finding in &self.packages {
            let reason = finding.reason.as_deref().unwrap_or_default();
            let by =
                if finding.signers.is_empty() { String::new() } else { format!(" ({})", finding.signers.join(", ")) };
            match finding.outcome {
                Grade::Bad => line(Level::Error, format!("bad       {}: {reason}", finding.path)),
                _ if detail < Detail::Verbose => {}
                Grade::Ours => line(Level::Info, format!("ours      {}{by} {reason}", finding.path)),
                Grade::Foreign => line(Level::Info, format!("foreign   {}{by} {reason}", finding.path)),
                Grade::Unsigned => line(Level::Info, format!("unsigned  {} {reason}", finding.path)),
            }
        }
        let counts = self.counts;
        if detail >= Detail::Normal {
            let level = if counts.bad > 0 { Level::Error } else { Level::Info };
            let text = format!(
                "{} packages: {} signed by us, {} by others, {} not signed, {} bad",
                self.packages.len(),
                counts.ours,
                counts.foreign,
                counts.unsigned,
                counts.bad
            );
            line(level, text);
        }
        out
    }
}
