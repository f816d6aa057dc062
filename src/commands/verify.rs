//! `verify`: every package of PKGDIR, or those named: container, digests, signatures, whose they are, and what the index
//! says of them.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use serde::Serialize;

use super::{Error, Run};
use crate::package::check_identity;
use crate::package::gpkg::{Codec, Metadata, file_digests};
use crate::package::openpgp::{KeyError, Keyring, Verifier};
use crate::package::verify::{Checked, Depth, Verdict, verify};
use crate::pkgdir::agreement::{differs_from_bytes, differs_from_file};
use crate::pkgdir::{Identity, Opened, Pkgdir};
use crate::portage::fingerprint::KeyHandle;
use crate::portage::index::{Entry, PackageIndex};
use crate::portage::names::{BuildId, PkgPath};
use crate::report::{Detail, Level, Status, Style, mark, plural, printable};

/// What `verify` found.
#[derive(Debug, Serialize)]
pub(crate) struct Audit {
    command: &'static str,
    status: Status,
    packages: Vec<Finding>,
    counts: GradeCounts,
    /// How many packages each key has signed, by its fingerprint or id; one counts for every key that has.
    keys: BTreeMap<KeyHandle, usize>,
    seconds: f64,
}

/// What was found of one package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The file, below PKGDIR or as it was given.
    pub path: String,
    /// Category, name and version, where the index has it.
    pub cpv: Option<String>,
    /// Its build id, if it has one.
    pub build_id: Option<BuildId>,
    /// Whether it is good, and whose.
    #[serde(rename = "outcome")]
    pub grade: Grade,
    /// The keys that signed it.
    pub signers: Vec<KeyHandle>,
    /// What is wrong, or what could not be found out.
    pub reason: Option<String>,
}

/// How a package fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Grade {
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
struct GradeCounts {
    ours: usize,
    foreign: usize,
    unsigned: usize,
    bad: usize,
}

/// One file to look at.
struct Subject {
    shown: String,
    place: Place,
    entry: Option<Entry>,
}

/// Where a file to look at lies.
enum Place {
    /// In PKGDIR.
    Package(PkgPath),
    /// Anywhere.
    File(PathBuf),
}

