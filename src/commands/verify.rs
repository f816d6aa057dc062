//! `verify`: every package of PKGDIR, or those named: container, digests, signatures, whose they are, and what the index
//! says of them.

mod audit;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use super::named::path_below;
use super::{Error, Run};
use crate::package::check_identity;
use crate::package::gpkg::{Codec, Metadata, file_digests};
use crate::package::openpgp::{KeyError, Keyring, Verifier};
use crate::package::verify::{Checked, Depth, Verdict, verify};
use crate::pkgdir::agreement::{differs_from_bytes, differs_from_file};
use crate::pkgdir::{Identity, Opened, Pkgdir};
use crate::portage::index::{Entry, PackageIndex};
use crate::portage::names::{PkgPath, SUFFIX};
use crate::progress::Step;
use audit::{Asked, Fault, Finding, Grade, Judgement, Wrong, without_path};

pub(crate) use audit::Audit;

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
    /// Anywhere else.
    File(PathBuf),
    /// Nowhere: the index has a path for it that leads out of PKGDIR.
    Astray,
}

/// Checks the packages named, or every package that PKGDIR or its index has.
///
/// # Errors
/// The configuration, the index or the keys cannot be read, or there is no package of such a name.
pub(crate) fn audit(run: &Run<'_>, named: &[PathBuf]) -> Result<Audit, Error> {
    let began = Instant::now();
    let pkgdir = run.pkgdir()?;
    let index = pkgdir.as_ref().map(Pkgdir::read_index).transpose()?.flatten();
    let subjects = match (named, &pkgdir) {
        ([], Some(pkgdir)) => all_of(pkgdir, index.as_ref())?,
        ([], None) => Vec::new(),
        (named, _) => those_named(named, pkgdir.as_ref(), index.as_ref())?,
    };
    let keyring = keyring(run)?;
    let codec = run.codec()?;
    let repository = index.as_ref().and_then(|index| index.header("REPO")).unwrap_or_default();
    let look = Look { run, pkgdir: pkgdir.as_ref(), keyring: &keyring, codec: &codec, repository };
    let asked = if named.is_empty() { Asked::All } else { Asked::Named };
    Ok(Audit::new(asked, look.at_all(&subjects), began.elapsed()))
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

/// The blocks of the index by the path of their package.
fn by_path(index: Option<&PackageIndex>) -> BTreeMap<String, Entry> {
    let entries = index.into_iter().flat_map(PackageIndex::entries);
    entries.filter_map(|entry| Some((entry.get("PATH")?.to_owned(), entry))).collect()
}

/// What is said to lie at a path below PKGDIR.
fn subject(path: &str, entry: Option<Entry>) -> Subject {
    let place = PkgPath::new(path).map_or(Place::Astray, Place::Package);
    Subject { shown: path.to_owned(), place, entry }
}

/// What the index names and what lies in PKGDIR.
fn all_of(pkgdir: &Pkgdir, index: Option<&PackageIndex>) -> Result<Vec<Subject>, Error> {
    let mut entries = by_path(index);
    entries.retain(|path, _| path.ends_with(SUFFIX));
    let listed = pkgdir.packages()?.into_iter();
    let listed = listed.map(|listed| subject(listed.path.as_str(), entries.remove(listed.path.as_str())));
    let mut subjects: Vec<Subject> = listed.collect();
    // files that are not there
    subjects.extend(entries.into_iter().map(|(path, entry)| subject(&path, Some(entry))));
    Ok(subjects)
}

/// What the user means: each package once.
fn those_named(
    named: &[PathBuf],
    pkgdir: Option<&Pkgdir>,
    index: Option<&PackageIndex>,
) -> Result<Vec<Subject>, Error> {
    let entries = by_path(index);
    let mut seen: HashSet<PathBuf> = HashSet::new();
    let mut subjects = Vec::new();
    let mut add = |subject: Subject| {
        if seen.insert(PathBuf::from(&subject.shown)) {
            subjects.push(subject);
        }
    };
    for name in named {
        let below = pkgdir.and_then(|pkgdir| {
            let path = path_below(pkgdir, name)?;
            let lies_there = match path.stem() {
                Some(_) => pkgdir.is_taken(&path),
                // a folder that is called as the name of a package is none
                None => pkgdir.open_package(&path).is_ok(),
            };
            (lies_there || entries.contains_key(path.as_str())).then_some(path)
        });
        if let Some(path) = below {
            add(subject(path.as_str(), entries.get(path.as_str()).cloned()));
            continue;
        }
        let called: Vec<_> = entries.iter().filter(|(_, entry)| is_called(entry, name)).collect();
        if called.is_empty() && name.symlink_metadata().is_err() {
            return Err(Error::NoSuchPackage { name: name.display().to_string() });
        }
        if called.is_empty() {
            add(Subject { shown: name.display().to_string(), place: Place::File(name.clone()), entry: None });
        }
        for (path, entry) in called {
            add(subject(path, Some(entry.clone())));
        }
    }
    Ok(subjects)
}

/// Whether a block is about the package that is called so, with or without its build id.
fn is_called(entry: &Entry, name: &Path) -> bool {
    let (Some(cpv), Some(name)) = (entry.get("CPV"), name.to_str()) else { return false };
    let rest = name.strip_prefix(cpv);
    rest == Some("") || rest.and_then(|rest| rest.strip_prefix('-')).is_some_and(|id| entry.get("BUILD_ID") == Some(id))
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
                        let judgement = match &mut verifier {
                            Ok(verifier) => self.at(subject, verifier).unwrap_or_else(Judgement::from),
                            Err(error) => Wrong { fault: Fault::Unchecked, text: error.to_string() }.into(),
                        };
                        let found = Finding::new(subject.shown.clone(), subject.entry.as_ref(), judgement);
                        if sender.send(found).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            for found in receiver {
                findings.push(found);
                (self.run.progress)(Step::of_packages(findings.len(), subjects.len()));
            }
        });
        findings
    }

    fn at(&self, subject: &Subject, verifier: &mut Verifier<'_>) -> Result<Judgement, Wrong> {
        let (file, path, identity) = self.open(subject)?;
        let again = file.try_clone().map_err(|source| Wrong::unreadable("open", &source))?;
        let verdict = verify(file, &path, self.codec, verifier, Depth::Whole)
            .map_err(|refusal| Wrong::refused(&refusal, &path))?;
        let mut judgement = match &verdict {
            Verdict::Ours(verified) => {
                self.check_name(subject, verified.metadata())?;
                Judgement::good(Grade::Ours, vec![verified.signer().to_owned()])
            }
            Verdict::Unsigned(_) => {
                Judgement { fault: Some(Fault::Unsigned), ..Judgement::good(Grade::Unsigned, Vec::new()) }
            }
            Verdict::Foreign(foreign) if foreign.checked == Checked::No => Judgement {
                fault: Some(Fault::UnknownKey),
                reason: Some("the key that signed it is not known here: its signature was not checked".to_owned()),
                ..Judgement::good(Grade::Foreign, foreign.signers.clone())
            },
            Verdict::Foreign(foreign) => Judgement::good(Grade::Foreign, foreign.signers.clone()),
        };
        if let Some(entry) = &subject.entry {
            let differs = match differs_from_file(entry, &identity) {
                None => {
                    let digests = file_digests(&again).map_err(|source| Wrong::unreadable("read", &source))?;
                    differs_from_bytes(entry, &digests)
                }
                differs => differs,
            };
            if let Some(disagreement) = differs {
                let text = format!("{disagreement}; run `binpkg-resign index --all`");
                return Err(Wrong { fault: Fault::Index, text });
            }
        } else if matches!(subject.place, Place::Package(_)) && judgement.reason.is_none() {
            judgement.fault = judgement.fault.or(Some(Fault::Index));
            judgement.reason = Some("not in the index; `binpkg-resign index` adds it".to_owned());
        }
        Ok(judgement)
    }

    fn check_name(&self, subject: &Subject, metadata: &Metadata) -> Result<(), Wrong> {
        let (Place::Package(path), Some(entry)) = (&subject.place, &subject.entry) else { return Ok(()) };
        check_identity(metadata, path, entry, self.repository).map_err(|misnamed| {
            let text = without_path(&misnamed.to_string(), Path::new(path.as_str()));
            Wrong { fault: Fault::Index, text }
        })
    }

    fn open(&self, subject: &Subject) -> Result<(File, PathBuf, Identity), Wrong> {
        let (path, opened) = match (&subject.place, self.pkgdir) {
            (Place::Package(path), Some(pkgdir)) => (pkgdir.path().join(path.as_str()), pkgdir.open_package(path)),
            (Place::Package(path), None) => (PathBuf::from(path.as_str()), Opened::outside(Path::new(path.as_str()))),
            (Place::File(path), _) => (path.clone(), Opened::outside(path)),
            (Place::Astray, _) => {
                let text = "the index has a path for it that leads out of PKGDIR; run `binpkg-resign index`";
                return Err(Wrong { fault: Fault::Index, text: text.to_owned() });
            }
        };
        match opened {
            Ok(Opened { file, identity, .. }) => Ok((file, path, identity)),
            Err(error) if error.is_absence() && subject.entry.is_some() => {
                let text = "the index names it, but the file is not there; run `binpkg-resign index`";
                Err(Wrong { fault: Fault::Index, text: text.to_owned() })
            }
            Err(error) => Err(Wrong::not_opened(&error, &path)),
        }
    }
}