/// Checks the packages named, or every package that PKGDIR or its index has.
///
/// # Errors
/// The configuration, the index or the keys cannot be read.
pub(crate) fn audit(run: &Run<'_>, files: &[PathBuf]) -> Result<Audit, Error> {
    let began = Instant::now();
    let pkgdir = run.pkgdir()?;
    let index = pkgdir.as_ref().map(Pkgdir::read_index).transpose()?.flatten();
    let mut packages = Vec::new();
    let subjects = match (files.is_empty(), &pkgdir) {
        (true, Some(pkgdir)) => all_of(pkgdir, index.as_ref(), &mut packages)?,
        (true, None) => Vec::new(),
        (false, _) => files.iter().map(|file| given(file)).collect(),
    };
    let keyring = keyring(run)?;
    let codec = run.codec()?;
    let repository = index.as_ref().and_then(|index| index.header("REPO")).unwrap_or_default();
    let look = Look { run, pkgdir: pkgdir.as_ref(), keyring: &keyring, codec: &codec, repository };
    packages.extend(look.at_all(&subjects));
    packages.sort_by(|a, b| a.path.cmp(&b.path));
    let count = |grade| packages.iter().filter(|finding| finding.grade == grade).count();
    let counts = GradeCounts {
        ours: count(Grade::Ours),
        foreign: count(Grade::Foreign),
        unsigned: count(Grade::Unsigned),
        bad: count(Grade::Bad),
    };
    let mut keys: BTreeMap<KeyHandle, usize> = BTreeMap::new();
    for signer in packages.iter().flat_map(|finding| &finding.signers) {
        *keys.entry(signer.clone()).or_default() += 1;
    }
    let status = match packages.len() {
        _ if counts.bad > 0 => Status::Incomplete,
        0 => Status::NothingToDo,
        _ => Status::Done,
    };
    let seconds = (began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    Ok(Audit { command: "verify", status, packages, counts, keys, seconds })
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

fn given(file: &Path) -> Subject {
    Subject { shown: file.display().to_string(), place: Place::File(file.to_owned()), entry: None }
}

/// What the index names and what lies in PKGDIR; packages of the index that are not there go to `missing`.
fn all_of(pkgdir: &Pkgdir, index: Option<&PackageIndex>, missing: &mut Vec<Finding>) -> Result<Vec<Subject>, Error> {
    let mut entries: HashMap<String, Entry> = HashMap::new();
    for entry in index.into_iter().flat_map(PackageIndex::entries) {
        if let Some(path) = entry.get("PATH").filter(|path| path.ends_with(crate::portage::names::SUFFIX)) {
            entries.insert(path.to_owned(), entry);
        }
    }
    let mut subjects = Vec::new();
    for listed in pkgdir.packages()? {
        let entry = entries.remove(listed.path.as_str());
        subjects.push(Subject { shown: listed.path.to_string(), place: Place::Package(listed.path), entry });
    }
    for (path, entry) in entries {
        let reason = "the index names it, but the file is not there; run `binpkg-resign index`";
        missing.push(finding(path, Some(&entry), Grade::Bad, Vec::new(), Some(reason.to_owned())));
    }
    Ok(subjects)
}

fn finding(
    path: String,
    entry: Option<&Entry>,
    grade: Grade,
    signers: Vec<KeyHandle>,
    reason: Option<String>,
) -> Finding {
    let text = |key: &str| entry.and_then(|entry| entry.get(key)).map(str::to_owned);
    let build_id = text("BUILD_ID").as_deref().and_then(BuildId::new);
    Finding { path, cpv: text("CPV"), build_id, grade, signers, reason }
}

/// What is wrong with a package, in words.
struct Wrong(String);

impl<E: std::error::Error> From<E> for Wrong {
    fn from(error: E) -> Wrong {
        Wrong(error.to_string())
    }
}

/// What all the threads look with.
struct Look<'l> {
    run: &'l Run<'l>,
    pkgdir: Option<&'l Pkgdir>,
    keyring: &'l Keyring,
    codec: &'l Codec,
    repository: &'l str,
}

impl Look<'_> {
    fn at_all(&self, subjects: &[Subject]) -> Vec<Finding> {
        let next = AtomicUsize::new(0);
        let (sender, receiver) = mpsc::sync_channel(self.run.jobs);
        let mut findings = Vec::new();
        std::thread::scope(|scope| {
            for _ in 0..self.run.jobs.min(subjects.len()) {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    let mut verifier = self.keyring.verifier();
                    while let Some(subject) = subjects.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if self.run.interrupt.signal().is_some() {
                            return;
                        }
                        let entry = subject.entry.as_ref();
                        let bad =
                            |wrong: Wrong| finding(subject.shown.clone(), entry, Grade::Bad, Vec::new(), Some(wrong.0));
                        let found = match &mut verifier {
                            Ok(verifier) => self.at(subject, verifier).unwrap_or_else(bad),
                            Err(error) => bad(Wrong(error.to_string())),
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
                (self.run.progress)(findings.len(), subjects.len());
            }
        });
        findings
    }

    fn at(&self, subject: &Subject, verifier: &mut Verifier<'_>) -> Result<Finding, Wrong> {
        let (file, path, identity) = self.open(subject)?;
        let again = file.try_clone()?;
        let verdict = verify(file, &path, self.codec, verifier, Depth::Whole)?;
        let (grade, signers, remark) = match &verdict {
            Verdict::Ours(verified) => {
                self.check_name(subject, verified.metadata())?;
                (Grade::Ours, vec![verified.signer().to_owned()], None)
            }
            Verdict::Unsigned(_) => (Grade::Unsigned, Vec::new(), None),
            Verdict::Foreign(foreign) => {
                let unchecked = "the key that signed it is not known here: its signature was not checked";
                let remark = (foreign.checked == Checked::No).then(|| unchecked.to_owned());
                (Grade::Foreign, foreign.signers.clone(), remark)
            }
        };
        if let Some(entry) = &subject.entry {
            let differs = match differs_from_file(entry, &identity) {
                None => differs_from_bytes(entry, &file_digests(&again)?),
                differs => differs,
            };
            if let Some(disagreement) = differs {
                return Err(Wrong(format!("{disagreement}; run `binpkg-resign index --all`")));
            }
        }
        let unlisted = subject.entry.is_none() && matches!(subject.place, Place::Package(_));
        let remark = remark.or_else(|| unlisted.then(|| "not in the index".to_owned()));
        Ok(finding(subject.shown.clone(), subject.entry.as_ref(), grade, signers, remark))
    }

    fn check_name(&self, subject: &Subject, metadata: &Metadata) -> Result<(), Wrong> {
        match (&subject.place, &subject.entry) {
            (Place::Package(path), Some(entry)) => Ok(check_identity(metadata, path, entry, self.repository)?),
            _ => Ok(()),
        }
    }

    fn open(&self, subject: &Subject) -> Result<(File, PathBuf, Identity), Wrong> {
        match (&subject.place, self.pkgdir) {
            (Place::Package(path), Some(pkgdir)) => {
                let Opened { file, identity, .. } = pkgdir.open_package(path)?;
                Ok((file, pkgdir.path().join(path.as_str()), identity))
            }
            (Place::Package(path), None) => Err(Wrong(format!("{path}: there is no PKGDIR"))),
            (Place::File(path), _) => {
                let opened = Opened::outside(path)?;
                Ok((opened.file, path.clone(), opened.identity))
            }
        }
    }
}

impl Audit {
    /// 0, or 1 where something is wrong.
    #[must_use]
    pub(crate) fn exit_status(&self) -> u8 {
        self.status.exit_status()
    }

    /// One JSON object.
    ///
    /// # Errors
    /// It cannot be made (it always can).
    pub(crate) fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// The text for people: what is wrong, then how many are how.
    #[must_use]
    pub(crate) fn to_text(&self, style: Style, detail: Detail) -> String {
        let mut out = String::new();
        let mut line = |level, text: String| out += &format!("{}{}\n", mark(level, style), printable(&text));
        for finding in &self.packages {
            let reason = finding.reason.as_deref().unwrap_or_default();
            let signers: Vec<&str> = finding.signers.iter().map(KeyHandle::as_str).collect();
            let by = if signers.is_empty() { String::new() } else { format!(" ({})", signers.join(", ")) };
            match finding.grade {
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
                "{}: {} signed by us, {} by others, {} not signed, {} bad",
                plural(self.packages.len(), "package", "packages"),
                counts.ours,
                counts.foreign,
                counts.unsigned,
                counts.bad
            );
            line(level, text);
            for (key, count) in &self.keys {
                line(Level::Info, format!("    {count} signed by {key}"));
            }
        }
        out
    }
}
